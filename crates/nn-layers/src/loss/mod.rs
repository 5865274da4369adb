//! Losses: how wrong an output is. A loss is a struct with setters for its options and its [`Reduction`]; the function
//! of the same name has PyTorch's defaults. Losses that compare outputs with targets are a [`Loss`], which a trainer
//! takes; the others have a method `loss` with arguments of their own. Each file is a family.

use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::Tensor;

mod regression;
mod likelihood;
mod classes;
mod binary;
mod margin;
mod multi_margin;
mod embedding;
mod overlap;
mod ctc;

pub use binary::{Bce, BceWithLogits, MultiLabelSoftMargin, SigmoidFocal};
pub use binary::{bce, bce_with_logits, multi_label_soft_margin, sigmoid_focal};
pub use classes::{CrossEntropy, Nll, SoftmaxFocal, cross_entropy, nll, softmax_focal};
pub use ctc::{Ctc, ctc};
pub use embedding::{CosineEmbedding, InfoNce, NtXent, TripletMargin};
pub use embedding::{cosine_embedding, info_nce, nt_xent, triplet_margin, triplet_margin_with_distance};
pub use likelihood::{GaussianNll, KlDiv, PoissonNll, gaussian_nll, kl_div, poisson_nll};
pub use margin::{Hinge, HingeEmbedding, MarginRanking, SoftMargin, SquaredHinge};
pub use margin::{hinge, hinge_embedding, margin_ranking, soft_margin, squared_hinge};
pub use multi_margin::{MultiLabelMargin, MultiMargin, multi_label_margin, multi_margin};
pub use overlap::{Dice, Tversky, dice, tversky};
pub use regression::{Huber, L1, LogCosh, Mse, SmoothL1, huber, l1, log_cosh, mse, smooth_l1};

/// Something that says how wrong an output is: any function of `(&Var, &Tensor)`, or a struct such as [`CrossEntropy`].
pub trait Loss: Send + Sync {
    /// One number, to be made small.
    ///
    /// # Errors
    /// Shapes, types or labels that do not fit.
    fn loss(&self, output: &Var, target: &Tensor) -> Result<Var>;

    /// What to call it in a log.
    fn name(&self) -> &str {
        "loss"
    }
}

impl<F: Fn(&Var, &Tensor) -> Result<Var> + Send + Sync> Loss for F {
    fn loss(&self, output: &Var, target: &Tensor) -> Result<Var> {
        self(output, target)
    }

    /// The function's own name; `loss` for closures and function pointers.
    fn name(&self) -> &str {
        let name = std::any::type_name::<F>().rsplit("::").next().unwrap_or_default();
        if name.chars().all(|c| c.is_alphanumeric() || c == '_') { name } else { "loss" }
    }
}

/// What becomes of the numbers of a loss, one for each element or each sample.
///
/// The mean and the mean over the batch of nothing are an error, where PyTorch gives not-a-number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// They stay as they are: not for a trainer, which needs one number.
    None,
    /// Their mean; where classes have weights, the weighted one.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum, divided by the size of axis 0, the batch: what the definition of the KL divergence asks for.
    BatchMean,
}

impl Reduction {
    pub(crate) fn of(self, op: &'static str, each: &Var) -> Result<Var> {
        self.weighted(op, each, || each.len() as f64)
    }

    /// As [`of`](Self::of), where the mean is the sum divided by `total`.
    pub(crate) fn weighted(self, op: &'static str, each: &Var, total: impl FnOnce() -> f64) -> Result<Var> {
        let total = match self {
            Self::None => return Ok(each.clone()),
            Self::Sum => return Ok(each.sum(.., false)?),
            Self::Mean => total(),
            Self::BatchMean => each.shape().first().map_or(1.0, |&n| n as f64),
        };
        if each.is_empty() {
            let what = "there are no elements to take a mean of";
            return Err(Error::new(op, what, "give it a batch of 1 or more"));
        }
        if total == 0.0 {
            let what = "every label is ignored or has weight 0: there is nothing to take a mean of";
            return Err(Error::new(op, what, "skip such batches, or use Reduction::Sum"));
        }
        let mean = total == each.len() as f64; // exact where the weights are 1
        Ok(if mean { each.mean(.., false)? } else { each.sum(.., false)?.mul_scalar(1.0 / total) })
    }
}

/// Makes a loss: the struct, `new()` with the defaults, a setter for each option, for each of its `weights` (tensors
/// that may be missing) and for the reduction. With the name of a function, also that function and the [`Loss`], both
/// of the method `of(&self, output, targets)`.
///
/// A macro, because thirty losses differ in nothing but their options and that method.
macro_rules! loss {
    ($(#[$doc:meta])* pub struct $Loss:ident { $($(#[$about:meta])* $option:ident: $type:ty = $default:expr),* $(,)? }
        $(weights { $($(#[$what:meta])* $weight:ident),* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $Loss {
            $($option: $type,)*
            $($($weight: Option<maplet_tensor::Tensor>,)*)?
            reduction: $crate::Reduction,
        }

        #[allow(clippy::new_without_default)] // one way to make a loss: new()
        impl $Loss {
            /// With PyTorch's defaults, where it has the loss, and the mean.
            pub fn new() -> Self {
                Self { $($option: $default,)* $($($weight: None,)*)? reduction: $crate::Reduction::Mean }
            }

            $($(#[$about])*
            pub fn $option(mut self, $option: $type) -> Self {
                self.$option = $option;
                self
            })*

            $($($(#[$what])*
            pub fn $weight(mut self, $weight: maplet_tensor::Tensor) -> Self {
                self.$weight = Some($weight);
                self
            })*)?

            /// What becomes of the numbers: their mean, unless this is called.
            pub fn reduction(mut self, reduction: $crate::Reduction) -> Self {
                self.reduction = reduction;
                self
            }
        }
    };
    ($(#[$doc:meta])* pub struct $Loss:ident { $($options:tt)* } $(weights { $($weights:tt)* })?
        fn $function:ident
    ) => {
        $crate::loss::loss! { $(#[$doc])* pub struct $Loss { $($options)* } $(weights { $($weights)* })? }

        impl $crate::Loss for $Loss {
            fn loss(
                &self, output: &maplet_autograd::Var, target: &maplet_tensor::Tensor,
            ) -> $crate::Result<maplet_autograd::Var> {
                self.of(output, target)
            }

            fn name(&self) -> &str {
                stringify!($function)
            }
        }

        #[doc = concat!("[`", stringify!($Loss), "`] with its defaults.\n\n# Errors\nAs there.")]
        pub fn $function(
            output: &maplet_autograd::Var, targets: &maplet_tensor::Tensor,
        ) -> $crate::Result<maplet_autograd::Var> {
            $Loss::new().of(output, targets)
        }
    };
}
use loss;

/// An error unless output and targets are numbers of one type and shape; the targets, in the output's pass.
fn expect_alike(op: &'static str, output: &Var, targets: &Tensor) -> Result<Var> {
    expect_shape(op, output, targets)?;
    if output.dtype() != targets.dtype() || !output.dtype().is_float() {
        let what = format!("the output is {}, the targets {}", output.dtype(), targets.dtype());
        return Err(Error::new(op, what, "both must be f32 or both f64: convert with to_dtype"));
    }
    Ok(output.constant(targets))
}

fn expect_shape(op: &'static str, output: &Var, targets: &Tensor) -> Result<()> {
    if output.shape() == targets.shape() {
        return Ok(());
    }
    let what = format!("the output is {}, the targets {}", output.shape(), targets.shape());
    Err(Error::new(op, what, "reshape one of them: nothing broadcasts in a loss"))
}

/// As [`expect_alike`], for targets that are 1 or −1.
fn expect_signs(op: &'static str, output: &Var, targets: &Tensor) -> Result<Var> {
    let signs = expect_alike(op, output, targets)?;
    check_signs(op, targets)?;
    Ok(signs)
}

fn check_signs(op: &'static str, targets: &Tensor) -> Result<()> {
    let targets = targets.to_dtype(maplet_tensor::DType::F64);
    match targets.as_slice::<f64>()?.iter().position(|t| t.abs() != 1.0) {
        None => Ok(()),
        Some(at) => {
            let what = format!("target {at} is {}", targets.as_slice::<f64>()?[at]);
            Err(Error::new(op, what, "use 1 and -1; for t of 0 and 1 that is 2t - 1"))
        }
    }
}

/// `each` times a weight that broadcasts to it.
fn weighted(op: &'static str, each: &Var, weight: Option<&Tensor>) -> Result<Var> {
    let Some(weight) = weight else { return Ok(each.clone()) };
    match weight.shape().broadcast(op, &each.shape()) {
        Ok(shape) if shape == each.shape() => Ok(each.mul(&each.constant(weight))?),
        _ => {
            let what = format!("the weight is {}, the losses {}", weight.shape(), each.shape());
            Err(Error::new(op, what, "a weight must broadcast to them"))
        }
    }
}

/// An error if a number is not what the loss takes.
fn expect_that(holds: bool, op: &'static str, what: String, help: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(op, what, help)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_autograd::{Pass, gradcheck};
    use maplet_tensor::{DType, Rng};

    pub(crate) fn value(loss: Result<Var>) -> f64 {
        loss.unwrap().item::<f64>().unwrap()
    }

    pub(crate) fn values(loss: Result<Var>) -> Vec<f64> {
        loss.unwrap().value().to_vec::<f64>().unwrap()
    }

    pub(crate) fn text<T>(result: Result<T>) -> String {
        result.err().expect("an error").to_string()
    }

    /// Closed forms of a few terms, in double precision.
    pub(crate) fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found} {expected}");
    }

    pub(crate) fn all_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(&found, &expected)| near(found, expected));
    }

    pub(crate) fn random(shape: [usize; 2], low: f64, high: f64) -> Tensor {
        Tensor::uniform(shape, low, high, &mut Rng::new(low.to_bits() ^ high.to_bits()))
    }

    /// First and second derivatives by the output.
    pub(crate) fn check_gradient(loss: &dyn Loss, output: &Tensor, targets: &Tensor) {
        let gradient = gradcheck(|v| Ok(loss.loss(&v[0], targets)?), std::slice::from_ref(output));
        gradient.unwrap_or_else(|error| panic!("{}: {error}", loss.name()));
    }

    /// What every loss of numbers of one shape refuses, and what it does with nothing.
    pub(crate) fn check_refusals(loss: &dyn Loss) {
        let op = loss.name();
        let output = Var::from(Tensor::from([[1.0f32], [1.0]]));
        let text = |output: &Var, t: Tensor| text(loss.loss(output, &t));
        let expected = format!(
            "{op}: the output is [2, 1], the targets [2]; help: reshape one of them: nothing broadcasts in a loss"
        );
        assert_eq!(text(&output, Tensor::from([1.0f32, 1.0])), expected);
        let types = "help: both must be f32 or both f64: convert with to_dtype";
        let expected = format!("{op}: the output is f32, the targets i64; {types}");
        assert_eq!(text(&output, Tensor::from([[1i64], [1]])), expected);
        let expected = format!("{op}: the output is u8, the targets u8; {types}");
        assert_eq!(text(&Tensor::from([1u8]).into(), Tensor::from([1u8])), expected);
        let none = Tensor::zeros([0, 2], DType::F32);
        let expected = format!("{op}: there are no elements to take a mean of; help: give it a batch of 1 or more");
        assert_eq!(text(&none.clone().into(), none), expected);
    }

    #[test]
    fn reductions() {
        let (p, t) = (Var::from(Tensor::from([[1.0f64, 2.0], [3.0, 4.0]])), Tensor::from([[0.0f64, 4.0], [3.0, 1.0]]));
        let reduced = |reduction| values(Mse::new().reduction(reduction).loss(&p, &t));
        all_near(&reduced(Reduction::None), &[1.0, 4.0, 0.0, 9.0]);
        all_near(&reduced(Reduction::Mean), &[3.5]);
        all_near(&reduced(Reduction::Sum), &[14.0]);
        all_near(&reduced(Reduction::BatchMean), &[7.0]);
        let nothing = Tensor::zeros([0, 2], DType::F64);
        let reduced = |reduction| Mse::new().reduction(reduction).loss(&Var::from(&nothing), &nothing);
        assert_eq!(reduced(Reduction::None).unwrap().value(), &nothing);
        near(value(reduced(Reduction::Sum)), 0.0);
        let expected = "mse: there are no elements to take a mean of; help: give it a batch of 1 or more";
        assert_eq!(text(reduced(Reduction::BatchMean)), expected);
    }

    #[test]
    fn functions_lend_their_names_and_record_when_the_output_does() {
        let name = |loss: &dyn Loss| loss.name().to_string();
        assert_eq!(
            [name(&mse), name(&cross_entropy), name(&CrossEntropy::new()), name(&SmoothL1::new())],
            ["mse", "cross_entropy", "cross_entropy", "smooth_l1"]
        );
        let closure = |output: &Var, target: &Tensor| l1(output, target);
        assert_eq!([name(&closure), name(&(l1 as fn(&Var, &Tensor) -> Result<Var>))], ["loss", "loss"]);

        let output = Pass::train(0).leaf(Tensor::from([1.0f32]));
        let grads = closure.loss(&output, &Tensor::from([3.0f32])).unwrap().backward().unwrap();
        assert_eq!(grads.of(&output), Some(&Tensor::from([-1.0f32])));
    }
}
