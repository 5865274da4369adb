//! Initializers: how weights begin.
//!
//! All make `F32`. Fan-in and fan-out are worked out from the weight's shape, `[out, in / groups, ..kernel]`, and from
//! its groups: never by the caller.

mod fans;
mod structured;
mod random;

pub use fans::{Fan, Gain, kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform};
pub use random::{orthogonal, sparse, trunc_normal};
pub use structured::{dirac, eye};

use maplet_tensor::{DType, Rng, Shape, Tensor};

/// What keeps the norms' roots away from zero: PyTorch's default.
pub(crate) const NORM_EPS: f64 = 1e-5;

/// Uniform in `[low, high)`.
///
/// PyTorch: `nn.init.uniform_`; Keras: `RandomUniform`.
pub fn uniform(shape: impl Into<Shape>, low: f64, high: f64, rng: &mut Rng) -> Tensor {
    Tensor::uniform(shape, low as f32, high as f32, rng)
}

/// Normal.
///
/// PyTorch: `nn.init.normal_`; Keras: `RandomNormal`.
pub fn normal(shape: impl Into<Shape>, mean: f64, std: f64, rng: &mut Rng) -> Tensor {
    Tensor::normal(shape, mean as f32, std as f32, rng)
}

/// All elements the same.
///
/// PyTorch: `nn.init.constant_`; Keras: `Constant`.
pub fn constant(shape: impl Into<Shape>, value: f64) -> Tensor {
    Tensor::full(shape, value as f32)
}

/// All zeros.
///
/// PyTorch: `nn.init.zeros_`; Keras: `Zeros`.
pub fn zeros(shape: impl Into<Shape>) -> Tensor {
    Tensor::zeros(shape, DType::F32)
}

/// All ones.
///
/// PyTorch: `nn.init.ones_`; Keras: `Ones`.
pub fn ones(shape: impl Into<Shape>) -> Tensor {
    Tensor::ones(shape, DType::F32)
}

#[cfg(test)]
mod testing {
    use maplet_tensor::Tensor;

    /// Mean, standard deviation and largest magnitude.
    pub(super) fn moments(x: &Tensor) -> (f64, f64, f64) {
        let x: Vec<f64> = x.as_slice::<f32>().unwrap().iter().map(|&x| f64::from(x)).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        (mean, var.sqrt(), x.iter().fold(0.0, |most, x| x.abs().max(most)))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::moments;
    use super::*;

    #[test]
    fn plain_ones() {
        let mut rng = Rng::new(2);
        let (mean, std, _) = moments(&normal([10_000], 3.0, 0.5, &mut rng));
        assert!((mean - 3.0).abs() < 0.025 && (std - 0.5).abs() < 0.02, "{mean} {std}");
        let low = uniform([1000], 2.0, 4.0, &mut rng);
        assert!(low.as_slice::<f32>().unwrap().iter().all(|x| (2.0..=4.0).contains(x)));
        assert_eq!(constant([2], -0.5), Tensor::from([-0.5f32, -0.5]));
        assert_eq!((zeros([2]), ones([2])), (Tensor::from([0.0f32, 0.0]), Tensor::from([1.0f32, 1.0])));
    }
}
