//! Transposing a matrix in memory, in squares that fit the registers.

use crate::Float;
#[cfg(target_arch = "x86_64")]
use crate::{DType, Simd, simd};

/// `to[j, i] = from[i, j]` for an array `from` of `[rows, columns]`; strides are elements between rows.
///
/// # Panics
/// If an array is shorter than its last element's place.
pub(crate) fn turn<T: Float>(size: [usize; 2], from: &[T], from_stride: usize, to: &mut [T], to_stride: usize) {
    let [rows, columns] = size;
    assert!(rows * columns == 0 || (columns - 1) * to_stride + rows <= to.len());
    // SAFETY: every place written lies in `to` by the assertion above.
    unsafe { turn_into(size, from, from_stride, to.as_mut_ptr(), to_stride) };
}

/// As [`turn`], for columns of an array whose other columns belong to other tasks.
///
/// # Safety
/// The places `to[j · to_stride + i]` may be written, and nobody else touches them meanwhile.
pub(crate) unsafe fn turn_into<T: Float>(
    [rows, columns]: [usize; 2],
    from: &[T],
    from_stride: usize,
    to: *mut T,
    to_stride: usize,
) {
    if rows * columns == 0 {
        return;
    }
    assert!((rows - 1) * from_stride + columns <= from.len());
    #[allow(unused_mut)] // only where there is a fast path
    let mut done = [0, 0];
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 {
        let squares: &[(usize, x86::Square)] = match simd() {
            Simd::Avx512 => &[(16, x86::turn_16), (8, x86::turn_8)],
            Simd::Avx2 => &[(8, x86::turn_8)],
            Simd::Plain => &[],
        };
        // Each kind of square covers what the larger ones left.
        for &(side, square) in squares {
            let whole = [rows / side * side, columns / side * side];
            for i in (0..whole[0]).step_by(side) {
                for j in (0..whole[1]).step_by(side).filter(|j| i >= done[0] || *j >= done[1]) {
                    let from = from[i * from_stride + j..].as_ptr().cast();
                    // SAFETY: `T` is f32, `simd` found the instructions, both squares lie inside the arrays.
                    unsafe { square(from, from_stride, to.add(j * to_stride + i).cast(), to_stride) };
                }
            }
            done = whole;
        }
    }
    let plain = |i: std::ops::Range<usize>, j: std::ops::Range<usize>| {
        for j in j {
            for i in i.clone() {
                // SAFETY: promised by the caller.
                unsafe { *to.add(j * to_stride + i) = from[i * from_stride + j] };
            }
        }
    };
    plain(done[0]..rows, 0..columns);
    plain(0..done[0], done[1]..columns);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Transposes a square, given the elements between rows of both arrays.
    pub(super) type Square = unsafe fn(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// Transposes 8 × 8 elements.
    ///
    /// # Safety
    /// AVX2 exists; both squares lie in memory that may be read, written.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn turn_8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for j in [0, 4] {
            // Four columns of row i, and of row 4 + i.
            // SAFETY: promised by the caller.
            let load = |i: usize| unsafe {
                let (low, high) = (from.add(i * from_stride + j), from.add((i + 4) * from_stride + j));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high))
            };
            let [a, b, c, d] = [0, 1, 2, 3].map(load);
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let columns = [
                _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
                _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
            ];
            for (k, column) in columns.into_iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe { _mm256_storeu_ps(to.add((j + k) * to_stride), column) };
            }
        }
    }

    /// Transposes 16 × 16 elements.
    ///
    /// # Safety
    /// AVX-512 exists; both squares lie in memory that may be read, written.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn turn_16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for j in [0, 4, 8, 12] {
            // Four columns of the rows i, 4 + i, 8 + i and 12 + i.
            // SAFETY: promised by the caller.
            let load = |i: usize| unsafe {
                let part = |row: usize| _mm_loadu_ps(from.add((row + i) * from_stride + j));
                let x = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(part(0)), part(4));
                _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(x, part(8)), part(12))
            };
            let [a, b, c, d] = [0, 1, 2, 3].map(load);
            let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
            let columns = [
                _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd),
                _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
            ];
            for (k, column) in columns.into_iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe { _mm512_storeu_ps(to.add((j + k) * to_stride), column) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_arrives() {
        for [rows, columns] in [[0, 3], [1, 1], [7, 9], [8, 8], [16, 24], [19, 33], [41, 64]] {
            let (from_stride, to_stride) = (columns + 2, rows + 5);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_stride];
            turn([rows, columns], &from, from_stride, &mut to, to_stride);
            for (at, &x) in to.iter().enumerate() {
                let (j, i) = (at / to_stride, at % to_stride);
                let expected = if i < rows { from[i * from_stride + j] } else { -1.0 };
                assert_eq!(x, expected, "{rows} × {columns} at {j}, {i}");
            }
        }
    }
}
