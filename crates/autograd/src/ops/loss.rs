//! Softmax and cross-entropy in one op.

use crate::{Result, Var, record_fused};
use maplet_tensor::{LabelOptions, Tensor};

impl Var {
    /// The cross-entropy between the softmax of these logits and an integer label, for each row.
    ///
    /// # Shapes
    /// `self: [.., classes]`, `labels: [..]` of type `i64` → `[..]`
    ///
    /// # Errors
    /// Shapes or types that do not fit, a label outside `0..classes`, a smoothing outside `[0, 1]`.
    ///
    /// # Reference
    /// Szegedy et al. (2016), "Rethinking the Inception Architecture", section 7, for label smoothing.
    pub fn softmax_cross_entropy(&self, labels: &Tensor, options: &LabelOptions) -> Result<Var> {
        let (loss, stats) = self.value().cross_entropy(labels, options)?;
        let (logits, y, spec) = (self.value().clone(), labels.clone(), options.clone());
        let kernel = move |dy: Tensor, [_]: [bool; 1]| Ok([Some(dy.cross_entropy_grad(&logits, &y, &stats, &spec)?)]);
        let (labels, options) = (labels.clone(), options.clone());
        let twin = move |[x]: [Var; 1]| {
            let (labels, weights) = options.weigh("cross_entropy", &labels, x.value(), "logits")?;
            let (log_probs, smoothing, classes) = (x.log_softmax(-1)?, options.label_smoothing, x.size(-1)?);
            let picked = log_probs.gather(-1, &x.constant(labels.unsqueeze(-1)?))?.squeeze(-1)?;
            let hit = picked.mul(&x.constant(&weights))?.neg();
            if smoothing == 0.0 {
                return Ok(hit);
            }
            let none_is_ignored = Tensor::ones([classes], x.dtype());
            let of_classes = x.constant(options.class_weights.clone().unwrap_or(none_is_ignored));
            let kept = weights.not_equal(&weights.zeros_like())?.to_dtype(x.dtype());
            let spread = log_probs.mul(&of_classes)?.sum(-1, false)?.mul(&x.constant(kept))?;
            hit.mul_scalar(1.0 - smoothing).sub(&spread.mul_scalar(smoothing / classes as f64))
        };
        record_fused("cross_entropy", loss, [self], kernel, twin)
    }
}
