//! [`RmsNorm`]: scaling of each vector to a mean square of 1.

use crate::norm::{check_eps, last_axes, ones, rows, trailing_shape, weight_on};
use crate::plan::{Draft, Plan, sizes_label};
use crate::step::{Spec, yes};
use crate::{Builder, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{DType, Shape};
use serde::{Deserialize, Serialize};

/// Scales each row to a mean square of 1, then by a trained weight.
///
/// `y = x / √(mean(x²) + eps) · weight`, over the last axis or the last few.
///
/// PyTorch: `nn.RMSNorm`; Keras: `RMSNormalization`.
///
/// # Shapes
/// - input and output: `[.., ..normalized_shape]`
///
/// # Parameters
/// - `weight: normalized_shape`, ones; [`without_affine`](Self::without_affine) leaves it out
///
/// # Reference
/// Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", eq. 4.
///
/// # Example
/// ```
/// use maplet_nn_layers::{Module, RmsNorm};
/// use maplet_tensor::Tensor;
///
/// let y = RmsNorm::new(2)?.eps(0.0)?.forward(&Tensor::from([[1.0f32, 7.0]]).into())?; // mean square 25
/// assert_eq!(y.value(), &Tensor::from([[0.2f32, 1.4]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// `normalized_shape`
    pub weight: Option<Param>,
    shape: Shape,
    eps: Option<f64>,
}
fields!(RmsNorm: weight; shape, eps);

const OP: &str = "rms_norm";

impl RmsNorm {
    /// A layer for last axes of these sizes, or for rows of so many features. As in PyTorch, `eps` is what the element
    /// type can tell from 1 (1.2e-7 in F32, 2.2e-16 in F64) unless it is set.
    ///
    /// # Errors
    /// No axes, no features, or more than a model can have.
    pub fn new(normalized_shape: impl Into<Shape>) -> Result<Self> {
        let shape = trailing_shape(OP, normalized_shape.into())?;
        Ok(Self { weight: ones(shape), shape, eps: None })
    }

    /// What keeps the root away from zero.
    ///
    /// # Errors
    /// A negative number.
    pub fn eps(mut self, eps: f64) -> Result<Self> {
        check_eps(OP, eps)?;
        self.eps = Some(eps);
        Ok(self)
    }

    /// Leaves the weight out: PyTorch's `elementwise_affine=False`.
    pub fn without_affine(mut self) -> Self {
        self.weight = None;
        self
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let smallest = if x.dtype() == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() };
        let weight = weight_on(&self.weight, x, self.shape.elements())?;
        let y = rows(OP, x, self.shape)?.rms_norm(&weight, self.eps.unwrap_or(smallest))?;
        if self.shape.rank() == 1 { Ok(y) } else { Ok(y.reshape(x.shape())?) }
    }
}

/// An [`RmsNorm`] in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RmsNormConfig {
    /// Over how many of the last axes.
    pub axes: usize,
    /// Keeps the root away from zero; none for what the element type can tell from 1.
    pub eps: Option<f64>,
    /// Whether there is a weight.
    #[serde(default = "yes")]
    pub affine: bool,
}

impl Default for RmsNormConfig {
    fn default() -> Self {
        Self { axes: 1, eps: None, affine: true }
    }
}

impl RmsNormConfig {
    fn build(&self, shape: Shape) -> Result<RmsNorm> {
        let layer = RmsNorm { eps: self.eps, ..RmsNorm::new(shape)? };
        Ok(if self.affine { layer } else { layer.without_affine() })
    }
}

impl Spec for RmsNormConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let config = self.clone();
        let from = input.rank().saturating_sub(config.axes);
        let sizes = if from == input.rank() { "?".into() } else { sizes_label(&input[from..]) };
        Plan::new(format!("RmsNorm {sizes}"), move || {
            let shape = last_axes(OP, input, config.axes)?;
            check_eps(OP, config.eps.unwrap_or(0.0))?;
            let flops = 4 * input.elements() as u64; // square, add; divide, scale
            let parameters = if config.affine { shape.elements() as u64 } else { 0 };
            Ok(Draft::new(*input, flops).trained(parameters, move |_| config.build(shape)))
        })
    }
}

impl Builder {
    /// [`RmsNorm`] over the last axis.
    pub fn rms_norm(self) -> Self {
        self.step(RmsNormConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};

    #[test]
    fn behaves_as_a_module() {
        let expect = Expect {
            input: &[3, 2, 5],
            output: &[3, 2, 5],
            parameters: &[("weight", &[5])],
            refuses: &[(
                &[3, 4],
                "rms_norm: input [3, 4] does not end in [5]; \
                 help: the input's last axis must be what the layer was built for",
            )],
            ..Expect::default()
        };
        check_module(&mut RmsNorm::new(5).unwrap(), &expect).unwrap();
        let several = Expect { parameters: &[("weight", &[2, 5])], refuses: &[], ..expect };
        check_module(&mut RmsNorm::new([2, 5]).unwrap().eps(0.1).unwrap(), &several).unwrap();
        check_module(&mut RmsNorm::new([2, 5]).unwrap().without_affine(), &Expect { parameters: &[], ..several })
            .unwrap();
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert_eq!(RmsNorm::new(0).err().unwrap().to_string(), "rms_norm: features is 0; help: use 1 or more");
        let eps = RmsNorm::new(2).unwrap().eps(-1.0).err().unwrap().to_string();
        assert_eq!(eps, "rms_norm: eps is -1; help: use a small positive number");
    }
}
