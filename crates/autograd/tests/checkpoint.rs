//! A checkpointed part gives the same bits as the part itself: values, gradients of any order, random numbers, states.

use maplet_autograd::{
    DType, Error, Param, Pass, Result, Rng, Shape, State, Tensor, Var, Walk, checkpoint, checkpoint_outputs, fields,
    gradcheck, params, states,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Something of everything: fused and plain ops, a parameter used twice, dropout, a state that is read and written.
#[derive(Clone)]
struct Block {
    weight: Param,
    bias: Param,
    gain: Param,
    seen: State,
}
fields!(Block: weight, bias, gain, seen);

const WIDTH: usize = 6;

impl Block {
    fn new(rng: &mut Rng) -> Self {
        let mut normal = |shape: &[usize]| Tensor::normal(Shape::new(shape).unwrap(), 0.0f64, 0.5, rng);
        Self {
            weight: Param::new(normal(&[WIDTH, WIDTH])),
            bias: Param::new(normal(&[WIDTH])),
            gain: Param::new(normal(&[WIDTH])),
            seen: State::new(Tensor::zeros([WIDTH], DType::F64)),
        }
    }

    fn forward(&self, x: &Var) -> Result<Var> {
        let seen = self.seen.on(x).mul_scalar(0.9).add(&x.value().mean(0, false)?.mul_scalar(0.1))?;
        let y = x.linear(&self.weight.on(x), Some(&self.bias.on(x)), Default::default())?.dropout(0.3)?;
        let y = y.layer_norm(&self.gain.on(x), &self.gain.on(x), 1e-5)?.gelu().add(&x.constant(seen.clone()))?;
        self.seen.update(x, seen)?;
        y.add(x)
    }
}

/// How a block is run.
type Run = fn(&Block, &Var) -> Result<Var>;

fn plain(block: &Block, x: &Var) -> Result<Var> {
    block.forward(x)
}

fn parted(block: &Block, x: &Var) -> Result<Var> {
    checkpoint(block, [x], |block, [x]| block.forward(&x))
}

fn nested(block: &Block, x: &Var) -> Result<Var> {
    checkpoint(block, [x], |block, [x]| {
        let y = parted(block, &x.dropout(0.2)?)?;
        checkpoint(block, [&y], |block, [y]| parted(block, &y.dropout(0.1)?))
    })
}

fn nested_plain(block: &Block, x: &Var) -> Result<Var> {
    block.forward(&block.forward(&x.dropout(0.2)?)?.dropout(0.1)?)
}

fn blocks() -> Vec<Block> {
    let mut rng = Rng::new(5);
    (0..3).map(|_| Block::new(&mut rng)).collect()
}

/// The loss of three blocks, the last being the first again, with the leaf that it was computed from.
fn loss(pass: &Pass, blocks: &[Block], run: Run) -> (Var, Var) {
    let x = pass.leaf(Tensor::normal([4, WIDTH], 0.0f64, 1.0, &mut Rng::new(6)));
    let mut y = x.dropout(0.1).unwrap();
    for block in blocks.iter().chain(&blocks[..1]) {
        y = run(block, &y).unwrap();
    }
    (y.square().mean(.., false).unwrap(), x)
}

mod bits {
    use super::*;

    /// Everything that a step finds: the loss, every gradient, and the states afterwards.
    fn step(run: Run) -> Vec<Tensor> {
        let mut blocks = blocks();
        let (loss, x) = loss(&Pass::train(3), &blocks, run);
        let grads = loss.backward().unwrap();
        let mut found = vec![loss.into_value(), grads.of(&x).unwrap().clone()];
        found.extend(params(&blocks).into_iter().map(|(_, param)| grads.of(param).unwrap().clone()));
        assert_eq!(found.len(), grads.len() + 1);
        grads.apply_states(&mut blocks).unwrap();
        found.extend(states(&blocks).into_iter().map(|(_, state)| state.value().clone()));
        found
    }

    #[test]
    fn a_step_is_the_same() {
        assert_eq!(step(plain), step(parted));
    }

    #[test]
    fn a_step_with_parts_in_parts_is_the_same() {
        assert_eq!(step(nested_plain), step(nested));
    }

    /// Evaluation draws nothing and still computes the part again.
    #[test]
    fn a_recorded_evaluation_is_the_same() {
        let blocks = blocks();
        let dx = |run: Run| {
            let (loss, x) = loss(&Pass::record(), &blocks, run);
            loss.backward().unwrap().of(&x).unwrap().clone()
        };
        assert_eq!(dx(plain), dx(parted));
        assert_eq!(dx(nested_plain), dx(nested));
    }

    #[test]
    fn a_kept_graph_gives_the_same_again() {
        let blocks = blocks();
        let (loss, x) = loss(&Pass::train(3), &blocks, nested);
        let walks = [Walk::Keep, Walk::WithGraph, Walk::Keep];
        let found = walks.map(|walk| loss.backward_to(&[&x], walk).unwrap().of(&x).unwrap().clone());
        assert_eq!(found[0], found[2]);
        close(&found[0], &found[1]); // a recorded walk uses the twins
    }

    /// What was run again is younger than the first walk, so a second one adds in another order.
    #[test]
    fn second_order_is_the_same_but_for_rounding() {
        let blocks = blocks();
        let second = |run: Run| {
            let (loss, x) = loss(&Pass::train(3), &blocks, run);
            let grads = loss.backward_with_graph().unwrap();
            let square = |dx: &Var| dx.square().sum(.., false).unwrap();
            let of_x = square(grads.var_of(&x).unwrap());
            let grads = square(grads.var_of(&blocks[0].weight).unwrap()).add(&of_x).unwrap().backward().unwrap();
            let mut found: Vec<Tensor> =
                params(&blocks).into_iter().map(|(_, p)| grads.of(p).unwrap().clone()).collect();
            found.push(grads.of(&x).unwrap().clone());
            found
        };
        second(plain).iter().zip(&second(parted)).for_each(|(a, b)| close(a, b));
        second(nested_plain).iter().zip(&second(nested)).for_each(|(a, b)| close(a, b));
    }

    /// Some thousand roundings of 1e-16 apart.
    fn close(a: &Tensor, b: &Tensor) {
        let (far, size) = (a.sub(b).unwrap().squared_norm().sqrt(), a.squared_norm().sqrt());
        assert!(far <= 1e-12 * size, "{far} of {size}");
    }
}

mod derivatives {
    use super::*;

    fn x() -> Tensor {
        Tensor::from([[0.5f64, -1.0, 2.0], [0.3, 0.7, -0.4]])
    }

    #[test]
    fn several_inputs_and_outputs() {
        let part = |_: &(), [a, b]: [Var; 2]| {
            let product = a.mul(&b)?;
            Ok::<_, Error>([product.sin(), product.add(&a)?, b])
        };
        for out in 0..3 {
            let run = move |x: &[Var]| Ok(checkpoint_outputs(&(), [&x[0], &x[1]], part)?[out].clone());
            gradcheck(run, &[x(), x().cos()]).unwrap();
        }
        let all = move |x: &[Var]| {
            let [a, b, c] = checkpoint_outputs(&(), [&x[0], &x[1]], part)?;
            a.mul(&b)?.add(&c)?.mul(&x[0])
        };
        gradcheck(all, &[x(), x().cos()]).unwrap();
    }

    #[test]
    fn values_captured_from_around_take_part() {
        let run = |x: &[Var]| {
            let around = x[1].exp();
            checkpoint(&(), [&x[0]], move |_, [x]| Ok::<_, Error>(around.mul(&around)?.mul(&x.sin())?.exp()))
        };
        gradcheck(run, &[x(), x().cos()]).unwrap();
        let pass = Pass::record();
        let [a, b] = [x(), x().cos()].map(|x| pass.leaf(x));
        let y = run(&[a.clone(), b.clone()]).unwrap().sum(.., false).unwrap();
        let alone = y.backward_to(&[&b], Walk::Keep).unwrap().of(&b).cloned();
        assert_eq!(alone.as_ref(), y.backward().unwrap().of(&b));
    }

    #[test]
    fn only_what_is_asked_for_is_found() {
        let blocks = blocks();
        let (loss, x) = loss(&Pass::train(3), &blocks, nested);
        let grads = loss.backward_to(&[&blocks[1].bias], Walk::Keep).unwrap();
        assert_eq!((grads.len(), grads.of(&x)), (1, None));
        let all = loss.backward().unwrap();
        assert_eq!(grads.of(&blocks[1].bias), all.of(&blocks[1].bias));
    }
}

mod passes {
    use super::*;

    #[test]
    fn any_input_in_a_pass_puts_every_output_in_it() {
        let part = |_: &(), [a, b]: [Var; 2]| {
            let top = a.add(&b)?.argmax(0, false)?;
            Ok::<_, Error>([a.clone(), a.add(&b)?, top])
        };
        let x = Tensor::from([1.0f32, 2.0]);
        let pass = Pass::train(0);
        for inside in 0..2 {
            for leaf in [false, true] {
                let mut xs = [Var::from(&x), Var::from(&x)];
                xs[inside] = if leaf { pass.leaf(&x) } else { pass.input(&x) };
                let [_, sum, top] = checkpoint_outputs(&(), [&xs[0], &xs[1]], part).unwrap();
                assert!(sum.is_training() && top.is_training() && !top.is_recorded());
                assert_eq!(sum.is_recorded(), leaf);
            }
        }
        let outside = Var::from(&x);
        assert!(checkpoint_outputs(&(), [&outside, &outside], part).unwrap().iter().all(|y| y.pass().is_none()));
    }

    #[test]
    fn frozen_parameters_stay_constants_and_missing_ones_are_explained() {
        let blocks = blocks();
        let mut block = blocks[0].clone();
        block.bias.set_trainable(false);
        let x = Pass::train(0).audited().input(Tensor::ones([2, WIDTH], DType::F64));
        let unused = block.clone();
        let y = checkpoint(&block, [&x], |block, [x]| {
            let y = x.mul(&block.gain.on(&x))?;
            y.add(&block.weight.on(&x).sum(0, false)?.detach())
        });
        let grads = y.unwrap().sum(.., false).unwrap().backward().unwrap();
        assert_eq!((grads.len(), grads.of(&block.gain).is_some(), grads.of(&block.bias)), (1, true, None));
        let missing: Vec<String> = grads.missing(&block).iter().map(ToString::to_string).collect();
        assert_eq!(missing, ["`weight` has no gradient: `detach` cut it"]);
        let missing: Vec<String> = grads.missing(&unused).iter().map(ToString::to_string).collect();
        assert_eq!(missing[0], "`weight` has no gradient: the forward computation never used it");
    }

    #[test]
    fn parameters_are_uniquely_owned_after_a_walk() {
        let blocks = blocks();
        let (loss, _) = loss(&Pass::train(3), &blocks, nested);
        assert!(!blocks[1].weight.value().is_unique());
        let grads = loss.backward().unwrap();
        assert!(params(&blocks).iter().all(|(_, param)| param.value().is_unique()));
        drop((loss, grads));
    }
}

mod errors {
    use super::*;

    fn text<T>(result: Result<T>) -> String {
        result.err().expect("an error").to_string()
    }

    fn leaf() -> Var {
        Pass::train(0).leaf(Tensor::from([1.0f32, 2.0]))
    }

    /// A part that does something else each time it is run.
    fn moody(x: &Var, part: impl Fn(usize, Var) -> Result<Var> + Send + Sync + 'static) -> Result<Var> {
        let runs = Arc::new(AtomicUsize::new(0));
        checkpoint(&(), [x], move |_, [x]| part(runs.fetch_add(1, Relaxed), x))
    }

    #[test]
    fn a_part_that_changes_is_found_out() {
        let y = moody(&leaf(), |run, x| if run == 0 { x.reshape([1, 2]) } else { Ok(x.exp()) }).unwrap();
        let want = "checkpoint: the part made f32 [1, 2] at first, and f32 [2] when run again; \
                    help: a checkpointed part must depend on its arguments and the pass alone";
        assert_eq!(text(y.sum(.., false).unwrap().backward()), want);

        for runs in [[1, 2], [2, 1]] {
            let draw = move |run: usize, x: Var| (0..runs[run]).try_fold(x, |x, _| x.dropout(0.5));
            let y = moody(&leaf(), draw).unwrap();
            let want = format!(
                "checkpoint: the part drew random numbers {} times at first, and {} times when run again; \
                 help: a checkpointed part must depend on its arguments and the pass alone",
                runs[0], runs[1]
            );
            assert_eq!(text(y.sum(.., false).unwrap().backward()), want);
        }

        let y = moody(&leaf(), |run, x| if run == 0 { Ok(x) } else { x.reshape([3]) }).unwrap();
        let error = text(y.sum(.., false).unwrap().backward());
        assert!(error.starts_with("checkpoint: the part failed when it was run again: reshape: "), "{error}");
    }

    /// Its clones have nothing.
    struct Shy {
        weights: Vec<Param>,
    }
    fields!(Shy: weights);

    impl Clone for Shy {
        fn clone(&self) -> Self {
            Self { weights: Vec::new() }
        }
    }

    #[test]
    fn a_model_must_be_cloned_whole() {
        let model = Shy { weights: vec![Param::new(Tensor::from([2.0f32, 3.0]))] };
        let y = checkpoint(&model, [&leaf()], |model, [x]| x.mul(&model.weights[0].on(&x)));
        let want = "checkpoint: a clone of the model shows 0 parameters and states, not 1; help: derive Clone";
        assert_eq!(text(y), want);
    }

    #[test]
    fn random_numbers_must_come_to_the_parts_own_values() {
        let around = leaf();
        let x = around.exp();
        let part = move |_: &(), [x]: [Var; 1]| x.mul(&around.dropout(0.5)?);
        let want = "checkpoint: random numbers were drawn for a value from outside the part, which would be others when \
                    it is run again; help: hand that value to the part as an argument";
        assert_eq!(text(checkpoint(&(), [&x], part.clone())), want);
        assert_eq!(text(checkpoint(&(), [&x], move |_, [x]| checkpoint(&(), [&x], part.clone()))), want);
    }

    #[test]
    fn two_passes_and_a_walk_within_a_part_are_refused() {
        let (a, b) = (leaf(), leaf());
        let want = "checkpoint: its inputs belong to two passes; \
                    help: make all inputs of a step with one Pass, or bring a finished value in with pass.input(..)";
        assert_eq!(text(checkpoint(&(), [&a, &b], |_, [a, b]| a.add(&b))), want);
        let want = "backward: a checkpointed part is not recorded when it is run first, so there is nothing to walk; \
                    help: ask for gradients outside checkpoint(..)";
        let walk = |_: &(), [x]: [Var; 1]| x.sum(.., false)?.backward().map(|_| x);
        assert_eq!(text(checkpoint(&(), [&leaf()], walk)), want);
    }
}
