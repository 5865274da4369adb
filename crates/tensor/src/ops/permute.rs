//! Reordering axes: always a copy, tile by tile where rows become columns.

use super::walk::Walk;
use crate::turn::turn;
use crate::{DType, Element, Error, MAX_RANK, Result, Shape, Tensor, par};

/// Side of a tile: one cache line of `f32`, so that a tile reads and writes whole lines.
const TILE: usize = 16;

impl Tensor {
    /// Reorders the axes: axis `i` of the result is axis `axes[i]` of `self`.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let x = Tensor::from([[1i64, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.permute(&[1, 0])?, Tensor::from([[1i64, 4], [2, 5], [3, 6]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// An axis missing, out of range or named twice.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        let shape = self.shape();
        let named = |axis: usize| axes.iter().filter(|&&named| named == axis).count() == 1;
        if axes.len() != shape.rank() || !(0..shape.rank()).all(named) {
            let what = format!("{axes:?} does not name each of the {} axes of {shape} once", shape.rank());
            return Err(Error::index("permute", what, "list every axis in its new place"));
        }
        if axes.is_sorted() {
            return Ok(self.clone());
        }
        let result = Shape::of(&axes.iter().map(|&axis| shape[axis]).collect::<Vec<_>>());
        let (own, mut strides) = (shape.strides(), [0; MAX_RANK]);
        axes.iter().enumerate().for_each(|(to, &from)| strides[to] = own[from]);
        let walk = Walk::new(&result, [strides]);
        Ok(match self.dtype() {
            DType::F32 => copy_permuted::<f32>(self, result, &walk, turn),
            DType::F64 => copy_permuted::<f64>(self, result, &walk, transpose),
            DType::I64 => copy_permuted::<i64>(self, result, &walk, transpose),
            DType::U8 => copy_permuted::<u8>(self, result, &walk, transpose),
        })
    }

    /// Exchanges two axes.
    ///
    /// # Errors
    /// No such axis.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Self> {
        let (a, b) = (self.shape().axis("transpose", a)?, self.shape().axis("transpose", b)?);
        let mut axes: Vec<usize> = (0..self.rank()).collect();
        axes.swap(a, b);
        self.permute(&axes)
    }

    /// This tensor with `axis` moved to the end, for kernels over the last axis.
    pub(crate) fn axis_to_last(&self, axis: usize) -> Self {
        let axes: Vec<usize> = (0..self.rank()).filter(|&other| other != axis).chain([axis]).collect();
        self.permute(&axes).expect("each axis once")
    }

    /// Undoes [`axis_to_last`](Self::axis_to_last).
    pub(crate) fn axis_from_last(&self, axis: usize) -> Self {
        let mut axes: Vec<usize> = (0..self.rank() - 1).collect();
        axes.insert(axis, self.rank() - 1);
        self.permute(&axes).expect("each axis once")
    }
}

/// `transpose(size, from, from_stride, to, to_stride)` as [`turn`].
fn copy_permuted<T: Element>(
    input: &Tensor,
    result: Shape,
    walk: &Walk<1>,
    transpose: fn([usize; 2], &[T], usize, &mut [T], usize),
) -> Tensor {
    let x = input.slice_of::<T>();
    let (columns, [column_stride]) = walk.last();
    if column_stride == 1 {
        // Whole runs keep their order.
        return Tensor::build(result, |out| {
            par::rows(out, columns, columns as f64 * 0.2, |first, rows| {
                let runs = walk.runs(first * columns, rows.len());
                rows.chunks_mut(columns).zip(runs).for_each(|(out, ([from], run))| {
                    out.copy_from_slice(&x[from..][..run]);
                });
            });
        });
    }
    // What is consecutive in the input becomes the axis above the innermost one: there matrices are transposed. If it
    // lies further out, matrices of one row still give the right result.
    let height = match walk.above_last() {
        Some((height, [1])) => height,
        _ => 1,
    };
    Tensor::build(result, |out| {
        par::rows(out, columns, columns as f64 * 0.4, |first, rows| {
            let (mut row, mut rest) = (first, rows);
            while !rest.is_empty() {
                let rows = (height - row % height).min(rest.len() / columns);
                let (out, next) = rest.split_at_mut(rows * columns);
                let ([from], _) = walk.runs(row * columns, 1).next().expect("a row");
                transpose([columns, rows], &x[from..], column_stride, out, columns);
                (row, rest) = (row + rows, next);
            }
        });
    })
}

/// [`turn`] for any element type, tile by tile.
fn transpose<T: Copy>([rows, columns]: [usize; 2], from: &[T], from_stride: usize, to: &mut [T], to_stride: usize) {
    for i0 in (0..rows).step_by(TILE) {
        for j0 in (0..columns).step_by(TILE) {
            for j in j0..columns.min(j0 + TILE) {
                for i in i0..rows.min(i0 + TILE) {
                    to[j * to_stride + i] = from[i * from_stride + j];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_element_goes_to_its_place(
            (sizes, axes) in proptest::collection::vec(prop_oneof![0..5usize, Just(1), Just(37)], 0..5)
                .prop_flat_map(|sizes| {
                    let axes: Vec<usize> = (0..sizes.len()).collect();
                    (Just(sizes), Just(axes).prop_shuffle())
                })
        ) {
            let shape = Shape::new(&sizes).unwrap();
            let x = Tensor::from_vec((0..shape.elements() as i64).collect(), shape).unwrap();
            let y = x.permute(&axes).unwrap();
            let (from, to) = (x.shape().strides(), y.shape().strides());
            let y_elements = y.as_slice::<i64>().unwrap();
            for at in 0..x.len() {
                let place: usize = axes.iter().enumerate()
                    .map(|(axis, &own)| at / from[own] % sizes[own] * to[axis])
                    .sum();
                prop_assert_eq!(y_elements[place], at as i64);
            }
            prop_assert_eq!(x.to_dtype(DType::F32).permute(&axes).unwrap(), y.to_dtype(DType::F32));
        }
    }

    #[test]
    fn a_large_transpose_is_its_own_inverse() {
        let (rows, columns) = if cfg!(miri) { (17, 18) } else { (331, 517) };
        let x = Tensor::arange(0i64, (rows * columns) as i64, 1).unwrap().reshape([rows, columns]).unwrap();
        let y = x.transpose(0, 1).unwrap();
        assert_eq!(y.as_slice::<i64>().unwrap()[3 * rows + 5], (5 * columns + 3) as i64);
        assert_eq!(y.transpose(-1, -2).unwrap(), x);
    }

    #[test]
    fn the_helpers_undo_each_other() {
        let x = Tensor::arange(0i64, 24, 1).unwrap().reshape([2, 3, 4]).unwrap();
        for axis in 0..3 {
            let y = x.axis_to_last(axis);
            assert_eq!(y.shape()[2], x.shape()[axis]);
            assert_eq!(y.axis_from_last(axis), x);
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let x = Tensor::zeros([2, 3], DType::F32);
        for axes in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
            let text = format!(
                "permute: {axes:?} does not name each of the 2 axes of [2, 3] once; help: list every axis in its new place"
            );
            assert_eq!(x.permute(axes).unwrap_err().to_string(), text);
        }
        let text = x.transpose(0, 2).unwrap_err().to_string();
        assert_eq!(text, "transpose: [2, 3] has no axis 2; help: axes run from 0 to 1, or from -1 to -2");
    }
}
