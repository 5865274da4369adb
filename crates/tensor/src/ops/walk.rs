//! The loop nest of an elementwise op: a dense output, `N` inputs read with strides, neighbouring axes merged.

use crate::{MAX_RANK, Shape};
use std::array::from_fn;

/// Where to read `N` inputs for each element of a dense row-major output.
///
/// Axes of size 1 are dropped and axes that every input walks evenly are merged, so two operands of one shape are a
/// single run, `[n, c] + [c]` has two axes and `[n, c, h, w] + [c, 1, 1]` has three.
pub(crate) struct Walk<const N: usize> {
    /// The size of each axis and the inputs' strides on it, outermost first.
    axes: [(usize, [usize; N]); MAX_RANK],
    /// The number of axes in use, at least one.
    rank: usize,
}

impl<const N: usize> Walk<N> {
    /// The walk over `shape` for inputs with these strides.
    pub(crate) fn new(shape: &Shape, strides: [[usize; MAX_RANK]; N]) -> Self {
        let mut walk = Self { axes: [(1, [1; N]); MAX_RANK], rank: 0 };
        for axis in (0..shape.rank()).filter(|&axis| shape[axis] != 1) {
            let (size, own) = (shape[axis], from_fn(|input| strides[input][axis]));
            if let Some((outer_size, outer)) = walk.rank.checked_sub(1).map(|last| &mut walk.axes[last])
                && (0..N).all(|input| outer[input] == own[input] * size)
            {
                (*outer_size, *outer) = (*outer_size * size, own);
                continue;
            }
            walk.axes[walk.rank] = (size, own);
            walk.rank += 1;
        }
        walk.rank = walk.rank.max(1);
        walk
    }

    /// The inputs' strides on the innermost axis: 0 or 1 where an operand broadcasts.
    pub(crate) fn inner(&self) -> [usize; N] {
        self.last().1
    }

    /// The innermost axis: its size and the inputs' strides.
    pub(crate) fn last(&self) -> (usize, [usize; N]) {
        self.axes[self.rank - 1]
    }

    /// The axis around the innermost one, if there is one.
    pub(crate) fn above_last(&self) -> Option<(usize, [usize; N])> {
        self.rank.checked_sub(2).map(|axis| self.axes[axis])
    }

    /// Output elements `start..start + len` as runs along the innermost axis: `(offset into each input, run length)`.
    pub(crate) fn runs(&self, start: usize, len: usize) -> Runs<'_, N> {
        let (mut index, mut offsets, mut left) = ([0; MAX_RANK], [0; N], start);
        for axis in (0..self.rank).rev() {
            let (size, strides) = self.axes[axis];
            index[axis] = left % size.max(1);
            left /= size.max(1);
            offsets = from_fn(|input| offsets[input] + index[axis] * strides[input]);
        }
        Runs { walk: self, index, offsets, left: len }
    }
}

/// The iterator of [`Walk::runs`].
pub(crate) struct Runs<'a, const N: usize> {
    walk: &'a Walk<N>,
    index: [usize; MAX_RANK],
    offsets: [usize; N],
    left: usize,
}

impl<const N: usize> Iterator for Runs<'_, N> {
    type Item = ([usize; N], usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let inner = self.walk.rank - 1;
        let run = (self.walk.axes[inner].0 - self.index[inner]).min(self.left);
        let item = (self.offsets, run);
        self.left -= run;
        let mut step = run;
        for axis in (0..=inner).rev() {
            let (size, strides) = self.walk.axes[axis];
            self.index[axis] += step;
            self.offsets = from_fn(|input| self.offsets[input] + step * strides[input]);
            if self.index[axis] < size {
                break;
            }
            self.index[axis] = 0;
            self.offsets = from_fn(|input| self.offsets[input] - size * strides[input]);
            step = 1;
        }
        Some(item)
    }
}

/// The strides with which `input` is read over all of `output`, to which it broadcasts: 0 where it is stretched.
pub(crate) fn stretched(input: &Shape, output: &Shape) -> [usize; MAX_RANK] {
    let (strides, lead) = (input.strides(), output.rank() - input.rank());
    from_fn(|axis| match axis.checked_sub(lead) {
        Some(own) if own < input.rank() && input[own] != 1 => strides[own],
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(a: &[usize], b: &[usize]) -> (Shape, Walk<2>) {
        let (a, b) = (Shape::new(a).unwrap(), Shape::new(b).unwrap());
        let shape = a.broadcast("walk", &b).unwrap();
        (shape, Walk::new(&shape, [stretched(&a, &shape), stretched(&b, &shape)]))
    }

    #[test]
    fn merges_what_can_be_merged() {
        let axes = |a: &[usize], b: &[usize]| {
            let (_, walk) = walk(a, b);
            walk.axes[..walk.rank].to_vec()
        };
        assert_eq!(axes(&[2, 3, 4], &[2, 3, 4]), [(24, [1, 1])]);
        assert_eq!(axes(&[2, 3, 4], &[4]), [(6, [4, 0]), (4, [1, 1])]);
        assert_eq!(axes(&[2, 3, 4, 5], &[1, 3, 1, 1]), [(2, [60, 0]), (3, [20, 1]), (20, [1, 0])]);
        assert_eq!(axes(&[2, 3], &[]), [(6, [1, 0])]);
        assert_eq!(axes(&[1, 1], &[]), [(1, [1, 1])]);
    }

    #[test]
    fn runs_from_anywhere_visit_what_index_arithmetic_says() {
        let (shape, walk) = walk(&[2, 3, 1, 4], &[3, 5, 1]);
        let strides = [[12, 4, 0, 1], [0, 5, 1, 0]]; // by hand
        for start in 0..=shape.elements() {
            let mut at = start;
            for (offsets, run) in walk.runs(start, shape.elements() - start) {
                for i in 0..run {
                    let index = [at / 60, at / 20 % 3, at / 4 % 5, at % 4];
                    for input in 0..2 {
                        let by_hand: usize = (0..4).map(|axis| index[axis] * strides[input][axis]).sum();
                        assert_eq!(offsets[input] + i * walk.inner()[input], by_hand);
                    }
                    at += 1;
                }
            }
            assert_eq!(at, shape.elements());
        }
    }
}
