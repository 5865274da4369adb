//! Activations as layers, for [`Sequential`](crate::Sequential); in code of your own, `x.relu()` is shorter.
//!
//! Each maps every element by itself (softmax: every row), keeps the shape, and has no parameters.

use crate::fusion::Part;
use crate::module::expect_float;
use crate::plan::{Draft, Plan};
use crate::step::Spec;
use crate::{Builder, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// `max(x, 0)`
#[derive(Debug, Clone)]
pub struct Relu;
fields!(Relu:);

impl Module for Relu {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("relu", x)?;
        Ok(x.relu())
    }

    fn part(&self) -> Part<'_> {
        Part::Relu
    }
}

/// `x` if positive, else `slope · x`.
///
/// # Reference
/// Maas, Hannun & Ng (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models", with slope 0.01, which
/// is PyTorch's default too (Keras: 0.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeakyRelu {
    slope: f64,
}
fields!(LeakyRelu: ; slope);

impl LeakyRelu {
    /// With this slope on the negative side.
    pub fn new(slope: f64) -> Self {
        Self { slope }
    }
}

impl Module for LeakyRelu {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("leaky_relu", x)?;
        Ok(x.leaky_relu(self.slope))
    }
}

/// `1 / (1 + exp(−x))`
#[derive(Debug, Clone)]
pub struct Sigmoid;
fields!(Sigmoid:);

impl Module for Sigmoid {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("sigmoid", x)?;
        Ok(x.sigmoid())
    }
}

/// The hyperbolic tangent.
#[derive(Debug, Clone)]
pub struct Tanh;
fields!(Tanh:);

impl Module for Tanh {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("tanh", x)?;
        Ok(x.tanh())
    }
}

/// `x · Φ(x)`, with the exact normal distribution function Φ.
///
/// # Reference
/// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)", eq. 1.
#[derive(Debug, Clone)]
pub struct Gelu;
fields!(Gelu:);

impl Module for Gelu {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("gelu", x)?;
        Ok(x.gelu())
    }
}

/// `x · sigmoid(x)`
///
/// # Reference
/// Elfwing, Uchibe & Doya (2017), "Sigmoid-Weighted Linear Units"; Ramachandran, Zoph & Le (2017), "Searching for
/// Activation Functions", as Swish.
#[derive(Debug, Clone)]
#[doc(alias = "Swish")]
pub struct Silu;
fields!(Silu:);

impl Module for Silu {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_float("silu", x)?;
        Ok(x.silu())
    }
}

/// `exp(x) / Σ exp(x)` along one axis. Not before [`cross_entropy`](crate::cross_entropy), which takes logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    axis: isize,
}
fields!(Softmax: ; axis);

impl Softmax {
    /// Along this axis of the whole batch: usually −1, the last.
    pub fn new(axis: isize) -> Self {
        Self { axis }
    }
}

impl Module for Softmax {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(x.softmax(self.axis)?)
    }
}

impl Spec for LeakyRelu {
    fn plan(&self, input: &Shape) -> Plan {
        elementwise(format!("LeakyRelu {}", self.slope), input, self.clone())
    }
}

impl Spec for Softmax {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("Softmax axis {}", self.axis), || {
            crate::reshape::with_batch(1, input)?.axis("softmax", self.axis)?;
            // largest, subtract, exp, add, divide
            Ok(Draft::new(*input, 5 * input.elements() as u64).fixed(self.clone()))
        })
    }
}

/// The steps of activations without numbers, and the builder's methods for them. A macro, so that each is one line.
macro_rules! plain_steps {
    ($($method:ident => $layer:ident),* $(,)?) => {
        $(impl Spec for $layer {
            fn plan(&self, input: &Shape) -> Plan {
                elementwise(stringify!($layer).into(), input, $layer)
            }
        })*

        impl Builder {
            $(#[doc = concat!("[`", stringify!($layer), "`]")]
            pub fn $method(self) -> Self {
                self.step($layer)
            })*
        }
    };
}
plain_steps!(relu => Relu, sigmoid => Sigmoid, tanh => Tanh, gelu => Gelu, silu => Silu);

impl Builder {
    /// [`LeakyRelu`]
    pub fn leaky_relu(self, slope: f64) -> Self {
        self.step(LeakyRelu { slope })
    }

    /// [`Softmax`] along an axis of the batch, usually −1. Losses take logits: leave it out for them.
    pub fn softmax(self, axis: isize) -> Self {
        self.step(Softmax { axis })
    }
}

/// A layer in a [`Sequential`](crate::Sequential) that does one operation an element.
fn elementwise(label: String, input: &Shape, layer: impl Module + 'static) -> Plan {
    Plan::new(label, || Ok(Draft::new(*input, input.elements() as u64).fixed(layer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::{DType, Tensor};

    /// Values of each function at −2, −0.5, 0.5 and 2, from tables of exp, tanh and Φ to seven digits.
    fn check(layer: &mut impl Module, op: &str, expected: [f64; 4]) {
        let expect = Expect { input: &[3, 4], output: &[3, 4], ..Expect::default() };
        check_module(layer, &expect).unwrap();
        let y = layer.forward(&Tensor::from([-2.0f64, -0.5, 0.5, 2.0]).into()).unwrap();
        for (y, expected) in y.value().as_slice::<f64>().unwrap().iter().zip(expected) {
            assert!((y - expected).abs() < 5e-8, "{op}: {y} {expected}");
        }
        let text = layer.forward(&Tensor::zeros([2], DType::U8).into()).unwrap_err().to_string();
        let help = "help: convert the input with to_dtype(DType::F32)";
        assert_eq!(text, format!("{op}: expects f32 or f64, got u8; {help}"));
    }

    #[test]
    fn relu() {
        check(&mut Relu, "relu", [0.0, 0.0, 0.5, 2.0]);
    }

    #[test]
    fn leaky_relu() {
        check(&mut LeakyRelu::new(0.01), "leaky_relu", [-0.02, -0.005, 0.5, 2.0]);
    }

    #[test]
    fn sigmoid() {
        check(&mut Sigmoid, "sigmoid", [0.119_202_92, 0.377_540_67, 0.622_459_33, 0.880_797_08]);
    }

    #[test]
    fn tanh() {
        check(&mut Tanh, "tanh", [-0.964_027_58, -0.462_117_16, 0.462_117_16, 0.964_027_58]);
    }

    #[test]
    fn gelu() {
        // Φ(2) = 0.97724987, Φ(0.5) = 0.69146246
        let (two, half) = (2.0 * 0.977_249_868, 0.5 * 0.691_462_461);
        check(&mut Gelu, "gelu", [two - 2.0, half - 0.5, half, two]);
    }

    #[test]
    fn silu() {
        let (two, half) = (2.0 * 0.880_797_078, 0.5 * 0.622_459_331);
        check(&mut Silu, "silu", [two - 2.0, half - 0.5, half, two]);
    }

    #[test]
    fn softmax() {
        let axis = "softmax: [] has no axis -1; help: a scalar has no axes";
        let expect = Expect { input: &[3, 4], output: &[3, 4], refuses: &[(&[], axis)], ..Expect::default() };
        check_module(&mut Softmax::new(-1), &expect).unwrap();
        let y = Softmax::new(0).forward(&Tensor::from([0.0f64, 3f64.ln()]).into()).unwrap();
        let y = y.value().to_vec::<f64>().unwrap();
        assert!((y[0] - 0.25).abs() < 1e-15 && (y[1] - 0.75).abs() < 1e-15, "{y:?}"); // 1 / (1 + 3)
    }
}
