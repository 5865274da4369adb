//! Losses for one right class among several.
//!
//! Classes are on the last axis. For PyTorch's layout `[n, classes, d1, ..]`, which they have in common, set
//! `class_axis(1)`.

use super::{Reduction, expect_alike, expect_that};
use crate::{Loss, Result};
use maplet_autograd::Var;
use maplet_tensor::{LabelOptions, Tensor};

/// The mean of `−log softmax(logits)[label]`.
///
/// # Shapes
/// - logits `[.., k]`, labels (I64) `[..]`, usually `[n, k]` and `[n]`; result a scalar
///
/// # Errors
/// Other shapes, other types, or a label outside `0..k` and not −100, which is ignored.
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

/// The mean of `−log_probs[label]`, for outputs of [`LogSoftmax`](crate::LogSoftmax).
///
/// # Errors
/// As [`cross_entropy`].
pub fn nll(log_probs: &Var, labels: &Tensor) -> Result<Var> {
    Nll::new().loss(log_probs, labels)
}

/// [`SoftmaxFocal`] with its defaults.
///
/// # Errors
/// As [`cross_entropy`].
pub fn softmax_focal(logits: &Var, labels: &Tensor) -> Result<Var> {
    SoftmaxFocal::new().loss(logits, labels)
}

/// The setters that losses of classes share. A macro, because a trait would have to be imported to set an option.
macro_rules! label_options {
    ($Loss:ident) => {
        /// How much each class counts: `[k]`, of the output's type.
        pub fn class_weights(mut self, weights: Tensor) -> Self {
            self.labels.class_weights = Some(weights);
            self
        }

        /// A label that counts nothing, −100 unless this is called; it need not be a class.
        pub fn ignore_index(mut self, label: i64) -> Self {
            self.labels.ignore_index = label;
            self
        }

        /// Where the classes are, −1 (the last axis) unless this is called; PyTorch's layout is 1.
        pub fn class_axis(mut self, axis: isize) -> Self {
            self.class_axis = axis;
            self
        }

        /// What becomes of the numbers: their mean, unless this is called.
        pub fn reduction(mut self, reduction: Reduction) -> Self {
            self.reduction = reduction;
            self
        }
    };
}

/// `−log softmax(logits)[label]`; for targets that are themselves probabilities `q`, `−Σ q · log softmax(logits)`.
///
/// With class weights the mean of labels is a weighted one, divided by the sum of the labels' weights; the mean of
/// probabilities is divided by their number. Both are PyTorch's.
///
/// PyTorch: `nn.CrossEntropyLoss`; Keras: `losses.SparseCategoricalCrossentropy`, `losses.CategoricalCrossentropy`.
///
/// # Shapes
/// - logits `[.., k]`; labels (I64) `[..]`, or probabilities `[.., k]` of the logits' type, which have no gradient
///
/// # Errors
/// Other shapes, other types, a label outside `0..k` and not the one to ignore; a mean of labels that all count
/// nothing, where PyTorch gives not-a-number.
///
/// # Reference
/// Szegedy, Vanhoucke, Ioffe, Shlens & Wojna (2016), "Rethinking the Inception Architecture for Computer Vision", §7,
/// for label smoothing.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    labels: LabelOptions,
    class_axis: isize,
    reduction: Reduction,
}

#[allow(clippy::new_without_default)] // one way to make a loss: new()
impl CrossEntropy {
    /// Without smoothing, all classes alike.
    pub fn new() -> Self {
        Self { labels: LabelOptions::default(), class_axis: -1, reduction: Reduction::Mean }
    }

    /// Spreads so much of each label evenly over all classes: 0 to 1, usually 0.1.
    pub fn label_smoothing(mut self, amount: f64) -> Self {
        self.labels.label_smoothing = amount;
        self
    }

    label_options!(CrossEntropy);

    /// Probabilities as targets, a row of them for each row of logits.
    fn of_probabilities(&self, logits: &Var, targets: &Tensor) -> Result<Var> {
        let op = "cross_entropy";
        expect_alike(op, logits, targets)?;
        let (smoothing, classes) = (self.labels.label_smoothing, logits.size(-1)?);
        expect_that((0.0..=1.0).contains(&smoothing), op, format!("label smoothing is {smoothing}"), "use 0 to 1")?;
        let mut q = targets.mul_scalar(1.0 - smoothing).add_scalar(smoothing / classes.max(1) as f64);
        if let Some(weights) = &self.labels.class_weights {
            let fits = weights.shape() == [classes].into();
            let what = format!("class weights are {}, the logits have {classes} classes", weights.shape());
            expect_that(fits, op, what, &format!("they must be [{classes}]"))?;
            q = q.mul(weights)?;
        }
        let each = logits.log_softmax(-1)?.mul(&logits.constant(q))?.sum(-1, false)?.neg();
        self.reduction.of(op, &each)
    }
}

impl Loss for CrossEntropy {
    fn loss(&self, output: &Var, target: &Tensor) -> Result<Var> {
        let logits = classes_last(output, self.class_axis, "cross_entropy")?;
        if target.dtype().is_float() && target.rank() == output.rank() {
            let targets = classes_last(&Var::from(target), self.class_axis, "cross_entropy")?;
            return self.of_probabilities(&logits, targets.value());
        }
        let each = logits.softmax_cross_entropy(target, &self.labels)?;
        self.reduction.weighted("cross_entropy", &each, || self.labels.total_weight(target))
    }

    fn name(&self) -> &str {
        "cross_entropy"
    }
}

/// `−log_probs[label]`, the negative log-likelihood; class weights as in [`CrossEntropy`].
///
/// PyTorch: `nn.NLLLoss`, `nn.NLLLoss2d`; Keras: –.
///
/// # Shapes
/// - log-probabilities `[.., k]`, labels (I64) `[..]`
///
/// # Errors
/// As [`CrossEntropy`].
#[derive(Debug, Clone)]
pub struct Nll {
    labels: LabelOptions,
    class_axis: isize,
    reduction: Reduction,
}

#[allow(clippy::new_without_default)] // one way to make a loss: new()
impl Nll {
    /// All classes alike.
    pub fn new() -> Self {
        Self { labels: LabelOptions::default(), class_axis: -1, reduction: Reduction::Mean }
    }

    label_options!(Nll);
}

impl Loss for Nll {
    fn loss(&self, output: &Var, target: &Tensor) -> Result<Var> {
        let log_probs = classes_last(output, self.class_axis, "nll")?;
        let (picked, weights) = pick("nll", &log_probs, target, &self.labels, "log_probs")?;
        let each = picked.mul(&weights)?.neg();
        self.reduction.weighted("nll", &each, || self.labels.total_weight(target))
    }

    fn name(&self) -> &str {
        "nll"
    }
}

/// `−(1 − p)^gamma · log p` for the softmax `p` of the label's class: what the model is sure of counts little.
///
/// Class weights are the paper's α; the mean is over the labels that are not ignored, not a weighted one.
///
/// PyTorch: –; Keras: `losses.CategoricalFocalCrossentropy`.
///
/// # Shapes
/// - logits `[.., k]`, labels (I64) `[..]`
///
/// # Errors
/// As [`CrossEntropy`].
///
/// # Reference
/// Lin, Goyal, Girshick, He & Dollár (2017), "Focal Loss for Dense Object Detection", eq. 5.
#[derive(Debug, Clone)]
pub struct SoftmaxFocal {
    gamma: f64,
    labels: LabelOptions,
    class_axis: isize,
    reduction: Reduction,
}

#[allow(clippy::new_without_default)] // one way to make a loss: new()
impl SoftmaxFocal {
    /// With `gamma` 2, all classes alike.
    pub fn new() -> Self {
        Self { gamma: 2.0, labels: LabelOptions::default(), class_axis: -1, reduction: Reduction::Mean }
    }

    /// How much less the easy ones count, 2; 0 is [`CrossEntropy`].
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }

    label_options!(SoftmaxFocal);
}

impl Loss for SoftmaxFocal {
    fn loss(&self, output: &Var, target: &Tensor) -> Result<Var> {
        let op = "softmax_focal";
        let logits = classes_last(output, self.class_axis, op)?;
        let (log_p, weights) = pick(op, &logits.log_softmax(-1)?, target, &self.labels, "logits")?;
        let each = log_p.mul(&focus(&log_p.exp().neg().add_scalar(1.0), self.gamma))?.mul(&weights)?.neg();
        let kept = LabelOptions { class_weights: None, ..self.labels.clone() };
        self.reduction.weighted(op, &each, || kept.total_weight(target))
    }

    fn name(&self) -> &str {
        "softmax_focal"
    }
}

/// `miss^gamma` for a probability. Kept above 0, where a small power would have an infinite slope.
pub(super) fn focus(miss: &Var, gamma: f64) -> Var {
    miss.clamp(1e-30, f64::INFINITY).pow_scalar(gamma)
}

/// The score of each label, and how much the label counts.
fn pick(op: &'static str, scores: &Var, labels: &Tensor, options: &LabelOptions, named: &str) -> Result<(Var, Var)> {
    let (labels, weights) = options.weigh(op, labels, scores.value(), named)?;
    let picked = scores.gather(-1, &scores.constant(labels.unsqueeze(-1)?))?.squeeze(-1)?;
    Ok((picked, scores.constant(weights)))
}

/// The output with its classes on the last axis.
fn classes_last(output: &Var, axis: isize, op: &'static str) -> Result<Var> {
    crate::module::expect_float(op, output)?;
    let axis = output.shape().axis(op, axis)?;
    if axis + 1 == output.rank() {
        return Ok(output.clone());
    }
    let order: Vec<usize> = (0..output.rank()).filter(|&other| other != axis).chain([axis]).collect();
    Ok(output.permute(&order)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, near, random, text, value, values};
    use super::*;
    use maplet_tensor::DType;

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
    fn ignored_labels_count_nothing() {
        let (labels, first) = (Tensor::from([2i64, -100]), (8.0f64 / 5.0).ln());
        near(value(cross_entropy(&logits(), &labels)), first);
        all_near(&values(CrossEntropy::new().reduction(Reduction::None).loss(&logits(), &labels)), &[first, 0.0]);
        let zero = CrossEntropy::new().ignore_index(0);
        near(value(zero.loss(&logits(), &Tensor::from([2i64, 0]))), first);
        near(value(nll(&logits().log_softmax(-1).unwrap(), &labels)), first);
        let none = Tensor::from([-100i64, -100]);
        for (op, loss) in [
            ("cross_entropy", cross_entropy as fn(&Var, &Tensor) -> Result<Var>),
            ("nll", nll),
            ("softmax_focal", softmax_focal),
        ] {
            let expected = format!(
                "{op}: every label is ignored or has weight 0: there is nothing to take a mean of; \
                 help: skip such batches, or use Reduction::Sum"
            );
            assert_eq!(text(loss(&logits(), &none)), expected);
        }
        near(value(CrossEntropy::new().reduction(Reduction::Sum).loss(&logits(), &none)), 0.0);
    }

    #[test]
    fn targets_can_be_probabilities() {
        let q = Tensor::from([[0.5f64, 0.0, 0.5], [0.0, 1.0, 0.0]]);
        let (first, second) = ((8f64.ln() + (8.0f64 / 5.0).ln()) / 2.0, 4f64.ln());
        near(value(cross_entropy(&logits(), &q)), (first + second) / 2.0);
        let weighted = CrossEntropy::new().class_weights(Tensor::from([2.0f64, 3.0, 0.0])).reduction(Reduction::None);
        all_near(&values(weighted.loss(&logits(), &q)), &[8f64.ln(), 3.0 * second]);
        // A label and its one-hot row are the same, also when smoothed.
        let smooth = CrossEntropy::new().label_smoothing(0.3);
        let by_label = value(smooth.loss(&logits(), &Tensor::from([2i64, 1])));
        near(value(smooth.loss(&logits(), &Tensor::from([[0.0f64, 0.0, 1.0], [0.0, 1.0, 0.0]]))), by_label);
    }

    /// PyTorch's `[n, classes, d1]` is ours with the axes exchanged.
    #[test]
    fn classes_may_be_on_another_axis() {
        let x = Var::from(Tensor::normal([2, 4, 3], 0.0f64, 1.0, &mut maplet_tensor::Rng::new(1)));
        let labels = Tensor::from([[0i64, 3, 1], [2, 2, 0]]);
        let turned = x.transpose(1, 2).unwrap();
        let pairs: [(Box<dyn Loss>, Box<dyn Loss>); 3] = [
            (Box::new(CrossEntropy::new().class_axis(1)), Box::new(CrossEntropy::new())),
            (Box::new(Nll::new().class_axis(1)), Box::new(Nll::new())),
            (Box::new(SoftmaxFocal::new().class_axis(1)), Box::new(SoftmaxFocal::new())),
        ];
        for (on_axis_1, last) in pairs {
            near(value(on_axis_1.loss(&x, &labels)), value(last.loss(&turned, &labels)));
        }
        let (q, spread) = (x.softmax(1).unwrap(), CrossEntropy::new().class_axis(1));
        let expected = value(cross_entropy(&turned, q.transpose(1, 2).unwrap().value()));
        near(value(spread.loss(&x, q.value())), expected);
        let found = text(CrossEntropy::new().class_axis(3).loss(&x, &labels));
        assert!(found.starts_with("cross_entropy: [2, 4, 3] has no axis 3"), "{found}");
    }

    #[test]
    fn focal_is_weighted_cross_entropy() {
        let labels = Tensor::from([2i64, 1]);
        let (first, second) = ((8.0f64 / 5.0).ln(), 4f64.ln());
        let focal = SoftmaxFocal::new().reduction(Reduction::None);
        all_near(&values(focal.loss(&logits(), &labels)), &[0.140625 * first, 0.5625 * second]);
        near(value(SoftmaxFocal::new().gamma(0.0).loss(&logits(), &labels)), (first + second) / 2.0);
        let weighted = SoftmaxFocal::new().gamma(1.0).class_weights(Tensor::from([1.0f64, 4.0, 2.0]));
        near(value(weighted.loss(&logits(), &labels)), (0.75 * first + 3.0 * second) / 2.0);
        // Certain to the last digit: no loss, and a gradient that is a number.
        let sure = Tensor::from([[1000.0f64, 0.0, 0.0]]);
        check_gradient(&SoftmaxFocal::new().gamma(0.5), &sure, &Tensor::from([0i64]));
    }

    #[test]
    fn gradients_are_derivatives() {
        let (z, labels) = (random([4, 3], -2.0, 2.0), Tensor::from([0i64, 2, -100, 1]));
        let weights = Tensor::from([1.0f64, 0.5, 2.0]);
        check_gradient(&cross_entropy, &z, &labels);
        check_gradient(&CrossEntropy::new().label_smoothing(0.2).class_weights(weights.clone()), &z, &labels);
        check_gradient(&CrossEntropy::new().class_weights(weights.clone()), &z, &random([4, 3], 0.0, 1.0));
        check_gradient(&Nll::new().class_weights(weights.clone()), &z, &labels);
        check_gradient(&SoftmaxFocal::new().class_weights(weights), &z, &labels);
    }

    #[test]
    fn labels_must_fit() {
        let text = |labels: Tensor| text(cross_entropy(&logits(), &labels));
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
        let expected = "cross_entropy: the output is [2, 3], the targets [2, 2]; \
                        help: reshape one of them: nothing broadcasts in a loss";
        assert_eq!(text(Tensor::zeros([2, 2], DType::F64)), expected);
        let none = cross_entropy(&Tensor::zeros([0, 3], DType::F64).into(), &Tensor::zeros([0], DType::I64));
        let expected = "cross_entropy: there are no elements to take a mean of; help: give it a batch of 1 or more";
        assert_eq!(super::super::tests::text(none), expected);
    }

    #[test]
    fn options_must_fit() {
        for target in [Tensor::from([0i64, 1]), Tensor::zeros([2, 3], DType::F64)] {
            let text = |loss: CrossEntropy| text(loss.loss(&logits(), &target));
            let expected = "cross_entropy: label smoothing is 1.5; help: use 0 to 1";
            assert_eq!(text(CrossEntropy::new().label_smoothing(1.5)), expected);
            let weighted = |weights: Tensor| text(CrossEntropy::new().class_weights(weights));
            let expected = "cross_entropy: class weights are [2], the logits have 3 classes; help: they must be [3]";
            assert_eq!(weighted(Tensor::from([1.0f64, 2.0])), expected);
        }
        let single = CrossEntropy::new().class_weights(Tensor::from([1.0f32, 2.0, 3.0]));
        let expected = "cross_entropy: element types differ: f64 and f32; help: convert one of them with to_dtype";
        assert_eq!(text(single.loss(&logits(), &Tensor::from([0i64, 1]))), expected);
    }
}
