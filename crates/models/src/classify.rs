//! From inputs to names: the normalised forward pass, softmax and the best classes.

use crate::{ModelFile, Result};
use maplet_autograd::Var;
use maplet_nn_layers::Module;
use maplet_tensor::{DType, Tensor};

/// What a network thinks of some inputs.
pub struct Classes<'a> {
    /// Probabilities: `[n, k]` for `k` classes (`F32`); each row adds up to 1.
    pub probs: Tensor,
    /// The most probable class of each input: `[n]` (`I64`).
    pub labels: Tensor,
    names: &'a [String],
}

impl ModelFile {
    /// Gives each input's class, for a network whose outputs are logits.
    ///
    /// The inputs are as the data has them: the file's normalisation is applied here. They go through the network in
    /// batches, without recording anything.
    ///
    /// # Shapes
    /// - inputs: `[n, ..]`, as the network was built for, in its element type
    ///
    /// # Errors
    /// Inputs of another shape or type.
    pub fn classify(&self, inputs: &Tensor) -> Result<Classes<'_>> {
        const BATCH: usize = 256;
        let n = inputs.size(0)?;
        let mut parts = Vec::new();
        for start in (0..n.max(1)).step_by(BATCH) {
            let mut batch = inputs.slice(0, start, n.min(start + BATCH))?;
            if let Some(normalizer) = &self.normalizer {
                batch = normalizer.apply(&batch)?;
            }
            parts.push(self.model.forward(&Var::from(batch))?.into_value().softmax(-1)?);
        }
        let probs = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?.to_dtype(DType::F32);
        let labels = probs.argmax(-1, false)?;
        Ok(Classes { probs, labels, names: &self.class_names })
    }
}

impl Classes<'_> {
    /// The `k` most probable classes of input `i` with their probabilities, best first. A class without a name is
    /// called by its number.
    ///
    /// # Panics
    /// There is no input `i`.
    pub fn top(&self, i: usize, k: usize) -> Vec<(String, f32)> {
        let probs = self.probs.as_slice::<f32>().expect("made f32 above");
        let classes = self.probs.shape()[1];
        let mut ranked: Vec<(usize, f32)> = probs[i * classes..][..classes].iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(k);
        let name = |class: usize| self.names.get(class).cloned().unwrap_or_else(|| class.to_string());
        ranked.into_iter().map(|(class, prob)| (name(class), prob)).collect()
    }
}
