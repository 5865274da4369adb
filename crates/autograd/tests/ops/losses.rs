//! Fused losses.

use super::table::{Case, positive, sample};
use maplet_autograd::Tensor;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let (logits, labels) = (sample(&[3, 4]), Tensor::from([2i64, 0, 2]));
    for (smoothing, weights) in [(0.0, None), (0.2, None), (0.0, Some(positive(&[4]))), (0.3, Some(positive(&[4])))] {
        let labels = labels.clone();
        cases.push(Case::new("softmax_cross_entropy", &[&logits], move |x| {
            x[0].softmax_cross_entropy(&labels, smoothing, weights.as_ref())
        }));
    }
    cases
}
