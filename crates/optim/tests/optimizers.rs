//! Every optimizer against its published formula, restated here for one number in plain arithmetic.

use maplet_autograd::{Grads, Param, Pass, Tensor, fields};
use maplet_optim::{Adam, AdamW, Group, Optimizer, Sgd};

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

#[test]
fn every_optimizer_finds_the_bottom_of_a_valley() {
    let optimizers: [Box<dyn Optimizer>; 5] = [
        Box::new(Sgd::new(0.5)),
        Box::new(Sgd::new(0.1).momentum(0.9)),
        Box::new(Sgd::new(0.1).momentum(0.9).nesterov()),
        Box::new(Adam::new(0.05)),
        Box::new(AdamW::new(0.05)),
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
