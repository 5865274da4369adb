//! Connectionist temporal classification: the probability of all alignments of a label sequence with a longer one of
//! outputs, above its adjoint.
//!
//! The labels of a sample with blanks around each make `width = 2s + 1` states; a path stays, steps on by one, or jumps
//! over a blank between two different labels. Everything is kept as logarithms.

use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::simd::vectorized;
use crate::{DType, Error, Result, Shape, Tensor, par};

/// About the nanoseconds that a state takes at one time.
const COST: f64 = 8.0;

/// What is to be read, and how.
#[derive(Debug, Clone)]
pub struct CtcTargets {
    /// `[n, s]` of type `i64`; what stands behind a sample's length is padding.
    pub labels: Tensor,
    /// How many steps of each sample's output count.
    pub input_lengths: Vec<usize>,
    /// How many labels each sample has.
    pub target_lengths: Vec<usize>,
    /// The class that stands for no label.
    pub blank: usize,
    /// Whether a sample with too few steps for its labels has the loss 0, and the gradient 0, instead of ∞.
    pub zero_infinity: bool,
}

impl Tensor {
    /// `−log p(labels)` of each sample, for log-probabilities `self`; also returns, for the adjoint, the
    /// logarithm of the probability of all ways into each state at each time, `[n, t, 2s + 1]`.
    ///
    /// # Shapes
    /// - `self: [t, n, classes]`; outputs `[n]` and `[n, t, 2s + 1]`
    ///
    /// # Errors
    /// Shapes that do not fit, lengths beyond the axes, labels that are blank or no classes.
    ///
    /// # Reference
    /// Graves, Fernández, Gomez & Schmidhuber (2006), "Connectionist Temporal Classification", eqs. 5 to 8.
    pub fn ctc(&self, targets: &CtcTargets) -> Result<(Tensor, Tensor)> {
        let [t, n, classes] = targets.check(self)?;
        let width = targets.width();
        dispatch_float!(self.dtype(), "ctc", T => {
            let log_probs = self.slice_of::<T>();
            let alphas = Tensor::build(Shape::from([n, t, width]), |out: &mut [T]| {
                par::rows(out, t * width, (t * width) as f64 * COST, |first, out| {
                    for (i, out) in out.chunks_mut((t * width).max(1)).enumerate() {
                        Sample::new(targets, first + i, [n, classes], log_probs).forward(out, width);
                    }
                });
            });
            let ways = alphas.slice_of::<T>();
            let losses = (0..n).map(|i| {
                let loss = Sample::new(targets, i, [n, classes], log_probs).loss(&ways[i * t * width..], width);
                if targets.zero_infinity && loss.is_infinite() { 0.0 } else { loss }
            });
            Ok((Tensor::from_vec(losses.collect::<Vec<T>>(), [n])?, alphas))
        })
    }

    /// Adjoint of [`ctc`](Self::ctc); `self` is `dy: [n]`, `alphas` its second output: minus the probability of each
    /// class at each time, given the labels. Not-a-number where the loss is infinite and not zeroed.
    ///
    /// # Errors
    /// As [`ctc`](Self::ctc).
    pub fn ctc_grad(&self, log_probs: &Tensor, alphas: &Tensor, targets: &CtcTargets) -> Result<Tensor> {
        let [t, n, classes] = targets.check(log_probs)?;
        log_probs.same_dtype("ctc_grad", self)?;
        log_probs.same_dtype("ctc_grad", alphas)?;
        let width = targets.width();
        if self.shape() != Shape::from([n]) || alphas.shape() != Shape::from([n, t, width]) {
            let what = format!("the gradient is {}, the states {}", self.shape(), alphas.shape());
            return Err(Error::shape("ctc_grad", what, format!("they must be [{n}] and [{n}, {t}, {width}]")));
        }
        dispatch_float!(log_probs.dtype(), "ctc_grad", T => {
            let (dy, x, ways) = (self.slice_of::<T>(), log_probs.slice_of::<T>(), alphas.slice_of::<T>());
            let by_sample = Tensor::build(Shape::from([n, t, classes]), |out: &mut [T]| {
                par::rows(out, t * classes, (t * (width + classes)) as f64 * COST, |first, out| {
                    for (i, out) in out.chunks_mut((t * classes).max(1)).enumerate() {
                        let sample = Sample::new(targets, first + i, [n, classes], x);
                        let ways = &ways[(first + i) * t * width..][..t * width];
                        sample.backward(out, ways, width, dy[first + i], targets.zero_infinity);
                    }
                });
            });
            by_sample.transpose(0, 1)
        })
    }
}

impl CtcTargets {
    /// The states of the longest sample that there could be.
    fn width(&self) -> usize {
        2 * self.labels.shape()[1] + 1
    }

    fn check(&self, log_probs: &Tensor) -> Result<[usize; 3]> {
        let op = "ctc";
        log_probs.dtype().expect_float(op)?;
        let [t, n, classes] = log_probs.dims(op)?;
        let labels = self.labels.shape();
        if labels.rank() != 2 || labels[0] != n || self.labels.dtype() != DType::I64 {
            let what = format!("targets are {} {labels} for a batch of {n}", self.labels.dtype());
            return Err(Error::shape(op, what, format!("they must be i64, [{n}, labels]")));
        }
        if self.blank >= classes {
            let what = format!("the blank is {}, there are {classes} classes", self.blank);
            return Err(Error::index(op, what, "the blank is one of the classes, counted from 0"));
        }
        for (which, lengths, most, of) in [
            ("input", &self.input_lengths, t, "steps of the log-probabilities"),
            ("target", &self.target_lengths, labels[1], "labels of the targets"),
        ] {
            if lengths.len() != n {
                let what = format!("{} {which} lengths for a batch of {n}", lengths.len());
                return Err(Error::shape(op, what, "give one for each sample"));
            }
            if let Some(i) = lengths.iter().position(|&length| length > most) {
                let what = format!("{which} length {} of sample {i} is beyond the {most} {of}", lengths[i]);
                return Err(Error::index(op, what, "lengths count what is not padding"));
            }
        }
        for (i, &length) in self.target_lengths.iter().enumerate() {
            for (at, &label) in self.labels.slice_of::<i64>()[i * labels[1]..][..length].iter().enumerate() {
                if label == self.blank as i64 || !(0..classes as i64).contains(&label) {
                    let is =
                        if label == self.blank as i64 { "the blank".into() } else { format!("outside 0..{classes}") };
                    let what = format!("label {label} of sample {i}, at {at}, is {is}");
                    return Err(Error::index(op, what, "labels count classes from 0, and none is the blank"));
                }
            }
        }
        Ok([t, n, classes])
    }
}

/// One sample: its states and where its log-probabilities are.
struct Sample<'a, T> {
    /// The class of each state.
    states: Vec<usize>,
    /// 0 where a path may jump to a state over the one before it, else −∞; two more at the end, for the way out.
    jumps: Vec<T>,
    steps: usize,
    log_probs: &'a [T],
    /// From one step to the next.
    stride: usize,
}

impl<'a, T: Math> Sample<'a, T> {
    fn new(targets: &CtcTargets, i: usize, [n, classes]: [usize; 2], log_probs: &'a [T]) -> Self {
        let labels = &targets.labels.slice_of::<i64>()[i * targets.labels.shape()[1]..][..targets.target_lengths[i]];
        let mut states = vec![targets.blank];
        labels.iter().for_each(|&label| states.extend([label as usize, targets.blank]));
        let may = |s: usize| s >= states.len() || s == 1 || (s % 2 == 1 && states[s] != states[s - 2]);
        let jumps = (0..states.len() + 2).map(|s| if may(s) { T::zero() } else { T::neg_infinity() }).collect();
        let start = (i * classes).min(log_probs.len());
        Self { states, jumps, steps: targets.input_lengths[i], log_probs: &log_probs[start..], stride: n * classes }
    }

    fn log_prob(&self, step: usize, state: usize) -> T {
        self.log_probs[step * self.stride + self.states[state]]
    }

    /// The ways into each state; what is beyond the sample's lengths stays −∞.
    fn forward(&self, out: &mut [T], width: usize) {
        out.fill(T::neg_infinity());
        let len = self.states.len();
        // The ways into each state at the step before, behind two that are none: all begin in the second of those.
        let mut before = vec![T::neg_infinity(); len + 2];
        before[1] = T::zero();
        for (step, out) in out.chunks_exact_mut(width).take(self.steps).enumerate() {
            let out = &mut out[..len];
            join(out, &before[2..], &before[1..], &before, &self.jumps);
            for (state, out) in out.iter_mut().enumerate() {
                *out += self.log_prob(step, state);
            }
            before[..2].fill(T::neg_infinity());
            before[2..].copy_from_slice(out);
        }
    }

    /// Minus the logarithm of all ways that end in the last label or the blank behind it.
    fn loss(&self, ways: &[T], width: usize) -> T {
        let len = self.states.len();
        let Some(last) = self.steps.checked_sub(1) else {
            return if len == 1 { T::zero() } else { T::infinity() };
        };
        let mut end = [T::neg_infinity(); 2];
        end[..len.min(2)].copy_from_slice(&ways[last * width..][len - len.min(2)..len]);
        let mut sum = [T::zero()];
        join(&mut sum, &end, &end[1..], &[T::neg_infinity()], &[T::zero()]);
        -sum[0]
    }

    fn backward(&self, out: &mut [T], ways: &[T], width: usize, dy: T, zero_infinity: bool) {
        out.fill(T::zero());
        let (len, loss, classes) = (self.states.len(), self.loss(ways, width), out.len() / (ways.len() / width).max(1));
        if loss.is_infinite() && zero_infinity {
            return;
        }
        // The ways out of each state at the step after, before two that are none: all end in the first of those.
        let mut after = vec![T::neg_infinity(); len + 2];
        after[len] = T::zero();
        let mut onward = vec![T::zero(); len];
        // Shares sum to 1: less than e⁻⁸⁰ is nothing beside them, and numbers that small are slow.
        let negligible = T::from_f64(-80.0);
        for step in (0..self.steps).rev() {
            join(&mut onward, &after, &after[1..], &after[2..], &self.jumps[2..]);
            let (ways, out) = (&ways[step * width..][..len], &mut out[step * classes..][..classes]);
            for state in 0..len {
                let log_share = ways[state] + onward[state] + loss;
                if log_share >= negligible || log_share.is_nan() {
                    out[self.states[state]] += -dy * log_share.fast_exp::<false>();
                }
                after[state] = onward[state] + self.log_prob(step, state);
            }
            after[len..].fill(T::neg_infinity());
        }
    }
}

vectorized! {
    /// `log(e^stay + e^step + e^(jump + gate))`, −∞ where all three are.
    fn join<T: Math>(out: &mut [T], stay: &[T], step: &[T], jump: &[T], gate: &[T]) {
        for ((((out, &a), &b), &c), &gate) in out.iter_mut().zip(stay).zip(step).zip(jump).zip(gate) {
            let c = c + gate;
            let most = if a > b { a } else { b };
            let most = if most > c { most } else { c };
            let shift = if most > T::neg_infinity() { most } else { T::zero() };
            *out = shift + ((a - shift).fast_exp::<FUSED>() + (b - shift).fast_exp::<FUSED>() + (c - shift).fast_exp::<FUSED>()).fast_ln::<FUSED>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn targets(labels: Tensor, input_lengths: &[usize], target_lengths: &[usize]) -> CtcTargets {
        let (input_lengths, target_lengths) = (input_lengths.to_vec(), target_lengths.to_vec());
        CtcTargets { labels, input_lengths, target_lengths, blank: 0, zero_infinity: false }
    }

    /// By the definition: the probabilities of all sequences of classes that read as the labels.
    fn naive(log_probs: &Tensor, targets: &CtcTargets, sample: usize) -> f64 {
        let [_, n, classes] = log_probs.dims("ctc").unwrap();
        let (x, steps) = (log_probs.as_slice::<f64>().unwrap(), targets.input_lengths[sample]);
        let all = targets.labels.as_slice::<i64>().unwrap();
        let wanted = &all[sample * targets.labels.shape()[1]..][..targets.target_lengths[sample]];
        let mut total = 0.0;
        for path in 0..classes.pow(steps as u32) {
            let (mut rest, mut read, mut before, mut log_prob) = (path, Vec::new(), 0, 0.0);
            for step in 0..steps {
                let class = rest % classes;
                rest /= classes;
                log_prob += x[(step * n + sample) * classes + class];
                if class != 0 && class != before {
                    read.push(class as i64);
                }
                before = class;
            }
            total += if read == wanted { f64::exp(log_prob) } else { 0.0 };
        }
        -total.ln()
    }

    fn case() -> (Tensor, CtcTargets) {
        let x = Tensor::normal([5, 4, 3], 0.0f64, 1.0, &mut Rng::new(5)).log_softmax(-1).unwrap();
        let labels = Tensor::from([[1i64, 2, 1], [2, 2, 0], [1, 0, 0], [0, 0, 0]]);
        (x, targets(labels, &[5, 4, 2, 3], &[3, 2, 1, 0]))
    }

    #[test]
    fn is_the_sum_over_all_alignments() {
        let (x, targets) = case();
        let (losses, _) = x.ctc(&targets).unwrap();
        let single = x.to_dtype(DType::F32).ctc(&targets).unwrap().0.to_vec::<f32>().unwrap();
        for (sample, loss) in losses.to_vec::<f64>().unwrap().into_iter().enumerate() {
            let expected = naive(&x, &targets, sample);
            assert!((loss - expected).abs() < 1e-12 && (single[sample] as f64 - expected).abs() < 1e-5, "{sample}");
        }
    }

    #[test]
    fn its_gradient_is_its_slope() {
        let (x, targets) = case();
        let dy = Tensor::from([1.0f64, -0.5, 2.0, 0.25]);
        let (_, alphas) = x.ctc(&targets).unwrap();
        let dx = dy.ctc_grad(&x, &alphas, &targets).unwrap();
        for i in 0..x.len() {
            let moved = |step: f64| {
                let mut x = x.clone();
                x.as_mut_slice::<f64>().unwrap()[i] += step;
                x.ctc(&targets).unwrap().0.mul(&dy).unwrap().sum(.., false).unwrap().item::<f64>().unwrap()
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((dx.as_slice::<f64>().unwrap()[i] - slope).abs() < 1e-8, "{i}");
        }
    }

    #[test]
    fn too_few_steps_are_impossible() {
        let x = Tensor::zeros([2, 3, 2], DType::F64).log_softmax(-1).unwrap();
        // Two equal labels need three steps; no steps make no label, and surely none.
        let mut targets = targets(Tensor::from([[1i64, 1], [1, 0], [0, 0]]), &[2, 0, 0], &[2, 1, 0]);
        let (losses, alphas) = x.ctc(&targets).unwrap();
        assert_eq!(losses, Tensor::from([f64::INFINITY, f64::INFINITY, 0.0]));
        let dx = Tensor::ones([3], DType::F64).ctc_grad(&x, &alphas, &targets).unwrap();
        assert!(dx.slice(1, 0, 1).unwrap().to_vec::<f64>().unwrap().iter().all(|dx| dx.is_nan() || *dx == 0.0));
        targets.zero_infinity = true;
        let (losses, alphas) = x.ctc(&targets).unwrap();
        assert_eq!(losses, Tensor::zeros([3], DType::F64));
        assert_eq!(Tensor::ones([3], DType::F64).ctc_grad(&x, &alphas, &targets).unwrap(), x.zeros_like());
    }

    /// 3,000 steps: a product of probabilities would be 0 after 150 of them.
    #[test]
    fn long_sequences_do_not_underflow() {
        let (steps, classes) = (if cfg!(miri) { 50 } else { 3000 }, 4);
        let x = Tensor::full([steps, 1, classes], -(classes as f32).ln());
        let loss = x.ctc(&targets(Tensor::from([[1i64]]), &[steps], &[1])).unwrap().0.item::<f32>().unwrap() as f64;
        // Any run of label 1: steps · (steps + 1) / 2 of classes^steps sequences.
        let count = steps as f64 * (steps as f64 + 1.0) / 2.0;
        let expected = steps as f64 * (classes as f64).ln() - count.ln();
        assert!((loss / expected - 1.0).abs() < 1e-5, "{loss} {expected}");
    }

    #[test]
    fn misfits_are_explained() {
        let (x, good) = case();
        let text = |change: &dyn Fn(&mut CtcTargets)| {
            let mut targets = good.clone();
            change(&mut targets);
            x.ctc(&targets).unwrap_err().to_string()
        };
        let expected = "ctc: input length 6 of sample 1 is beyond the 5 steps of the log-probabilities; \
                        help: lengths count what is not padding";
        assert_eq!(text(&|targets| targets.input_lengths[1] = 6), expected);
        let expected = "ctc: target length 4 of sample 0 is beyond the 3 labels of the targets; \
                        help: lengths count what is not padding";
        assert_eq!(text(&|targets| targets.target_lengths[0] = 4), expected);
        let expected = "ctc: 3 target lengths for a batch of 4; help: give one for each sample";
        assert_eq!(text(&|targets| targets.target_lengths.truncate(3)), expected);
        let expected = "ctc: label 0 of sample 1, at 2, is the blank; \
                        help: labels count classes from 0, and none is the blank";
        assert_eq!(text(&|targets| targets.target_lengths[1] = 3), expected);
        let expected = "ctc: label 3 of sample 0, at 0, is outside 0..3; \
                        help: labels count classes from 0, and none is the blank";
        assert_eq!(text(&|targets| targets.labels = targets.labels.map::<i64>(|y| y + 2).unwrap()), expected);
        let expected =
            "ctc: the blank is 3, there are 3 classes; help: the blank is one of the classes, counted from 0";
        assert_eq!(text(&|targets| targets.blank = 3), expected);
        let expected = "ctc: targets are i64 [4] for a batch of 4; help: they must be i64, [4, labels]";
        assert_eq!(text(&|targets| targets.labels = Tensor::from([1i64, 1, 1, 1])), expected);
    }
}
