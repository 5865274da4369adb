//! What an optimizer remembers: saved and restored bit for bit, and refused where it does not fit.

use maplet_autograd::{DType, Grads, Param, Pass, State, Tensor, fields};
use maplet_optim::{
    Accumulate, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Asgd, Cosine, Group, Lamb, Lion, Lookahead, Muon,
    Nadam, OneCycle, Optimizer, OptimizerState, Partition, Radam, Rmsprop, Rprop, Schedule, Sgd,
};

struct Model {
    weight: Param,
    bias: Param,
    mean: State,
}
fields!(Model: weight, bias, mean);

fn model(features: usize) -> Model {
    let weight = Tensor::arange(0.0f32, (2 * features) as f32, 1.0).unwrap().reshape([2, features]).unwrap();
    let [bias, mean] = [0.5f32, 0.0].map(|x| Tensor::full([features], x));
    Model { weight: Param::new(weight), bias: Param::new(bias), mean: State::new(mean) }
}

/// Of a loss that is different at each step.
fn gradients(model: &Model, step: u64) -> Grads {
    let x = Pass::train(step).input(Tensor::full([1], (step as f32).cos()));
    let y = model.weight.on(&x).add(&model.bias.on(&x)).unwrap().mul(&x).unwrap();
    model.mean.update(&x, Tensor::full(model.mean.value().shape(), step as f32)).unwrap();
    y.sin().sum(.., false).unwrap().backward().unwrap()
}

fn run(model: &mut Model, optimizer: &mut dyn Optimizer, steps: std::ops::Range<u64>) {
    for step in steps {
        let grads = gradients(model, step);
        optimizer.step(model, &grads).unwrap();
    }
}

fn bits(model: &Model) -> Vec<u32> {
    let values = [&model.weight, &model.bias].map(|param| param.value().to_vec::<f32>().unwrap());
    values.concat().into_iter().map(f32::to_bits).collect()
}

fn is_matrix(_: &str, param: &Param) -> bool {
    param.shape().rank() == 2
}

#[test]
fn a_restored_optimizer_goes_on_bit_for_bit() {
    let makers: [fn() -> Box<dyn Optimizer>; 28] = [
        || Box::new(Sgd::new(0.1)),
        || Box::new(Sgd::new(0.1).momentum(0.9).dampening(0.1)),
        || Box::new(Sgd::new(0.1).schedule(OneCycle::new(20))),
        || Box::new(Adam::new(0.1).schedule(Cosine::new(9).warm_up(3)).clip_norm(0.5)),
        || Box::new(AdamW::new(0.1)),
        || Box::new(Adam::new(0.1).amsgrad().maximize()),
        || Box::new(Adamax::new(0.1)),
        || Box::new(Nadam::new(0.1)),
        || Box::new(Radam::new(0.1).betas(0.9, 0.9)),
        || Box::new(Rmsprop::new(0.1).momentum(0.9).centered()),
        || Box::new(Adagrad::new(0.1).lr_decay(0.1)),
        || Box::new(Adadelta::new(1.0)),
        || Box::new(Adafactor::new(0.1)),
        || Box::new(Lamb::new(0.1).weight_decay(0.1)),
        || Box::new(Lion::new(0.1)),
        || Box::new(Rprop::new(0.1)),
        || Box::new(Asgd::new(0.1).t0(2.0)),
        || Box::new(Partition::new(|_, param| param.shape().rank() == 2, Muon::new(0.1), Adam::new(0.1))),
        || Box::new(Lookahead::new(Sgd::new(0.1).momentum(0.5)).every(3)),
        || Box::new(Accumulate::new(3, Lookahead::new(Adam::new(0.1)).every(2))),
        || Box::new(Accumulate::new(2, Accumulate::new(2, Adam::new(0.1)))),
        || Box::new(Lookahead::new(Lookahead::new(Adam::new(0.1)).every(2)).every(3).part(0.25)),
        || Box::new(Partition::new(is_matrix, Muon::new(0.1), Lookahead::new(AdamW::new(0.2)).every(3))),
        || Box::new(Partition::new(is_matrix, Accumulate::new(2, Muon::new(0.1)), Accumulate::new(3, Adam::new(0.2)))),
        || {
            Box::new(Partition::new(
                |_, _| true,
                Partition::new(is_matrix, Muon::new(0.1), Adam::new(0.2)),
                Lion::new(1.0),
            ))
        },
        || {
            Box::new(Partition::new(
                |_, _| false,
                Lion::new(0.3),
                Partition::new(is_matrix, Muon::new(0.1), Adam::new(0.2)),
            ))
        },
        || Box::new(Lookahead::new(Partition::new(is_matrix, Lookahead::new(Muon::new(0.1)).every(2), Adam::new(0.2)))),
        || Box::new(Accumulate::new(2, Partition::new(is_matrix, Muon::new(0.1), Rprop::new(0.2)))),
    ];
    for make in makers {
        let (mut whole, mut optimizer) = (model(3), make());
        run(&mut whole, &mut *optimizer, 0..5);
        optimizer.set_learning_rate(0.07);
        let (state, middle) = (optimizer.state(), bits(&whole));
        run(&mut whole, &mut *optimizer, 5..10);
        assert_ne!(bits(&whole), middle, "{}", optimizer.name());

        let (mut halves, mut first, mut second) = (model(3), make(), make());
        run(&mut halves, &mut *first, 0..5);
        second.load_state(state.clone()).unwrap();
        assert!(second.state() == state, "{}", second.name());
        run(&mut halves, &mut *second, 5..10);
        assert_eq!(bits(&halves), bits(&whole), "{}", optimizer.name());
        assert!(second.state() == optimizer.state());
        assert_eq!((second.learning_rate(), second.steps()), (0.07, optimizer.steps()));
    }
}

#[test]
fn names_are_pytorchs_under_the_parameters_path() {
    let names = |optimizer: &mut dyn Optimizer| -> Vec<String> {
        run(&mut model(3), optimizer, 0..1);
        optimizer.state().tensors.into_iter().map(|(name, _)| name).collect()
    };
    let adam = ["bias.step", "bias.exp_avg", "bias.exp_avg_sq", "weight.step", "weight.exp_avg", "weight.exp_avg_sq"];
    assert_eq!(names(&mut Adam::new(0.1)), adam);
    let adafactor = ["bias.step", "bias.variance", "weight.step", "weight.row_var", "weight.col_var"];
    assert_eq!(names(&mut Adafactor::new(0.1)), adafactor);
    let wrapped = ["bias.step", "weight.step", "lookahead:bias", "lookahead:weight"];
    assert_eq!(names(&mut Lookahead::new(Sgd::new(0.1))), wrapped);
    let sgd = ["bias.step", "bias.momentum_buffer", "weight.step", "weight.momentum_buffer"];
    assert_eq!(names(&mut Sgd::new(0.1).momentum(0.9)), sgd);
}

fn state() -> OptimizerState {
    let mut adam = Adam::new(0.1);
    run(&mut model(3), &mut adam, 0..2);
    adam.state()
}

#[test]
fn a_state_that_does_not_fit_names_the_parameter_and_changes_nothing() {
    let step = |features: usize, state: OptimizerState| {
        let (mut model, mut adam) = (model(features), Adam::new(0.1));
        adam.load_state(state).unwrap();
        let (before, grads) = (bits(&model), gradients(&model, 0));
        let text = adam.step(&mut model, &grads).unwrap_err().to_string();
        assert_eq!(bits(&model), before);
        text
    };
    let expected =
        "adam: `weight` is f32 [2, 4], its exp_avg f32 [2, 3]; help: load the state of a model of the same sizes";
    assert_eq!(step(4, state()), expected);
    let mut double = state();
    double.tensors[2].1 = double.tensors[2].1.to_dtype(DType::F64);
    let expected = "adam: `bias` is f32 [3], its exp_avg_sq f64 [3]; help: load the state of a model of the same sizes";
    assert_eq!(step(3, double), expected);
    let mut other = state();
    other.tensors.iter_mut().for_each(|(name, _)| *name = name.replace("bias", "head.bias"));
    let expected = "adam: the loaded state has `head.bias`, the model has no such parameter; \
                    help: load the state of a model of the same structure";
    assert_eq!(step(3, other), expected);
}

#[test]
fn memory_of_another_shape_than_the_parameters_is_checked_too() {
    let text = |change: &dyn Fn(&mut OptimizerState)| {
        let (mut model, mut adafactor, mut saved) = (model(3), Adafactor::new(0.1), Adafactor::new(0.1));
        run(&mut model, &mut saved, 0..1);
        let mut state = saved.state();
        change(&mut state);
        let grads = gradients(&model, 0);
        adafactor.load_state(state).and_then(|()| adafactor.step(&mut model, &grads)).unwrap_err().to_string()
    };
    let sizes = "help: load the state of a model of the same sizes";
    let rows = text(&|state| state.tensors[3].1 = Tensor::zeros([2, 3], DType::F32));
    assert_eq!(rows, format!("adafactor: `weight` is f32 [2, 3], its row_var f32 [2, 3]; {sizes}"));
    let vector = text(&|state| {
        state.tensors.truncate(3);
        state.tensors.push(("weight.variance".into(), Tensor::zeros([2, 3], DType::F32)));
    });
    let expected = "adafactor: `weight` is [2, 3], its state has `variance`, not `row_var`, `col_var`";
    assert_eq!(vector, format!("{expected}; {sizes}"));
    let damaged = "help: the state was saved with other options, or is damaged";
    let lacks = text(&|state| drop(state.tensors.remove(4)));
    assert_eq!(lacks, format!("adafactor: the state lacks `weight.col_var`; {damaged}"));
    let both = text(&|state| state.tensors.push(("weight.variance".into(), Tensor::zeros([2, 3], DType::F32))));
    assert_eq!(
        both,
        format!("adafactor: the state of `weight` is of two kinds: `col_var`, `row_var`, `variance`; {damaged}")
    );
}

#[test]
fn a_wrappers_state_is_of_the_wrapped() {
    let mut lookahead = Lookahead::new(Adam::new(0.1));
    let kind = "lookahead: the state is one of `adam`; help: build the optimizer that was saved";
    assert_eq!(lookahead.load_state(Adam::new(0.1).state()).unwrap_err().to_string(), kind);
    let inner = "adam: the state is one of `sgd`; help: build the optimizer that was saved";
    let state = Lookahead::new(Sgd::new(0.1)).state();
    assert_eq!(state.optimizer, "lookahead(sgd)");
    assert_eq!(lookahead.load_state(state).unwrap_err().to_string(), inner);
    let mut other = model(4);
    let mut saved = Lookahead::new(Sgd::new(0.1));
    run(&mut model(3), &mut saved, 0..1);
    let grads = gradients(&other, 0);
    let text = saved.step(&mut other, &grads).unwrap_err().to_string();
    let expected = "lookahead: `weight` is f32 [2, 4], its slow weights f32 [2, 3]; \
                    help: load the state of a model of the same sizes";
    assert_eq!(text, expected);
    let mut state = Accumulate::new(2, Sgd::new(0.1)).state();
    state.numbers.retain(|(name, _)| name != "accumulate:count");
    let count = "accumulate: the state lacks the number `accumulate:count`; help: it is damaged";
    assert_eq!(Accumulate::new(2, Sgd::new(0.1)).load_state(state).unwrap_err().to_string(), count);
}

#[test]
fn a_damaged_state_is_refused_and_leaves_the_old_one() {
    let text = |change: &dyn Fn(&mut OptimizerState)| {
        let (mut adam, mut damaged) = (Adam::new(0.3), state());
        change(&mut damaged);
        let text = adam.load_state(damaged).unwrap_err().to_string();
        assert_eq!((adam.learning_rate(), adam.steps(), adam.state().tensors.len()), (0.3, 0, 0));
        text
    };
    let kind = "adam: the state is one of `adamw`; help: build the optimizer that was saved";
    assert_eq!(text(&|state| state.optimizer = "adamw".into()), kind);
    let damaged = |what: &str| format!("adam: {what}; help: the state was saved with other options, or is damaged");
    assert_eq!(text(&|state| drop(state.tensors.remove(1))), damaged("the state lacks `bias.exp_avg`"));
    assert_eq!(text(&|state| drop(state.tensors.remove(3))), damaged("the state lacks `weight.step`"));
    let twice = text(&|state| state.tensors.push(state.tensors[4].clone()));
    assert_eq!(twice, damaged("the state has `weight.exp_avg` twice"));
    let unknown = text(&|state| state.tensors[1].0 = "bias.color".into());
    assert_eq!(unknown, damaged("the state has `bias.color`, which this optimizer does not keep"));
    let steps = text(&|state| state.tensors[0].1 = Tensor::scalar(-1i64));
    assert_eq!(steps, damaged("`bias.step` is no number of steps"));
    assert_eq!(text(&|state| state.numbers.clear()), damaged("the state lacks the number `learning_rate`"));
}

#[test]
fn a_loaded_state_meets_the_model_once_and_then_goes_on_with_a_part_of_it() {
    struct Part {
        weight: Param,
    }
    fields!(Part: weight);
    let (mut whole, mut adam) = (model(3), Adam::new(0.1));
    adam.load_state(state()).unwrap();
    run(&mut whole, &mut adam, 0..1);
    let mut part = Part { weight: whole.weight };
    let before = part.weight.value().clone();
    let x = Pass::train(0).input(Tensor::from([1.0f32]));
    let loss = part.weight.on(&x).square().sum(.., false).unwrap();
    adam.step(&mut part, &loss.backward().unwrap()).unwrap();
    assert_ne!(part.weight.value(), &before);
}

#[test]
fn a_parameter_frozen_after_its_gradient_was_found_stays_too() {
    let mut model = model(3);
    let (grads, before) = (gradients(&model, 0), bits(&model));
    model.weight.set_trainable(false);
    Sgd::new(0.1).step(&mut model, &grads).unwrap();
    assert_eq!(bits(&model)[..6], before[..6]);
    assert_ne!(bits(&model)[6..], before[6..]);
}

#[test]
fn frozen_parameters_stay_and_start_afresh_later() {
    let (mut model, mut adam) = (model(3), Adam::new(0.1));
    model.weight.set_trainable(false);
    let before = model.weight.value().clone();
    run(&mut model, &mut adam, 0..3);
    assert_eq!(model.weight.value(), &before);
    model.weight.set_trainable(true);
    let grads = gradients(&model, 3);
    let signs = grads.of(&model.weight).unwrap().sign();
    adam.step(&mut model, &grads).unwrap();
    // Adam's first step has the size of the rate, whatever the gradient: √v̂ = |g|.
    let moved = before.sub(model.weight.value()).unwrap();
    let expected = signs.mul_scalar(0.1);
    let pairs = moved.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap());
    assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5), "{:?}", pairs.collect::<Vec<_>>());
}

#[test]
fn steps_happen_in_place() {
    let optimizers: [Box<dyn Optimizer>; 6] = [
        Box::new(Sgd::new(0.1)),
        Box::new(Sgd::new(0.1).momentum(0.9)),
        Box::new(Adam::new(0.1)),
        Box::new(Rmsprop::new(0.1).centered().momentum(0.9)),
        Box::new(Adafactor::new(0.1)),
        Box::new(Lookahead::new(Lamb::new(0.1)).every(2)),
    ];
    for mut optimizer in optimizers {
        let mut model = model(50);
        run(&mut model, &mut *optimizer, 0..1);
        let places = |model: &Model, optimizer: &dyn Optimizer| -> Vec<*const f32> {
            let memory = optimizer.state().tensors;
            let tensors = memory.iter().map(|(_, tensor)| tensor).chain([model.weight.value(), model.bias.value()]);
            tensors.filter_map(|tensor| tensor.as_slice().ok().map(<[f32]>::as_ptr)).collect()
        };
        let before = places(&model, &*optimizer);
        run(&mut model, &mut *optimizer, 1..4);
        assert_eq!(places(&model, &*optimizer), before, "{}", optimizer.name());
    }
}

#[test]
fn a_step_applies_the_states_of_the_pass() {
    let mut model = model(3);
    run(&mut model, &mut Sgd::new(0.1), 0..8);
    assert_eq!(model.mean.value(), &Tensor::full([3], 7.0f32));
}

#[test]
fn impossible_numbers_are_refused_by_check_and_by_step() {
    let text = |mut optimizer: Box<dyn Optimizer>| {
        let (mut model, text) = (model(2), optimizer.check().unwrap_err().to_string());
        let (before, grads) = (bits(&model), gradients(&model, 0));
        assert_eq!(optimizer.step(&mut model, &grads).unwrap_err().to_string(), text);
        assert_eq!(bits(&model), before);
        text
    };
    let count = "help: use a finite number, 0 or more";
    assert_eq!(text(Box::new(Sgd::new(-0.1))), format!("sgd: learning_rate is -0.1; {count}"));
    assert_eq!(text(Box::new(Adam::new(f64::NAN))), format!("adam: learning_rate is NaN; {count}"));
    assert_eq!(
        text(Box::new(AdamW::new(0.1).weight_decay(f64::INFINITY))),
        format!("adamw: weight_decay is inf; {count}")
    );
    assert_eq!(text(Box::new(Sgd::new(0.1).momentum(-1.0))), format!("sgd: momentum is -1; {count}"));
    let nesterov = "sgd: nesterov with momentum 0 and dampening 0; help: it needs a momentum above 0 and no dampening";
    assert_eq!(text(Box::new(Sgd::new(0.1).nesterov())), nesterov);
    let beta = "adam: beta2 is 1; help: use a number from 0 to below 1";
    assert_eq!(text(Box::new(Adam::new(0.1).betas(0.9, 1.0))), beta);
    assert_eq!(text(Box::new(Adam::new(0.1).eps(-1e-8))), format!("adam: eps is -0.00000001; {count}"));
    let above = "help: use a finite number above 0";
    assert_eq!(text(Box::new(Adam::new(0.1).clip_norm(0.0))), format!("adam: clip_norm is 0; {above}"));
    assert_eq!(text(Box::new(Adam::new(0.1).clip_value(f64::NAN))), format!("adam: clip_value is NaN; {above}"));
    let decay = "help: use a number from 0 to below 1";
    assert_eq!(text(Box::new(Adamax::new(0.1).betas(-0.1, 0.9))), format!("adamax: beta1 is -0.1; {decay}"));
    assert_eq!(text(Box::new(Nadam::new(0.1).momentum_decay(-1.0))), format!("nadam: momentum_decay is -1; {count}"));
    assert_eq!(text(Box::new(Radam::new(0.1).betas(0.9, f64::NAN))), format!("radam: beta2 is NaN; {decay}"));
    assert_eq!(text(Box::new(Rmsprop::new(0.1).alpha(1.0))), format!("rmsprop: alpha is 1; {decay}"));
    assert_eq!(text(Box::new(Rmsprop::new(0.1).momentum(-1.0))), format!("rmsprop: momentum is -1; {count}"));
    assert_eq!(text(Box::new(Adagrad::new(0.1).lr_decay(-1.0))), format!("adagrad: lr_decay is -1; {count}"));
    let accumulator = format!("adagrad: initial_accumulator is -1; {count}");
    assert_eq!(text(Box::new(Adagrad::new(0.1).initial_accumulator(-1.0))), accumulator);
    let rho = "adadelta: rho is 1.5; help: use a number from 0 to 1";
    assert_eq!(text(Box::new(Adadelta::new(0.1).rho(1.5))), rho);
    let beta2_decay = "adafactor: beta2_decay is 0.5; help: use a finite number, 0 or less";
    assert_eq!(text(Box::new(Adafactor::new(0.1).beta2_decay(0.5))), beta2_decay);
    assert_eq!(text(Box::new(Adafactor::new(0.1).eps(-1.0, 0.1))), format!("adafactor: eps1 is -1; {count}"));
    let clip = "adafactor: clip is 0.5; help: use a finite number, 1 or more";
    assert_eq!(text(Box::new(Adafactor::new(0.1).clip(0.5))), clip);
    assert_eq!(text(Box::new(Lamb::new(0.1).eps(f64::NAN))), format!("lamb: eps is NaN; {count}"));
    assert_eq!(text(Box::new(Lion::new(0.1).betas(0.9, 1.0))), format!("lion: beta2 is 1; {decay}"));
    assert_eq!(text(Box::new(Muon::new(0.1).momentum(1.0))), format!("muon: momentum is 1; {decay}"));
    let many = "muon: iterations is 100; help: use fewer than 100, usually 5";
    assert_eq!(text(Box::new(Muon::new(0.1).newton_schulz([1.0; 3], 100))), many);
    let minus = "rprop: minus is 1; help: use a number between 0 and 1";
    assert_eq!(text(Box::new(Rprop::new(0.1).etas(1.0, 1.2))), minus);
    let plus = "rprop: plus is 1; help: use a finite number above 1";
    assert_eq!(text(Box::new(Rprop::new(0.1).etas(0.5, 1.0))), plus);
    let largest = "rprop: largest is 0.5; help: use a finite number, not below the smallest step";
    assert_eq!(text(Box::new(Rprop::new(0.1).step_sizes(1.0, 0.5))), largest);
    assert_eq!(text(Box::new(Rprop::new(0.1).step_sizes(-1.0, 0.5))), format!("rprop: smallest is -1; {count}"));
    assert_eq!(text(Box::new(Asgd::new(0.1).lambda(-1.0))), format!("asgd: lambda is -1; {count}"));
    assert_eq!(text(Box::new(Asgd::new(0.1).alpha(-1.0))), format!("asgd: alpha is -1; {count}"));
    assert_eq!(text(Box::new(Asgd::new(0.1).t0(f64::NAN))), format!("asgd: t0 is NaN; {count}"));
    assert_eq!(text(Box::new(Rmsprop::new(0.1).eps(-1.0))), format!("rmsprop: eps is -1; {count}"));
    assert_eq!(text(Box::new(Adadelta::new(0.1).eps(-1.0))), format!("adadelta: eps is -1; {count}"));
    assert_eq!(text(Box::new(Adagrad::new(0.1).eps(-1.0))), format!("adagrad: eps is -1; {count}"));
    assert_eq!(text(Box::new(Muon::new(0.1).eps(-1.0))), format!("muon: eps is -1; {count}"));
    assert_eq!(text(Box::new(Adamax::new(0.1).eps(-1.0))), format!("adamax: eps is -1; {count}"));
    let every = "accumulate: every is 0; help: use 1 batch or more";
    assert_eq!(text(Box::new(Accumulate::new(0, Sgd::new(0.1)))), every);
    let every = "lookahead: every is 0; help: use 1 step or more";
    assert_eq!(text(Box::new(Lookahead::new(Sgd::new(0.1)).every(0))), every);
    let part = "lookahead: part is 2; help: use a number from 0 to 1";
    assert_eq!(text(Box::new(Lookahead::new(Sgd::new(0.1)).part(2.0))), part);
    let second = Partition::new(|_, _| true, Sgd::new(0.1), Sgd::new(-1.0));
    assert_eq!(text(Box::new(second)), format!("sgd: learning_rate is -1; {count}"));
    let cycled = "adagrad: the schedule sets a momentum, which this optimizer does not have; \
                  help: leave the schedule's momentum out";
    assert_eq!(text(Box::new(Adagrad::new(0.1).schedule(OneCycle::new(9)))), cycled);
    let group = Group::new().learning_rate_factor(-1.0);
    let expected = format!("adam: a group's learning_rate_factor is -1; {count}");
    assert_eq!(text(Box::new(Adam::new(0.1).group(|_: &str| false, group))), expected);
    let group = Group::new().weight_decay(f64::NAN);
    let expected = format!("adam: a group's weight_decay is NaN; {count}");
    assert_eq!(text(Box::new(Adam::new(0.1).group(|_: &str| false, group))), expected);
    let expected = format!("adam: the schedule's factor for step 0 is NaN; {count}");
    assert_eq!(text(Box::new(Adam::new(0.1).schedule(|_: u64| f64::NAN))), expected);
    let cosine = "cosine: minimum is -1; help: use a part of the base rate, from 0 to 1";
    assert_eq!(text(Box::new(Adam::new(0.1).schedule(Cosine::new(3).minimum(-1.0)))), cosine);
}

#[test]
fn muon_refuses_vectors_by_name() {
    let mut model = model(3);
    let (before, grads) = (bits(&model), gradients(&model, 0));
    let text = Muon::new(0.1).step(&mut model, &grads).unwrap_err().to_string();
    let expected = "muon: `bias` is [3]; help: it needs two axes; give this one to another optimizer, with Partition";
    assert_eq!(text, expected);
    assert_eq!(bits(&model), before);
}

#[test]
fn clipping_a_gradient_that_is_not_finite_names_the_parameter() {
    let mut model = model(3);
    model.bias.set_value(Tensor::full([3], f32::INFINITY)).unwrap();
    let (before, grads) = (bits(&model), gradients(&model, 0));
    let text = Adam::new(0.1).clip_norm(1.0).step(&mut model, &grads).unwrap_err().to_string();
    let expected =
        "adam: the gradient of `weight` is not finite; help: lower the learning rate, or look for the NaN in the data";
    assert_eq!(text, expected);
    assert_eq!(bits(&model), before);
}
