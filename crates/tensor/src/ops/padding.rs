//! Padding with what is near the edge, and its adjoint. Constants are `pad`'s (`movement.rs`).

use crate::dtype::{dispatch, dispatch_float};
use crate::ops::geometry::lattice;
use crate::{Error, Result, Shape, Tensor, par};
use num_traits::Zero;
use serde::{Deserialize, Serialize};

/// Nanoseconds that one element takes.
const COST: f64 = 0.3;

/// What stands beyond the edge of a padded axis `a b c d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadMode {
    /// `0 0 a b c d 0 0`
    #[default]
    Zeros,
    /// `c b a b c d c b`: less than the size on each side.
    Reflect,
    /// `a a a b c d d d`
    Replicate,
    /// `c d a b c d a b`: at most the size on each side.
    Circular,
}

impl PadMode {
    /// The shape of a tensor that is padded in this mode: `(before, after)` places for each axis.
    ///
    /// # Errors
    /// Another number of pairs than of axes, or more places than the mode can fill.
    pub fn padded(self, op: &'static str, shape: &Shape, pairs: &[(usize, usize)]) -> Result<Shape> {
        if pairs.len() != shape.rank() {
            let what = format!("{} pairs for {shape} with {} axes", pairs.len(), shape.rank());
            return Err(Error::shape(op, what, "give (before, after) for each axis"));
        }
        let mut sizes = shape.to_vec();
        for (axis, &(before, after)) in pairs.iter().enumerate() {
            let (wanted, most) = (before.max(after), self.most(shape[axis]));
            if wanted > most {
                let verb = match self {
                    Self::Reflect => "reflected",
                    Self::Circular => "wrapped around",
                    Self::Zeros | Self::Replicate => "repeated",
                };
                let what = format!("axis {axis} of {shape} cannot be {verb} by {wanted}");
                return Err(Error::value(op, what, format!("pad it by at most {most}")));
            }
            sizes[axis] = sizes[axis].saturating_add(before).saturating_add(after);
        }
        Shape::new(&sizes) // what saturates is refused here
    }

    /// The most places that an axis of `size` can be padded with on one side.
    fn most(self, size: usize) -> usize {
        match self {
            Self::Reflect => size.saturating_sub(1),
            Self::Circular => size,
            Self::Replicate if size == 0 => 0,
            Self::Zeros | Self::Replicate => usize::MAX,
        }
    }

    /// For each place of a padded axis, where its element comes from.
    fn sources(self, size: usize, (before, after): (usize, usize)) -> Vec<usize> {
        let from = |place: usize| match place.checked_sub(before) {
            Some(at) if at < size => at,
            Some(beyond) => match self {
                Self::Reflect => 2 * (size - 1) - beyond,
                Self::Circular => beyond - size,
                Self::Zeros | Self::Replicate => size.saturating_sub(1),
            },
            None => match self {
                Self::Reflect => before - place,
                Self::Circular => size - (before - place),
                Self::Zeros | Self::Replicate => 0,
            },
        };
        (0..before + size + after).map(from).collect()
    }
}

impl Tensor {
    /// `before` and `after` more places on each axis, filled by `mode`: one pair an axis.
    ///
    /// # Errors
    /// Another number of pairs than of axes, or more places than the mode can fill.
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::{PadMode, Tensor};
    ///
    /// let x = Tensor::from([1i64, 2, 3]);
    /// assert_eq!(x.pad_with(&[(2, 1)], PadMode::Reflect)?, Tensor::from([3i64, 2, 1, 2, 3, 2]));
    /// assert_eq!(x.pad_with(&[(2, 1)], PadMode::Circular)?, Tensor::from([2i64, 3, 1, 2, 3, 1]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    pub fn pad_with(&self, pairs: &[(usize, usize)], mode: PadMode) -> Result<Self> {
        if mode == PadMode::Zeros {
            return self.pad(pairs, 0.0);
        }
        let edges = Edges::new("pad_with", self.shape(), pairs, mode)?;
        Ok(dispatch!(self.dtype(), T => Tensor::build(edges.padded, |out: &mut [T]| {
            let x = self.slice_of::<T>();
            par::rows(out, edges.outer.max(1), edges.outer as f64 * COST, |first, blocks| {
                for (i, mut out) in blocks.chunks_mut(edges.outer).enumerate() {
                    let x = &x[(first + i) * edges.inner..][..edges.inner];
                    for &(from, len) in &edges.runs {
                        let (run, rest) = out.split_at_mut(len);
                        run.copy_from_slice(&x[from..][..len]);
                        out = rest;
                    }
                }
            });
        })))
    }

    /// Adjoint of [`pad_with`](Self::pad_with); `self` is `dy`: each element is added to the one that it came from.
    ///
    /// # Errors
    /// As [`pad_with`](Self::pad_with), or `dy` of another shape than its result.
    pub fn pad_with_grad(&self, x_shape: impl Into<Shape>, pairs: &[(usize, usize)], mode: PadMode) -> Result<Self> {
        const OP: &str = "pad_with_grad";
        let x_shape = x_shape.into();
        let edges = Edges::new(OP, x_shape, pairs, mode)?;
        if self.shape() != edges.padded {
            let what = format!("dy is {}, the output was {}", self.shape(), edges.padded);
            return Err(Error::shape(OP, what, "pass the gradient of the output"));
        }
        if mode == PadMode::Zeros {
            let cut = |x: Tensor, (axis, &(before, _)): (usize, &(usize, usize))| {
                x.slice(axis as isize, before, before + x_shape[axis])
            };
            return pairs.iter().enumerate().try_fold(self.clone(), cut);
        }
        dispatch_float!(self.dtype(), OP, T => Ok(Tensor::build(x_shape, |dx: &mut [T]| {
            let dy = self.slice_of::<T>();
            par::rows(dx, edges.inner.max(1), edges.outer as f64 * COST, |first, blocks| {
                blocks.fill(T::zero());
                for (i, dx) in blocks.chunks_mut(edges.inner).enumerate() {
                    let mut dy = &dy[(first + i) * edges.outer..][..edges.outer];
                    for &(from, len) in &edges.runs {
                        let (run, rest) = dy.split_at(len);
                        dx[from..][..len].iter_mut().zip(run).for_each(|(dx, &dy)| *dx += dy);
                        dy = rest;
                    }
                }
            });
        })))
    }
}

/// Where the elements of a padded tensor come from: the same in each block of the axes from the first padded one on.
struct Edges {
    padded: Shape,
    /// Elements of a block with and without padding.
    outer: usize,
    inner: usize,
    /// The padded block in order: neighbors that come from neighbors, as (first place in the block, number).
    runs: Vec<(usize, usize)>,
}

impl Edges {
    fn new(op: &'static str, shape: Shape, pairs: &[(usize, usize)], mode: PadMode) -> Result<Self> {
        let padded = mode.padded(op, &shape, pairs)?;
        let start = pairs.iter().position(|&pair| pair != (0, 0)).unwrap_or(shape.rank());
        let strides = shape.strides();
        let along = |axis: usize| -> Vec<usize> {
            mode.sources(shape[axis], pairs[axis]).into_iter().map(|from| from * strides[axis]).collect()
        };
        let sources = lattice(&(start..shape.rank()).map(along).collect::<Vec<_>>());
        Ok(Self {
            padded,
            outer: sources.len(),
            inner: shape[start..].iter().product(),
            runs: sources.chunk_by(|a, b| a + 1 == *b).map(|run| (run[0], run.len())).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{dot, draw};
    use PadMode::{Circular, Reflect, Replicate, Zeros};

    #[test]
    fn the_edge_continues_as_the_mode_says() {
        // numpy.pad(x, ((1, 2), (2, 1)), mode=…) of NumPy 2.4.6: "reflect", "edge", "wrap", "constant".
        let x = Tensor::from([[1i64, 2, 3], [4, 5, 6], [7, 8, 9]]);
        let rows = |mode, above: [[i64; 6]; 1], inside: [[i64; 6]; 3], below: [[i64; 6]; 2]| {
            let expected = [&above[..], &inside, &below].map(|rows| Tensor::from_vec(rows.concat(), [rows.len(), 6]));
            let expected = expected.map(Result::unwrap);
            assert_eq!(x.pad_with(&[(1, 2), (2, 1)], mode).unwrap(), Tensor::concat(&expected.each_ref(), 0).unwrap());
        };
        let inside = [[3, 2, 1, 2, 3, 2], [6, 5, 4, 5, 6, 5], [9, 8, 7, 8, 9, 8]];
        rows(Reflect, [inside[1]], inside, [inside[1], inside[0]]);
        let inside = [[1, 1, 1, 2, 3, 3], [4, 4, 4, 5, 6, 6], [7, 7, 7, 8, 9, 9]];
        rows(Replicate, [inside[0]], inside, [inside[2], inside[2]]);
        let inside = [[2, 3, 1, 2, 3, 1], [5, 6, 4, 5, 6, 4], [8, 9, 7, 8, 9, 7]];
        rows(Circular, [inside[2]], inside, [inside[0], inside[1]]);
        rows(Zeros, [[0; 6]], [[0, 0, 1, 2, 3, 0], [0, 0, 4, 5, 6, 0], [0, 0, 7, 8, 9, 0]], [[0; 6]; 2]);
        let line = Tensor::from([[1i64], [2]]);
        let repeated = Tensor::from([[1i64, 1, 1, 1], [2, 2, 2, 2]]);
        assert_eq!(line.pad_with(&[(0, 0), (2, 1)], Replicate).unwrap(), repeated);
        assert_eq!(line.pad_with(&[(0, 0), (0, 0)], Reflect).unwrap(), line);
    }

    #[test]
    fn the_adjoint_is_one() {
        for shape in [&[5usize][..], &[2, 3, 4], &[2, 1, 3, 4, 3], &[0, 3, 4], &[2, 3, 0]] {
            let (x, rank) = (draw(shape, 1), shape.len());
            for mode in [Zeros, Reflect, Replicate, Circular] {
                for pairs in [vec![(0, 0); rank], vec![(1, 0); rank], vec![(0, 2); rank]] {
                    let unpadded = (0..rank.saturating_sub(2)).map(|_| (0, 0));
                    let pairs: Vec<_> = unpadded.chain(pairs.into_iter().rev().take(2)).collect();
                    let Ok(y) = x.pad_with(&pairs, mode) else {
                        assert!(shape.contains(&0), "{shape:?} {mode:?} {pairs:?}");
                        continue;
                    };
                    let dy = draw(&y.shape(), 2);
                    let dx = dy.pad_with_grad(x.shape(), &pairs, mode).unwrap();
                    // Some hundred products of numbers below 10.
                    assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-11, "{shape:?} {mode:?} {pairs:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_mode_cannot_fill_is_explained() {
        let x = Tensor::from([[1.0f32, 2.0, 3.0]]);
        let text = |x: &Tensor, by, mode| x.pad_with(&[(0, 0), by], mode).unwrap_err().to_string();
        let at_most = |what: &str, most: usize| format!("pad_with: axis 1 of {what}; help: pad it by at most {most}");
        assert_eq!(text(&x, (0, 3), Reflect), at_most("[1, 3] cannot be reflected by 3", 2));
        assert_eq!(text(&x, (4, 1), Circular), at_most("[1, 3] cannot be wrapped around by 4", 3));
        let none = x.slice(1, 1, 1).unwrap();
        assert_eq!(text(&none, (1, 0), Replicate), at_most("[1, 0] cannot be repeated by 1", 0));
        assert!(text(&x, (usize::MAX, 1), Replicate).ends_with("has more elements than memory can address"));
        let pairs = x.pad_with(&[(1, 1)], Reflect).unwrap_err().to_string();
        assert_eq!(pairs, "pad_with: 1 pairs for [1, 3] with 2 axes; help: give (before, after) for each axis");
        let dy = x.pad_with_grad([1, 3], &[(0, 0), (1, 1)], Reflect).unwrap_err().to_string();
        let expected = "pad_with_grad: dy is [1, 3], the output was [1, 5]; help: pass the gradient of the output";
        assert_eq!(dy, expected);
    }
}
