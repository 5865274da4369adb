//! Ops that move elements or rename axes: cutting, joining, padding, stretching. `permute.rs` reorders axes.

use super::elementwise::COPY;
use super::walk::{Walk, stretched};
use crate::dtype::dispatch;
use crate::{Axes, Element, Error, Result, Shape, Tensor, par};
use ndarray::{ArrayView, ArrayViewMut, Axis, IxDyn};

/// Renaming axes: free.
impl Tensor {
    /// Merges the axes from `start_axis` to the last into one; a scalar becomes `[1]`.
    ///
    /// # Errors
    /// No such axis.
    pub fn flatten(&self, start_axis: isize) -> Result<Self> {
        let shape = self.shape();
        if shape.rank() == 0 {
            return Ok(self.with_shape(Shape::from([1])));
        }
        let start = shape.axis("flatten", start_axis)?;
        let sizes: Vec<usize> = shape[..start].iter().copied().chain([shape[start..].iter().product()]).collect();
        Ok(self.with_shape(Shape::of(&sizes)))
    }

    /// Drops an axis of size 1.
    ///
    /// # Errors
    /// No such axis, or it has another size.
    pub fn squeeze(&self, axis: isize) -> Result<Self> {
        let shape = self.shape();
        let at = shape.axis("squeeze", axis)?;
        if shape[at] != 1 {
            let what = format!("axis {axis} of {shape} has size {}", shape[at]);
            return Err(Error::shape("squeeze", what, "only an axis of size 1 can be dropped"));
        }
        Ok(self.with_shape(shape.without(at)))
    }

    /// Inserts an axis of size 1, so that it becomes axis `axis` of the result.
    ///
    /// # Errors
    /// A place beyond the last axis, or too many axes.
    pub fn unsqueeze(&self, axis: isize) -> Result<Self> {
        let shape = self.shape();
        let rank = shape.rank() as isize + 1;
        if !(-rank..rank).contains(&axis) {
            let help = format!("places run from 0 to {}, or from -1 to -{rank}", rank - 1);
            return Err(Error::index("unsqueeze", format!("{shape} has no place {axis} for an axis"), help));
        }
        let mut sizes = shape.to_vec();
        sizes.insert(axis.rem_euclid(rank) as usize, 1);
        Ok(self.with_shape(Shape::new(&sizes)?))
    }
}

/// Cutting and joining.
impl Tensor {
    /// Places `start..end` of one axis; free along axis 0, else a copy.
    ///
    /// # Errors
    /// No such axis, or places beyond its size.
    pub fn slice(&self, axis: isize, start: usize, end: usize) -> Result<Self> {
        let shape = self.shape();
        let at = shape.axis("slice", axis)?;
        let (outer, size, inner) = shape.around(at);
        if start > end || end > size {
            let what = format!("{start}..{end} of axis {axis} is outside {shape}");
            return Err(Error::index("slice", what, format!("use start <= end <= {size}")));
        }
        let result = shape.with_size(at, end - start);
        if outer == 1 {
            return Ok(self.window(start * inner, result));
        }
        let run = (end - start) * inner;
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            Tensor::build(result, |out| par::rows(out, run, run as f64 * COPY, |first, rows| {
                for (row, out) in rows.chunks_mut(run).enumerate() {
                    out.copy_from_slice(&x[((first + row) * size + start) * inner..][..run]);
                }
            }))
        }))
    }

    /// Consecutive slices of `size` places along an axis; the last is shorter if the sizes do not divide.
    ///
    /// # Errors
    /// No such axis, or a size of 0.
    pub fn split(&self, size: usize, axis: isize) -> Result<Vec<Self>> {
        let total = self.shape()[self.shape().axis("split", axis)?];
        if size == 0 {
            return Err(Error::value("split", "the size of a slice is 0", "use 1 or more"));
        }
        (0..total.max(1)).step_by(size).map(|start| self.slice(axis, start, total.min(start + size))).collect()
    }

    /// The tensors one after the other along an axis that they have.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let (a, b) = (Tensor::from([[1i64, 2]]), Tensor::from([[3i64, 4]]));
    /// assert_eq!(Tensor::concat(&[&a, &b], 0)?, Tensor::from([[1i64, 2], [3, 4]]));
    /// assert_eq!(Tensor::concat(&[&a, &b], 1)?, Tensor::from([[1i64, 2, 3, 4]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// No tensors, different element types, or shapes that differ on another axis.
    pub fn concat(tensors: &[&Self], axis: isize) -> Result<Self> {
        let Some(&first) = tensors.first() else {
            return Err(Error::value("concat", "no tensors", "give at least one"));
        };
        let at = first.shape().axis("concat", axis)?;
        let mut total = 0;
        for tensor in tensors {
            first.same_dtype("concat", tensor)?;
            let (shape, expected) = (tensor.shape(), first.shape());
            if shape.rank() != expected.rank() || shape.with_size(at, 0) != expected.with_size(at, 0) {
                let what = format!("{expected} and {shape} differ beyond axis {axis}");
                return Err(Error::shape("concat", what, "all other sizes must be equal"));
            }
            total += shape[at];
        }
        let result = Shape::new(&first.shape().with_size(at, total))?;
        let (_, _, inner) = result.around(at);
        let row = total * inner;
        Ok(dispatch!(first.dtype(), T => Tensor::build(result, |out: &mut [T]| {
            par::rows(out, row, row as f64 * COPY, |first_row, rows| {
                for (i, mut out) in rows.chunks_mut(row).enumerate() {
                    for tensor in tensors {
                        let run = tensor.shape()[at] * inner;
                        let (piece, rest) = out.split_at_mut(run);
                        piece.copy_from_slice(&tensor.slice_of::<T>()[(first_row + i) * run..][..run]);
                        out = rest;
                    }
                }
            });
        })))
    }

    /// The tensors side by side along a new axis `axis`.
    ///
    /// # Errors
    /// No tensors, different element types or shapes, or no such place for an axis.
    pub fn stack(tensors: &[&Self], axis: isize) -> Result<Self> {
        let Some(&first) = tensors.first() else {
            return Err(Error::value("stack", "no tensors", "give at least one"));
        };
        if let Some(other) = tensors.iter().find(|tensor| tensor.shape() != first.shape()) {
            let what = format!("{} and {} differ", first.shape(), other.shape());
            return Err(Error::shape("stack", what, "all shapes must be equal"));
        }
        let tensors = tensors.iter().map(|tensor| tensor.unsqueeze(axis)).collect::<Result<Vec<_>>>()?;
        Self::concat(&tensors.iter().collect::<Vec<_>>(), axis)
    }

    /// `before` and `after` more places on each axis, filled with `value`: one pair an axis. Adjoint:
    /// [`slice`](Self::slice).
    ///
    /// # Errors
    /// Another number of pairs than of axes.
    pub fn pad(&self, pairs: &[(usize, usize)], value: f64) -> Result<Self> {
        let shape = self.shape();
        if pairs.len() != shape.rank() {
            let what = format!("{} pairs for {shape} with {} axes", pairs.len(), shape.rank());
            return Err(Error::shape("pad", what, "give (before, after) for each axis"));
        }
        let sizes = shape.iter().zip(pairs).map(|(&size, &(before, after))| {
            size.saturating_add(before).saturating_add(after) // what saturates is refused by Shape::new
        });
        let result = Shape::new(&sizes.collect::<Vec<_>>())?;
        let strides = result.strides();
        let corner: usize = pairs.iter().zip(strides).map(|(&(before, _), stride)| before * stride).sum();
        // Walking over the input, each run says where it goes in the output.
        let walk = Walk::new(&shape, [strides]);
        let [step] = walk.inner();
        Ok(dispatch!(self.dtype(), T => Tensor::build(result, |out: &mut [T]| {
            par::elements(out, COPY, |_, piece| piece.fill(T::from_f64(value)));
            let mut x = self.slice_of::<T>();
            for ([to], run) in walk.runs(0, x.len()) {
                let (head, rest) = x.split_at(run);
                match step {
                    1 => out[corner + to..][..run].copy_from_slice(head),
                    _ => head.iter().enumerate().for_each(|(i, &x)| out[corner + to + i * step] = x),
                }
                x = rest;
            }
        })))
    }
}

/// Turning and stretching.
impl Tensor {
    /// Reverses the order along the axes.
    ///
    /// # Errors
    /// An axis out of range or named twice.
    pub fn flip(&self, axes: impl Into<Axes>) -> Result<Self> {
        self.flipped(axes.into())
    }

    /// [`flip`](Self::flip), compiled here once and not by each crate that calls it.
    fn flipped(&self, axes: Axes) -> Result<Self> {
        let shape = self.shape();
        let mask = axes.mask("flip", &shape)?;
        Ok(dispatch!(self.dtype(), T => {
            let mut from = ArrayView::from_shape(IxDyn(&shape), self.slice_of::<T>()).expect("dense");
            (0..shape.rank()).filter(|&axis| mask[axis]).for_each(|axis| from.invert_axis(Axis(axis)));
            Tensor::build(shape, |out| {
                ArrayViewMut::from_shape(IxDyn(&shape), out).expect("dense").assign(&from);
            })
        }))
    }

    /// Repeats the tensor along new leading axes and along axes of size 1, up to `shape`. Adjoint:
    /// [`sum_to`](Self::sum_to).
    ///
    /// # Errors
    /// The shape does not broadcast to `shape`.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        self.repeated(shape.into())
    }

    /// [`broadcast_to`](Self::broadcast_to), compiled here once.
    fn repeated(&self, shape: Shape) -> Result<Self> {
        let own = self.shape();
        if own == shape {
            return Ok(self.clone());
        }
        check_stretches("broadcast_to", &own, &shape)?;
        let walk = Walk::new(&shape, [stretched(&own, &shape)]);
        Ok(dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            Tensor::build(shape, |out| par::elements(out, COPY, |start, out| repeat(out, start, x, &walk)))
        }))
    }
}

fn repeat<T: Element>(out: &mut [T], start: usize, x: &[T], walk: &Walk<1>) {
    let (step, mut rest) = (walk.inner(), out);
    for ([from], run) in walk.runs(start, rest.len()) {
        let (out, next) = rest.split_at_mut(run);
        match step {
            [0] => out.fill(x[from]),
            _ => out.copy_from_slice(&x[from..][..run]),
        }
        rest = next;
    }
}

/// An error unless `small` broadcasts to exactly `large`.
pub(crate) fn check_stretches(op: &'static str, small: &Shape, large: &Shape) -> Result<()> {
    let lead = large.rank().checked_sub(small.rank());
    if lead.is_some_and(|lead| small.iter().zip(&large[lead..]).all(|(&a, &b)| a == b || a == 1)) {
        return Ok(());
    }
    let what = format!("{small} does not broadcast to {large}");
    Err(Error::shape(op, what, "matched from the right, each size must be equal or 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn numbered<const N: usize>(sizes: [usize; N]) -> Tensor {
        Tensor::arange(0i64, sizes.iter().product::<usize>() as i64, 1).unwrap().reshape(sizes).unwrap()
    }

    fn address(x: &Tensor) -> *const i64 {
        x.as_slice::<i64>().unwrap().as_ptr()
    }

    #[test]
    fn renaming_axes_is_free() {
        let x = numbered([2, 1, 3]);
        for (y, shape) in [
            (x.flatten(0), Shape::from([6])),
            (x.flatten(1), Shape::from([2, 3])),
            (x.flatten(-1), Shape::from([2, 1, 3])),
            (x.squeeze(1), Shape::from([2, 3])),
            (x.unsqueeze(0), Shape::from([1, 2, 1, 3])),
            (x.unsqueeze(-1), Shape::from([2, 1, 3, 1])),
        ] {
            let y = y.unwrap();
            assert_eq!((y.shape(), address(&y)), (shape, address(&x)));
        }
        assert_eq!(Tensor::scalar(3i64).flatten(0).unwrap(), Tensor::from([3i64]));
    }

    #[test]
    fn slices_are_free_on_the_outermost_axis_only() {
        let x = numbered([3, 4]);
        let rows = x.slice(0, 1, 3).unwrap();
        assert_eq!(rows, Tensor::from([[4i64, 5, 6, 7], [8, 9, 10, 11]]));
        assert_eq!(address(&rows), address(&x).wrapping_add(4));
        assert_eq!(x.slice(-1, 1, 3).unwrap(), Tensor::from([[1i64, 2], [5, 6], [9, 10]]));
        assert!(x.slice(1, 2, 2).unwrap().is_empty());
        assert_eq!(x.slice(0, 1, 2).unwrap().slice(1, 2, 4).unwrap(), Tensor::from([[6i64, 7]]));
    }

    #[test]
    fn concat_undoes_split() {
        let x = numbered([2, 5, 3]);
        for axis in -3..3 {
            for size in [1, 2, 5, 9] {
                let parts = x.split(size, axis).unwrap();
                assert_eq!(parts.len(), (x.size(axis).unwrap()).div_ceil(size));
                assert_eq!(Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis).unwrap(), x);
            }
        }
    }

    #[test]
    fn stack_makes_an_axis() {
        let (a, b) = (Tensor::from([1i64, 2, 3]), Tensor::from([4i64, 5, 6]));
        assert_eq!(Tensor::stack(&[&a, &b], 0).unwrap(), Tensor::from([[1i64, 2, 3], [4, 5, 6]]));
        assert_eq!(Tensor::stack(&[&a, &b], -1).unwrap(), Tensor::from([[1i64, 4], [2, 5], [3, 6]]));
        assert_eq!(Tensor::stack(&[&Tensor::scalar(7u8)], 0).unwrap(), Tensor::from([7u8]));
    }

    #[test]
    fn pad_surrounds_and_slice_undoes_it() {
        let x = Tensor::from([[1i64, 2], [3, 4]]);
        let expected = Tensor::from([[9i64, 9, 9, 9, 9], [9, 1, 2, 9, 9], [9, 3, 4, 9, 9]]);
        assert_eq!(x.pad(&[(1, 0), (1, 2)], 9.0).unwrap(), expected);
        let column = numbered([3, 1]);
        assert_eq!(column.pad(&[(0, 0), (1, 1)], 0.0).unwrap(), Tensor::from([[0i64, 0, 0], [0, 1, 0], [0, 2, 0]]));
        let x = numbered([2, 3, 1, 2]);
        let mut y = x.pad(&[(1, 2), (0, 1), (3, 0), (2, 2)], -1.0).unwrap();
        for (axis, from) in [1, 0, 3, 2].into_iter().enumerate() {
            y = y.slice(axis as isize, from, from + x.shape()[axis]).unwrap();
        }
        assert_eq!(y, x);
        assert_eq!(Tensor::scalar(1.0f32).pad(&[], 0.0).unwrap(), Tensor::scalar(1.0f32));
        assert_eq!(Tensor::zeros([0, 2], DType::I64).pad(&[(1, 0), (0, 0)], 5.0).unwrap(), Tensor::from([[5i64, 5]]));
    }

    #[test]
    fn flip_reverses() {
        let x = numbered([2, 3]);
        assert_eq!(x.flip(-1).unwrap(), Tensor::from([[2i64, 1, 0], [5, 4, 3]]));
        assert_eq!(x.flip(0).unwrap(), Tensor::from([[3i64, 4, 5], [0, 1, 2]]));
        assert_eq!(x.flip(..).unwrap(), Tensor::from([[5i64, 4, 3], [2, 1, 0]]));
        assert_eq!(Tensor::scalar(1u8).flip(..).unwrap(), Tensor::scalar(1u8));
    }

    #[test]
    fn broadcast_repeats() {
        let x = Tensor::from([[1i64], [2]]);
        assert_eq!(x.broadcast_to([2, 3]).unwrap(), Tensor::from([[1i64, 1, 1], [2, 2, 2]]));
        assert_eq!(x.broadcast_to([2, 2, 1]).unwrap(), Tensor::from([[[1i64], [2]], [[1], [2]]]));
        assert_eq!(Tensor::scalar(4u8).broadcast_to([3]).unwrap(), Tensor::from([4u8, 4, 4]));
        assert!(Tensor::scalar(4u8).broadcast_to([3, 0]).unwrap().is_empty());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let (x, f) = (numbered([2, 3]), Tensor::zeros([2, 2], DType::F32));
        for (result, text) in [
            (x.flatten(2), "flatten: [2, 3] has no axis 2; help: axes run from 0 to 1, or from -1 to -2"),
            (x.squeeze(1), "squeeze: axis 1 of [2, 3] has size 3; help: only an axis of size 1 can be dropped"),
            (
                x.unsqueeze(3),
                "unsqueeze: [2, 3] has no place 3 for an axis; help: places run from 0 to 2, or from -1 to -3",
            ),
            (x.slice(1, 2, 4), "slice: 2..4 of axis 1 is outside [2, 3]; help: use start <= end <= 3"),
            (x.slice(0, 2, 1), "slice: 2..1 of axis 0 is outside [2, 3]; help: use start <= end <= 2"),
            (x.split(0, 1).map(|mut parts| parts.remove(0)), "split: the size of a slice is 0; help: use 1 or more"),
            (Tensor::concat(&[], 0), "concat: no tensors; help: give at least one"),
            (
                Tensor::concat(&[&x, &numbered([2, 2])], 0),
                "concat: [2, 3] and [2, 2] differ beyond axis 0; help: all other sizes must be equal",
            ),
            (
                Tensor::concat(&[&x, &f], 1),
                "concat: element types differ: i64 and f32; help: convert one of them with to_dtype",
            ),
            (Tensor::stack(&[], 0), "stack: no tensors; help: give at least one"),
            (Tensor::stack(&[&x, &f], 0), "stack: [2, 3] and [2, 2] differ; help: all shapes must be equal"),
            (x.pad(&[(1, 1)], 0.0), "pad: 1 pairs for [2, 3] with 2 axes; help: give (before, after) for each axis"),
            (x.flip([0, -2]), "flip: axis -2 of [2, 3] is named twice; help: name each axis once"),
            (
                x.broadcast_to([3]),
                "broadcast_to: [2, 3] does not broadcast to [3]; \
                 help: matched from the right, each size must be equal or 1",
            ),
        ] {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
        let far = x.pad(&[(usize::MAX, 1), (0, 0)], 0.0).unwrap_err().to_string();
        assert!(far.ends_with("has more elements than memory can address"), "{far}");
    }
}
