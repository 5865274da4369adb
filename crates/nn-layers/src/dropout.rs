//! [`Dropout`]: noise that keeps features from leaning on each other.

use crate::module::expect_float;
use crate::plan::{Draft, Plan};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// In training, sets each element to zero with probability `p` and divides the others by `1 − p`; else the identity.
///
/// Whether it drops, and what, comes with the data: see [`Pass::train`](maplet_autograd::Pass::train).
///
/// # Shapes
/// - any; the output's is the input's
///
/// # Reference
/// Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: A Simple Way to Prevent Neural Networks
/// from Overfitting", §10 ("inverted" dropout).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    p: f64,
}
fields!(Dropout: ; p);

impl Dropout {
    /// `p` is the part that is dropped, 0.5 in the paper.
    ///
    /// # Errors
    /// A `p` outside `[0, 1)`.
    pub fn new(p: f64) -> Result<Self> {
        if (0.0..1.0).contains(&p) {
            return Ok(Self { p });
        }
        Err(Error::new("dropout", format!("p is {p}"), "use a probability from 0 to below 1"))
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("dropout", x)?;
        Ok(x.dropout(self.p)?)
    }
}

impl Spec for Dropout {
    fn plan(&self, input: &Shape) -> Plan {
        let p = self.p;
        Plan::new(format!("Dropout {p}"), || Ok(Draft::new(*input, input.elements() as u64).fixed(Self::new(p)?)))
    }
}

impl Builder {
    /// [`Dropout`]: in training, drops each element with probability `p`.
    pub fn dropout(self, p: f64) -> Self {
        self.step(Dropout { p })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behaves_as_a_module() {
        let expect = Expect { input: &[3, 4], output: &[3, 4], ..Expect::default() };
        check_module(&mut Dropout::new(0.3).unwrap(), &expect).unwrap();
    }

    #[test]
    fn drops_in_training_only_and_keeps_the_mean() {
        let layer = Dropout::new(0.25).unwrap();
        let x = Tensor::ones([100_000], DType::F64);
        let y = layer.forward(&Pass::train(7).input(x.clone())).unwrap();
        let kept = 1.0 / 0.75;
        assert!(y.value().as_slice::<f64>().unwrap().iter().all(|&y| y == 0.0 || (y - kept).abs() < 1e-12));
        let mean = y.value().mean(.., false).unwrap().item::<f64>().unwrap();
        let standard_error = (kept * kept * 0.25 * 0.75 / 1e5_f64).sqrt();
        assert!((mean - 1.0).abs() < 5.0 * standard_error, "{mean}");
        assert_eq!(layer.forward(&Pass::train(7).input(x.clone())).unwrap().value(), y.value());
        assert_ne!(layer.forward(&Pass::train(8).input(x.clone())).unwrap().value(), y.value());
        for evaluation in [Pass::record().input(x.clone()), Var::from(x.clone())] {
            assert_eq!(layer.forward(&evaluation).unwrap().value(), &x);
        }
    }

    #[test]
    fn refuses_what_is_no_probability() {
        for (p, text) in [(1.0, "1"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
            let expected = format!("dropout: p is {text}; help: use a probability from 0 to below 1");
            assert_eq!(Dropout::new(p).err().unwrap().to_string(), expected);
        }
    }
}
