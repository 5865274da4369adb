//! Shapes, axes and broadcasting: what is known of a tensor without its elements.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Deref, RangeFull};

/// The most axes a tensor can have.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's axes, outermost first; `Copy`, so that gradient rules can keep one for nothing.
///
/// It dereferences to `[usize]`: `shape[0]`, `shape.iter()`, `shape.len()` (the rank).
///
/// ```
/// use maplet_tensor::Shape;
///
/// let shape = Shape::from([2, 3, 4]);
/// assert_eq!((shape.rank(), shape.elements(), shape[1]), (3, 24, 3));
/// assert_eq!(shape.to_string(), "[2, 3, 4]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Shape {
    rank: u8,
    sizes: [usize; MAX_RANK],
}

impl Shape {
    /// A shape of any run-time rank.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] axes, or more elements than memory can address.
    pub fn new(sizes: &[usize]) -> Result<Self> {
        if sizes.len() > MAX_RANK {
            let what = format!("{sizes:?} has {} axes", sizes.len());
            return Err(Error::shape("shape", what, format!("a tensor has at most {MAX_RANK}")));
        }
        // Zero-sized axes do not excuse the others: strides are computed from every suffix of the sizes.
        let bytes = sizes.iter().try_fold(8usize, |bytes, &size| bytes.checked_mul(size.max(1)));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(Error::shape("shape", format!("{sizes:?} has more elements than memory can address"), ""));
        }
        let mut shape = Self { rank: sizes.len() as u8, sizes: [1; MAX_RANK] };
        shape.sizes[..sizes.len()].copy_from_slice(sizes);
        Ok(shape)
    }

    /// As [`Shape::new`], for sizes that come from an existing shape and so cannot be too many.
    ///
    /// # Panics
    /// With the text of [`Shape::new`]'s error.
    pub(crate) fn of(sizes: &[usize]) -> Self {
        Self::new(sizes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements: the product of the sizes, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The sizes as a slice.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes[..self.rank()]
    }

    /// The elements between neighbours on each axis, row-major; 1 beyond the rank.
    pub(crate) fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [1; MAX_RANK];
        for axis in (0..self.rank().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * self.sizes[axis + 1];
        }
        strides
    }

    /// This shape with one axis set to `size`.
    pub fn with_size(mut self, axis: usize, size: usize) -> Self {
        assert!(axis < self.rank(), "axis {axis} of {self}");
        self.sizes[axis] = size;
        self
    }

    /// This shape without the axis `axis`.
    pub fn without(&self, axis: usize) -> Self {
        let mut sizes = self.to_vec();
        sizes.remove(axis);
        Self::of(&sizes)
    }

    /// The axis that `axis` means, counted from the end if negative.
    ///
    /// # Errors
    /// An axis outside `-rank..rank`.
    pub fn axis(&self, op: &'static str, axis: isize) -> Result<usize> {
        let rank = self.rank() as isize;
        if (-rank..rank).contains(&axis) {
            return Ok(axis.rem_euclid(rank) as usize);
        }
        let help = match rank {
            0 => "a scalar has no axes".to_string(),
            _ => format!("axes run from 0 to {}, or from -1 to -{rank}", rank - 1),
        };
        Err(Error::index(op, format!("{self} has no axis {axis}"), help))
    }

    /// The sizes before `axis` multiplied, the size of `axis`, and the sizes after it multiplied.
    pub(crate) fn around(&self, axis: usize) -> (usize, usize, usize) {
        (self[..axis].iter().product(), self[axis], self[axis + 1..].iter().product())
    }

    /// The shape that both operands broadcast to: axes are matched from the right, and a size of 1 stretches.
    ///
    /// # Errors
    /// The first axis (of the result) on which the sizes differ and neither is 1.
    pub fn broadcast(&self, op: &'static str, other: &Self) -> Result<Self> {
        let rank = self.rank().max(other.rank());
        let mut result = Self { rank: rank as u8, sizes: [1; MAX_RANK] };
        for axis in 0..rank {
            let size = |shape: &Self| (axis + shape.rank()).checked_sub(rank).map_or(1, |axis| shape[axis]);
            result.sizes[axis] = match (size(self), size(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                (a, b) => {
                    let what = format!("{self} and {other} do not broadcast: axis {axis} is {a} against {b}");
                    return Err(Error::shape(op, what, "one of them must be 1"));
                }
            };
        }
        Self::new(&result)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.sizes()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// # Panics
    /// If the element count overflows the address space; use [`Shape::new`] for sizes that come from outside.
    fn from(sizes: [usize; N]) -> Self {
        const { assert!(N <= MAX_RANK, "a tensor has at most 8 axes") };
        Self::of(&sizes)
    }
}

/// One axis.
impl From<usize> for Shape {
    /// # Panics
    /// If the element count overflows the address space.
    fn from(size: usize) -> Self {
        Self::of(&[size])
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        *shape
    }
}

impl TryFrom<Vec<usize>> for Shape {
    type Error = Error;
    fn try_from(sizes: Vec<usize>) -> Result<Self> {
        Self::new(&sizes)
    }
}

impl From<Shape> for Vec<usize> {
    fn from(shape: Shape) -> Self {
        shape.to_vec()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:?}", self.sizes()))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which axes a reduction works on: one (`-1`), several (`[0, 2]`), or all (`..`).
///
/// ```
/// use maplet_tensor::Tensor;
///
/// let x = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
/// assert_eq!(x.sum(0, false)?, Tensor::from([4.0f32, 6.0]));
/// assert_eq!(x.sum([0, -1], true)?, Tensor::from([[10.0f32]]));
/// assert_eq!(x.sum(.., false)?.item::<f32>()?, 10.0);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    /// `None` means all.
    chosen: Option<([isize; MAX_RANK], usize)>,
}

impl Axes {
    /// For each axis of `shape`, whether it is chosen.
    ///
    /// # Errors
    /// An axis out of range or named twice.
    pub(crate) fn mask(&self, op: &'static str, shape: &Shape) -> Result<[bool; MAX_RANK]> {
        let Some((axes, count)) = self.chosen else { return Ok([true; MAX_RANK]) };
        let mut mask = [false; MAX_RANK];
        if count > MAX_RANK {
            return Err(Error::index(op, format!("{count} axes named"), format!("a tensor has at most {MAX_RANK}")));
        }
        for &axis in &axes[..count] {
            let at = shape.axis(op, axis)?;
            if std::mem::replace(&mut mask[at], true) {
                return Err(Error::index(op, format!("axis {axis} of {shape} is named twice"), "name each axis once"));
            }
        }
        Ok(mask)
    }

    /// `shape` after a reduction over these axes: they have size 1 if `keepdims`, and are gone if not.
    ///
    /// # Errors
    /// An axis out of range or named twice; the text begins with `op`.
    pub fn reduced(&self, op: &'static str, shape: &Shape, keepdims: bool) -> Result<Shape> {
        let mask = self.mask(op, shape)?;
        let sizes = shape.iter().zip(mask).filter(|(_, chosen)| keepdims || !chosen);
        Shape::new(&sizes.map(|(&size, chosen)| if chosen { 1 } else { size }).collect::<Vec<_>>())
    }
}

impl From<&[isize]> for Axes {
    fn from(axes: &[isize]) -> Self {
        let mut chosen = [0; MAX_RANK];
        let kept = axes.len().min(MAX_RANK);
        chosen[..kept].copy_from_slice(&axes[..kept]);
        Self { chosen: Some((chosen, axes.len())) }
    }
}

impl<const N: usize> From<[isize; N]> for Axes {
    fn from(axes: [isize; N]) -> Self {
        Self::from(axes.as_slice())
    }
}

impl From<isize> for Axes {
    fn from(axis: isize) -> Self {
        Self::from([axis])
    }
}

impl From<RangeFull> for Axes {
    fn from(_: RangeFull) -> Self {
        Self { chosen: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_from_the_right() {
        let shape = |sizes: &[usize]| Shape::new(sizes).unwrap();
        for (a, b, y) in [
            (&[2usize, 3][..], &[3usize][..], &[2usize, 3][..]),
            (&[4, 1, 3], &[2, 1], &[4, 2, 3]),
            (&[], &[5], &[5]),
            (&[0, 1], &[1, 7], &[0, 7]),
        ] {
            assert_eq!(shape(a).broadcast("add", &shape(b)), Ok(shape(y)));
            assert_eq!(shape(b).broadcast("add", &shape(a)), Ok(shape(y)));
        }
        let error = shape(&[32, 10]).broadcast("add", &shape(&[32, 12])).unwrap_err();
        let text = "add: [32, 10] and [32, 12] do not broadcast: axis 1 is 10 against 12; help: one of them must be 1";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let text = |sizes: &[usize]| Shape::new(sizes).unwrap_err().to_string();
        assert_eq!(text(&[1; 9]), "shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] has 9 axes; help: a tensor has at most 8");
        let huge = "shape: [1099511627776, 1099511627776] has more elements than memory can address";
        assert_eq!(text(&[1 << 40, 1 << 40]), huge);
        assert!(text(&[0, 1 << 40, 1 << 40]).ends_with("more elements than memory can address"));
        let axis = Shape::from([2, 3]).axis("sum", 2).unwrap_err().to_string();
        assert_eq!(axis, "sum: [2, 3] has no axis 2; help: axes run from 0 to 1, or from -1 to -2");
        let twice = Axes::from([1, -1]).mask("sum", &Shape::from([2, 3])).unwrap_err().to_string();
        assert_eq!(twice, "sum: axis -1 of [2, 3] is named twice; help: name each axis once");
    }
}
