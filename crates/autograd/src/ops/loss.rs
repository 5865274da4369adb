//! Softmax and cross-entropy in one op.

use crate::{Result, Var, record_fused};
use maplet_tensor::Tensor;

impl Var {
    /// The mean cross-entropy between the softmax of these logits and integer labels.
    ///
    /// `label_smoothing` spreads that share of each target evenly over all classes. With `class_weights` the mean is
    /// weighted by the weight of each label.
    ///
    /// # Shapes
    /// `self: [.., classes]`, `labels: [..]` of type `i64`, `class_weights: [classes]` → `[]`
    ///
    /// # Errors
    /// Shapes or types that do not fit, a label outside `0..classes`, a smoothing outside `[0, 1]`.
    ///
    /// # Reference
    /// Szegedy et al. (2016), "Rethinking the Inception Architecture", section 7, for label smoothing.
    pub fn softmax_cross_entropy(
        &self,
        labels: &Tensor,
        label_smoothing: f64,
        class_weights: Option<&Tensor>,
    ) -> Result<Var> {
        let (loss, stats) = self.value().cross_entropy(labels, label_smoothing, class_weights)?;
        let (logits, y, weights) = (self.value().clone(), labels.clone(), class_weights.cloned());
        let kernel = move |dy: Tensor, [_]: [bool; 1]| {
            Ok([Some(dy.cross_entropy_grad(&logits, &y, &stats, label_smoothing, weights.as_ref())?)])
        };
        let (labels, weights) = (labels.clone(), class_weights.cloned());
        let twin = move |[x]: [Var; 1]| {
            let classes = x.size(-1)?;
            let weights = weights.clone().unwrap_or_else(|| Tensor::ones([classes], x.dtype()));
            let of_labels = weights.select_rows(&labels)?;
            let total = of_labels.sum(.., false)?;
            let log_probs = x.log_softmax(-1)?;
            let picked = log_probs.gather(-1, &x.constant(labels.unsqueeze(-1)?))?.squeeze(-1)?;
            let nll = picked.mul(&x.constant(of_labels))?.sum(.., false)?.mul_scalar(1.0 - label_smoothing);
            let spread = log_probs.mul(&x.constant(weights))?.sum(.., false)?;
            nll.add(&spread.mul_scalar(label_smoothing / classes as f64))?.neg().div(&x.constant(total))
        };
        record_fused("cross_entropy", loss, [self], kernel, twin)
    }
}
