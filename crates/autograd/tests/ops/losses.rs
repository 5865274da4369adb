//! Fused losses.

use super::table::{Case, positive, sample};
use maplet_autograd::{CtcTargets, LabelOptions, Tensor};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let (logits, labels) = (sample(&[3, 4]), Tensor::from([2i64, 0, 2]));
    for (label_smoothing, class_weights) in
        [(0.0, None), (0.2, None), (0.0, Some(positive(&[4]))), (0.3, Some(positive(&[4])))]
    {
        for ignore_index in [-100, 0] {
            let (labels, class_weights) = (labels.clone(), class_weights.clone());
            let options = LabelOptions { label_smoothing, class_weights, ignore_index };
            cases.push(Case::new("softmax_cross_entropy", &[&logits], move |x| {
                x[0].softmax_cross_entropy(&labels, &options)
            }));
        }
    }
    let targets = CtcTargets {
        labels: Tensor::from([[2i64, 2, 1], [1, 0, 0], [0, 0, 0], [2, 2, 0]]),
        input_lengths: vec![5, 3, 2, 2], // the last is too short for its labels
        target_lengths: vec![3, 1, 0, 2],
        blank: 0,
        zero_infinity: true,
    };
    cases.push(Case::new("ctc", &[&sample(&[5, 4, 3])], move |x| x[0].ctc(&targets)));
    cases
}
