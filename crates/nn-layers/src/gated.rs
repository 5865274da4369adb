//! Gated linear units as layers: the first half of an axis, times an activation of the second.

use crate::plan::{Draft, Plan};
use crate::reshape::with_batch;
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Makes a gated unit. A macro, because four differ in nothing but the activation.
macro_rules! gated {
    ($(#[$doc:meta])* pub struct $Layer:ident; $method:ident) => {
        $(#[$doc])*
        ///
        /// # Shapes
        /// - `[.., 2d, ..]` to `[.., d, ..]`, on the last axis unless another is set
        ///
        /// # Reference
        /// Dauphin, Fan, Auli & Grangier (2017), "Language Modeling with Gated Convolutional Networks"; Shazeer (2020),
        /// "GLU Variants Improve Transformer". The gate is the *second* half, as in PyTorch's GLU.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Layer {
            axis: isize,
        }
        fields!($Layer: ; axis);

        #[allow(clippy::new_without_default)] // one way to make a layer: new()
        impl $Layer {
            /// On the last axis.
            pub fn new() -> Self {
                Self { axis: -1 }
            }

            /// On this axis of the whole batch.
            pub fn axis(self, axis: isize) -> Self {
                Self { axis }
            }
        }

        impl Module for $Layer {
            fn forward(&self, x: &Var) -> Result<Var> {
                crate::module::expect_float(stringify!($method), x)?;
                Ok(x.$method(self.axis)?)
            }
        }

        impl Spec for $Layer {
            fn plan(&self, input: &Shape) -> Plan {
                let label = format!("{} axis {}", stringify!($Layer), self.axis);
                Plan::new(label, || Ok(halved(stringify!($method), input, self.axis)?.fixed(self.clone())))
            }
        }

        impl Builder {
            #[doc = concat!("[`", stringify!($Layer), "`] on the last axis.")]
            pub fn $method(self) -> Self {
                self.step($Layer::new())
            }
        }
    };
}

gated! {
    /// `a · sigmoid(b)` for the halves `a` and `b` of an axis.
    ///
    /// PyTorch: `nn.GLU`; Keras: `activations.glu`.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{Glu, Module};
    ///
    /// let y = Glu::new().forward(&Var::from(Tensor::from([[6.0f32, 8.0, 0.0, 0.0]])))?;
    /// assert_eq!(y.value(), &Tensor::from([[3.0f32, 4.0]])); // half open
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct Glu;
    glu
}

gated! {
    /// `a · silu(b)` for the halves `a` and `b` of an axis.
    ///
    /// PyTorch: –; Keras: –.
    pub struct SwiGlu;
    swiglu
}

gated! {
    /// `a · gelu(b)` for the halves `a` and `b` of an axis.
    ///
    /// PyTorch: –; Keras: –.
    pub struct GeGlu;
    geglu
}

gated! {
    /// `a · relu(b)` for the halves `a` and `b` of an axis.
    ///
    /// PyTorch: –; Keras: –.
    pub struct ReGlu;
    reglu
}

/// A sample with half of an axis, which is counted in the batch.
fn halved(op: &'static str, sample: &Shape, axis: isize) -> Result<Draft> {
    let at = with_batch(1, sample)?.axis(op, axis)?;
    let Some(at) = at.checked_sub(1) else {
        return Err(Error::new(op, "axis 0 is the batch, which stays whole", "use another axis, counted from 1"));
    };
    if sample[at] % 2 == 1 {
        let what = format!("axis {axis} of {} has {} elements", crate::plan::batched(sample), sample[at]);
        return Err(Error::new(op, what, "two halves need an even number"));
    }
    let output = sample.with_size(at, sample[at] / 2);
    Ok(Draft::new(output, 2 * output.elements() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::Tensor;

    fn check(mut layer: impl Module, op: &str, activation: fn(f64) -> f64) {
        let text = format!("{op}: axis -1 of [2, 3] has 3 elements; help: two halves need an even number");
        let refuses: &[(&[usize], &str)] = &[(&[2, 3], &text)];
        let expect = Expect { input: &[3, 2, 4], output: &[3, 2, 2], refuses, ..Expect::default() };
        check_module(&mut layer, &expect).unwrap();
        let y = layer.forward(&Tensor::from([3.0f64, 2.0]).into()).unwrap();
        assert!((y.item::<f64>().unwrap() - 3.0 * activation(2.0)).abs() < 1e-12);
    }

    #[test]
    fn glu() {
        check(Glu::new(), "glu", |x| 1.0 / (1.0 + (-x).exp()));
        let y = Glu::new().axis(0).forward(&Tensor::from([[4.0f64], [0.0]]).into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[2.0f64]]));
    }

    #[test]
    fn swiglu() {
        check(SwiGlu::new(), "swiglu", |x| x / (1.0 + (-x).exp()));
    }

    #[test]
    fn geglu() {
        check(GeGlu::new(), "geglu", |x| x * 0.977_249_868_051_820_8); // Φ(2)
    }

    #[test]
    fn reglu() {
        check(ReGlu::new(), "reglu", |x| x.max(0.0));
    }

    #[test]
    fn as_steps() {
        let model = Sequential::input([3, 8]).glu().swiglu().geglu().build(1).unwrap();
        assert_eq!(model.rows()[2].output, Shape::from([3, 1]));
        let text = Sequential::input([3]).reglu().build(1).err().unwrap().to_string();
        let expected = "layer 0 (ReGlu axis -1): reglu: axis -1 of [n, 3] has 3 elements; \
                        help: two halves need an even number";
        assert_eq!(text, expected);
        let text = Sequential::input([3]).step(Glu::new().axis(0)).build(1).err().unwrap().to_string();
        let expected = "layer 0 (Glu axis 0): glu: axis 0 is the batch, which stays whole; \
                        help: use another axis, counted from 1";
        assert_eq!(text, expected);
    }
}
