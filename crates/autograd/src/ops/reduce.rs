//! Reductions over axes, and running sums.
//!
//! The gradient of a reduction is stretched over the reduced axes again (`spread`).

use crate::{Result, Var, record};
use maplet_tensor::{Axes, Shape, Tensor};

/// Over one axis, several, or all (`..`); `keepdims` leaves the reduced axes with size 1.
///
/// # Errors
/// All return an error for an axis out of range or named twice.
impl Var {
    /// The sum.
    pub fn sum(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Var> {
        let (axes, x) = (axes.into(), self.shape());
        let kept = axes.reduced("sum", &x, true)?;
        record("sum", self.value().sum(axes, keepdims)?).pull(self, move |dy| dy.spread(kept, x)).done()
    }

    /// The mean.
    pub fn mean(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Var> {
        let (axes, x) = (axes.into(), self.shape());
        let kept = axes.reduced("mean", &x, true)?;
        let count = x.elements() as f64 / kept.elements() as f64;
        record("mean", self.value().mean(axes, keepdims)?)
            .pull(self, move |dy| dy.mul_scalar(1.0 / count).spread(kept, x))
            .done()
    }

    /// The variance; the divisor is the number of elements minus `correction` (0: biased, 1: unbiased).
    pub fn var(&self, axes: impl Into<Axes>, keepdims: bool, correction: usize) -> Result<Var> {
        let axes = axes.into();
        let kept = axes.reduced("var", &self.shape(), true)?;
        let count = self.len() as f64 / kept.elements() as f64 - correction as f64;
        let x = self.clone();
        record("var", self.value().var(axes, keepdims, correction)?)
            .pull(self, move |dy| {
                let centered = x.sub(&x.mean(axes, true)?)?;
                centered.mul(&dy.mul_scalar(2.0 / count).reshape(kept)?)
            })
            .done()
    }

    /// The maximum; elements that share it share its gradient evenly.
    pub fn max(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Var> {
        let axes = axes.into();
        self.extremum("max", self.value().max(axes, keepdims)?, axes)
    }

    /// The minimum; elements that share it share its gradient evenly.
    pub fn min(&self, axes: impl Into<Axes>, keepdims: bool) -> Result<Var> {
        let axes = axes.into();
        self.extremum("min", self.value().min(axes, keepdims)?, axes)
    }

    fn extremum(&self, op: &'static str, y: Tensor, axes: Axes) -> Result<Var> {
        let (x, kept) = (self.value().clone(), axes.reduced(op, &self.shape(), true)?);
        record(op, y.clone())
            .pull(self, move |dy| {
                let hit = x.equal(&y.reshape(kept)?)?.to_dtype(dy.dtype());
                let share = hit.div(&hit.sum(axes, true)?)?;
                dy.constant(share).mul(&dy.reshape(kept)?)
            })
            .done()
    }

    /// The running sum along an axis.
    pub fn cumsum(&self, axis: isize) -> Result<Var> {
        record("cumsum", self.value().cumsum(axis)?)
            .pull(self, move |dy| dy.flip(axis)?.cumsum(axis)?.flip(axis))
            .done()
    }

    /// Stretches the gradient of a reduction over the reduced axes; `kept` is its shape with those of size 1.
    fn spread(&self, kept: Shape, full: Shape) -> Result<Var> {
        self.reshape(kept)?.broadcast_to(full)
    }
}
