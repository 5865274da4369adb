//! [`Ctc`]: a sequence of labels for a longer sequence of outputs, with no word about which output is which label.

use super::loss;
use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::{CtcTargets, DType, Tensor};

loss! {
    /// `−log p(labels)`, summed over all ways to align the labels with the steps: each step says a label or the blank,
    /// and repetitions without a blank between them are one label.
    ///
    /// The mean divides each loss by its number of labels first, as in PyTorch. Memory: `t · (2s + 1)` numbers a
    /// sample.
    ///
    /// PyTorch: `nn.CTCLoss`; Keras: `losses.CTC`.
    ///
    /// # Shapes
    /// - log-probabilities `[t, n, k]`, of [`LogSoftmax`](crate::LogSoftmax); labels (I64) `[n, s]`, or all in a row;
    ///   two lists of `n` lengths; numbers `[n]` before the reduction
    /// - one sample alone: `[t, k]` and `[s]`
    ///
    /// # Numerics
    /// A sample with too few steps for its labels has the loss ∞, and a gradient that is not a number, unless
    /// `zero_infinity` is set.
    ///
    /// # Reference
    /// Graves, Fernández, Gomez & Schmidhuber (2006), "Connectionist Temporal Classification".
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::ctc;
    ///
    /// // Two steps, a blank and one label, all alike: three of four ways read as that label.
    /// let log_probs = Var::from(Tensor::full([2, 1, 2], 0.5f64.ln()));
    /// let loss = ctc(&log_probs, &Tensor::from([[1i64]]), &[2], &[1])?;
    /// assert!((loss.item::<f64>()? - (4.0f64 / 3.0).ln()).abs() < 1e-15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Ctc {
        /// The class that stands for no label, 0.
        blank: usize = 0,
        /// Whether an impossible sample has the loss 0, and the gradient 0, instead of ∞.
        zero_infinity: bool = false,
    }
}

impl Ctc {
    /// The loss of samples with so many steps and so many labels.
    ///
    /// # Errors
    /// Shapes or types that do not fit, lengths beyond the axes, labels that are blank or no classes.
    pub fn loss(
        &self,
        log_probs: &Var,
        targets: &Tensor,
        input_lengths: &[usize],
        target_lengths: &[usize],
    ) -> Result<Var> {
        crate::module::expect_float("ctc", log_probs)?;
        let alone = log_probs.rank() == 2;
        let log_probs = if alone { log_probs.unsqueeze(1)? } else { log_probs.clone() };
        let labels = match targets.rank() {
            1 => padded(targets, target_lengths)?,
            _ => targets.clone(),
        };
        let (blank, zero_infinity) = (self.blank, self.zero_infinity);
        let (input_lengths, target_lengths) = (input_lengths.to_vec(), target_lengths.to_vec());
        let targets = CtcTargets { labels, input_lengths, target_lengths, blank, zero_infinity };
        let each = log_probs.ctc(&targets)?;
        if self.reduction == crate::Reduction::Mean {
            let shares = targets.target_lengths.iter().map(|&length| 1.0 / length.max(1) as f64).collect();
            let shares = Tensor::from_vec::<f64>(shares, each.shape())?.to_dtype(each.dtype());
            return self.reduction.of("ctc", &each.mul(&each.constant(shares))?);
        }
        self.reduction.of("ctc", &if alone { each.squeeze(0)? } else { each })
    }
}

/// [`Ctc`] with its defaults.
///
/// # Errors
/// As there.
pub fn ctc(log_probs: &Var, targets: &Tensor, input_lengths: &[usize], target_lengths: &[usize]) -> Result<Var> {
    Ctc::new().loss(log_probs, targets, input_lengths, target_lengths)
}

/// Labels that stand in a row, as rows of one length.
fn padded(targets: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let total = lengths.iter().try_fold(0usize, |total, &length| total.checked_add(length));
    if targets.dtype() != DType::I64 || total != Some(targets.len()) {
        let total = total.map_or("more than can be counted".to_string(), |total| total.to_string());
        let what = format!("targets are {} {}, the target lengths sum to {total}", targets.dtype(), targets.shape());
        return Err(Error::new("ctc", what, "give i64 labels one after the other, or rows with padding"));
    }
    let most = lengths.iter().copied().max().unwrap_or(0);
    let (labels, mut rows, mut start) = (targets.as_slice::<i64>()?, Vec::new(), 0);
    for &length in lengths {
        rows.extend_from_slice(&labels[start..start + length]);
        rows.resize(rows.len() + most - length, 0);
        start += length;
    }
    Ok(Tensor::from_vec(rows, [lengths.len(), most])?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, near, text, value, values};
    use super::*;
    use crate::Reduction;
    use maplet_autograd::gradcheck;
    use maplet_tensor::Rng;

    /// Uniform over two classes: every way has the probability `2^−t`.
    fn uniform(steps: usize, n: usize) -> Var {
        Tensor::full([steps, n, 2], 0.5f64.ln()).into()
    }

    #[test]
    fn counts_the_ways() {
        let none = Ctc::new().reduction(Reduction::None);
        // One label in 3 steps: 6 runs of 8. Two equal labels in 3 steps: 1 way. In 4 steps: 5 ways of 16.
        let targets = Tensor::from([[1i64, 0], [1, 1], [1, 1]]);
        let found = none.clone().loss(&uniform(4, 3), &targets, &[3, 3, 4], &[1, 2, 2]);
        let expected = [(8.0f64 / 6.0).ln(), 8f64.ln(), (16.0f64 / 5.0).ln()];
        all_near(&values(found), &expected);
        let in_a_row = Tensor::from([1i64, 1, 1, 1, 1]);
        all_near(&values(none.clone().loss(&uniform(4, 3), &in_a_row, &[3, 3, 4], &[1, 2, 2])), &expected);
        near(
            value(ctc(&uniform(4, 3), &targets, &[3, 3, 4], &[1, 2, 2])),
            (expected[0] + (expected[1] + expected[2]) / 2.0) / 3.0,
        );
        let alone = none.loss(&uniform(3, 1).squeeze(1).unwrap(), &Tensor::from([1i64]), &[3], &[1]).unwrap();
        assert!(alone.shape().is_empty());
        near(alone.item::<f64>().unwrap(), expected[0]);
    }

    #[test]
    fn impossible_samples_can_be_left_out() {
        let targets = Tensor::from([[1i64, 1], [1, 0]]);
        let sum = Ctc::new().reduction(Reduction::Sum);
        assert_eq!(value(sum.clone().loss(&uniform(2, 2), &targets, &[2, 2], &[2, 1])), f64::INFINITY);
        near(value(sum.zero_infinity(true).loss(&uniform(2, 2), &targets, &[2, 2], &[2, 1])), (4.0f64 / 3.0).ln());
    }

    #[test]
    fn gradients_are_derivatives() {
        let x = Tensor::normal([6, 3, 4], 0.0f64, 1.0, &mut Rng::new(1));
        let targets = Tensor::from([[1i64, 3, 3], [2, 0, 0], [1, 1, 0]]);
        for loss in [Ctc::new(), Ctc::new().zero_infinity(true).reduction(Reduction::None)] {
            gradcheck(
                |v| Ok(loss.loss(&v[0].log_softmax(-1)?, &targets, &[6, 4, 5], &[3, 1, 2])?),
                std::slice::from_ref(&x),
            )
            .unwrap();
        }
    }

    #[test]
    fn misfits_are_explained() {
        let found = text(ctc(&uniform(4, 2), &Tensor::from([1i64, 1, 1]), &[4, 4], &[2, 2]));
        let expected = "ctc: targets are i64 [3], the target lengths sum to 4; \
                        help: give i64 labels one after the other, or rows with padding";
        assert_eq!(found, expected);
        let found = text(ctc(&uniform(4, 2), &Tensor::from([1i64]), &[4, 4], &[usize::MAX, 2])); // wraps around to 1
        let expected = "ctc: targets are i64 [1], the target lengths sum to more than can be counted; \
                        help: give i64 labels one after the other, or rows with padding";
        assert_eq!(found, expected);
        let found = text(ctc(&uniform(4, 1), &Tensor::from([[1i64]]), &[5], &[1]));
        let expected = "ctc: input length 5 of sample 0 is beyond the 4 steps of the log-probabilities; \
                        help: lengths count what is not padding";
        assert_eq!(found, expected);
        let found = text(ctc(&uniform(4, 1), &Tensor::from([[1i64]]), &[4], &[2]));
        let expected = "ctc: target length 2 of sample 0 is beyond the 1 labels of the targets; \
                        help: lengths count what is not padding";
        assert_eq!(found, expected);
        let found = text(ctc(&uniform(4, 0), &Tensor::zeros([0, 3], DType::I64), &[], &[]));
        assert_eq!(found, "ctc: there are no elements to take a mean of; help: give it a batch of 1 or more");
    }
}
