//! Optimizers around optimizers, averages beside models, and optimizers that take the loss as a closure.

use maplet_autograd::{Grads, Param, Pass, State, Tensor, Var, container, fields};
use maplet_optim::{
    Accumulate, Adam, AdamW, Ema, Error, Lbfgs, LineSearch, Lookahead, Muon, Optimizer, OptimizerState, Partition,
    Result, Sam, Sgd, Swa, step_closure,
};

struct Model {
    weight: Param,
    bias: Param,
    mean: State,
}
fields!(Model: weight, bias, mean);

fn model() -> Model {
    let weight = Param::new(Tensor::from([[1.5f64, -0.5, 0.25], [2.0, 0.0, -1.0]]));
    Model { weight, bias: Param::new(Tensor::from([0.5f64, -0.75])), mean: State::new(Tensor::from([0.0f64])) }
}

/// The mean over some samples of a loss with a curvature of its own for each.
fn loss(model: &Model, samples: &[f64]) -> Result<Var> {
    let x = Pass::train(0).input(Tensor::from_vec(samples.to_vec(), [samples.len(), 1])?);
    let weight = model.weight.on(&x).reshape([1, 6])?;
    let y = x.mul(&weight)?.sin().sum([1], true)?.add(&model.bias.on(&x))?.square();
    model.mean.update(&x, Tensor::from([samples[0]]))?;
    Ok(y.sum([1], false)?.mean(.., false)?)
}

fn grads(model: &Model, samples: &[f64]) -> Grads {
    loss(model, samples).unwrap().backward().unwrap()
}

/// All parameters in one row.
fn numbers(model: &Model) -> Vec<f64> {
    [&model.weight, &model.bias].map(|param| param.value().to_vec::<f64>().unwrap()).concat()
}

fn bits(model: &Model) -> Vec<u64> {
    numbers(model).into_iter().map(f64::to_bits).collect() // infinities and NaNs too
}

fn near(found: &[f64], expected: &[f64], tolerance: f64) {
    let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(close && found.len() == expected.len(), "{found:?}\n{expected:?}");
}

#[test]
fn small_batches_make_a_large_one() {
    let samples: Vec<f64> = (0..12).map(|i| (i as f64).cos()).collect();
    let (mut large, mut small) = (model(), model());
    let (mut adam, mut gathered) = (Adam::new(0.05), Accumulate::new(3, Adam::new(0.05)));
    for _ in 0..5 {
        let all = grads(&large, &samples);
        adam.step(&mut large, &all).unwrap();
        for part in samples.chunks(4) {
            let before = (numbers(&small), gathered.steps());
            let part = grads(&small, part);
            gathered.step(&mut small, &part).unwrap();
            assert_eq!(numbers(&small) == before.0, gathered.steps() == before.1);
        }
        near(&numbers(&small), &numbers(&large), 1e-13);
    }
    assert_eq!((gathered.steps(), gathered.name()), (5, "accumulate"));
    assert_eq!(small.mean.value(), &Tensor::from([samples[8]])); // every batch's statistics count
}

/// Algorithm 1 of the paper, around gradient descent.
#[test]
fn lookahead_goes_a_part_of_the_way() {
    let (mut model, mut plain) = (model(), model());
    let (mut lookahead, mut sgd) = (Lookahead::new(Sgd::new(0.1)).every(3).part(0.25), Sgd::new(0.1));
    let mut slow = numbers(&plain);
    for step in 1..=9 {
        let (ahead, behind) = (grads(&model, &[0.7, 1.3]), grads(&plain, &[0.7, 1.3]));
        lookahead.step(&mut model, &ahead).unwrap();
        sgd.step(&mut plain, &behind).unwrap();
        if step % 3 == 0 {
            slow.iter_mut().zip(numbers(&plain)).for_each(|(slow, fast)| *slow += 0.25 * (fast - *slow));
            plain.weight.set_value(Tensor::from_vec(slow[..6].to_vec(), [2, 3]).unwrap()).unwrap();
            plain.bias.set_value(Tensor::from_vec(slow[6..].to_vec(), [2]).unwrap()).unwrap();
        }
        near(&numbers(&model), &numbers(&plain), 1e-14);
    }
}

#[test]
fn a_partition_gives_each_its_own() {
    let (mut model, mut alone) = (model(), model());
    let mut both = Partition::new(|path, _| path == "weight", Sgd::new(0.125), AdamW::new(0.25));
    let [mut sgd, mut adamw]: [Box<dyn Optimizer>; 2] = [Box::new(Sgd::new(0.125)), Box::new(AdamW::new(0.25))];
    for step in 0..4 {
        if step == 2 {
            both.set_learning_rate(0.0625);
            sgd.set_learning_rate(0.0625);
            adamw.set_learning_rate(0.125); // in the same ratio
        }
        let (found, parts) = (grads(&model, &[0.7, 1.3]), grads(&alone, &[0.7, 1.3]));
        both.step(&mut model, &found).unwrap();
        let mut part = Grads::default();
        part.set(&alone.weight, parts.of(&alone.weight).unwrap().clone());
        sgd.step(&mut alone, &part).unwrap();
        let mut part = Grads::default();
        part.set(&alone.bias, parts.of(&alone.bias).unwrap().clone());
        adamw.step(&mut alone, &part).unwrap();
        assert_eq!(numbers(&model), numbers(&alone));
    }
    assert_eq!((both.steps(), both.learning_rate(), both.current_learning_rate()), (4, 0.0625, 0.0625));
    assert_eq!(model.mean.value(), &Tensor::from([0.7f64]));
}

fn is_matrix(_: &str, param: &Param) -> bool {
    param.shape().rank() == 2
}

#[test]
fn a_partitions_state_is_of_both() {
    let nested = || Partition::new(is_matrix, Lookahead::new(Sgd::new(0.1)), Adam::new(0.1));
    let state = Partition::new(|_, _| true, nested(), nested()).state();
    let kind = "partition(lookahead(sgd), adam)";
    assert_eq!(state.optimizer, format!("partition({kind}, {kind})"));
    let text = |state: OptimizerState| {
        let mut partition = Partition::new(is_matrix, Sgd::new(0.3), AdamW::new(0.6));
        let text = partition.load_state(state).unwrap_err().to_string();
        assert_eq!((partition.learning_rate(), partition.steps()), (0.3, 0));
        text
    };
    let help = "help: build the optimizer that was saved";
    let second = Partition::new(is_matrix, Sgd::new(0.1), Adam::new(0.1)).state();
    assert_eq!(text(second), format!("adamw: the state is one of `adam`; {help}"));
    let first = Partition::new(is_matrix, Adam::new(0.1), AdamW::new(0.1)).state();
    assert_eq!(text(first), format!("sgd: the state is one of `adam`; {help}"));
    for other in ["adam", "partition(sgd)", "partition(lookahead(sgd, adam))"] {
        let state = OptimizerState { optimizer: other.into(), ..Adam::new(0.1).state() };
        assert_eq!(text(state), format!("partition: the state is one of `{other}`; {help}"));
    }
}

#[test]
fn a_partitions_rates_keep_their_ratio_through_zero_and_a_restore() {
    let second = |partition: &Partition<Sgd, Sgd>| {
        let numbers = partition.state().numbers;
        numbers.into_iter().find(|(name, _)| name == "partition:learning_rate").unwrap().1
    };
    let mut partition = Partition::new(is_matrix, Sgd::new(0.5), Sgd::new(2.0));
    partition.set_learning_rate(0.0);
    assert_eq!((partition.learning_rate(), second(&partition)), (0.0, 0.0));
    let mut restored = Partition::new(is_matrix, Sgd::new(0.5), Sgd::new(0.5));
    restored.load_state(partition.state()).unwrap();
    for mut partition in [partition, restored] {
        partition.set_learning_rate(0.25);
        assert_eq!((partition.learning_rate(), second(&partition)), (0.25, 1.0));
    }
    let mut still = Partition::new(is_matrix, Sgd::new(0.0), Sgd::new(2.0));
    still.set_learning_rate(0.25);
    assert_eq!((still.learning_rate(), second(&still)), (0.25, 2.0)); // no ratio
}

#[test]
fn a_step_that_one_part_of_a_partition_refuses_changes_nothing() {
    let text = |second: Box<dyn Optimizer>, bias: f64| {
        let (mut model, mut optimizer) = (model(), Partition::new(is_matrix, Sgd::new(0.1), second));
        model.bias.set_value(Tensor::full([2], bias)).unwrap();
        let (before, mean, grads) = (bits(&model), model.mean.value().clone(), grads(&model, &[1.0]));
        let state = optimizer.state();
        let text = optimizer.step(&mut model, &grads).unwrap_err().to_string();
        assert!(bits(&model) == before && model.mean.value() == &mean && optimizer.state() == state);
        text
    };
    let nan =
        "adam: the gradient of `bias` is not finite; help: lower the learning rate, or look for the NaN in the data";
    let clipped = || Adam::new(0.1).clip_norm(1.0);
    assert_eq!(text(Box::new(clipped()), f64::INFINITY), nan);
    assert_eq!(text(Box::new(Lookahead::new(clipped())), f64::INFINITY), nan);
    assert_eq!(text(Box::new(Accumulate::new(2, clipped())), f64::INFINITY), nan);
    assert_eq!(text(Box::new(Partition::new(is_matrix, Sgd::new(0.1), clipped())), f64::INFINITY), nan);
    let vector = "muon: `bias` is [2]; help: it needs two axes; give this one to another optimizer, with Partition";
    assert_eq!(text(Box::new(Muon::new(0.1)), 0.5), vector);
    let (mut other, mut lookahead) = (model(), Lookahead::new(Sgd::new(0.1)));
    other.weight.set_trainable(false);
    other.bias = Param::new(Tensor::from([0.0f64; 3]));
    let found = grads(&other, &[1.0]);
    lookahead.step(&mut other, &found).unwrap();
    let sizes =
        "lookahead: `bias` is f64 [2], its slow weights f64 [3]; help: load the state of a model of the same sizes";
    assert_eq!(text(Box::new(lookahead), 0.5), sizes);
}

/// Equation 2 of the paper, around gradient descent.
#[test]
fn sam_does_not_step_by_what_is_not_finite() {
    let (mut model, mut sam) = (model(), Sam::new(Sgd::new(0.1), 0.2));
    let (before, mut evaluations) = (numbers(&model), 0);
    let result = step_closure(&mut sam, &mut model, |model| {
        evaluations += 1;
        Ok::<_, maplet_optim::Error>((if evaluations == 1 { 1.0 } else { f64::INFINITY }, grads(model, &[0.7])))
    });
    let expected = "sam: the loss is inf at the distance of the radius 0.2; \
                    help: use a smaller radius or learning rate; the weights are as before";
    assert_eq!(result.unwrap_err().to_string(), expected);
    assert_eq!((evaluations, numbers(&model), sam.steps()), (2, before, 0));
}

#[test]
fn sam_steps_by_the_gradients_above() {
    let samples = [0.7, 1.3];
    for adaptive in [false, true] {
        let (mut model, mut above) = (model(), self::model());
        let sam = Sam::new(Sgd::new(0.1), 0.2);
        let mut sam = if adaptive { sam.adaptive() } else { sam };
        let (p, g) = (numbers(&model), grads(&model, &samples));
        let g = [g.of(&model.weight).unwrap(), g.of(&model.bias).unwrap()].map(|g| g.to_vec::<f64>().unwrap()).concat();
        let scale = |p: f64| if adaptive { p.abs() } else { 1.0 };
        let norm = p.iter().zip(&g).map(|(p, g)| (scale(*p) * g).powi(2)).sum::<f64>().sqrt();
        let e: Vec<f64> = p.iter().zip(&g).map(|(p, g)| p + 0.2 * scale(*p).powi(2) * g / norm).collect();
        above.weight.set_value(Tensor::from_vec(e[..6].to_vec(), [2, 3]).unwrap()).unwrap();
        above.bias.set_value(Tensor::from_vec(e[6..].to_vec(), [2]).unwrap()).unwrap();
        let g = grads(&above, &samples);
        let g = [g.of(&above.weight).unwrap(), g.of(&above.bias).unwrap()].map(|g| g.to_vec::<f64>().unwrap()).concat();
        let expected: Vec<f64> = p.iter().zip(&g).map(|(p, g)| p - 0.1 * g).collect();

        let before = loss(&model, &samples).unwrap().value().item::<f64>().unwrap();
        assert_eq!(sam.step(&mut model, |model| loss(model, &samples)).unwrap(), before);
        near(&numbers(&model), &expected, 1e-14);
        assert_eq!((sam.steps(), model.mean.value()), (1, &Tensor::from([0.7f64])));
    }
}

#[test]
fn a_closure_that_fails_leaves_the_weights() {
    let (mut model, mut calls) = (model(), 0);
    let before = numbers(&model);
    let failing = |model: &Model| {
        calls += 1;
        if calls == 2 { Err(Error::new("data", "no more", "")) } else { loss(model, &[1.0]) }
    };
    let text = Sam::new(Sgd::new(0.1), 0.2).step(&mut model, failing).unwrap_err().to_string();
    assert_eq!((text.as_str(), numbers(&model)), ("data: no more", before));
    let text = Sam::new(Sgd::new(0.1), -1.0).step(&mut model, |model| loss(model, &[1.0])).unwrap_err().to_string();
    assert_eq!(text, "sam: radius is -1; help: use a finite number, 0 or more");
}

#[test]
fn averages_are_their_formulas_and_can_be_taken_back() {
    let (mut model, mut ema, mut swa) = (model(), Ema::new(0.9), Swa::new());
    let mut weights: Vec<Vec<f64>> = Vec::new();
    for step in 0..5 {
        let found = grads(&model, &[step as f64, 1.0]);
        Sgd::new(0.1).step(&mut model, &found).unwrap();
        ema.update(&model).unwrap();
        swa.update(&model).unwrap();
        weights.push(numbers(&model));
        if step == 2 {
            let (mut other_ema, mut other_swa) = (Ema::new(0.9), Swa::new());
            other_ema.load_state(ema.state()).unwrap();
            other_swa.load_state(swa.state()).unwrap();
            assert!(other_ema.state() == ema.state());
            (ema, swa) = (other_ema, other_swa);
        }
    }
    let at = |i: usize| weights.iter().map(move |weights| weights[i]);
    let mean: Vec<f64> = (0..8).map(|i| at(i).sum::<f64>() / 5.0).collect();
    let first = weights[0].clone();
    let moving: Vec<f64> = (0..8).map(|i| at(i).fold(first[i], |mean, p| 0.9 * mean + (1.0 - 0.9) * p)).collect();
    let own = ema.apply(&mut model).unwrap();
    near(&numbers(&model), &moving, 1e-14);
    assert_eq!(model.mean.value(), &Tensor::from([4.0f64])); // a copy of the last
    container::restore(&mut model, &own).unwrap();
    assert_eq!(numbers(&model), weights[4]);
    swa.apply(&mut model).unwrap();
    near(&numbers(&model), &mean, 1e-14);
    assert_eq!((ema.count(), swa.count()), (5, 5));
}

#[test]
fn averages_of_states_are_taken_on_request() {
    let (mut model, mut swa) = (model(), Swa::new().with_states());
    for value in [1.0, 2.0, 6.0] {
        model.mean.set_value(Tensor::from([value])).unwrap();
        swa.update(&model).unwrap();
    }
    swa.apply(&mut model).unwrap();
    near(model.mean.value().as_slice().unwrap(), &[3.0], 1e-15);
}

#[test]
fn averages_that_cannot_be_are_refused() {
    let mut model = model();
    let text = Ema::new(1.5).update(&model).unwrap_err().to_string();
    assert_eq!(text, "ema: decay is 1.5; help: use a number from 0 to 1");
    let text = Swa::new().apply(&mut model).unwrap_err().to_string();
    assert_eq!(text, "swa: there are no averages yet; help: call update first");
    let mut swa = Swa::new();
    swa.update(&model).unwrap();
    let text = swa.load_state(Ema::new(0.5).state()).unwrap_err().to_string();
    assert_eq!(text, "swa: the state is one of `ema`; help: load the state that was saved");
    model.bias = Param::new(Tensor::from([0.0f64]));
    let text = swa.update(&model).unwrap_err().to_string();
    assert_eq!(text, "swa: `bias` is f64 [1], its average f64 [2]; help: update with one model, or begin anew");
    let text = swa.update(&(Param::new(Tensor::from([0.0f64])),)).unwrap_err().to_string();
    assert_eq!(text, "swa: `0` is f64 [1], its average missing; help: update with one model, or begin anew");
}

#[test]
fn lbfgs_solves_a_quadratic_and_goes_on_from_its_state_bit_for_bit() {
    struct Point {
        x: Param,
    }
    fields!(Point: x);
    let start = || Point { x: Param::new(Tensor::from([3.0f64, -1.0, 2.0])) };
    let bowl = |model: &Point| -> Result<Var> {
        let one = Pass::train(0).input(Tensor::from([1.0f64]));
        let curves = one.constant(Tensor::from([1.0f64, 4.0, 9.0]));
        let off = model.x.on(&one).sub(&one)?;
        Ok(off.square().mul(&curves)?.sum(.., false)?)
    };
    let lbfgs = || Lbfgs::new(1.0).line_search(LineSearch::StrongWolfe).history(5);
    let (mut model, mut whole) = (start(), lbfgs());
    assert_eq!(whole.step(&mut model, bowl).unwrap(), 4.0 + 16.0 + 9.0);
    near(model.x.value().as_slice().unwrap(), &[1.0; 3], 1e-9f64.sqrt()); // it ends when the loss changes by 1e-9
    let mut endless = start();
    lbfgs().max_iterations(usize::MAX).step(&mut endless, bowl).unwrap();
    near(endless.x.value().as_slice().unwrap(), &[1.0; 3], 1e-9f64.sqrt());

    let few = || lbfgs().max_iterations(3);
    let ([mut model, mut halves], mut whole, mut first, mut second) = ([start(), start()], few(), few(), few());
    whole.step(&mut model, bowl).unwrap();
    whole.step(&mut model, bowl).unwrap();
    first.step(&mut halves, bowl).unwrap();
    second.load_state(first.state()).unwrap();
    assert!(second.state() == first.state());
    second.step(&mut halves, bowl).unwrap();
    assert!(halves.x.value() == model.x.value() && second.state() == whole.state());
    assert_eq!(second.evaluations(), whole.evaluations());

    let text = |change: fn(&mut maplet_optim::OptimizerState)| {
        let mut state = whole.state();
        change(&mut state);
        lbfgs().load_state(state).unwrap_err().to_string()
    };
    assert_eq!(text(|state| state.tensors.clear()), "lbfgs: the state lacks `d`; help: it is damaged");
    let kind = "lbfgs: the state is one of `adam`; help: build the optimizer that was saved";
    assert_eq!(text(|state| state.optimizer = "adam".into()), kind);
    let text = whole.step(&mut self::model(), |model| loss(model, &[1.0])).unwrap_err().to_string();
    let expected = "lbfgs: the model has 8 trained numbers, the state is of 3; help: step the model that it began with";
    assert_eq!(text, expected);
}

#[test]
fn lbfgs_refuses_impossible_numbers() {
    let text = |lbfgs: Lbfgs| lbfgs.check().unwrap_err().to_string();
    let count = "help: use a finite number, 0 or more";
    assert_eq!(text(Lbfgs::new(-1.0)), format!("lbfgs: learning_rate is -1; {count}"));
    assert_eq!(text(Lbfgs::new(1.0).tolerances(-1.0, 0.0)), format!("lbfgs: tolerance_grad is -1; {count}"));
    assert_eq!(text(Lbfgs::new(1.0).tolerances(0.0, f64::NAN)), format!("lbfgs: tolerance_change is NaN; {count}"));
    assert_eq!(text(Lbfgs::new(1.0).history(0)), "lbfgs: history is 0; help: remember 1 pair or more");
    let mut frozen = model();
    frozen.weight.set_trainable(false);
    frozen.bias.set_trainable(false);
    let text = Lbfgs::new(1.0).step(&mut frozen, |_| Ok::<_, Error>(Var::from(Tensor::from([1.0f64]))));
    let expected = "backward: "; // nothing was recorded
    assert!(text.unwrap_err().to_string().starts_with(expected));
    let found = step_closure(&mut Lbfgs::new(1.0), &mut frozen, |_| Ok::<_, Error>((1.0, Grads::default())));
    let expected = "lbfgs: the model has no trained parameters; help: set some free with set_trainable(true)";
    assert_eq!(found.unwrap_err().to_string(), expected);
}
