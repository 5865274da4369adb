//! The softmax family, and where the extrema are.

use crate::{Result, Var, record, record_fused};
use maplet_tensor::Axes;

/// The softmax family, over one axis.
///
/// # Errors
/// All return an error for an axis out of range.
impl Var {
    /// `log Σ eˣ`, without overflow.
    pub fn logsumexp(&self, axis: isize, keepdims: bool) -> Result<Var> {
        let (x, kept) = (self.clone(), Axes::from(axis).reduced("logsumexp", &self.shape(), true)?);
        record("logsumexp", self.value().logsumexp(axis, keepdims)?)
            .pull(self, move |dy| x.softmax(axis)?.mul(&dy.reshape(kept)?))
            .done()
    }

    /// `eˣ / Σ eˣ`
    pub fn softmax(&self, axis: isize) -> Result<Var> {
        let y = self.value().softmax(axis)?;
        let saved = y.clone();
        let kernel = move |dy, [_]: [bool; 1]| Ok([Some(saved.softmax_grad(&dy, axis)?)]);
        record_fused("softmax", y, [self], kernel, move |[x]| Ok(x.log_softmax(axis)?.exp()))
    }

    /// `e⁻ˣ / Σ e⁻ˣ`: [`softmax`](Self::softmax) of `−x`.
    pub fn softmin(&self, axis: isize) -> Result<Var> {
        self.neg().softmax(axis)
    }

    /// `x − log Σ eˣ`, more exact than the logarithm of [`softmax`](Self::softmax).
    pub fn log_softmax(&self, axis: isize) -> Result<Var> {
        let y = self.value().log_softmax(axis)?;
        let saved = y.clone();
        let kernel = move |dy, [_]: [bool; 1]| Ok([Some(saved.log_softmax_grad(&dy, axis)?)]);
        record_fused("log_softmax", y, [self], kernel, move |[x]| x.sub(&x.logsumexp(axis, true)?))
    }
}

/// Where the extrema are: indices, which no gradient flows through.
///
/// # Errors
/// An axis out of range or empty.
impl Var {
    /// The index of the maximum along an axis, the first if several share it.
    pub fn argmax(&self, axis: isize, keepdims: bool) -> Result<Var> {
        record("argmax", self.value().argmax(axis, keepdims)?).cut(self).done()
    }

    /// The index of the minimum along an axis, the first if several share it.
    pub fn argmin(&self, axis: isize, keepdims: bool) -> Result<Var> {
        record("argmin", self.value().argmin(axis, keepdims)?).cut(self).done()
    }
}
