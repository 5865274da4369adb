//! Softmax cross-entropy on integer labels, above its adjoint.
//!
//! With label `y`, smoothing `ε`, `k` classes and class weights `w`, the target of a row is
//! `q_c = (1 − ε) w_y [c = y] + ε w_c / k`, its mass `Q = Σ q`, and its loss `Q · logsumexp(x) − Σ_c q_c x_c`.

use super::fold::fold_slice;
use super::softmax::{RowMath, greater, sum_of_exps};
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::simd::vectorized;
use crate::{DType, Element, Error, Float, Result, Shape, Tensor, par};

/// About the nanoseconds that one logit takes.
const COST: f64 = 0.8;

/// How labels count in a loss.
#[derive(Debug, Clone)]
pub struct LabelOptions {
    /// The share of each label that is spread evenly over all classes: 0 to 1.
    pub label_smoothing: f64,
    /// How much each class counts, all alike if there are none: `[classes]`, of the type of the logits.
    pub class_weights: Option<Tensor>,
    /// A row with this label counts nothing. It need not be a class.
    pub ignore_index: i64,
}

/// No smoothing, no weights, and −100 is ignored, as in PyTorch.
impl Default for LabelOptions {
    fn default() -> Self {
        Self { label_smoothing: 0.0, class_weights: None, ignore_index: -100 }
    }
}

impl LabelOptions {
    /// The labels with class 0 in place of those to ignore, and how much each counts: its class's weight, or 0.
    ///
    /// # Errors
    /// Weights or labels that do not fit the shape of `scores: [.., classes]`, which errors call `named`.
    pub fn weigh(&self, op: &'static str, labels: &Tensor, scores: &Tensor, named: &str) -> Result<(Tensor, Tensor)> {
        let target = Target::new(op, scores, labels, self, named)?;
        let safe: Vec<i64> = target.labels.iter().map(|&label| if target.counts(label) { label } else { 0 }).collect();
        let weights = target.labels.iter().map(|&label| target.weight_of(label)).collect();
        let weights = Tensor::from_vec::<f64>(weights, labels.shape())?.to_dtype(scores.dtype());
        Ok((Tensor::from_vec(safe, labels.shape())?, weights))
    }

    /// `Σ w_y` over the labels that are not ignored, which [`cross_entropy`](Tensor::cross_entropy) has accepted.
    pub fn total_weight(&self, labels: &Tensor) -> f64 {
        let weights = self.class_weights.as_ref().map(|weights| weights.to_dtype(DType::F64));
        let weights = weights.as_ref().map(|weights| weights.slice_of::<f64>());
        let kept = labels.slice_of::<i64>().iter().filter(|&&label| label != self.ignore_index);
        kept.map(|&label| weights.map_or(1.0, |weights| weights[label as usize])).sum()
    }
}

impl Tensor {
    /// The cross-entropy between softmax(`self`) and the label of each row; also returns the maximum `m` and
    /// `log Σ eˣ⁻ᵐ` of each row, `[rows, 2]`, for the adjoint.
    ///
    /// # Shapes
    /// - `self: [.., classes]`, `labels: [..]` of type `i64`; outputs: `[..]` and `[rows, 2]`
    ///
    /// # Errors
    /// Shapes or types that do not fit, a label outside `0..classes`, a smoothing outside `[0, 1]`.
    ///
    /// # Reference
    /// Szegedy et al. (2016), "Rethinking the Inception Architecture", section 7, for label smoothing; weights as in
    /// PyTorch's `CrossEntropyLoss`.
    pub fn cross_entropy(&self, labels: &Tensor, options: &LabelOptions) -> Result<(Tensor, Tensor)> {
        let target = Target::new("cross_entropy", self, labels, options, "logits")?;
        let k = target.classes;
        dispatch_float!(self.dtype(), "cross_entropy", T => {
            let x = self.slice_of::<T>();
            let stats = Tensor::build(Shape::from([target.labels.len(), 2]), |out: &mut [T]| {
                par::rows(out, 2, k as f64 * COST, |first, out| row_stats(out, &x[first * k..], k));
            });
            let st = stats.slice_of::<T>();
            let losses = Tensor::build(labels.shape(), |out: &mut [T]| {
                par::elements(out, (k as f64 * options.label_smoothing).max(1.0), |first, out| {
                    for (i, out) in out.iter_mut().enumerate() {
                        let row = first + i;
                        *out = T::from_f64(target.loss(row, &x[row * k..][..k], st[2 * row], st[2 * row + 1]));
                    }
                });
            });
            Ok((losses, stats))
        })
    }

    /// Adjoint of [`cross_entropy`](Self::cross_entropy); `self` is `dy: [..]`, `stats` its second output:
    /// `dx_c = dy (Q softmax(x)_c − q_c)`.
    ///
    /// # Errors
    /// As [`cross_entropy`](Self::cross_entropy).
    pub fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        stats: &Tensor,
        options: &LabelOptions,
    ) -> Result<Tensor> {
        let target = Target::new("cross_entropy", logits, labels, options, "logits")?;
        let k = target.classes;
        logits.same_dtype("cross_entropy_grad", stats)?;
        logits.same_dtype("cross_entropy_grad", self)?;
        if self.shape() != labels.shape() {
            let what = format!("the gradient is {}, the labels {}", self.shape(), labels.shape());
            return Err(Error::shape("cross_entropy_grad", what, "both must have one shape"));
        }
        dispatch_float!(logits.dtype(), "cross_entropy_grad", T => {
            let (dy, x, st) = (self.slice_of::<T>(), logits.slice_of::<T>(), stats.slice_of::<T>());
            Ok(Tensor::build(logits.shape(), |out: &mut [T]| {
                par::rows(out, k, k as f64 * COST, |first, out| {
                    for (i, out) in out.chunks_mut(k.max(1)).enumerate() {
                        let row = first + i;
                        if !target.counts(target.labels[row]) {
                            out.fill(T::from_f64(0.0));
                            continue;
                        }
                        let scale = dy[row].as_f64();
                        let mass = T::from_f64(scale * target.mass(row));
                        scaled_softmax(out, &x[row * k..][..k], st[2 * row], st[2 * row + 1], mass);
                        target.subtract(row, scale, out);
                    }
                });
            }))
        })
    }
}

/// The wanted distribution of each row.
struct Target<'a> {
    labels: &'a [i64],
    classes: usize,
    smoothing: f64,
    weights: Option<Vec<f64>>,
    ignore: i64,
    /// `ε / k · Σ_c w_c`
    smoothed_mass: f64,
}

impl<'a> Target<'a> {
    fn new(op: &'static str, scores: &Tensor, labels: &'a Tensor, options: &LabelOptions, named: &str) -> Result<Self> {
        scores.dtype().expect_float(op)?;
        let (shape, smoothing, ignore) = (scores.shape(), options.label_smoothing, options.ignore_index);
        let Some((&classes, rows)) = shape.split_last().filter(|(_, rows)| **rows == *labels.shape()) else {
            let what = format!("{named} {shape} and labels {} do not fit", labels.shape());
            return Err(Error::shape(
                op,
                what,
                format!("labels have the {named}' shape without its last axis, the classes"),
            ));
        };
        if labels.dtype() != DType::I64 {
            let what = format!("labels are {}, not i64", labels.dtype());
            return Err(Error::dtype(op, what, "convert with to_dtype(DType::I64)"));
        }
        if !(0.0..=1.0).contains(&smoothing) {
            return Err(Error::value(op, format!("label smoothing is {smoothing}"), "use 0 to 1"));
        }
        let weights = options.class_weights.as_ref().map(|weights| {
            scores.same_dtype(op, weights)?;
            if weights.shape() != Shape::from([classes]) {
                let what = format!("class weights are {}, the {named} have {classes} classes", weights.shape());
                return Err(Error::shape(op, what, format!("they must be [{classes}]")));
            }
            weights.to_dtype(DType::F64).to_vec::<f64>()
        });
        let (weights, labels) = (weights.transpose()?, labels.slice_of::<i64>());
        let fits = |&label: &i64| (0..classes as i64).contains(&label) || label == ignore;
        if let Some(row) = labels.iter().position(|label| !fits(label)) {
            let what = format!(
                "label {} of row {row} (of {}) is outside 0..{classes}",
                labels[row],
                rows.iter().product::<usize>()
            );
            return Err(Error::index(op, what, "labels count classes from 0; the model must have one output for each"));
        }
        let total = weights.as_ref().map_or(classes as f64, |weights| weights.iter().sum());
        Ok(Self { labels, classes, smoothing, weights, ignore, smoothed_mass: smoothing * total / classes as f64 })
    }

    fn counts(&self, label: i64) -> bool {
        label != self.ignore
    }

    fn weight(&self, class: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[class])
    }

    /// Of a label: its class's weight, or 0.
    fn weight_of(&self, label: i64) -> f64 {
        if self.counts(label) { self.weight(label as usize) } else { 0.0 }
    }

    /// `Q`, of a row that counts.
    fn mass(&self, row: usize) -> f64 {
        (1.0 - self.smoothing) * self.weight(self.labels[row] as usize) + self.smoothed_mass
    }

    /// `Q · logsumexp(x) − Σ_c q_c x_c`, with everything relative to the maximum, so that large logits lose nothing.
    fn loss<T: Element>(&self, row: usize, x: &[T], max: T, log_sum: T) -> f64 {
        if !self.counts(self.labels[row]) {
            return 0.0;
        }
        let (label, relative) = (self.labels[row] as usize, |x: &T| x.as_f64() - max.as_f64());
        let mut expected = (1.0 - self.smoothing) * self.weight(label) * relative(&x[label]);
        if self.smoothing > 0.0 {
            let sum: f64 = x.iter().enumerate().map(|(class, x)| self.weight(class) * relative(x)).sum();
            expected += self.smoothing / self.classes as f64 * sum;
        }
        self.mass(row) * log_sum.as_f64() - expected
    }

    /// `out −= scale · q`
    fn subtract<T: Float>(&self, row: usize, scale: f64, out: &mut [T]) {
        let label = self.labels[row] as usize;
        out[label] += T::from_f64(-scale * (1.0 - self.smoothing) * self.weight(label));
        if self.smoothing > 0.0 {
            let share = scale * self.smoothing / self.classes as f64;
            out.iter_mut().enumerate().for_each(|(class, out)| *out += T::from_f64(-share * self.weight(class)));
        }
    }
}

vectorized! {
    /// The maximum `m` and `log Σ eˣ⁻ᵐ` of each row.
    fn row_stats<T: RowMath>(out: &mut [T], x: &[T], width: usize) {
        for (i, out) in out.chunks_exact_mut(2).enumerate() {
            let x = &x[i * width..][..width];
            let max = fold_slice(x, T::neg_infinity(), &greater);
            out.copy_from_slice(&[max, sum_of_exps::<T, FUSED>(x, max).ln()]);
        }
    }
}

vectorized! {
    /// `scale · softmax(x)`
    fn scaled_softmax<T: Math>(out: &mut [T], x: &[T], max: T, log_sum: T, scale: T) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = (x - max - log_sum).fast_exp::<FUSED>() * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// The definition: `−Σ_c q_c log softmax(x)_c` of each row.
    fn naive(x: &[f64], labels: &[i64], k: usize, smoothing: f64, w: &[f64]) -> Vec<f64> {
        let rows = x.chunks(k).zip(labels).map(|(x, &label)| {
            let sum: f64 = x.iter().map(|x| x.exp()).sum();
            let of = |c: usize| {
                let hit = if c as i64 == label { 1.0 - smoothing } else { 0.0 };
                -(hit + smoothing / k as f64) * w[c] * (x[c].exp() / sum).ln()
            };
            if label == -100 { 0.0 } else { (0..k).map(of).sum() }
        });
        rows.collect()
    }

    #[test]
    fn is_its_definition_and_so_is_its_gradient() {
        for k in [1usize, 10, 100] {
            let n = 7;
            let mut rng = Rng::new(k as u64);
            let x = Tensor::normal([n, k], 0.0f64, 3.0, &mut rng);
            let mut labels: Vec<i64> = (0..n).map(|_| rng.below(k) as i64).collect();
            labels[3] = -100;
            let y = Tensor::from_slice(&labels, [n]).unwrap();
            let weights = Tensor::uniform([k], 0.5f64, 2.0, &mut rng);
            let dy = Tensor::normal([n], 0.0f64, 1.0, &mut rng);
            for (smoothing, weights) in [(0.0, None), (0.1, None), (0.0, Some(&weights)), (0.3, Some(&weights))] {
                let w = weights.map_or(vec![1.0; k], |weights| weights.to_vec::<f64>().unwrap());
                let value = |x: &Tensor| naive(x.as_slice::<f64>().unwrap(), &labels, k, smoothing, &w);
                let options =
                    LabelOptions { label_smoothing: smoothing, class_weights: weights.cloned(), ..Default::default() };
                let (losses, stats) = x.cross_entropy(&y, &options).unwrap();
                let pairs = losses.to_vec::<f64>().unwrap().into_iter().zip(value(&x));
                assert!(pairs.into_iter().all(|(found, expected)| (found - expected).abs() < 1e-12));
                let total: f64 = labels.iter().filter(|&&y| y >= 0).map(|&y| w[y as usize]).sum();
                assert!((options.total_weight(&y) - total).abs() < 1e-12);
                let dx = dy.cross_entropy_grad(&x, &y, &stats, &options).unwrap();
                for i in 0..n * k {
                    let moved = |step: f64| {
                        let mut x = x.clone();
                        x.as_mut_slice::<f64>().unwrap()[i] += step;
                        let dy = dy.as_slice::<f64>().unwrap();
                        value(&x).iter().zip(dy).map(|(loss, dy)| loss * dy).sum::<f64>()
                    };
                    let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    // 700 roundings / step
                    assert!((dx.as_slice::<f64>().unwrap()[i] - difference).abs() < 1e-8, "{k}, {i}");
                }
            }
        }
    }

    #[test]
    fn labels_are_weighed() {
        let weights = Some(Tensor::from([0.5f32, 2.0]));
        let options = LabelOptions { class_weights: weights, ignore_index: 1, ..Default::default() };
        let (labels, scores) = (Tensor::from([0i64, 1, 0]), Tensor::zeros([3, 2], DType::F32));
        let (safe, weights) = options.weigh("nll", &labels, &scores, "log_probs").unwrap();
        assert_eq!((safe, weights), (Tensor::from([0i64, 0, 0]), Tensor::from([0.5f32, 0.0, 0.5])));
        assert_eq!(options.total_weight(&labels), 1.0);
        let text = options.weigh("nll", &labels, &scores.reshape([2, 3]).unwrap(), "log_probs").unwrap_err();
        let expected = "nll: log_probs [2, 3] and labels [3] do not fit; \
                        help: labels have the log_probs' shape without its last axis, the classes";
        assert_eq!(text.to_string(), expected);
    }

    #[test]
    fn large_logits_keep_their_digits() {
        // log(1 + e^(−10)), whatever is added to both logits.
        let x = Tensor::from_vec(vec![100_000.0f32, 99_990.0], [1, 2]).unwrap();
        let labels = Tensor::from_vec(vec![0i64], [1]).unwrap();
        let loss = |x: &Tensor| x.cross_entropy(&labels, &LabelOptions::default()).unwrap().0.item::<f32>().unwrap();
        assert!((loss(&x) / (-10.0f32).exp().ln_1p() - 1.0).abs() < 1e-2, "{}", loss(&x));
        let x = Tensor::from_vec(vec![-1e30f32, 1e30], [1, 2]).unwrap();
        assert_eq!(loss(&x), 2e30);
    }

    #[test]
    fn misfits_are_explained() {
        let x = Tensor::zeros([2, 10], DType::F32);
        let text = |labels: Tensor, label_smoothing, class_weights: Option<Tensor>| {
            let options = LabelOptions { label_smoothing, class_weights, ..Default::default() };
            x.cross_entropy(&labels, &options).unwrap_err().to_string()
        };
        let labels = |labels: Vec<i64>| Tensor::from_vec(labels, [2]).unwrap();
        let want = "cross_entropy: label 10 of row 1 (of 2) is outside 0..10; \
                    help: labels count classes from 0; the model must have one output for each";
        assert_eq!(text(labels(vec![0, 10]), 0.0, None), want);
        assert!(text(labels(vec![-1, 0]), 0.0, None).starts_with("cross_entropy: label -1 of row 0"));
        let want = "cross_entropy: logits [2, 10] and labels [3] do not fit; \
                    help: labels have the logits' shape without its last axis, the classes";
        assert_eq!(text(Tensor::zeros([3], DType::I64), 0.0, None), want);
        let want = "cross_entropy: labels are f32, not i64; help: convert with to_dtype(DType::I64)";
        assert_eq!(text(Tensor::zeros([2], DType::F32), 0.0, None), want);
        let want = "cross_entropy: label smoothing is 1.5; help: use 0 to 1";
        assert_eq!(text(labels(vec![0, 0]), 1.5, None), want);
        let want = "cross_entropy: class weights are [3], the logits have 10 classes; help: they must be [10]";
        assert_eq!(text(labels(vec![0, 0]), 0.0, Some(Tensor::zeros([3], DType::F32))), want);
    }
}
