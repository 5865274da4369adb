//! What this machine can do at most, for benchmarks to compare kernels with: arithmetic in registers, and the triad.

use crate::lanes::{Lanes, Plain};
use crate::simd::vectorized;
use crate::{Float, Simd, simd};
use std::hint::black_box;

/// Multiplies and adds in registers alone, in the widest vectors that the kernels use, and returns the number of
/// floating-point operations: each of `rounds` takes some ten instructions.
pub fn multiply_add(rounds: usize) -> usize {
    match simd() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `simd` found the instructions on this machine.
        Simd::Avx512 => unsafe { x86::avx512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx2 => unsafe { x86::avx2(rounds) },
        // SAFETY: plain code runs everywhere.
        _ => unsafe { chains::<Plain<f32>, 6>(rounds) },
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::chains;
    use crate::lanes::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(rounds: usize) -> usize {
        // SAFETY: the features are enabled here.
        unsafe { chains::<Avx512, 12>(rounds) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(rounds: usize) -> usize {
        // SAFETY: as above.
        unsafe { chains::<Avx2, 12>(rounds) }
    }
}

/// `C` sums that do not wait for each other: enough for two instructions of five cycles at once, and few enough for
/// sixteen registers. They tend to 1, so that no number is subnormal.
///
/// # Safety
/// The instructions of `L` exist.
#[inline(always)]
unsafe fn chains<L: Lanes<Item = f32>, const C: usize>(rounds: usize) -> usize {
    // SAFETY: promised by the caller; nothing here touches memory.
    unsafe {
        let half = L::splat(black_box(0.5));
        let mut sums: [L; C] = std::array::from_fn(|i| L::splat(black_box(i as f32)));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(half, half);
            }
        }
        black_box(&sums);
    }
    2 * rounds * C * L::WIDTH
}

vectorized! {
    /// `a = b + scale · c`: two elements are read and one is written for hardly any arithmetic, so this is as fast as
    /// memory is, or the cache that holds all three.
    ///
    /// # Reference
    /// McCalpin (1995), "Memory Bandwidth and Machine Balance in Current High Performance Computers".
    pub fn triad<T: Float>(a: &mut [T], b: &[T], c: &[T], scale: T) {
        for ((a, &b), &c) in a.iter_mut().zip(b).zip(c) {
            *a = b + scale * c;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted() {
        let one = multiply_add(1);
        assert!(one >= 2 * 6 * 8, "{one}");
        assert_eq!(multiply_add(1000), 1000 * one);
    }

    #[test]
    fn the_triad_is_its_formula() {
        let (mut a, b, c) = ([0.0f32; 37], [1.5; 37], [2.0; 37]);
        triad(&mut a, &b, &c, 3.0);
        assert_eq!(a, [7.5; 37]);
    }
}
