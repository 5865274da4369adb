//! How a batch of outputs and labels is read, for every metric of classification.

use crate::{Error, Result};
use maplet_tensor::{DType, Tensor};

/// Calls `each(scores, class)` for every sample: the scores of all classes, and the true one.
///
/// # Shapes
/// - `logits: [.., k]` (or probabilities) and labels `[..]` of whole numbers below `k`
/// - or, for two classes, one logit a sample: `logits: [..]` and targets `[..]` of 0 and 1, of any type, where `[n, 1]`
///   counts as `[n]`; the other class then has the score 0, so a positive logit means class 1
pub(super) fn each_sample(
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
    mut each: impl FnMut(&[f32], usize),
) -> Result<()> {
    let scores = logits.to_dtype(DType::F32);
    let truth = labels.to_dtype(DType::I64);
    let (scores, truth) = (scores.as_slice::<f32>()?, truth.as_slice::<i64>()?);

    let sizes = |tensor: &Tensor| tensor.shape().strip_suffix(&[1]).unwrap_or(&tensor.shape()).to_vec();
    let whole = !labels.dtype().is_float();
    match logits.shape().split_last() {
        Some((&classes, outer)) if classes > 1 && whole && labels.shape()[..] == *outer => {
            for (i, (scores, &class)) in scores.chunks_exact(classes).zip(truth).enumerate() {
                each(scores, checked(op, i, class, classes)?);
            }
        }
        _ if sizes(logits) == sizes(labels) => {
            for (i, (&score, &class)) in scores.iter().zip(truth).enumerate() {
                each(&[0.0, score], checked(op, i, class, 2)?);
            }
        }
        _ => {
            let what = format!(
                "outputs {} {} do not go with labels {} {}",
                logits.dtype(),
                logits.shape(),
                labels.dtype(),
                labels.shape()
            );
            let help = "outputs [.., k] go with whole labels [..]; for two classes, one logit goes with each 0 or 1";
            return Err(Error::new(op, what, help));
        }
    }
    Ok(())
}

fn checked(op: &'static str, sample: usize, class: i64, classes: usize) -> Result<usize> {
    usize::try_from(class).ok().filter(|&class| class < classes).ok_or_else(|| {
        let what = format!("sample {sample} has label {class}, the outputs have {classes} classes");
        Error::new(op, what, format!("labels go from 0 to {}", classes - 1))
    })
}

/// The class with the highest score; the first of equal ones, as NumPy does.
pub(super) fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = class;
        }
    }
    best
}

/// `part / whole`, and 0 if there is no whole: scikit-learn's `zero_division=0`.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(logits: &Tensor, labels: &Tensor) -> Result<Vec<(usize, usize)>> {
        let mut pairs = Vec::new();
        each_sample("accuracy", logits, labels, |scores, class| pairs.push((best(scores), class)))?;
        Ok(pairs)
    }

    #[test]
    fn reads_classes_sequences_and_single_logits() {
        let logits = Tensor::from([[0.0f32, 2.0, 1.0], [3.0, 3.0, 0.0]]);
        assert_eq!(samples(&logits, &Tensor::from([1i64, 2])).unwrap(), [(1, 1), (0, 2)]);
        let double = logits.to_dtype(DType::F64).reshape([1, 2, 3]).unwrap();
        assert_eq!(samples(&double, &Tensor::from([[1i64, 2]])).unwrap(), [(1, 1), (0, 2)]);
        let single = Tensor::from([[0.5f32], [-0.5], [0.0]]);
        for targets in [Tensor::from([1.0f32, 1.0, 0.0]), Tensor::from([[1u8], [1], [0]])] {
            assert_eq!(samples(&single, &targets).unwrap(), [(1, 1), (0, 1), (0, 0)]);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |logits: Tensor, labels: Tensor| samples(&logits, &labels).unwrap_err().to_string();
        let logits = || Tensor::zeros([2, 3], DType::F32);
        assert_eq!(
            text(logits(), Tensor::from([0i64, 3])),
            "accuracy: sample 1 has label 3, the outputs have 3 classes; help: labels go from 0 to 2"
        );
        assert_eq!(
            text(logits(), Tensor::from([-1i64, 0])),
            "accuracy: sample 0 has label -1, the outputs have 3 classes; help: labels go from 0 to 2"
        );
        let help = "help: outputs [.., k] go with whole labels [..]; for two classes, one logit goes with each 0 or 1";
        assert_eq!(
            text(logits(), Tensor::from([0i64])),
            format!("accuracy: outputs f32 [2, 3] do not go with labels i64 [1]; {help}")
        );
        assert_eq!(
            text(logits(), Tensor::from([0.0f32, 1.0])),
            format!("accuracy: outputs f32 [2, 3] do not go with labels f32 [2]; {help}")
        );
    }
}
