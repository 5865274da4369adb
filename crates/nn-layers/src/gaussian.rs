//! [`GaussianNoise`] and [`GaussianDropout`]: Keras's normal noise.

use crate::module::expect_float;
use crate::plan::{Draft, Plan};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// In training, adds normal noise of mean 0 and standard deviation `std`; else the identity.
///
/// PyTorch: –; Keras: `GaussianNoise`.
///
/// # Shapes
/// - any; the output's is the input's
///
/// # Example
/// ```
/// use maplet_autograd::Pass;
/// use maplet_nn_layers::{GaussianNoise, Module};
/// use maplet_tensor::{DType, Tensor};
///
/// let (layer, x) = (GaussianNoise::new(0.1)?, Tensor::ones([4], DType::F32));
/// assert_eq!(layer.forward(&x.clone().into())?.value(), &x); // evaluation
/// assert_ne!(layer.forward(&Pass::train(0).input(x.clone()))?.value(), &x);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianNoise {
    std: f64,
}
fields!(GaussianNoise: ; std);

/// In training, multiplies with normal noise of mean 1 and standard deviation `√(p / (1 − p))`; else the identity. The
/// noise has the mean and the variance of [`Dropout`](crate::Dropout)'s.
///
/// PyTorch: –; Keras: `GaussianDropout`.
///
/// # Shapes
/// - any; the output's is the input's
///
/// # Reference
/// Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: A Simple Way to Prevent Neural Networks
/// from Overfitting", §10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianDropout {
    p: f64,
}
fields!(GaussianDropout: ; p);

impl GaussianNoise {
    /// `std` is the standard deviation, in units of the input.
    ///
    /// # Errors
    /// A negative one, or one that is not finite.
    pub fn new(std: f64) -> Result<Self> {
        if std >= 0.0 && std.is_finite() {
            return Ok(Self { std });
        }
        Err(Error::new("gaussian_noise", format!("std is {std}"), "use a finite number, 0 or more"))
    }
}

impl GaussianDropout {
    /// `p` is the part that a dropout of the same strength would drop.
    ///
    /// # Errors
    /// A `p` outside `[0, 1)`.
    pub fn new(p: f64) -> Result<Self> {
        if (0.0..1.0).contains(&p) {
            return Ok(Self { p });
        }
        Err(Error::new("gaussian_dropout", format!("p is {p}"), "use a probability from 0 to below 1"))
    }
}

impl Module for GaussianNoise {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("gaussian_noise", x)?;
        Ok(x.gaussian_noise(self.std)?)
    }
}

impl Module for GaussianDropout {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("gaussian_dropout", x)?;
        Ok(x.gaussian_dropout(self.p)?)
    }
}

impl Spec for GaussianNoise {
    fn plan(&self, input: &Shape) -> Plan {
        let label = format!("GaussianNoise {}", self.std);
        Plan::new(label, || Ok(Draft::new(*input, input.elements() as u64).fixed(Self::new(self.std)?)))
    }
}

impl Spec for GaussianDropout {
    fn plan(&self, input: &Shape) -> Plan {
        let label = format!("GaussianDropout {}", self.p);
        Plan::new(label, || Ok(Draft::new(*input, input.elements() as u64).fixed(Self::new(self.p)?)))
    }
}

impl Builder {
    /// [`GaussianNoise`] of standard deviation `std`.
    pub fn gaussian_noise(self, std: f64) -> Self {
        self.step(GaussianNoise { std })
    }

    /// [`GaussianDropout`] as strong as a dropout of `p`.
    pub fn gaussian_dropout(self, p: f64) -> Self {
        self.step(GaussianDropout { p })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behave_as_modules() {
        let expect = Expect { input: &[3, 4], output: &[3, 4], ..Expect::default() };
        check_module(&mut GaussianNoise::new(0.3).unwrap(), &expect).unwrap();
        check_module(&mut GaussianDropout::new(0.3).unwrap(), &expect).unwrap();
    }

    /// Mean and variance within five standard errors, `σ/√n` and `σ²√(2/n)`.
    #[test]
    fn noise_has_its_moments_and_is_of_training_alone() {
        const N: usize = 100_000;
        let x = Tensor::full([N], 2.0f64);
        let noise = GaussianNoise::new(0.5).unwrap();
        let factor = GaussianDropout::new(0.2).unwrap(); // √(0.2 / 0.8) = 0.5
        for (layer, sigma) in [(&noise as &dyn Module, 0.5), (&factor, 1.0)] {
            let run = |x: Var| layer.forward(&x).unwrap().into_value();
            let y = run(Pass::train(7).input(&x)).to_vec::<f64>().unwrap();
            let mean = y.iter().sum::<f64>() / N as f64;
            let var = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / N as f64;
            assert!((mean - 2.0).abs() < 5.0 * sigma / (N as f64).sqrt(), "{mean}");
            assert!((var - sigma * sigma).abs() < 5.0 * sigma * sigma * (2.0 / N as f64).sqrt(), "{var}");
            assert!(run(Pass::train(7).input(&x)).to_vec::<f64>().unwrap() == y);
            assert!(run(Pass::train(8).input(&x)).to_vec::<f64>().unwrap() != y);
            assert!(run(Pass::record().input(&x)) == x && run(Var::from(&x)) == x);
            let single = run(Pass::train(7).input(x.to_dtype(DType::F32)));
            assert_eq!(single.dtype(), DType::F32);
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = GaussianNoise::new(-1.0).err().unwrap().to_string();
        assert_eq!(text, "gaussian_noise: std is -1; help: use a finite number, 0 or more");
        let text = GaussianDropout::new(1.0).err().unwrap().to_string();
        assert_eq!(text, "gaussian_dropout: p is 1; help: use a probability from 0 to below 1");
        let text = GaussianNoise::new(1.0).unwrap().forward(&Tensor::from([1i64]).into()).err().unwrap().to_string();
        assert_eq!(
            text,
            "gaussian_noise: expects f32 or f64, got i64; help: convert the input with to_dtype(DType::F32)"
        );
    }
}
