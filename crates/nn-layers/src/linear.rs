//! [`Linear`]: the dense layer.

use crate::freeze::{Graph, Value};
use crate::fusion::Part;
use crate::init::{self, Fan, Gain};
use crate::plan::{Draft, Plan, weight_shape};
use crate::step::{Spec, yes};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Activation, Rng, Shape};
use serde::{Deserialize, Serialize};

/// Maps each vector of `in_features` numbers to one of `out_features`: `y = x · weightᵀ + bias`.
///
/// PyTorch: `nn.Linear`; Keras: `Dense`.
///
/// # Shapes
/// - input `[.., in_features]`, output `[.., out_features]`
///
/// # Parameters
/// - `weight: [out_features, in_features]` and `bias: [out_features]`, both uniform in `±1/√in_features` (PyTorch's
///   default, which is Kaiming's with gain `√(1/3)`; Keras uses Xavier's and zeros)
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Linear, Module};
/// use maplet_tensor::{DType, Rng};
///
/// let layer = Linear::new(784, 10, &mut Rng::new(42))?;
/// let logits = layer.forward(&Var::from(Tensor::zeros([32, 784], DType::F32)))?;
/// assert_eq!(logits.shape(), [32, 10].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "Dense")]
pub struct Linear {
    /// `[out_features, in_features]`
    pub weight: Param,
    /// `[out_features]`
    pub bias: Option<Param>,
}
fields!(Linear: weight, bias);

impl Linear {
    /// A layer with random weights.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn new(in_features: usize, out_features: usize, rng: &mut Rng) -> Result<Self> {
        let shape = Self::check(in_features, out_features)?;
        let weight = init::kaiming_uniform(shape, 1, Fan::In, Gain::LeakyRelu(5f64.sqrt()), rng)?;
        let bound = 1.0 / (in_features as f64).sqrt();
        let bias = init::uniform([out_features], -bound, bound, rng);
        Ok(Self { weight: Param::new(weight), bias: Some(Param::new(bias)) })
    }

    /// The layer without its bias.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    fn check(in_features: usize, out_features: usize) -> Result<Shape> {
        weight_shape("linear", &[("out_features", out_features), ("in_features", in_features)])
    }

    /// The layer, and what follows it, as one op.
    pub(crate) fn apply(&self, x: &Var, activation: Activation) -> Result<Var> {
        self.apply_with(x, &self.weight.on(x), activation)
    }

    /// As [`apply`](Self::apply), with another weight than the layer's own.
    pub(crate) fn apply_with(&self, x: &Var, weight: &Var, activation: Activation) -> Result<Var> {
        let bias = self.bias.as_ref().map(|bias| bias.on(x));
        Ok(x.linear(weight, bias.as_ref(), activation)?)
    }
}

impl Module for Linear {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.apply(x, Activation::Identity)
    }

    fn part(&self) -> Part<'_> {
        Part::Linear(self)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        graph.linear(x, self.weight.value(), self.bias.as_ref().map(Param::value))
    }
}

/// A [`Linear`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearConfig {
    /// The size of the output's last axis.
    pub out_features: usize,
    /// Whether it adds a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

impl Spec for LinearConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { out_features, bias } = *self;
        let from = input.last().map_or("?".into(), usize::to_string);
        Plan::new(format!("Linear {from} → {out_features}"), || {
            let Some((&in_features, rows)) = input.split_last() else {
                return Err(Error::new("linear", "expects [n, .., features], got [n]", "put reshape([1]) before it"));
            };
            let weight = Linear::check(in_features, out_features)?;
            let output = Shape::new(&[rows, &[out_features]].concat())?;
            let parameters = weight.elements() as u64 + if bias { out_features as u64 } else { 0 };
            let flops = output.elements() as u64 * (2 * in_features as u64 + u64::from(bias));
            Ok(Draft::new(output, flops).trained(parameters, move |rng| {
                let layer = Linear::new(in_features, out_features, rng)?;
                Ok(if bias { layer } else { layer.without_bias() })
            }))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.bias)
    }
}

impl Builder {
    /// [`Linear`] to so many features, on the last axis.
    pub fn linear(self, out_features: usize) -> Self {
        self.step(LinearConfig { out_features, bias: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::Tensor;

    #[test]
    fn behaves_as_a_module() {
        let mut layer = Linear::new(4, 3, &mut Rng::new(1)).unwrap();
        let expect = Expect {
            input: &[5, 4],
            output: &[5, 3],
            parameters: &[("weight", &[3, 4]), ("bias", &[3])],
            refuses: &[(
                &[5, 2],
                "linear: input [5, 2] and weight [3, 4] differ in their last sizes; help: the input's last axis must be 4",
            )],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
        let mut layer = Linear::new(2, 2, &mut Rng::new(2)).unwrap().without_bias();
        let expect = Expect { input: &[3, 7, 2], output: &[3, 7, 2], parameters: &[("weight", &[2, 2])], ..expect };
        check_module(&mut layer, &Expect { refuses: &[], ..expect }).unwrap();
    }

    #[test]
    fn is_a_product_and_a_sum() {
        let mut layer = Linear::new(2, 2, &mut Rng::new(3)).unwrap();
        layer.weight.set_value(Tensor::from([[1.0f32, 2.0], [3.0, 4.0]])).unwrap();
        layer.bias.as_mut().unwrap().set_value(Tensor::from([10.0f32, 20.0])).unwrap();
        // By hand: [1·5 + 2·6 + 10, 3·5 + 4·6 + 20].
        let y = layer.forward(&Tensor::from([[5.0f32, 6.0]]).into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[27.0f32, 59.0]]));
    }

    #[test]
    fn refuses_empty_and_boundless_sizes() {
        let text = |i, o| Linear::new(i, o, &mut Rng::new(4)).err().unwrap().to_string();
        assert_eq!(text(4, 0), "linear: out_features is 0; help: use 1 or more");
        assert_eq!(text(0, 4), "linear: in_features is 0; help: use 1 or more");
        let huge = "linear: out_features 1099511627776 × in_features 4 is more weights than a model can have; \
                    help: stay below 4294967296";
        assert_eq!(text(4, 1 << 40), huge);
    }
}
