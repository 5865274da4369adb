//! [`Dropout`] and its relatives: noise that keeps features from leaning on each other.

use crate::freeze::{Graph, Value};
use crate::module::expect_float;
use crate::norm::layout;
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
/// PyTorch: `nn.Dropout`; Keras: `Dropout`.
///
/// # Shapes
/// - any; the output's is the input's
///
/// # Reference
/// Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: A Simple Way to Prevent Neural Networks
/// from Overfitting", §10 ("inverted" dropout).
///
/// # Example
/// ```
/// use maplet_autograd::Pass;
/// use maplet_nn_layers::{Dropout, Module};
/// use maplet_tensor::{DType, Tensor};
///
/// let (layer, x) = (Dropout::new(0.5)?, Tensor::ones([4], DType::F32));
/// assert_eq!(layer.forward(&x.clone().into())?.value(), &x); // evaluation
/// let y = layer.forward(&Pass::train(0).input(x))?;
/// assert!(y.value().as_slice::<f32>()?.iter().all(|&y| y == 0.0 || y == 2.0));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    p: f64,
}
fields!(Dropout: ; p);

/// As [`Dropout`], but drops whole channels: neighbors in a channel are so alike that dropping single ones does
/// nothing. `D` is the number of axes after the channels: see [`Dropout1d`], [`Dropout2d`], [`Dropout3d`].
///
/// # Shapes
/// - `[n, c, ..]` with `D` axes at the end; the output's is the input's
///
/// # Reference
/// Tompson, Goroshin, Jain, LeCun & Bregler (2015), "Efficient Object Localization Using Convolutional Networks", §3.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelDropout<const D: usize> {
    p: f64,
}
fields!([const D: usize] ChannelDropout<D>: ; p);

/// Drops whole channels of sequences `[n, c, l]` in training.
///
/// PyTorch: `nn.Dropout1d`; Keras: `SpatialDropout1D`.
pub type Dropout1d = ChannelDropout<1>;
/// Drops whole channels of images `[n, c, h, w]` in training.
///
/// PyTorch: `nn.Dropout2d`; Keras: `SpatialDropout2D`.
pub type Dropout2d = ChannelDropout<2>;
/// Drops whole channels of volumes `[n, c, d, h, w]` in training.
///
/// PyTorch: `nn.Dropout3d`; Keras: `SpatialDropout3D`.
pub type Dropout3d = ChannelDropout<3>;

/// In training, sets each element with probability `p` to the value at which [`Selu`](crate::Selu) saturates, then
/// scales and shifts all of them so that mean 0 and variance 1 stay what they are; else the identity.
///
/// PyTorch: `nn.AlphaDropout`; Keras: `AlphaDropout`.
///
/// # Shapes
/// - any; the output's is the input's
///
/// # Reference
/// Klambauer, Unterthiner, Mayr & Hochreiter (2017), "Self-Normalizing Neural Networks", "New Dropout Technique".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlphaDropout {
    p: f64,
}
fields!(AlphaDropout: ; p);

/// As [`AlphaDropout`], but drops whole channels.
///
/// PyTorch: `nn.FeatureAlphaDropout`; Keras: –.
///
/// # Shapes
/// - `[n, c, ..]`; the output's is the input's
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureAlphaDropout {
    p: f64,
}
fields!(FeatureAlphaDropout: ; p);

/// In training, drops whole samples with probability `p` and divides the others by `1 − p`; else the identity. Put at
/// the end of a residual branch, it skips the branch: stochastic depth.
///
/// PyTorch: `torchvision.ops.StochasticDepth`; Keras: –.
///
/// # Shapes
/// - `[n, ..]`; the output's is the input's
///
/// # Reference
/// Huang, Sun, Liu, Sedra & Weinberger (2016), "Deep Networks with Stochastic Depth", eq. 2; scaled in training rather
/// than in evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "StochasticDepth")]
pub struct DropPath {
    p: f64,
    #[serde(default)]
    whole_batch: bool,
}
fields!(DropPath: ; p, whole_batch);

impl DropPath {
    /// Draws once for all samples: torchvision's mode `batch`.
    pub fn whole_batch(self) -> Self {
        Self { whole_batch: true, ..self }
    }
}

/// `p` itself, if it is a probability.
pub(crate) fn check_p(op: &'static str, p: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&p) {
        return Ok(p);
    }
    Err(Error::new(op, format!("p is {p}"), "use a probability from 0 to 1"))
}

fn expect_rank(op: &'static str, x: &Var, fits: bool, layout: &str) -> Result<()> {
    expect_float(op, x)?;
    if fits {
        return Ok(());
    }
    Err(Error::new(op, format!("expects {layout}, got {}", x.shape()), "reshape or unsqueeze the input"))
}

/// The constructor, the module and the step of a layer whose only number is a probability. A macro, as the layers
/// differ in nothing but what they do to `x`.
macro_rules! dropouts {
    ($(
        ($($generics:tt)*) $layer:ty, $name:expr, $op:expr, { $($rest:tt)* }, |$self:ident, $x:ident| $forward:expr;
    )*) => {$(
        impl<$($generics)*> $layer {
            /// `p` is the part that is dropped.
            ///
            /// # Errors
            /// A `p` outside `[0, 1]`.
            pub fn new(p: f64) -> Result<Self> {
                Ok(Self { p: check_p($op, p)?, $($rest)* })
            }
        }

        impl<$($generics)*> Module for $layer {
            fn forward(&self, $x: &Var) -> Result<Var> {
                let $self = self;
                $forward
            }

            fn lower(&self, _: &mut Graph, x: Value) -> Result<Option<Value>> {
                Ok(Some(x))
            }
        }

        impl<$($generics)*> Spec for $layer {
            fn plan(&self, input: &Shape) -> Plan {
                Plan::new(format!("{} {}", $name, self.p), || {
                    check_p($op, self.p)?;
                    Ok(Draft::new(*input, input.elements() as u64).fixed(self.clone()))
                })
            }
        }
    )*};
}
dropouts! {
    () Dropout, "Dropout", "dropout", {}, |layer, x| {
        expect_float("dropout", x)?;
        Ok(x.dropout(layer.p)?)
    };
    (const D: usize) ChannelDropout<D>, format!("Dropout{D}d"), OPS[D], {}, |layer, x| {
        expect_rank(OPS[D], x, x.rank() == D + 2, &layout(D))?;
        Ok(x.dropout_leading(layer.p, 2)?)
    };
    () AlphaDropout, "AlphaDropout", "alpha_dropout", {}, |layer, x| {
        expect_float("alpha_dropout", x)?;
        Ok(x.alpha_dropout(layer.p, x.rank())?)
    };
    () FeatureAlphaDropout, "FeatureAlphaDropout", "feature_alpha_dropout", {}, |layer, x| {
        expect_rank("feature_alpha_dropout", x, x.rank() >= 2, "[n, c, ..]")?;
        Ok(x.alpha_dropout(layer.p, 2)?)
    };
    () DropPath, "DropPath", "drop_path", { whole_batch: false }, |layer, x| {
        expect_rank("drop_path", x, x.rank() >= 1, "[n, ..]")?;
        Ok(x.dropout_leading(layer.p, if layer.whole_batch { 0 } else { 1 })?)
    };
}

const OPS: [&str; 4] = ["dropout", "dropout1d", "dropout2d", "dropout3d"];

impl Builder {
    /// [`Dropout`]: in training, drops each element with probability `p`.
    pub fn dropout(self, p: f64) -> Self {
        self.step(Dropout { p })
    }

    /// [`Dropout1d`]: drops whole channels of sequences.
    pub fn dropout1d(self, p: f64) -> Self {
        self.step(ChannelDropout::<1> { p })
    }

    /// [`Dropout2d`]: drops whole channels of images.
    pub fn dropout2d(self, p: f64) -> Self {
        self.step(ChannelDropout::<2> { p })
    }

    /// [`Dropout3d`]: drops whole channels of volumes.
    pub fn dropout3d(self, p: f64) -> Self {
        self.step(ChannelDropout::<3> { p })
    }

    /// [`AlphaDropout`]: for nets of `selu`.
    pub fn alpha_dropout(self, p: f64) -> Self {
        self.step(AlphaDropout { p })
    }

    /// [`FeatureAlphaDropout`]: for convolutional nets of `selu`.
    pub fn feature_alpha_dropout(self, p: f64) -> Self {
        self.step(FeatureAlphaDropout { p })
    }

    /// [`DropPath`]: drops whole samples.
    pub fn drop_path(self, p: f64) -> Self {
        self.step(DropPath { p, whole_batch: false })
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
        check_module(&mut Dropout::new(0.3).unwrap(), &expect).unwrap();
        check_module(&mut AlphaDropout::new(0.3).unwrap(), &expect).unwrap();
        let rank = "feature_alpha_dropout: expects [n, c, ..], got [3]; help: reshape or unsqueeze the input";
        check_module(&mut FeatureAlphaDropout::new(0.3).unwrap(), &Expect { refuses: &[(&[3], rank)], ..expect })
            .unwrap();
        let rank = "drop_path: expects [n, ..], got []; help: reshape or unsqueeze the input";
        check_module(&mut DropPath::new(0.3).unwrap(), &Expect { refuses: &[(&[], rank)], ..expect }).unwrap();
        check_module(&mut DropPath::new(0.3).unwrap().whole_batch(), &expect).unwrap();
        let rank = "dropout2d: expects [n, c, h, w], got [3, 4]; help: reshape or unsqueeze the input";
        let expect = Expect { input: &[2, 3, 2, 2], output: &[2, 3, 2, 2], refuses: &[(&[3, 4], rank)], ..expect };
        check_module(&mut Dropout2d::new(0.3).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 3, 2], output: &[2, 3, 2], refuses: &[], ..expect };
        check_module(&mut Dropout1d::new(0.3).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 3, 1, 2, 2], output: &[2, 3, 1, 2, 2], ..expect };
        check_module(&mut Dropout3d::new(0.3).unwrap(), &expect).unwrap();
    }

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(Shape::new(shape).unwrap(), DType::F64)
    }

    fn trained(layer: &impl Module, x: &Tensor, seed: u64) -> Vec<f64> {
        layer.forward(&Pass::train(seed).input(x)).unwrap().value().to_vec().unwrap()
    }

    /// The mean of 1 stays 1 within five standard errors; and drops in training alone, the same for the same seed.
    #[test]
    fn drop_in_training_only_and_keep_the_mean() {
        let kept = 1.0 / 0.75;
        let layers: [(&dyn Module, &[usize]); 5] = [
            (&Dropout { p: 0.25 }, &[100_000]),
            (&ChannelDropout::<1> { p: 0.25 }, &[100, 300, 3]),
            (&ChannelDropout::<2> { p: 0.25 }, &[100, 300, 2, 2]),
            (&ChannelDropout::<3> { p: 0.25 }, &[100, 300, 2, 1, 2]),
            (&DropPath { p: 0.25, whole_batch: false }, &[30_000, 2, 2]),
        ];
        for (i, (layer, shape)) in layers.into_iter().enumerate() {
            let x = ones(shape);
            let run = |x: Var| layer.forward(&x).unwrap().into_value();
            let y = run(Pass::train(7).input(&x));
            // Whatever is dropped together is dropped as a whole.
            let (draws, together) = match i {
                0 => (100_000, 1),
                _ => (30_000, x.len() / 30_000),
            };
            let rows: Vec<&[f64]> = y.as_slice::<f64>().unwrap().chunks(together).collect();
            assert_eq!(rows.len(), draws);
            assert!(rows.iter().all(|row| row.iter().all(|&y| y == row[0])), "{i}");
            assert!(rows.iter().all(|row| row[0] == 0.0 || (row[0] - kept).abs() < 1e-12), "{i}");
            let mean = rows.iter().map(|row| row[0]).sum::<f64>() / draws as f64;
            let standard_error = (kept * kept * 0.25 * 0.75 / draws as f64).sqrt();
            assert!((mean - 1.0).abs() < 5.0 * standard_error, "{i}: {mean}");
            assert!(run(Pass::train(7).input(&x)) == y && run(Pass::train(8).input(&x)) != y);
            assert!(run(Pass::record().input(&x)) == x && run(Var::from(&x)) == x);
        }
        let batch = trained(&DropPath { p: 0.5, whole_batch: true }, &ones(&[50]), 3);
        assert!(batch.iter().all(|&y| y == batch[0]) && (batch[0] == 0.0 || batch[0] == 2.0));
    }

    /// Of normal numbers, the mean stays 0 and the variance 1: five standard errors of the mean, and of the variance
    /// `√((kurtosis − 1) / n)`, where the kurtosis of the result is below 6.
    #[test]
    fn alpha_dropout_keeps_mean_and_variance() {
        const N: usize = 200_000;
        let x = Tensor::normal([N / 4, 4], 0.0f64, 1.0, &mut maplet_tensor::Rng::new(5));
        let alpha = AlphaDropout::new(0.3).unwrap();
        let feature = FeatureAlphaDropout::new(0.3).unwrap();
        for y in [trained(&alpha, &x, 7), trained(&feature, &x, 7)] {
            let mean = y.iter().sum::<f64>() / N as f64;
            let var = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / N as f64;
            assert!(mean.abs() < 5.0 / (N as f64).sqrt(), "{mean}");
            assert!((var - 1.0).abs() < 5.0 * (5.0 / N as f64).sqrt(), "{var}");
        }
        assert_eq!(trained(&alpha, &x, 7), trained(&alpha, &x, 7));
        assert_ne!(trained(&alpha, &x, 7), trained(&alpha, &x, 8));
        assert_eq!(alpha.forward(&Var::from(&x)).unwrap().value(), &x);
        // A dropped element is a(−λα) + b, the same for all; a channel is dropped as a whole.
        let p = 0.3f64;
        let saturation = -1.758_099_340_847_376_6f64;
        let a = ((1.0 - p) * (1.0 + p * saturation * saturation)).powf(-0.5);
        let dropped = a * saturation - a * saturation * p;
        let y = trained(&FeatureAlphaDropout::new(p).unwrap(), &ones(&[500, 2, 3]), 1);
        let is_dropped = |y: &f64| (y - dropped).abs() < 1e-12;
        assert!(y.chunks(3).all(|row| row.iter().all(is_dropped) || !row.iter().any(is_dropped)));
        let share = y.iter().filter(|y| is_dropped(y)).count() as f64 / 3000.0;
        assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / 1000.0).sqrt(), "{share}");
    }

    /// As in PyTorch, all is dropped.
    #[test]
    fn a_probability_of_one_gives_zeros() {
        let x = ones(&[4, 3, 2]);
        assert_eq!(trained(&Dropout::new(1.0).unwrap(), &x, 1), [0.0; 24]);
        assert_eq!(trained(&Dropout1d::new(1.0).unwrap(), &x, 1), [0.0; 24]);
        assert_eq!(trained(&AlphaDropout::new(1.0).unwrap(), &x, 1), [0.0; 24]);
        assert_eq!(trained(&DropPath::new(1.0).unwrap(), &x, 1), [0.0; 24]);
    }

    #[test]
    fn refuse_what_is_no_probability() {
        for (p, text) in [(1.5, "1.5"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
            let errors = [
                ("dropout", Dropout::new(p).err()),
                ("dropout1d", Dropout1d::new(p).err()),
                ("dropout3d", Dropout3d::new(p).err()),
                ("alpha_dropout", AlphaDropout::new(p).err()),
                ("feature_alpha_dropout", FeatureAlphaDropout::new(p).err()),
                ("drop_path", DropPath::new(p).err()),
            ];
            for (op, error) in errors {
                assert_eq!(
                    error.unwrap().to_string(),
                    format!("{op}: p is {text}; help: use a probability from 0 to 1")
                );
            }
        }
    }
}
