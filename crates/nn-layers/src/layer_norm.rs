//! [`LayerNorm`]: normalization of each vector by itself.

use crate::plan::{Draft, Plan, norm_check};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Normalizes each row to mean 0 and variance 1, then scales and shifts it.
///
/// `y = (x − mean(x)) / √(var(x) + eps) · weight + bias`, over the last axis, with the biased variance.
///
/// # Shapes
/// - input and output `[.., features]`
///
/// # Parameters
/// - `weight: [features]`, ones; `bias: [features]`, zeros
///
/// # Reference
/// Ba, Kiros & Hinton (2016), "Layer Normalization", eq. 4.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `[features]`
    pub weight: Param,
    /// `[features]`
    pub bias: Param,
    /// Keeps the root away from zero, 1e-5.
    pub eps: f64,
}
fields!(LayerNorm: weight, bias; eps);

impl LayerNorm {
    /// A layer for rows of so many features.
    ///
    /// # Errors
    /// No features, or more than a model can have.
    pub fn new(features: usize) -> Result<Self> {
        let shape = norm_check("layer_norm", "features", features, init::NORM_EPS)?;
        Ok(Self { weight: Param::new(init::ones(shape)), bias: Param::new(init::zeros(shape)), eps: init::NORM_EPS })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.layer_norm(&self.weight.on(x), &self.bias.on(x), self.eps)?)
    }
}

/// A [`LayerNorm`] in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LayerNormConfig {
    /// Keeps the root away from zero.
    pub eps: f64,
}

impl Default for LayerNormConfig {
    fn default() -> Self {
        Self { eps: init::NORM_EPS }
    }
}

impl Spec for LayerNormConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { eps } = *self;
        let features = input.last().map_or("?".into(), usize::to_string);
        Plan::new(format!("LayerNorm {features}"), || {
            let Some(&features) = input.last() else {
                return Err(Error::new(
                    "layer_norm",
                    "expects [n, .., features], got [n]",
                    "put reshape([1]) before it",
                ));
            };
            norm_check("layer_norm", "features", features, eps)?;
            let flops = 7 * input.elements() as u64; // add; subtract, square, add; divide, scale, shift
            Ok(Draft::new(*input, flops)
                .trained(2 * features as u64, move |_| Ok(LayerNorm { eps, ..LayerNorm::new(features)? })))
        })
    }
}

impl Builder {
    /// [`LayerNorm`] over the last axis.
    pub fn layer_norm(self) -> Self {
        self.step(LayerNormConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behaves_as_a_module() {
        let expect = Expect {
            input: &[3, 2, 5],
            output: &[3, 2, 5],
            parameters: &[("weight", &[5]), ("bias", &[5])],
            refuses: &[(
                &[3, 4],
                "layer_norm: the input [3, 4] has 4 features, a parameter is [5]; help: every parameter must be [4]",
            )],
            ..Expect::default()
        };
        check_module(&mut LayerNorm::new(5).unwrap(), &expect).unwrap();
    }

    /// The row 1, 2, 3, 6 has mean 3 and biased variance 3.5.
    #[test]
    fn is_equation_4() {
        let layer = LayerNorm::new(4).unwrap();
        let y = layer.forward(&Tensor::from([[1.0f32, 2.0, 3.0, 6.0]]).into()).unwrap();
        for (y, x) in y.value().as_slice::<f32>().unwrap().iter().zip([1.0, 2.0, 3.0, 6.0]) {
            let normal = ((x - 3.0) / (3.5f64 + 1e-5).sqrt()) as f32;
            assert!((y - normal).abs() < 4.0 * f32::EPSILON, "{y} {normal}"); // a few roundings of numbers near 1
        }
    }

    #[test]
    fn refuses_rows_without_features() {
        assert_eq!(LayerNorm::new(0).err().unwrap().to_string(), "layer_norm: features is 0; help: use 1 or more");
    }
}
