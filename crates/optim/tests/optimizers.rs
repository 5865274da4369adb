//! Every optimizer against its published formula, restated here for one number in plain arithmetic.

use maplet_autograd::{Grads, Param, Pass, Tensor, fields};
use maplet_optim::{
    Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Asgd, Descent, Group, Lamb, Lion, Muon, Nadam, OneCycle,
    Optimizer, Radam, Rmsprop, Rprop, Rule, Schedule, Sgd,
};

/// Two parameters, so that groups and clipping have something to tell apart.
struct Model {
    weight: Param,
    bias: Param,
}
fields!(Model: weight, bias);

const START: [f64; 2] = [1.5, -0.75];
/// The curvatures of the loss `(A·weight² + B·bias²) / 2`: the gradients are `A·weight` and `B·bias`.
const CURVES: [f64; 2] = [2.0, 0.5];

fn model() -> Model {
    let [weight, bias] = START.map(|x| Param::new(Tensor::full([2, 3], x)));
    Model { weight, bias }
}

fn gradients(model: &Model) -> Grads {
    let x = Pass::train(0).input(Tensor::scalar(1.0f64));
    let term = |param: &Param, curve: f64| param.on(&x).square().mul_scalar(curve / 2.0).sum(.., false).unwrap();
    term(&model.weight, CURVES[0]).add(&term(&model.bias, CURVES[1])).unwrap().backward().unwrap()
}

/// Runs 25 steps, and for each parameter `restated(t, p, gradient)`, which returns the new `p`; they must agree.
fn check<const N: usize>(
    mut optimizer: impl Optimizer,
    mut memory: [[f64; N]; 2],
    restated: impl Fn(usize, usize, f64, f64, &mut [f64; N]) -> f64,
) {
    let (mut model, mut plain) = (model(), START);
    for t in 0..25 {
        let grads = gradients(&model);
        optimizer.step(&mut model, &grads).unwrap();
        for (i, param) in [&model.weight, &model.bias].into_iter().enumerate() {
            plain[i] = restated(i, t, plain[i], CURVES[i] * plain[i], &mut memory[i]);
            for found in param.value().as_slice::<f64>().unwrap() {
                // A few roundings a step, of numbers near 1.
                assert!((found - plain[i]).abs() < 1e-13, "step {t}, parameter {i}: {found}, not {}", plain[i]);
            }
        }
    }
    assert_eq!(optimizer.steps(), 25);
}

/// `torch.optim.SGD`'s documented algorithm.
#[test]
fn sgd() {
    check(Sgd::new(0.1), [[]; 2], |_, _, p, g, _| p - 0.1 * g);
    check(Sgd::new(0.1).weight_decay(0.3), [[]; 2], |_, _, p, g, _| p - 0.1 * (g + 0.3 * p));
    check(Sgd::new(0.1).momentum(0.9).weight_decay(0.3), [[0.0]; 2], |_, _, p, g, [b]| {
        *b = 0.9 * *b + (g + 0.3 * p);
        p - 0.1 * *b
    });
    check(Sgd::new(0.1).momentum(0.8).dampening(0.4), [[0.0]; 2], |_, t, p, g, [b]| {
        *b = if t == 0 { g } else { 0.8 * *b + (1.0 - 0.4) * g };
        p - 0.1 * *b
    });
    check(Sgd::new(0.1).momentum(0.8).nesterov(), [[0.0]; 2], |_, _, p, g, [b]| {
        *b = 0.8 * *b + g;
        p - 0.1 * (g + 0.8 * *b)
    });
}

/// Kingma & Ba, algorithm 1, with the decay `l2` in the gradient; Loshchilov & Hutter's line 12 for `shrink`.
fn adam_restated(t: usize, p: f64, g: f64, m: &mut [f64; 2], rate: f64, l2: f64, shrink: f64) -> f64 {
    let (beta1, beta2, eps): (f64, f64, f64) = (0.8, 0.95, 1e-4);
    let g = g + l2 * p;
    m[0] = beta1 * m[0] + (1.0 - beta1) * g;
    m[1] = beta2 * m[1] + (1.0 - beta2) * g * g;
    let first = m[0] / (1.0 - beta1.powi(t as i32 + 1));
    let second = m[1] / (1.0 - beta2.powi(t as i32 + 1));
    p - rate * (first / (second.sqrt() + eps) + shrink * p)
}

#[test]
fn adam() {
    let adam = || Adam::new(0.01).betas(0.8, 0.95).eps(1e-4);
    check(adam(), [[0.0; 2]; 2], |_, t, p, g, m| adam_restated(t, p, g, m, 0.01, 0.0, 0.0));
    check(adam().weight_decay(0.3), [[0.0; 2]; 2], |_, t, p, g, m| adam_restated(t, p, g, m, 0.01, 0.3, 0.0));
}

#[test]
fn adamw() {
    let adamw = || AdamW::new(0.01).betas(0.8, 0.95).eps(1e-4);
    check(adamw(), [[0.0; 2]; 2], |_, t, p, g, m| adam_restated(t, p, g, m, 0.01, 0.0, 0.01)); // PyTorch's default decay
    check(adamw().weight_decay(0.3), [[0.0; 2]; 2], |_, t, p, g, m| adam_restated(t, p, g, m, 0.01, 0.0, 0.3));
}

/// Dozat's algorithm 2 with PyTorch's decay of the momentum; `m` is both means and the product of momenta.
#[test]
fn nadam() {
    let nadam = Nadam::new(0.01).betas(0.8, 0.95).eps(1e-4).momentum_decay(0.1).weight_decay(0.3);
    check(nadam, [[0.0, 0.0, 1.0]; 2], |_, t, p, g, m| {
        let g = g + 0.3 * p;
        let mu = |t: usize| 0.8 * (1.0 - 0.5 * 0.96f64.powf(t as f64 * 0.1));
        m[0] = 0.8 * m[0] + (1.0 - 0.8) * g;
        m[1] = 0.95 * m[1] + (1.0 - 0.95) * g * g;
        m[2] *= mu(t + 1);
        let m_hat = mu(t + 2) * m[0] / (1.0 - m[2] * mu(t + 2)) + (1.0 - mu(t + 1)) * g / (1.0 - m[2]);
        let v_hat = m[1] / (1.0 - 0.95f64.powi(t as i32 + 1));
        p - 0.01 * m_hat / (v_hat.sqrt() + 1e-4)
    });
}

/// `torch.optim.ASGD`'s documented algorithm; the memory is η and the average.
#[test]
fn asgd() {
    let asgd = || Asgd::new(0.1).lambda(0.01).alpha(0.5).t0(10.0).weight_decay(0.3);
    let restated = |t: usize, p: f64, g: f64, eta: &mut f64| {
        if t == 0 {
            *eta = 0.1;
        }
        let p = (1.0 - 0.01 * *eta) * p - *eta * (g + 0.3 * p);
        *eta = 0.1 / (1.0 + 0.01 * 0.1 * (t + 1) as f64).powf(0.5);
        p
    };
    check(asgd(), [[0.0]; 2], |_, t, p, g, [eta]| restated(t, p, g, eta));
    // The average: the last value until t0, then the mean of those since.
    let (mut model, mut asgd, mut values) = (model(), asgd(), Vec::new());
    for _ in 0..25 {
        let grads = gradients(&model);
        asgd.step(&mut model, &grads).unwrap();
        values.push(model.weight.value().as_slice::<f64>().unwrap()[0]);
    }
    let state = asgd.state();
    let average = state.tensors.iter().find(|(name, _)| name == "weight.ax").unwrap();
    let expected = values[11..].iter().sum::<f64>() / 14.0; // μ is 1 up to the twelfth update
    assert!((average.1.as_slice::<f64>().unwrap()[0] - expected).abs() < 1e-14);
}

/// Riedmiller & Braun's rule without backtracking; the memory is the gradient before and the step.
#[test]
fn rprop() {
    check(Rprop::new(0.3).etas(0.4, 1.5).step_sizes(1e-3, 0.5), [[0.0, 0.3]; 2], |_, _, p, g, [before, step]| {
        let turn = g * *before;
        if turn > 0.0 {
            *step = f64::min(*step * 1.5, 0.5);
        } else if turn < 0.0 {
            *step = f64::max(*step * 0.4, 1e-3);
        }
        *before = if turn < 0.0 { 0.0 } else { g };
        if *before == 0.0 { p } else { p - before.signum() * *step }
    });
}

/// You et al., algorithm 2: both norms are of six equal elements.
#[test]
fn lamb() {
    let lamb = Lamb::new(0.01).betas(0.8, 0.95).eps(1e-4).weight_decay(0.3);
    check(lamb, [[0.0; 2]; 2], |_, t, p, g, m| {
        m[0] = 0.8 * m[0] + (1.0 - 0.8) * g;
        m[1] = 0.95 * m[1] + (1.0 - 0.95) * g * g;
        let first = m[0] / (1.0 - 0.8f64.powi(t as i32 + 1));
        let second = m[1] / (1.0 - 0.95f64.powi(t as i32 + 1));
        let r = first / (second.sqrt() + 1e-4) + 0.3 * p;
        p - 0.01 * (6.0 * p * p).sqrt() / (6.0 * r * r).sqrt() * r
    });
}

/// Shazeer & Stern, algorithm 4, for a matrix of equal elements: its rows and columns have the means `g²`.
#[test]
fn adafactor() {
    let adafactor = Adafactor::new(0.05).beta2_decay(-0.5).eps(1e-8, 1e-2).clip(1.0).weight_decay(0.3);
    check(adafactor, [[0.0]; 2], |_, t, p, g, [v]| {
        let t = (t + 1) as f64;
        let new = t.powf(-0.5);
        *v = (1.0 - new) * *v + new * g * g;
        let (u, alpha) = (g / v.sqrt(), f64::max(1e-2, p.abs()) * f64::min(0.05, 1.0 / t.sqrt()));
        p - 0.05 * 0.3 * p - alpha * u / f64::max(1.0, u.abs())
    });
}

/// A matrix of equal elements has one singular value, its norm; the iteration is then one of numbers.
#[test]
fn muon() {
    for nesterov in [true, false] {
        let muon = Muon::new(0.01).momentum(0.9).nesterov(nesterov).weight_decay(0.3);
        check(muon, [[0.0]; 2], |_, _, p, g, [m]| {
            *m = 0.9 * *m + (1.0 - 0.9) * g;
            let u: f64 = if nesterov { 0.9 * *m + (1.0 - 0.9) * g } else { *m };
            let mut s = u.signum();
            for _ in 0..5 {
                s = 3.4445 * s - 4.7750 * s.powi(3) + 2.0315 * s.powi(5);
            }
            p - 0.01 * 0.3 * p - 0.01 * s / 6f64.sqrt() // [2, 3] is not tall: the scale is 1
        });
    }
}

#[test]
fn maximize_goes_up() {
    check(Sgd::new(0.1).weight_decay(0.3).maximize(), [[]; 2], |_, _, p, g, _| p - 0.1 * (-g + 0.3 * p));
    let lion = Lion::new(0.01).betas(0.8, 0.95).maximize();
    check(lion, [[0.0]; 2], |_, _, p, g, [m]| {
        let c: f64 = 0.8 * *m - (1.0 - 0.8) * g;
        *m = 0.95 * *m - (1.0 - 0.95) * g;
        p - 0.01 * c.signum()
    });
}

#[test]
fn a_schedule_may_cycle_the_momentum() {
    let cycle = OneCycle::new(25).momentum_between(0.5, 0.9);
    check(Sgd::new(0.1).schedule(cycle), [[0.0]; 2], |_, t, p, g, [b]| {
        let momentum = cycle.momentum(t as u64).unwrap();
        *b = if t == 0 { g } else { momentum * *b + g };
        p - 0.1 * cycle.factor(t as u64) * *b
    });
}

#[test]
fn groups_and_schedules_change_rate_and_decay() {
    let bias = Group::new().learning_rate_factor(0.5).weight_decay(0.0);
    let never = Group::new().learning_rate_factor(0.0);
    let sgd = Sgd::new(0.1)
        .weight_decay(0.3)
        .group(|path: &str| path == "bias", bias)
        .group(|path: &str| path != "weight", never);
    check(sgd.schedule(|step: u64| 0.9f64.powi(step as i32)), [[]; 2], |i, t, p, g, _| {
        let rate = 0.1 * 0.9f64.powi(t as i32);
        if i == 0 { p - rate * (g + 0.3 * p) } else { p - 0.5 * rate * g }
    });
}

#[test]
fn clipping_bounds_elements_and_norms() {
    check(Sgd::new(0.1).clip_value(0.25), [[]; 2], |_, _, p, g, _| p - 0.1 * g.clamp(-0.25, 0.25));
    // All six elements of a parameter are the same, so both can be followed as two numbers.
    let (mut model, mut plain) = (model(), START);
    let mut sgd = Sgd::new(0.1).clip_norm(2.0);
    let mut clipped = 0;
    for _ in 0..40 {
        let g = [CURVES[0] * plain[0], CURVES[1] * plain[1]];
        let norm = (6.0 * (g[0] * g[0] + g[1] * g[1])).sqrt();
        let factor = if norm > 2.0 { 2.0 / norm } else { 1.0 };
        clipped += usize::from(factor < 1.0);
        plain = [plain[0] - 0.1 * factor * g[0], plain[1] - 0.1 * factor * g[1]];
        let grads = gradients(&model);
        sgd.step(&mut model, &grads).unwrap();
        let found = [&model.weight, &model.bias].map(|param| param.value().as_slice::<f64>().unwrap()[5]);
        assert!((found[0] - plain[0]).abs() < 1e-13 && (found[1] - plain[1]).abs() < 1e-13, "{found:?} {plain:?}");
    }
    assert!((1..40).contains(&clipped), "{clipped}"); // the test saw both sides
}

/// With a group that stands still, clipping and a schedule; and the same rule without, at half the rate.
fn with_and_without<R: Rule + 'static>(new: fn(f64) -> Descent<R>) -> [Box<dyn Optimizer>; 2] {
    let still = Group::new().learning_rate_factor(0.0).weight_decay(0.0);
    let with = new(0.25).group(|path: &str| path == "bias", still).schedule(|_: u64| 0.5);
    [Box::new(with.clip_value(0.5).clip_norm(0.75)), Box::new(new(0.125))]
}

#[test]
fn groups_clipping_and_schedules_work_with_every_rule() {
    let pairs = [
        with_and_without(Sgd::new),
        with_and_without(|rate| Sgd::new(rate).momentum(0.5)),
        with_and_without(Adam::new),
        with_and_without(|rate| AdamW::new(rate).amsgrad()),
        with_and_without(Adamax::new),
        with_and_without(Nadam::new),
        with_and_without(Radam::new),
        with_and_without(|rate| Rmsprop::new(rate).centered()),
        with_and_without(Adagrad::new),
        with_and_without(Adadelta::new),
        with_and_without(Adafactor::new),
        with_and_without(Lamb::new),
        with_and_without(Lion::new),
        with_and_without(Muon::new),
        with_and_without(|rate| Rprop::new(rate).step_sizes(0.0, 1.0)),
        with_and_without(Asgd::new),
    ];
    for [mut with, mut without] in pairs {
        let (mut model, mut plain) = (self::model(), self::model());
        for _ in 0..3 {
            let grads = gradients(&model);
            with.step(&mut model, &grads).unwrap();
            plain.bias = model.bias.clone(); // so that both see the same norm
            let mut grads = gradients(&plain);
            grads.clip_value(0.5);
            grads.clip_norm(0.75);
            without.step(&mut plain, &grads).unwrap();
            assert_eq!(model.bias.value(), &Tensor::full([2, 3], START[1]), "{}", with.name());
            assert_eq!(model.weight.value(), plain.weight.value(), "{}", with.name());
        }
        assert_ne!(model.weight.value(), &Tensor::full([2, 3], START[0]), "{}", with.name());
    }
}

#[test]
fn every_optimizer_finds_the_bottom_of_a_valley() {
    // Steps of a size of their own need a rate that falls.
    let falling = |step: u64| 0.98f64.powi(step as i32);
    let optimizers: [Box<dyn Optimizer>; 19] = [
        Box::new(Sgd::new(0.5)),
        Box::new(Sgd::new(0.1).momentum(0.9)),
        Box::new(Sgd::new(0.1).momentum(0.9).nesterov()),
        Box::new(Adam::new(0.05)),
        Box::new(Adam::new(0.05).amsgrad()),
        Box::new(AdamW::new(0.05)),
        Box::new(Adamax::new(0.05)),
        Box::new(Nadam::new(0.05)),
        Box::new(Radam::new(0.05)),
        Box::new(Rmsprop::new(0.05).schedule(falling)),
        Box::new(Rmsprop::new(0.05).centered().momentum(0.5).schedule(falling)),
        Box::new(Adagrad::new(0.5)),
        Box::new(Adadelta::new(20.0).schedule(falling)),
        Box::new(Adafactor::new(0.2)),
        Box::new(Lamb::new(0.05)),
        Box::new(Lion::new(0.05).betas(0.8, 0.9).schedule(falling)),
        Box::new(Muon::new(0.1).schedule(falling)),
        Box::new(Rprop::new(0.05)),
        Box::new(Asgd::new(0.5)),
    ];
    for mut optimizer in optimizers {
        let mut model = model();
        for _ in 0..600 {
            let grads = gradients(&model);
            optimizer.step(&mut model, &grads).unwrap();
        }
        for param in [&model.weight, &model.bias] {
            let left = param.value().as_slice::<f64>().unwrap()[0];
            assert!(left.abs() < 1e-3, "{}: {left}", optimizer.name());
        }
    }
}

/// What the pass replaced (4 by 2, of gradient 3) is what the step starts from.
#[test]
fn a_parameter_that_the_pass_replaced_is_updated_from_there() {
    let mut weight = Param::new(Tensor::from([4.0f64]));
    let x = Pass::train(0).input(Tensor::from([3.0f64]));
    let loss = weight.on_with(&x, Tensor::from([2.0f64])).unwrap().mul(&x).unwrap().sum(.., false).unwrap();
    Sgd::new(0.5).step(&mut weight, &loss.backward().unwrap()).unwrap();
    assert_eq!(weight.value(), &Tensor::from([2.0 - 0.5 * 3.0]));
}
