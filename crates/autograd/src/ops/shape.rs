//! Moving elements about: reshaping, cutting, joining, stretching. Each gradient moves them back.

use crate::joint::record_split;
use crate::{Result, Var, record};
use maplet_tensor::{Axes, DType, PadMode, Shape, Tensor};

/// # Errors
/// All return the error of the kernel with the same name: axes out of range, sizes that do not fit.
impl Var {
    /// The same elements under another shape, for free.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Var> {
        let x = self.shape();
        record("reshape", self.value().reshape(shape)?).pull(self, move |dy| dy.reshape(x)).done()
    }

    /// Merges the axes from `start_axis` on into one.
    pub fn flatten(&self, start_axis: isize) -> Result<Var> {
        let x = self.shape();
        record("flatten", self.value().flatten(start_axis)?).pull(self, move |dy| dy.reshape(x)).done()
    }

    /// Without the axis `axis`, which must have size 1.
    pub fn squeeze(&self, axis: isize) -> Result<Var> {
        let x = self.shape();
        record("squeeze", self.value().squeeze(axis)?).pull(self, move |dy| dy.reshape(x)).done()
    }

    /// With a new axis of size 1, which is then axis `axis`.
    pub fn unsqueeze(&self, axis: isize) -> Result<Var> {
        let x = self.shape();
        record("unsqueeze", self.value().unsqueeze(axis)?).pull(self, move |dy| dy.reshape(x)).done()
    }

    /// The elements `start..end` along an axis.
    pub fn slice(&self, axis: isize, start: usize, end: usize) -> Result<Var> {
        let x = self.shape();
        record("slice", self.value().slice(axis, start, end)?)
            .pull(self, move |dy| {
                let mut around = vec![(0, 0); x.rank()];
                let axis = x.axis("slice", axis)?;
                around[axis] = (start, x[axis] - end);
                dy.pad(&around, 0.0)
            })
            .done()
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]`.
    pub fn permute(&self, order: &[usize]) -> Result<Var> {
        let y = self.value().permute(order)?;
        let mut inverse = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
        record("permute", y).pull(self, move |dy| dy.permute(&inverse)).done()
    }

    /// With two axes exchanged.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Var> {
        record("transpose", self.value().transpose(a, b)?).pull(self, move |dy| dy.transpose(a, b)).done()
    }

    /// In reverse order along the axes.
    pub fn flip(&self, axes: impl Into<Axes>) -> Result<Var> {
        let axes = axes.into();
        record("flip", self.value().flip(axes)?).pull(self, move |dy| dy.flip(axes)).done()
    }

    /// With `value` put around: `(before, after)` elements for each axis.
    pub fn pad(&self, around: &[(usize, usize)], value: f64) -> Result<Var> {
        let (x, before) = (self.shape(), around.iter().map(|&(before, _)| before).collect::<Vec<_>>());
        record("pad", self.value().pad(around, value)?)
            .pull(self, move |dy| {
                let mut dx = dy;
                for (axis, &before) in before.iter().enumerate() {
                    if dx.shape()[axis] != x[axis] {
                        dx = dx.slice(axis as isize, before, before + x[axis])?;
                    }
                }
                Ok(dx)
            })
            .done()
    }

    /// With more places around, filled by `mode` with what is near the edge: `(before, after)` for each axis.
    pub fn pad_with(&self, around: &[(usize, usize)], mode: PadMode) -> Result<Var> {
        let (x, around) = (self.shape(), around.to_vec());
        record("pad_with", self.value().pad_with(&around, mode)?)
            .pull(self, move |dy| dy.pad_with_grad(x, &around, mode))
            .done()
    }

    /// The adjoint of [`pad_with`](Self::pad_with): adds each element to the one of `x` that it came from.
    pub fn pad_with_grad(&self, x: impl Into<Shape>, around: &[(usize, usize)], mode: PadMode) -> Result<Var> {
        let around = around.to_vec();
        record("pad_with_grad", self.value().pad_with_grad(x, &around, mode)?)
            .pull(self, move |d| d.pad_with(&around, mode))
            .done()
    }

    /// Stretched to a larger shape: axes of size 1 are repeated, and new axes come in front.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Var> {
        let (x, shape) = (self.shape(), shape.into());
        if x == shape {
            return Ok(self.clone());
        }
        record("broadcast_to", self.value().broadcast_to(shape)?).pull(self, move |dy| dy.sum_to(x)).done()
    }

    /// The adjoint of [`broadcast_to`](Self::broadcast_to): sums over the axes that it would stretch.
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Result<Var> {
        let (x, shape) = (self.shape(), shape.into());
        if x == shape {
            return Ok(self.clone());
        }
        record("sum_to", self.value().sum_to(shape)?).pull(self, move |dy| dy.broadcast_to(x)).done()
    }

    /// Joined along an axis that all have.
    pub fn concat(parts: &[&Var], axis: isize) -> Result<Var> {
        let values: Vec<&Tensor> = parts.iter().map(|part| part.value()).collect();
        let mut join = record("concat", Tensor::concat(&values, axis)?);
        let mut start = 0;
        for part in parts {
            let end = start + part.size(axis)?;
            join = join.pull(part, move |dy| dy.slice(axis, start, end));
            start = end;
        }
        join.done()
    }

    /// Joined along a new axis.
    pub fn stack(parts: &[&Var], axis: isize) -> Result<Var> {
        let parts: Result<Vec<Var>> = parts.iter().map(|part| part.unsqueeze(axis)).collect();
        Var::concat(&parts?.iter().collect::<Vec<_>>(), axis)
    }

    /// Cut into pieces of `size` along an axis; the last may be smaller.
    pub fn split(&self, size: usize, axis: isize) -> Result<Vec<Var>> {
        record_split(self, self.value().split(size, axis)?, axis)
    }

    /// Converted to another element type. Between floating-point types gradients are converted back; integers cut them.
    pub fn to_dtype(&self, dtype: DType) -> Var {
        let (from, y) = (self.dtype(), self.value().to_dtype(dtype));
        match dtype.is_float() {
            true => record("to_dtype", y).pull(self, move |dy| Ok(dy.to_dtype(from))).single(),
            false => record("to_dtype", y).cut(self).single(),
        }
    }
}
