//! What passes, gradients and graphs promise beyond the right numbers: memory given back, threads, states, audits.

use maplet_autograd::{Grads, Leaf, Param, Pass, Result, State, Tensor, Var, Visit, Walk, Why, fields, record};
use std::sync::{Arc, Weak};

fn tensor(x: f32) -> Tensor {
    Tensor::from([x])
}

/// `x³ + x`, whose derivatives are `3x² + 1`, `6x`, `6`, `0`.
fn cubic(x: &Var) -> Result<Var> {
    x.square().mul(x)?.add(x)
}

mod memory {
    use super::*;

    /// An op whose rule holds a token, so that its end can be observed.
    fn watched(x: &Var) -> (Var, Weak<()>) {
        let token = Arc::new(());
        let end = Arc::downgrade(&token);
        let y = record("watched", x.value().clone()).pull(x, move |dy| Ok((dy, &token).0)).done().unwrap();
        (y, end)
    }

    #[test]
    fn a_forward_pass_without_a_backward_pass_leaks_nothing() {
        let pass = Pass::train(0).audited();
        let x = pass.leaf(tensor(1.0));
        let (y, end) = watched(&x);
        let z = y.mul(&y).unwrap().layer_norm(&y, &x, 0.1).unwrap();
        let _ = z.greater(&y).unwrap(); // an audited cut
        drop((y, x));
        assert!(end.upgrade().is_some(), "z still needs it");
        drop(z);
        assert!(end.upgrade().is_none());
    }

    #[test]
    fn a_walk_frees_what_was_saved_while_handles_live_on() {
        let x = Pass::record().leaf(tensor(1.0));
        let (y, end) = watched(&x);
        let loss = y.square();
        loss.backward_to(&[&x], Walk::Keep).unwrap();
        assert!(end.upgrade().is_some());
        let grads = loss.backward().unwrap();
        assert!(end.upgrade().is_none());
        drop((loss, grads));
    }

    #[test]
    fn rules_for_what_needs_no_gradient_are_dropped_at_once() {
        let (y, end) = watched(&Pass::record().input(tensor(1.0)));
        assert!(end.upgrade().is_none() && !y.is_recorded());
        let (_, end) = watched(&Var::from(tensor(1.0)));
        assert!(end.upgrade().is_none());
    }

    #[test]
    fn parameters_are_uniquely_owned_after_a_walk() {
        let mut w = Param::new(Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]));
        let mut b = Param::new(Tensor::from([1.0f32, 2.0]));
        let x = Pass::train(0).input(Tensor::from([[1.0f32, 2.0]]));
        let y = x.linear(&w.on(&x), Some(&b.on(&x)), Default::default()).unwrap().mul(&w.on(&x)).unwrap();
        let loss = y.tanh().sum(.., false).unwrap();
        assert!(!w.value().is_unique());
        let grads = loss.backward().unwrap();
        for param in [&mut w, &mut b] {
            assert!(param.value().is_unique());
            let before = param.value().as_slice::<f32>().unwrap().as_ptr();
            assert_eq!(param.value_mut().as_mut_slice::<f32>().unwrap().as_ptr(), before, "updated in place");
        }
        drop((loss, grads));
    }

    #[test]
    fn graphs_of_any_depth_are_freed_without_recursion() {
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        let deep = small.spawn(|| {
            let chain = |x: &Var| (0..100_000).fold(x.clone(), |y, _| y.add_scalar(1.0));
            let x = Pass::record().leaf(tensor(0.0));
            drop(chain(&x));
            let y = chain(&x);
            assert_eq!(y.backward_to(&[&x], Walk::Keep).unwrap().of(&x), Some(&tensor(1.0)));
            let grads = y.backward_with_graph().unwrap();
            drop((y, grads));
            let y = chain(&x);
            assert_eq!(y.backward().unwrap().of(&x), Some(&tensor(1.0)));
        });
        deep.unwrap().join().unwrap();
    }
}

mod threads {
    use super::*;

    #[test]
    fn threads_share_a_model_each_with_its_own_pass() {
        let w = Param::new(Tensor::from([[0.5f32, -1.0], [2.0, 0.25]]));
        let step = |seed: u64| {
            let x = Pass::train(seed).input(Tensor::from([[1.0f32, seed as f32]]));
            let y = x.linear(&w.on(&x), None, Default::default()).unwrap().tanh().dropout(0.5).unwrap();
            y.sum(.., false).unwrap().backward().unwrap().of(&w).unwrap().to_vec::<f32>().unwrap()
        };
        let alone: Vec<_> = (0..8).map(step).collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || step(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(alone, together);
    }

    #[test]
    fn everything_can_be_sent_and_shared() {
        fn both<T: Send + Sync>() {}
        both::<(Var, Pass, Grads, Param, State)>();
    }

    /// A quiet walk on one thread must not silence what another records in the same pass.
    #[test]
    fn threads_that_share_a_pass_do_not_disturb_each_other() {
        let pass = Pass::record();
        std::thread::scope(|scope| {
            for i in 1..=4 {
                let pass = &pass;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let x = pass.leaf(tensor(i as f32));
                        let y = cubic(&x).unwrap();
                        let first = y.backward_with_graph().unwrap().var_of(&x).unwrap().clone();
                        assert_eq!(first.value(), &tensor(3.0 * (i * i) as f32 + 1.0));
                        assert_eq!(first.backward().unwrap().of(&x), Some(&tensor(6.0 * i as f32)));
                        assert_eq!(cubic(&x).unwrap().backward().unwrap().of(&x), Some(first.value()));
                    }
                });
            }
        });
    }

    #[test]
    fn one_graph_can_be_walked_by_two_threads() {
        let x = Pass::record().leaf(tensor(2.0));
        let y = (0..100).fold(x.clone(), |y, _| y.add(&x).unwrap());
        std::thread::scope(|scope| {
            for mode in [Walk::Keep, Walk::WithGraph] {
                let (x, y) = (&x, &y);
                scope.spawn(move || assert_eq!(y.backward_to(&[x], mode).unwrap().of(x), Some(&tensor(101.0))));
            }
        });
    }
}

mod passes {
    use super::*;

    #[test]
    fn the_seed_decides_what_is_drawn() {
        let drop = |seed| Pass::train(seed).input(Tensor::ones([1000], maplet_autograd::DType::F32)).dropout(0.5);
        let value = |seed| drop(seed).unwrap().into_value();
        assert!(value(1) == value(1) && value(1) != value(2));
        let x = Pass::train(1).input(Tensor::ones([1000], maplet_autograd::DType::F32));
        assert_ne!(x.dropout(0.5).unwrap().value(), x.dropout(0.5).unwrap().value());
    }

    #[test]
    fn evaluation_draws_nothing() {
        let x = Tensor::from([1.0f32, 2.0]);
        assert_eq!(Pass::record().leaf(&x).dropout(0.9).unwrap().value(), &x);
        assert_eq!(Var::from(&x).dropout(0.9).unwrap().value(), &x);
        assert!(Pass::record().rng().is_none() && Var::from(&x).rng().is_none());
        let text = Var::from(&x).dropout(1.5).unwrap_err().to_string();
        assert_eq!(text, "dropout: the probability is 1.5; help: use a number from 0 to 1");
    }

    /// Counts the batches it saw.
    struct Counter {
        weight: Param,
        count: State,
    }
    fields!(Counter: weight, count);

    impl Counter {
        fn forward(&self, x: &Var) -> Result<Var> {
            self.count.update(x, self.count.on(x).add_scalar(1.0))?;
            x.mul(&self.weight.on(x))
        }
    }

    #[test]
    fn states_reach_the_model_with_the_gradients() {
        let mut model = Counter { weight: Param::new(tensor(1.0)), count: State::new(tensor(0.0)) };
        let step = |model: &Counter| {
            let x = Pass::train(0).input(tensor(1.0));
            model.forward(&model.forward(&x).unwrap()).unwrap().backward().unwrap()
        };
        let grads = step(&model);
        step(&model); // thrown away: nothing happened
        assert_eq!(model.count.value(), &tensor(0.0));
        grads.apply_states(&mut model).unwrap();
        assert_eq!(model.count.value(), &tensor(2.0));
        model.forward(&Var::from(tensor(1.0))).unwrap();
        assert_eq!(model.count.value(), &tensor(2.0));
    }
}

mod gradients {
    use super::*;

    fn of_squares(params: &[&Param]) -> Grads {
        let x = Pass::train(0).input(tensor(0.5));
        let squares: Vec<Var> =
            params.iter().map(|p| p.on(&x).square().mul(&x).unwrap().sum(.., false).unwrap()).collect();
        squares.iter().skip(1).fold(squares[0].clone(), |sum, square| sum.add(square).unwrap()).backward().unwrap()
    }

    #[test]
    fn norms_are_clipped_together() {
        let (a, b) =
            (Param::new(tensor(3.0)), Param::new(Tensor::from([0.0f64, 4.0]).to_dtype(maplet_autograd::DType::F32)));
        let mut grads = of_squares(&[&a, &b]); // the gradient of x²/2 is x
        assert_eq!((grads.len(), grads.norm(), grads.clip_norm(10.0)), (2, 5.0, 5.0));
        assert_eq!(grads.of(&a), Some(&tensor(3.0)));
        assert_eq!(grads.clip_norm(2.5), 5.0);
        assert_eq!((grads.of(&a), grads.of(&b)), (Some(&tensor(1.5)), Some(&Tensor::from([0.0f32, 2.0]))));
        grads.clip_value(1.75);
        assert_eq!((grads.of(&a), grads.of(&b)), (Some(&tensor(1.5)), Some(&Tensor::from([0.0f32, 1.75]))));
        grads.scale(-2.0);
        assert_eq!(
            grads.iter().map(|dx| dx.to_vec::<f32>().unwrap()).collect::<Vec<_>>(),
            [vec![-3.0], vec![-0.0, -3.5]]
        );
    }

    #[test]
    fn gradients_of_several_batches_add_up() {
        let (a, b) = (Param::new(tensor(3.0)), Param::new(tensor(5.0)));
        let mut grads = of_squares(&[&a]);
        let alone = grads.clone();
        grads.add(of_squares(&[&a, &b])).unwrap();
        assert_eq!((grads.of(&a), grads.of(&b)), (Some(&tensor(6.0)), Some(&tensor(5.0))));
        assert_eq!(alone.of(&a), Some(&tensor(3.0)));
    }

    #[test]
    fn retained_gradients_are_found_and_not_counted() {
        for walk in [Walk::Keep, Walk::WithGraph, Walk::Consume] {
            let x = Pass::record().leaf(tensor(3.0));
            let w = Param::new(tensor(2.0));
            let middle = x.mul(&w.on(&x)).unwrap();
            middle.retain_grad();
            middle.detach().retain_grad();
            x.retain_grad();
            let y = middle.square();
            let mut grads = y.backward_to(&[&w, &x], walk).unwrap();
            // y = (x w)²: dy/dm = 12, dy/dx = 24, dy/dw = 36
            assert_eq!([&middle, &x].map(|x| grads.of(x).cloned()), [Some(tensor(12.0)), Some(tensor(24.0))]);
            assert_eq!((grads.of(&w), grads.of(&y)), (Some(&tensor(36.0)), None));
            assert_eq!((grads.len(), grads.norm().powi(2).round()), (2, 24.0 * 24.0 + 36.0 * 36.0));
            grads.scale(0.5);
            assert_eq!([grads.of(&middle), grads.of(&w)], [Some(&tensor(12.0)), Some(&tensor(18.0))]);
        }
    }

    struct Model {
        used: Param,
        sorted: Param,
        spare: Param,
        read: Param,
        frozen: Param,
    }
    fields!(Model: used, sorted, spare, read, frozen);

    #[test]
    fn a_missing_gradient_is_explained() {
        let param = || Param::new(Tensor::from([1.0f32, 2.0]));
        let mut model = Model { used: param(), sorted: param(), spare: param(), read: param(), frozen: param() };
        model.frozen.set_trainable(false);
        let loss = |pass: Pass| {
            let x = pass.input(Tensor::from([1.0f32, 2.0]));
            let score = model.sorted.on(&x).mul(&model.used.on(&x)).unwrap().exp();
            let mask = score.greater(&x).unwrap().to_dtype(x.dtype());
            let read = x.constant(model.read.on(&x).into_value());
            x.mul(&mask).unwrap().add(&read).unwrap().mul(&model.used.on(&x)).unwrap().sum(.., false).unwrap()
        };
        let why = |grads: &Grads| -> Vec<_> {
            grads
                .missing(&model)
                .into_iter()
                .map(|missing| (missing.name.clone(), missing.why, missing.to_string()))
                .collect()
        };
        let cut = "`sorted` has no gradient: `greater` cut it".to_string();
        let unused = "`spare` has no gradient: the forward computation never used it".to_string();
        let unreached = "`read` has no gradient: the loss does not depend on what it was used for".to_string();
        let want = [
            ("sorted".to_string(), Why::Cut("greater"), cut),
            ("spare".to_string(), Why::Unused, unused),
            ("read".to_string(), Why::Unreached, unreached),
        ];
        assert_eq!(why(&loss(Pass::train(0).audited()).backward().unwrap()), want);
        let unknown = why(&loss(Pass::train(0)).backward().unwrap());
        assert_eq!(unknown[0].2, "`sorted` has no gradient: the loss does not depend on it");
        assert!(unknown.iter().all(|(_, why, _)| *why == Why::Unknown));
        let _: &dyn Leaf = &model.used;
        let _: &dyn Visit = &model;
    }
}
