//! A register's worth of elements, for the few kernels that the compiler does not vectorise well by itself.

use crate::Float;

/// Some neighbouring elements that are computed with together.
///
/// # Safety
/// Every method may use instructions of its level of [`Simd`](crate::Simd): call it only where they exist. Pointers
/// must be valid for [`WIDTH`](Self::WIDTH) elements, in the `_first` methods for `count` of them.
pub(crate) trait Lanes: Copy {
    type Item: Float;
    const WIDTH: usize;
    unsafe fn splat(x: Self::Item) -> Self;
    unsafe fn load(from: *const Self::Item) -> Self;
    /// Zeros beyond `count`, which is at most `WIDTH`.
    unsafe fn load_first(from: *const Self::Item, count: usize) -> Self;
    unsafe fn store(self, to: *mut Self::Item);
    unsafe fn store_first(self, to: *mut Self::Item, count: usize);
    /// `self · b + c`
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The greater of each two lanes, NaN if one of them is.
    unsafe fn greater(self, b: Self) -> Self;
}

/// Eight elements in ordinary code, of either float type.
#[derive(Clone, Copy)]
pub(crate) struct Plain<T>([T; 8]);

impl<T: Float> Lanes for Plain<T> {
    type Item = T;
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller promises eight elements.
        Self(unsafe { from.cast::<[T; 8]>().read() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const T, count: usize) -> Self {
        let mut lanes = [T::zero(); 8];
        // SAFETY: the caller promises `count` elements, at most eight.
        unsafe { from.copy_to_nonoverlapping(lanes.as_mut_ptr(), count) };
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller promises eight elements.
        unsafe { to.cast::<[T; 8]>().write(self.0) };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut T, count: usize) {
        // SAFETY: the caller promises `count` elements, at most eight.
        unsafe { to.copy_from_nonoverlapping(self.0.as_ptr(), count) };
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Not `T::mul_add`, which is a library call where there is no such instruction.
        Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    unsafe fn greater(self, b: Self) -> Self {
        let greater = |a: T, b: T| if (b > a) | b.is_nan() { b } else { a };
        Self(std::array::from_fn(|i| greater(self.0[i], b.0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// Eight `f32` of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    impl Avx2 {
        /// A mask whose first `count` lanes are set.
        #[inline(always)]
        unsafe fn mask(count: usize) -> __m256i {
            static EDGE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: `count` is at most 8, so eight elements follow; AVX is there by the trait's contract.
            unsafe { _mm256_loadu_si256(EDGE.as_ptr().add(8 - count).cast()) }
        }
    }

    impl Lanes for Avx2 {
        type Item = f32;
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: AVX2 is there by the trait's contract.
            Self(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises eight elements.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            // SAFETY: masked lanes are not touched.
            Self(unsafe { _mm256_maskload_ps(from, Self::mask(count)) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller promises eight elements.
            unsafe { _mm256_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            // SAFETY: masked lanes are not touched.
            unsafe { _mm256_maskstore_ps(to, Self::mask(count), self.0) };
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: FMA is there by the trait's contract.
            Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn greater(self, b: Self) -> Self {
            // SAFETY: AVX is there by the trait's contract. The maximum is `b` where one of both is NaN.
            unsafe {
                let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
                Self(_mm256_blendv_ps(_mm256_max_ps(self.0, b.0), self.0, is_nan))
            }
        }
    }

    /// Sixteen `f32` of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    impl Avx512 {
        #[inline(always)]
        fn mask(count: usize) -> __mmask16 {
            ((1u32 << count) - 1) as __mmask16
        }
    }

    impl Lanes for Avx512 {
        type Item = f32;
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises sixteen elements.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            // SAFETY: masked lanes are not touched.
            Self(unsafe { _mm512_maskz_loadu_ps(Self::mask(count), from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller promises sixteen elements.
            unsafe { _mm512_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            // SAFETY: masked lanes are not touched.
            unsafe { _mm512_mask_storeu_ps(to, Self::mask(count), self.0) };
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn greater(self, b: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract. The maximum is `b` where one of both is NaN.
            unsafe {
                let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                Self(_mm512_mask_mov_ps(_mm512_max_ps(self.0, b.0), is_nan, self.0))
            }
        }
    }
}
