//! Losses: how wrong an output is, as one number. All take the mean over the batch.

use crate::{Error, Result};
use maplet_autograd::{Var, record};
use maplet_tensor::{DType, Float, Tensor};

/// Something that says how wrong an output is: any function of `(&Var, &Tensor)`, or [`CrossEntropy`].
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

/// The mean of `−log softmax(logits)[label]`: for one right class among several.
///
/// # Shapes
/// - logits `[.., k]`, labels (I64) `[..]`, usually `[n, k]` and `[n]`; result a scalar
///
/// # Errors
/// Other shapes, other types, or a label outside `0..k`.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::cross_entropy;
///
/// let logits = Var::from(Tensor::from([[0.0f32, 0.0]]));
/// let loss = cross_entropy(&logits, &Tensor::from([1i64]))?;
/// assert!((loss.item::<f32>()? - 2f32.ln()).abs() < 1e-6); // two classes, no idea: log 2
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[doc(alias = "sparse_categorical_crossentropy")]
pub fn cross_entropy(logits: &Var, labels: &Tensor) -> Result<Var> {
    CrossEntropy::new().loss(logits, labels)
}

/// [`cross_entropy`] with label smoothing and class weights.
///
/// With class weights the mean is a weighted one: divided by the sum of the labels' weights, as in PyTorch.
///
/// # Reference
/// Szegedy, Vanhoucke, Ioffe, Shlens & Wojna (2016), "Rethinking the Inception Architecture for Computer Vision", §7.
#[derive(Debug, Clone, Default)]
pub struct CrossEntropy {
    label_smoothing: f64,
    class_weights: Option<Tensor>,
}

impl CrossEntropy {
    /// Without smoothing, all classes alike.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spreads so much of each label evenly over all classes: 0 to 1, usually 0.1.
    pub fn label_smoothing(mut self, amount: f64) -> Self {
        self.label_smoothing = amount;
        self
    }

    /// How much each class counts: `[k]`, of the logits' type.
    pub fn class_weights(mut self, weights: Tensor) -> Self {
        self.class_weights = Some(weights);
        self
    }
}

impl Loss for CrossEntropy {
    fn loss(&self, output: &Var, target: &Tensor) -> Result<Var> {
        expect_some("cross_entropy", target)?;
        Ok(output.softmax_cross_entropy(target, self.label_smoothing, self.class_weights.as_ref())?)
    }

    fn name(&self) -> &str {
        "cross_entropy"
    }
}

/// The mean of `(prediction − target)²` over all elements.
///
/// # Shapes
/// - predictions and targets of one shape and type (nothing broadcasts: `[n, 1]` against `[n]` is an error, not an
///   `[n, n]` of nonsense)
///
/// # Errors
/// Another shape or type.
#[doc(alias = "mean_squared_error")]
pub fn mse(predictions: &Var, targets: &Tensor) -> Result<Var> {
    check("mse", predictions, targets)?;
    Ok(predictions.sub(&predictions.constant(targets))?.square().mean(.., false)?)
}

/// The mean of `|prediction − target|` over all elements.
///
/// # Shapes
/// - predictions and targets of one shape and type
///
/// # Errors
/// Another shape or type.
#[doc(alias = "mean_absolute_error")]
pub fn l1(predictions: &Var, targets: &Tensor) -> Result<Var> {
    check("l1", predictions, targets)?;
    Ok(predictions.sub(&predictions.constant(targets))?.abs().mean(.., false)?)
}

/// The mean of `−t · log σ(z) − (1 − t) · log(1 − σ(z))` over all elements: for independent yes-or-no questions.
///
/// # Shapes
/// - logits `z` and targets `t` (from 0 to 1) of one shape and type
///
/// # Errors
/// Another shape or type.
///
/// # Numerics
/// Computed as `max(z, 0) − z · t + log(1 + exp(−|z|))`, which never overflows and keeps its relative precision.
#[doc(alias = "binary_crossentropy")]
pub fn bce_with_logits(logits: &Var, targets: &Tensor) -> Result<Var> {
    check("bce_with_logits", logits, targets)?;
    let each = match logits.dtype() {
        DType::F64 => each_bce::<f64>(logits.value(), targets)?,
        _ => each_bce::<f32>(logits.value(), targets)?,
    };
    let (z, t) = (logits.clone(), logits.constant(targets));
    // The derivative is as smooth as can be, though the formula above has a corner at 0.
    let each = record("bce_with_logits", each).pull(logits, move |dy| dy.mul(&z.sigmoid().sub(&t)?)).done()?;
    Ok(each.mean(.., false)?)
}

fn each_bce<T: Float>(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let each = |z: T, t: T| z.max(T::zero()) - z * t + (-z.abs()).exp().ln_1p();
    Ok(logits.zip::<T>(targets, each)?)
}

/// An error unless output and targets are numbers of one type and shape.
fn check(op: &'static str, output: &Var, targets: &Tensor) -> Result<()> {
    if output.shape() != targets.shape() {
        let what = format!("the output is {}, the targets {}", output.shape(), targets.shape());
        return Err(Error::new(op, what, "reshape one of them: nothing broadcasts in a loss"));
    }
    if output.dtype() != targets.dtype() || !output.dtype().is_float() {
        let what = format!("the output is {}, the targets {}", output.dtype(), targets.dtype());
        return Err(Error::new(op, what, "both must be f32 or both f64: convert with to_dtype"));
    }
    expect_some(op, targets)
}

/// An error if the mean would be one of nothing.
fn expect_some(op: &'static str, targets: &Tensor) -> Result<()> {
    if !targets.is_empty() {
        return Ok(());
    }
    Err(Error::new(op, "there are no elements to take a mean of", "give it a batch of 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_autograd::{Pass, gradcheck};
    use maplet_tensor::Rng;

    fn value(loss: Result<Var>) -> f64 {
        loss.unwrap().item::<f64>().unwrap()
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{found} {expected}");
    }

    /// `softmax` of `log [1, 2, 5]` is `[1, 2, 5] / 8`.
    fn logits() -> Var {
        Tensor::from([[0.0f64, 2f64.ln(), 5f64.ln()], [5f64.ln(), 2f64.ln(), 0.0]]).into()
    }

    #[test]
    fn cross_entropy_is_minus_log_probability() {
        let labels = Tensor::from([2i64, 1]);
        let (first, second) = ((8.0f64 / 5.0).ln(), 4f64.ln());
        near(value(cross_entropy(&logits(), &labels)), (first + second) / 2.0);
        let weighted = CrossEntropy::new().class_weights(Tensor::from([1.0f64, 3.0, 0.5]));
        near(value(weighted.loss(&logits(), &labels)), (0.5 * first + 3.0 * second) / 3.5);
        // Smoothing by 0.3: each of the three classes gets 0.1, the label 0.7 more.
        let all = 8f64.ln() + 4f64.ln() + (8.0f64 / 5.0).ln();
        let smooth = CrossEntropy::new().label_smoothing(0.3);
        near(value(smooth.loss(&logits(), &labels)), 0.7 * (first + second) / 2.0 + 0.1 * all);
        // Both at once, as in PyTorch: the spread part is weighted by class, and divided by the labels' weights as
        // well.
        let spread = 1.5 * 8f64.ln() + 6.0 * 4f64.ln() + 1.5 * (8.0f64 / 5.0).ln();
        let both = smooth.class_weights(Tensor::from([1.0f64, 3.0, 0.5]));
        let expected = (0.7 * (0.5 * first + 3.0 * second) + 0.1 * spread) / 3.5;
        near(value(both.loss(&logits(), &labels)), expected);
    }

    #[test]
    fn cross_entropy_refuses_what_does_not_fit() {
        let text = |labels: Tensor| cross_entropy(&logits(), &labels).unwrap_err().to_string();
        let help = "help: labels count classes from 0; the model must have one output for each";
        let expected = format!("cross_entropy: label 3 of row 1 (of 2) is outside 0..3; {help}");
        assert_eq!(text(Tensor::from([1i64, 3])), expected);
        let expected = format!("cross_entropy: label -1 of row 0 (of 2) is outside 0..3; {help}");
        assert_eq!(text(Tensor::from([-1i64, 1])), expected);
        let expected = "cross_entropy: logits [2, 3] and labels [1] do not fit; \
                        help: labels have the logits' shape without its last axis, the classes";
        assert_eq!(text(Tensor::from([1i64])), expected);
        let expected = "cross_entropy: labels are f32, not i64; help: convert with to_dtype(DType::I64)";
        assert_eq!(text(Tensor::from([1.0f32, 2.0])), expected);
        let none = "cross_entropy: there are no elements to take a mean of; help: give it a batch of 1 or more";
        assert_eq!(text(Tensor::zeros([0], DType::I64)), none);
        let text = |loss: CrossEntropy| loss.loss(&logits(), &Tensor::from([0i64, 1])).unwrap_err().to_string();
        let expected = "cross_entropy: label smoothing is 1.5; help: use 0 to 1";
        assert_eq!(text(CrossEntropy::new().label_smoothing(1.5)), expected);
        let weighted = |weights: Tensor| text(CrossEntropy::new().class_weights(weights));
        let expected = "cross_entropy: class weights are [2], the logits have 3 classes; help: they must be [3]";
        assert_eq!(weighted(Tensor::from([1.0f64, 2.0])), expected);
        let expected = "cross_entropy: element types differ: f64 and f32; help: convert one of them with to_dtype";
        assert_eq!(weighted(Tensor::from([1.0f32, 2.0, 3.0])), expected);
    }

    #[test]
    fn regression_losses_are_means() {
        let (p, t) = (Var::from(Tensor::from([[1.0f64, 2.0], [3.0, 4.0]])), Tensor::from([[0.0f64, 4.0], [3.0, 1.0]]));
        near(value(mse(&p, &t)), (1.0 + 4.0 + 0.0 + 9.0) / 4.0);
        near(value(l1(&p, &t)), (1.0 + 2.0 + 0.0 + 3.0) / 4.0);
    }

    #[test]
    fn bce_is_exact_at_the_ends() {
        let bce = |z: f64, t: f64| value(bce_with_logits(&Tensor::from([z]).into(), &Tensor::from([t])));
        near(bce(0.0, 0.3), 2f64.ln());
        near(bce(3f64.ln(), 1.0), (4.0f64 / 3.0).ln()); // σ = 3/4
        near(bce(3f64.ln(), 0.25), 0.25 * (4.0f64 / 3.0).ln() + 0.75 * 4f64.ln());
        assert_eq!((bce(800.0, 1.0), bce(-800.0, 1.0), bce(800.0, 0.0)), (0.0, 800.0, 800.0));
        assert!((bce(40.0, 1.0) / (-40f64).exp() - 1.0).abs() < 1e-12); // log(1 + e) ≈ e
    }

    #[test]
    fn gradients_are_derivatives() {
        let mut rng = Rng::new(1);
        let mut random = |low, high| Tensor::uniform([4, 3], low, high, &mut rng);
        let (z, t) = (random(-2.0f64, 2.0), random(0.0, 1.0));
        let labels = Tensor::from([0i64, 2, 1, 1]);
        let weighted = CrossEntropy::new().label_smoothing(0.2).class_weights(Tensor::from([1.0f64, 0.5, 2.0]));
        let check = |loss: &dyn Loss, z: &Tensor, t: &Tensor| {
            gradcheck(|v| Ok(loss.loss(&v[0], t)?), std::slice::from_ref(z)).unwrap();
        };
        check(&mse, &z, &t);
        check(&l1, &z, &t);
        check(&bce_with_logits, &z, &t);
        check(&bce_with_logits, &z.zeros_like(), &t); // where the formula has its corner
        check(&cross_entropy, &z, &labels);
        check(&weighted, &z, &labels);
    }

    #[test]
    fn targets_must_fit() {
        let p = Var::from(Tensor::from([[1.0f32], [2.0]]));
        for (op, loss) in
            [("mse", mse as fn(&Var, &Tensor) -> Result<Var>), ("l1", l1), ("bce_with_logits", bce_with_logits)]
        {
            let text = |output: &Var, t: Tensor| loss(output, &t).unwrap_err().to_string();
            let shapes =
                "the output is [2, 1], the targets [2]; help: reshape one of them: nothing broadcasts in a loss";
            assert_eq!(text(&p, Tensor::from([1.0f32, 2.0])), format!("{op}: {shapes}"));
            let types = "help: both must be f32 or both f64: convert with to_dtype";
            let expected = format!("{op}: the output is f32, the targets i64; {types}");
            assert_eq!(text(&p, Tensor::from([[1i64], [2]])), expected);
            let expected = format!("{op}: the output is u8, the targets u8; {types}");
            assert_eq!(text(&Tensor::from([1u8]).into(), Tensor::from([1u8])), expected);
            let none = Tensor::zeros([0, 2], DType::F32);
            let expected = format!("{op}: there are no elements to take a mean of; help: give it a batch of 1 or more");
            assert_eq!(text(&none.clone().into(), none), expected);
        }
    }

    #[test]
    fn functions_lend_their_names_and_record_when_the_output_does() {
        let name = |loss: &dyn Loss| loss.name().to_string();
        assert_eq!(
            [name(&mse), name(&cross_entropy), name(&CrossEntropy::new())],
            ["mse", "cross_entropy", "cross_entropy"]
        );
        let closure = |output: &Var, target: &Tensor| l1(output, target);
        assert_eq!([name(&closure), name(&(l1 as fn(&Var, &Tensor) -> Result<Var>))], ["loss", "loss"]);

        let output = Pass::train(0).leaf(Tensor::from([1.0f32]));
        let grads = closure.loss(&output, &Tensor::from([3.0f32])).unwrap().backward().unwrap();
        assert_eq!(grads.of(&output), Some(&Tensor::from([-1.0f32])));
    }
}
