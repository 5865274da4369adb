//! Softmax and its relatives as layers. Not before losses such as [`cross_entropy`](crate::cross_entropy), which take
//! logits.

use crate::plan::{Draft, Plan, expect_spatial};
use crate::reshape::with_batch;
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Makes a layer along an axis: so many operations an element. A macro, because three differ in nothing else.
macro_rules! along {
    ($(#[$doc:meta])* pub struct $Layer:ident; $method:ident, $flops:literal operations) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Layer {
            axis: isize,
        }
        fields!($Layer: ; axis);

        impl $Layer {
            /// Along this axis of the whole batch: usually −1, the last.
            pub fn new(axis: isize) -> Self {
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
                Plan::new(format!("{} axis {}", stringify!($Layer), self.axis), || {
                    with_batch(1, input)?.axis(stringify!($method), self.axis)?;
                    Ok(Draft::new(*input, $flops * input.elements() as u64).fixed(self.clone()))
                })
            }
        }

        impl Builder {
            #[doc = concat!("[`", stringify!($Layer), "`] along an axis of the batch, usually −1. Losses take logits: \
                leave it out for them.")]
            pub fn $method(self, axis: isize) -> Self {
                self.step($Layer { axis })
            }
        }
    };
}

along! {
    /// `exp(x) / Σ exp(x)` along one axis.
    ///
    /// PyTorch: `nn.Softmax`; Keras: `Softmax`.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{Module, Softmax};
    ///
    /// let y = Softmax::new(-1).forward(&Var::from(Tensor::from([[7.0f32, 7.0], [-1000.0, 0.0]])))?;
    /// assert_eq!(y.value(), &Tensor::from([[0.5f32, 0.5], [0.0, 1.0]]));
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct Softmax;
    softmax, 5 operations // largest, subtract, exp, add, divide
}

along! {
    /// `exp(−x) / Σ exp(−x)` along one axis.
    ///
    /// PyTorch: `nn.Softmin`; Keras: –.
    pub struct Softmin;
    softmin, 6 operations
}

along! {
    /// `x − log Σ exp(x)` along one axis: what [`nll`](crate::nll) takes.
    ///
    /// PyTorch: `nn.LogSoftmax`; Keras: `activations.log_softmax`.
    pub struct LogSoftmax;
    log_softmax, 5 operations
}

/// [`Softmax`] over the channels of images: for each pixel by itself.
///
/// PyTorch: `nn.Softmax2d`; Keras: –.
///
/// # Shapes
/// - `[n, c, h, w]` or `[c, h, w]`; the output's is the input's
#[derive(Debug, Clone)]
pub struct Softmax2d;
fields!(Softmax2d:);

impl Module for Softmax2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        if !(3..=4).contains(&x.rank()) {
            let what = format!("expects [n, c, h, w] or [c, h, w], got {}", x.shape());
            return Err(Error::new("softmax2d", what, "use Softmax with an axis"));
        }
        crate::module::expect_float("softmax2d", x)?;
        Ok(x.softmax(-3)?)
    }
}

impl Spec for Softmax2d {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new("Softmax2d".into(), || {
            expect_spatial::<2>("softmax2d", input)?;
            Ok(Draft::new(*input, 5 * input.elements() as u64).fixed(Self))
        })
    }
}

impl Builder {
    /// [`Softmax2d`]
    pub fn softmax2d(self) -> Self {
        self.step(Softmax2d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::Tensor;

    const SQUARE: Expect<'_> = Expect { input: &[3, 4], output: &[3, 4], ..Expect::NOTHING };

    fn check(mut layer: impl Module, refused: &str, at_axis_0: impl Module, expected: [f64; 2]) {
        check_module(&mut layer, &Expect { refuses: &[(&[], refused)], ..SQUARE }).unwrap();
        let y = at_axis_0.forward(&Tensor::from([0.0f64, 3f64.ln()]).into()).unwrap();
        let y = y.value().to_vec::<f64>().unwrap();
        assert!((y[0] - expected[0]).abs() < 1e-15 && (y[1] - expected[1]).abs() < 1e-15, "{y:?}");
    }

    #[test]
    fn softmax() {
        let text = "softmax: [] has no axis -1; help: a scalar has no axes";
        check(Softmax::new(-1), text, Softmax::new(0), [0.25, 0.75]); // 1 / (1 + 3)
    }

    #[test]
    fn softmin() {
        let text = "softmax: [] has no axis -1; help: a scalar has no axes";
        check(Softmin::new(-1), text, Softmin::new(0), [0.75, 0.25]);
    }

    #[test]
    fn log_softmax() {
        let text = "log_softmax: [] has no axis -1; help: a scalar has no axes";
        check(LogSoftmax::new(-1), text, LogSoftmax::new(0), [0.25f64.ln(), 0.75f64.ln()]);
    }

    #[test]
    fn softmax2d() {
        let text = "softmax2d: expects [n, c, h, w] or [c, h, w], got [2, 3]; help: use Softmax with an axis";
        let (input, refuses): (&[usize], &[(&[usize], &str)]) = (&[2, 3, 2, 2], &[(&[2, 3], text)]);
        check_module(&mut Softmax2d, &Expect { input, output: input, refuses, ..SQUARE }).unwrap();
        let x = Tensor::from([[[0.0f64]], [[3f64.ln()]]]);
        let y = Softmax2d.forward(&x.into()).unwrap().value().to_vec::<f64>().unwrap();
        assert!((y[0] - 0.25).abs() < 1e-15 && (y[1] - 0.75).abs() < 1e-15, "{y:?}");
    }
}
