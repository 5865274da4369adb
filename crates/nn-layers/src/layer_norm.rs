//! [`LayerNorm`]: normalization of each vector by itself.

use crate::norm::{bias_on, check_eps, last_axes, ones, rows, trailing_shape, weight_on, zeros};
use crate::plan::{Draft, Plan, sizes_label};
use crate::step::{Spec, yes};
use crate::{Builder, Module, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Normalizes each row to mean 0 and variance 1, then scales and shifts it.
///
/// `y = (x − mean(x)) / √(var(x) + eps) · weight + bias`, over the last axis or the last few, with the biased variance.
///
/// PyTorch: `nn.LayerNorm`; Keras: `LayerNormalization`.
///
/// # Shapes
/// - input and output: `[.., ..normalized_shape]`
///
/// # Parameters
/// - `weight: normalized_shape`, ones; `bias: normalized_shape`, zeros; [`without_affine`](Self::without_affine) leaves
///   both out, [`without_bias`](Self::without_bias) the bias
///
/// # Reference
/// Ba, Kiros & Hinton (2016), "Layer Normalization", eq. 4.
///
/// # Example
/// ```
/// use maplet_nn_layers::{LayerNorm, Module};
/// use maplet_tensor::Tensor;
///
/// let x = Tensor::from([[[1.0f32, 3.0], [5.0, 7.0]]]);
/// let each_row = LayerNorm::new(2)?.eps(0.0)?.forward(&x.clone().into())?;
/// assert_eq!(each_row.value(), &Tensor::from([[[-1.0f32, 1.0], [-1.0, 1.0]]]));
/// let each_matrix = LayerNorm::new([2, 2])?.forward(&x.into())?; // mean 4, variance 5
/// assert!((each_matrix.value().as_slice::<f32>()?[3] - 3.0 / 5f32.sqrt()).abs() < 1e-5);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `normalized_shape`
    pub weight: Option<Param>,
    /// `normalized_shape`
    pub bias: Option<Param>,
    shape: Shape,
    eps: f64,
}
fields!(LayerNorm: weight, bias; shape, eps);

const OP: &str = "layer_norm";

impl LayerNorm {
    /// A layer for last axes of these sizes, or for rows of so many features; PyTorch's `eps` of 1e-5 (Keras's is
    /// 1e-3).
    ///
    /// # Errors
    /// No axes, no features, or more than a model can have.
    pub fn new(normalized_shape: impl Into<Shape>) -> Result<Self> {
        let shape = trailing_shape(OP, normalized_shape.into())?;
        Ok(Self { weight: ones(shape), bias: zeros(shape), shape, eps: init::NORM_EPS })
    }

    /// What keeps the root away from zero.
    ///
    /// # Errors
    /// A negative number.
    pub fn eps(mut self, eps: f64) -> Result<Self> {
        check_eps(OP, eps)?;
        self.eps = eps;
        Ok(self)
    }

    /// Leaves weight and bias out: PyTorch's `elementwise_affine=False`.
    pub fn without_affine(mut self) -> Self {
        (self.weight, self.bias) = (None, None);
        self
    }

    /// Leaves the bias out.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (rows, size) = (rows(OP, x, self.shape)?, self.shape.elements());
        let y = rows.layer_norm(&weight_on(&self.weight, x, size)?, &bias_on(&self.bias, x, size)?, self.eps)?;
        if self.shape.rank() == 1 { Ok(y) } else { Ok(y.reshape(x.shape())?) }
    }
}

/// A [`LayerNorm`] in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LayerNormConfig {
    /// Over how many of the last axes.
    pub axes: usize,
    /// Keeps the root away from zero.
    pub eps: f64,
    /// Whether there are weight and bias.
    #[serde(default = "yes")]
    pub affine: bool,
    /// Whether there is a bias, if there is a weight.
    #[serde(default = "yes")]
    pub bias: bool,
}

impl Default for LayerNormConfig {
    fn default() -> Self {
        Self { axes: 1, eps: init::NORM_EPS, affine: true, bias: true }
    }
}

impl LayerNormConfig {
    fn build(&self, shape: Shape) -> Result<LayerNorm> {
        let layer = LayerNorm::new(shape)?.eps(self.eps)?;
        let layer = if self.affine { layer } else { layer.without_affine() };
        Ok(if self.bias { layer } else { layer.without_bias() })
    }
}

impl Spec for LayerNormConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let config = self.clone();
        let from = input.rank().saturating_sub(config.axes);
        let sizes = if from == input.rank() { "?".into() } else { sizes_label(&input[from..]) };
        Plan::new(format!("LayerNorm {sizes}"), move || {
            let shape = last_axes(OP, input, config.axes)?;
            check_eps(OP, config.eps)?;
            let flops = 7 * input.elements() as u64; // add; subtract, square, add; divide, scale, shift
            let vectors = u64::from(config.affine) + u64::from(config.affine && config.bias);
            Ok(Draft::new(*input, flops).trained(vectors * shape.elements() as u64, move |_| config.build(shape)))
        })
    }

    fn drop_bias(&mut self) -> bool {
        self.affine && std::mem::replace(&mut self.bias, false)
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
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behaves_as_a_module() {
        let expect = Expect {
            input: &[3, 2, 5],
            output: &[3, 2, 5],
            parameters: &[("weight", &[5]), ("bias", &[5])],
            refuses: &[(
                &[3, 4],
                "layer_norm: input [3, 4] does not end in [5]; \
                 help: the input's last axis must be what the layer was built for",
            )],
            ..Expect::default()
        };
        check_module(&mut LayerNorm::new(5).unwrap(), &expect).unwrap();
        let several = Expect {
            parameters: &[("weight", &[2, 5]), ("bias", &[2, 5])],
            refuses: &[(
                &[3, 5],
                "layer_norm: input [3, 5] does not end in [2, 5]; \
                 help: the input's last axes must be what the layer was built for",
            )],
            ..expect
        };
        check_module(&mut LayerNorm::new([2, 5]).unwrap(), &several).unwrap();
        let scaled = Expect { parameters: &[("weight", &[2, 5])], ..several };
        check_module(&mut LayerNorm::new([2, 5]).unwrap().without_bias(), &scaled).unwrap();
        let bare = Expect { parameters: &[], ..several };
        check_module(&mut LayerNorm::new([2, 5]).unwrap().without_affine(), &bare).unwrap();
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
    fn impossible_numbers_are_refused() {
        let text = |shape: Shape| LayerNorm::new(shape).err().unwrap().to_string();
        assert_eq!(text(0.into()), "layer_norm: features is 0; help: use 1 or more");
        let none = "layer_norm: the shape to normalize has no axes; help: name the sizes of the last axes";
        assert_eq!(text([].into()), none);
        let eps = LayerNorm::new(2).unwrap().eps(-1e-5).err().unwrap().to_string();
        assert_eq!(eps, "layer_norm: eps is -0.00001; help: use a small positive number");
        let step = LayerNormConfig { axes: 3, ..Default::default() };
        let found = Sequential::input([4, 2]).step(step).build(1).err().unwrap().to_string();
        let axes =
            "layer 0 (LayerNorm 4×2): layer_norm: cannot normalize the last 3 axes of [n, 4, 2]; help: use 1 to 2";
        assert_eq!(found, axes);
    }
}
