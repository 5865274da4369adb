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
    if T::DTYPE == DType::F32 && simd() >= Simd::Avx2 {
        done = [rows / 8 * 8, columns / 8 * 8];
        for i in (0..done[0]).step_by(8) {
            for j in (0..done[1]).step_by(8) {
                let from = from[i * from_stride + j..].as_ptr().cast::<f32>();
                // SAFETY: `T` is f32, AVX2 is there, both squares lie inside the arrays.
                unsafe { x86::turn_square(from, from_stride, to.add(j * to_stride + i).cast(), to_stride) };
            }
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

    /// Transposes 8 × 8 elements.
    ///
    /// # Safety
    /// AVX2 exists; both squares lie in memory that may be read, written.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn turn_square(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: promised by the caller.
        let row: [__m256; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) });
        // Pairs of rows, then quadruples, then halves of the registers.
        let mut pairs = row;
        for i in [0, 2, 4, 6] {
            pairs[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
        }
        let mut fours = pairs;
        for i in [0, 4] {
            fours[i] = _mm256_shuffle_ps::<0b01_00_01_00>(pairs[i], pairs[i + 2]);
            fours[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(pairs[i], pairs[i + 2]);
            fours[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(pairs[i + 1], pairs[i + 3]);
        }
        for j in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(fours[j], fours[j + 4]);
            let high = _mm256_permute2f128_ps::<0x31>(fours[j], fours[j + 4]);
            // SAFETY: promised by the caller.
            unsafe {
                _mm256_storeu_ps(to.add(j * to_stride), low);
                _mm256_storeu_ps(to.add((j + 4) * to_stride), high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_arrives() {
        for [rows, columns] in [[0, 3], [1, 1], [7, 9], [8, 8], [16, 24], [19, 33]] {
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
