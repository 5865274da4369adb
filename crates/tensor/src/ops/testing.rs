//! What the tests of several ops share: random tensors, slopes by finite differences, moments by their definition.

use crate::{Rng, Shape, Tensor};

pub(crate) fn draw(shape: &[usize], seed: u64) -> Tensor {
    Tensor::normal(Shape::new(shape).unwrap(), 1.0f64, 2.0, &mut Rng::new(seed))
}

pub(crate) fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.mul(b).unwrap().sum(.., false).unwrap().item::<f64>().unwrap()
}

/// The slope of `value` at `inputs` along `direction` of input `i`.
pub(crate) fn slope(value: impl Fn(&[Tensor; 3]) -> f64, inputs: &[Tensor; 3], i: usize, direction: &Tensor) -> f64 {
    let moved = |step: f64| {
        let mut inputs = inputs.clone();
        inputs[i] = inputs[i].add(&direction.mul_scalar(step)).unwrap();
        value(&inputs)
    };
    (moved(1e-6) - moved(-1e-6)) / 2e-6
}

pub(crate) fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
}

pub(crate) fn assert_near(found: &Tensor, want: &[f64]) {
    let found = found.as_slice::<f64>().unwrap();
    assert_eq!(found.len(), want.len());
    // A few roundings of numbers below 10.
    assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-13), "{found:?}\n{want:?}");
}
