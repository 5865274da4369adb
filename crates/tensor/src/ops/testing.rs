//! What the tests of several ops share: random tensors, slopes by finite differences, moments by their
//! definition, tables of activations.

use crate::{DType, Result, Rng, Shape, Tensor};

pub(crate) fn draw(shape: &[usize], seed: u64) -> Tensor {
    Tensor::normal(Shape::new(shape).unwrap(), 1.0f64, 2.0, &mut Rng::new(seed))
}

pub(crate) fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.mul(b).unwrap().sum(.., false).unwrap().item::<f64>().unwrap()
}

/// `run` gives the same with 1, 2 and 7 threads, and outside their pool, where less is shared.
pub(crate) fn assert_same_on_any_threads<T: PartialEq + Send>(run: impl Fn() -> T + Sync) {
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&run);
    assert!(with(1) == with(2) && with(1) == with(7) && with(1) == run());
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

pub(crate) type Forward = fn(&Tensor) -> Tensor;
pub(crate) type Adjoint = fn(&Tensor, &Tensor) -> Result<Tensor>;
/// Of an activation: name, function, adjoint, whether the adjoint takes the output, and the definition.
pub(crate) type Row = (&'static str, Forward, Adjoint, bool, fn(f64) -> f64);

/// Compares activations with their definitions, and their adjoints with central differences of those.
pub(crate) fn check_activations(table: &[Row]) {
    let mut rng = Rng::new(7);
    let (x, dy) = (Tensor::normal([100], 0.0f64, 3.0, &mut rng), Tensor::normal([100], 0.0f64, 1.0, &mut rng));
    let step = 1e-5; // error: step² · third derivative, and 1e-16 / step
    for (name, function, adjoint, of_output, definition) in table {
        for (dtype, tolerance, slope_tolerance) in [(DType::F64, 1e-14, 4e-9), (DType::F32, 1e-6, 4e-6)] {
            let (x, dy) = (x.to_dtype(dtype), dy.to_dtype(dtype));
            let y = function(&x);
            let dx = adjoint(if *of_output { &y } else { &x }, &dy).unwrap();
            let [x, y, dy, dx] = [x, y, dy, dx].map(|x| x.to_dtype(DType::F64).to_vec::<f64>().unwrap());
            for i in 0..x.len() {
                let (x, expected) = (x[i], definition(x[i]));
                assert!(
                    (y[i] - expected).abs() < tolerance * x.abs().max(1.0),
                    "{name}({x}) = {}, not {expected}",
                    y[i]
                );
                let slope = dy[i] * (definition(x + step) - definition(x - step)) / (2.0 * step);
                assert!((dx[i] - slope).abs() < slope_tolerance, "{name}' at {x}: {}, not {slope}", dx[i]);
            }
        }
    }
}
