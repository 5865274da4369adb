//! Activations as layers, for [`Sequential`](crate::Sequential); in code of your own, `x.relu()` is shorter. Here are
//! the everyday ones; others are in `activation_smooth.rs`, `activation_piecewise.rs`, `prelu.rs`, `softmax.rs`,
//! `gated.rs`.
//!
//! Each maps every element by itself, keeps the shape, and has no parameters.

use crate::fusion::Part;
use crate::module::Layer;
use crate::plan::{Draft, Plan};
use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::frozen::Pointwise;
use maplet_tensor::{DType, Shape, Tensor};

/// Makes an activation: the layer, with its numbers and their defaults if it has some, its step, and the builder's
/// method. What is called `x` is known to be floating-point, numbers are called as they are declared.
///
/// A macro, because thirty activations differ in nothing else; each is what a reader must know of it.
macro_rules! activation {
    ($(#[$doc:meta])* pub struct $Layer:ident; $method:ident = |$x:ident| $y:expr
        $(, part $part:expr)? $(, pointwise $function:expr)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $Layer;
        maplet_autograd::fields!($Layer:);

        impl $crate::Module for $Layer {
            fn forward(&self, $x: &maplet_autograd::Var) -> $crate::Result<maplet_autograd::Var> {
                $crate::module::expect_float(stringify!($method), $x)?;
                $y
            }

            $(fn part(&self) -> $crate::fusion::Part<'_> {
                $part
            })?

            $(fn lower(
                &self,
                graph: &mut $crate::freeze::Graph,
                x: $crate::freeze::Value,
            ) -> $crate::Result<Option<$crate::freeze::Value>> {
                Ok(Some(graph.pointwise(x, $function)))
            })?
        }

        impl $crate::step::Spec for $Layer {
            fn plan(&self, input: &maplet_tensor::Shape) -> $crate::plan::Plan {
                $crate::activation::elementwise(stringify!($Layer).into(), input, $Layer)
            }
        }

        impl $crate::Builder {
            #[doc = concat!("[`", stringify!($Layer), "`](crate::", stringify!($Layer), ")")]
            pub fn $method(self) -> Self {
                self.step($Layer)
            }
        }
    };
    ($(#[$doc:meta])* pub struct $Layer:ident { $($(#[$about:meta])* $number:ident = $default:expr),+ $(,)? }
        $method:ident = |$x:ident| $y:expr $(, pointwise |$layer:ident| $function:expr)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Layer {
            $($number: f64),+
        }
        maplet_autograd::fields!($Layer: ; $($number),+);

        #[allow(clippy::new_without_default)] // one way to make a layer: new()
        impl $Layer {
            /// With PyTorch's numbers.
            pub fn new() -> Self {
                Self { $($number: $default),+ }
            }

            $($(#[$about])*
            pub fn $number(mut self, $number: f64) -> Self {
                self.$number = $number;
                self
            })+
        }

        impl $crate::Module for $Layer {
            fn forward(&self, $x: &maplet_autograd::Var) -> $crate::Result<maplet_autograd::Var> {
                let &Self { $($number),+ } = self;
                $crate::module::expect_float(stringify!($method), $x)?;
                $y
            }

            $(fn lower(
                &self,
                graph: &mut $crate::freeze::Graph,
                x: $crate::freeze::Value,
            ) -> $crate::Result<Option<$crate::freeze::Value>> {
                let $layer = self;
                let function: Option<maplet_tensor::frozen::Pointwise> = ($function).into();
                Ok(function.map(|function| graph.pointwise(x, function)))
            })?
        }

        impl $crate::step::Spec for $Layer {
            fn plan(&self, input: &maplet_tensor::Shape) -> $crate::plan::Plan {
                let numbers = [$(self.$number.to_string()),+].join(", ");
                let label = format!("{} {numbers}", stringify!($Layer));
                $crate::activation::elementwise(label, input, self.clone())
            }
        }

        impl $crate::Builder {
            #[doc = concat!("[`", stringify!($Layer), "`](crate::", stringify!($Layer), "), with its numbers")]
            pub fn $method(self, $($number: f64),+) -> Self {
                self.step($Layer { $($number),+ })
            }
        }
    };
}
pub(crate) use activation;

activation! {
    /// `max(x, 0)`
    ///
    /// PyTorch: `nn.ReLU`; Keras: `ReLU`.
    pub struct Relu;
    relu = |x| Ok(x.relu()), part Part::Relu, pointwise Pointwise::Relu
}

activation! {
    /// `x` if positive, else `slope · x`.
    ///
    /// PyTorch: `nn.LeakyReLU`; Keras: `LeakyReLU`.
    ///
    /// # Reference
    /// Maas, Hannun & Ng (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models", with slope 0.01,
    /// which is PyTorch's default too (Keras: 0.3).
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{LeakyRelu, Module};
    ///
    /// let y = LeakyRelu::new().slope(0.5).forward(&Var::from(Tensor::from([-4.0f32, 4.0])))?;
    /// assert_eq!(y.value(), &Tensor::from([-2.0f32, 4.0]));
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct LeakyRelu {
        /// The slope on the negative side, 0.01.
        slope = 0.01,
    }
    leaky_relu = |x| Ok(x.leaky_relu(slope)), pointwise |layer| Pointwise::LeakyRelu(layer.slope as f32)
}

activation! {
    /// `1 / (1 + exp(−x))`
    ///
    /// PyTorch: `nn.Sigmoid`; Keras: `activations.sigmoid`.
    pub struct Sigmoid;
    sigmoid = |x| Ok(x.sigmoid()), pointwise Pointwise::Sigmoid
}

activation! {
    /// The hyperbolic tangent.
    ///
    /// PyTorch: `nn.Tanh`; Keras: `activations.tanh`.
    pub struct Tanh;
    tanh = |x| Ok(x.tanh()), pointwise Pointwise::Tanh
}

activation! {
    /// `x · Φ(x)`, with the exact normal distribution function Φ.
    ///
    /// PyTorch: `nn.GELU`; Keras: `activations.gelu`.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)", eq. 1.
    pub struct Gelu;
    gelu = |x| Ok(x.gelu()), pointwise Pointwise::Gelu
}

activation! {
    /// The approximation of [`Gelu`] by tanh, as GPT-2 and BERT's first code have it.
    ///
    /// PyTorch: `nn.GELU(approximate="tanh")`; Keras: `activations.gelu(approximate=True)`.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)", §2.
    pub struct GeluTanh;
    gelu_tanh = |x| Ok(x.gelu_tanh())
}

activation! {
    /// `x · sigmoid(x)`
    ///
    /// PyTorch: `nn.SiLU`; Keras: `activations.silu`.
    ///
    /// # Reference
    /// Elfwing, Uchibe & Doya (2017), "Sigmoid-Weighted Linear Units"; Ramachandran, Zoph & Le (2017), "Searching for
    /// Activation Functions", as Swish.
    #[doc(alias = "Swish")]
    pub struct Silu;
    silu = |x| Ok(x.silu()), pointwise Pointwise::Silu
}

/// A layer in a [`Sequential`](crate::Sequential) that does one operation an element. It is tried on one number, so
/// that a wrong option is found before anything is built.
pub(crate) fn elementwise(label: String, input: &Shape, layer: impl Layer + 'static) -> Plan {
    Plan::new(label, || {
        layer.forward(&Var::from(Tensor::zeros([1], DType::F32)))?;
        Ok(Draft::new(*input, input.elements() as u64).fixed(layer))
    })
}

/// An error if a number is not what the layer takes.
pub(crate) fn expect_that(holds: bool, op: &'static str, what: String, help: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(op, what, help)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Expect, Module, check_module};

    /// Values of each function at −2, −0.5, 0.5 and 2, from tables of exp, tanh and Φ to seven digits.
    pub(crate) fn check(layer: &mut impl Module, op: &str, expected: [f64; 4]) {
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

    /// As `check`, for a closed form.
    pub(crate) fn check_formula(mut layer: impl Module, op: &str, definition: fn(f64) -> f64) {
        check(&mut layer, op, [-2.0, -0.5, 0.5, 2.0].map(definition));
    }

    #[test]
    fn relu() {
        check(&mut Relu, "relu", [0.0, 0.0, 0.5, 2.0]);
    }

    #[test]
    fn leaky_relu() {
        check(&mut LeakyRelu::new(), "leaky_relu", [-0.02, -0.005, 0.5, 2.0]);
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
    fn gelu_tanh() {
        // (1 + tanh u) / 2 for u = √(2/π) (x + 0.044715 x³) = 1.8811883867 and 0.4034019564
        let (two, half) = (2.0 * 0.977_298_847, 0.5 * 0.691_428_020);
        check(&mut GeluTanh, "gelu_tanh", [two - 2.0, half - 0.5, half, two]);
    }

    #[test]
    fn silu() {
        let (two, half) = (2.0 * 0.880_797_078, 0.5 * 0.622_459_331);
        check(&mut Silu, "silu", [two - 2.0, half - 0.5, half, two]);
    }
}
