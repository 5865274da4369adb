//! Resampling along an axis, which is its own kind of adjoint, and interpolation, which is made of it.

use crate::{Result, Var, record};
use maplet_tensor::{Interpolation, Resize, Taps};

impl Var {
    /// Weighted sums of neighboring places along one axis: see [`Taps`].
    ///
    /// # Errors
    /// No such axis, or one of another size than the table's.
    pub fn resample(&self, axis: isize, taps: &Taps) -> Result<Var> {
        let forward = taps.clone();
        record("resample", self.value().resample(axis, taps)?)
            .pull(self, move |dy| dy.resample(axis, &forward.transposed()))
            .done()
    }

    /// An image, sequence or volume of another size.
    ///
    /// # Shapes
    /// `[n, c, sizes..] → [n, c, sizes'..]` with `D` sizes: `[16, 16]`, or factors `[2.0, 2.0]`
    ///
    /// # Errors
    /// Another rank, a size of 0, a factor that is not positive, `align_corners` for a mode that has no use for it.
    pub fn interpolate<const D: usize>(
        &self,
        to: impl Into<Resize<D>>,
        mode: Interpolation,
        align_corners: bool,
    ) -> Result<Var> {
        self.resample_all(&to.into().taps(self.shape(), mode, align_corners)?)
    }

    /// Each spatial axis by its table. The last axis first: when an image grows, its rows are then long vectors.
    pub(crate) fn resample_all(&self, tables: &[Taps]) -> Result<Var> {
        tables.iter().enumerate().rev().try_fold(self.clone(), |y, (side, taps)| y.resample(2 + side as isize, taps))
    }
}
