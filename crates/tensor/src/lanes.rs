//! A register's worth of elements, for the few kernels that the compiler does not vectorise well by itself.

use crate::{Element, Float};
#[cfg(target_arch = "x86_64")]
use crate::{Simd, simd};

/// Some neighbouring elements that are computed with together.
///
/// # Safety
/// Every method may use instructions of its level of [`Simd`](crate::Simd): call it only where they exist. Pointers
/// must be valid for [`WIDTH`](Self::WIDTH) elements, in the `_first` methods for `count` of them.
pub(crate) trait Lanes: Copy {
    type Item: Float;
    type Mask: Copy;
    const WIDTH: usize;
    unsafe fn splat(x: Self::Item) -> Self;
    unsafe fn load(from: *const Self::Item) -> Self;
    /// Zeros beyond `count`, which is at most `WIDTH`.
    unsafe fn load_first(from: *const Self::Item, count: usize) -> Self;
    unsafe fn store(self, to: *mut Self::Item);
    unsafe fn store_first(self, to: *mut Self::Item, count: usize);
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    /// The sum of all lanes, taken in `f64`.
    unsafe fn sum(self) -> f64;
    /// `self · b + c`
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// Where `self > other`, or `self` is NaN.
    unsafe fn beats(self, other: Self) -> Self::Mask;
    /// Where `self ≤ other`.
    unsafe fn at_most(self, other: Self) -> Self::Mask;
    /// `yes` where the mask is set, else `self`.
    unsafe fn replace(self, mask: Self::Mask, yes: Self) -> Self;
    /// Whole numbers from 0 to 255 as the first `count` bytes, at most `WIDTH`.
    unsafe fn store_bytes(self, to: *mut u8, count: usize);
    /// The greater of each two lanes, NaN if one of them is.
    unsafe fn greater(self, b: Self) -> Self;
}

/// A kernel that is written once, for lanes of any kind.
pub(crate) trait Job<T> {
    type Output;

    /// # Safety
    /// The instructions of `L` exist.
    unsafe fn run<L: Lanes<Item = T>>(self) -> Self::Output;
}

/// What has lanes.
pub(crate) trait Lanewise: Float {
    /// Runs the kernel with the widest lanes of this machine.
    fn with_lanes<J: Job<Self>>(job: J) -> J::Output;
}

impl Lanewise for f32 {
    fn with_lanes<J: Job<f32>>(job: J) -> J::Output {
        #[cfg(target_arch = "x86_64")]
        match simd() {
            // SAFETY: `simd` found these instructions.
            Simd::Avx512 => return unsafe { x86::avx512(job) },
            // SAFETY: as above.
            Simd::Avx2 => return unsafe { x86::avx2(job) },
            Simd::Plain => {}
        }
        // SAFETY: plain code runs everywhere.
        unsafe { job.run::<Plain<f32>>() }
    }
}

impl Lanewise for f64 {
    fn with_lanes<J: Job<f64>>(job: J) -> J::Output {
        // SAFETY: plain code runs everywhere.
        unsafe { job.run::<Plain<f64>>() }
    }
}

/// The sums over all elements of some slices of the terms that each element gives, taken lane by lane.
///
/// # Panics
/// If the slices are not equally long.
///
/// # Safety
/// The instructions of `L` exist.
#[inline(always)]
pub(crate) unsafe fn sums<L: Lanes, const I: usize, const N: usize>(
    inputs: [&[L::Item]; I],
    terms: impl Fn([L; I]) -> [L; N],
) -> [f64; N] {
    const APART: usize = 4; // additions that do not wait for one another
    let len = inputs[0].len();
    assert!(inputs.iter().all(|x| x.len() == len), "one length");
    // SAFETY: whole vectors end before `len`, the others have `count` elements; lanes are their elements in memory, so
    // `first` has room for as many. The rest is the caller's promise.
    unsafe {
        let zero = L::splat(num_traits::Zero::zero());
        let (mut sums, mut at) = ([[zero; N]; APART], 0);
        while at + APART * L::WIDTH <= len {
            for (part, sums) in sums.iter_mut().enumerate() {
                let mut x = [zero; I];
                for i in 0..I {
                    x[i] = L::load(inputs[i].as_ptr().add(at + part * L::WIDTH));
                }
                let terms = terms(x);
                for n in 0..N {
                    sums[n] = sums[n].add(terms[n]);
                }
            }
            at += APART * L::WIDTH;
        }
        while at < len {
            let count = (len - at).min(L::WIDTH);
            let mut x = [zero; I];
            for i in 0..I {
                x[i] = L::load_first(inputs[i].as_ptr().add(at), count);
            }
            let terms = terms(x);
            for n in 0..N {
                let mut first = zero;
                terms[n].store_first((&raw mut first).cast(), count);
                sums[0][n] = sums[0][n].add(first);
            }
            at += count;
        }
        let mut totals = [0.0; N];
        for n in 0..N {
            totals[n] = sums[0][n].add(sums[1][n]).add(sums[2][n].add(sums[3][n])).sum();
        }
        totals
    }
}

/// Eight elements in ordinary code, of either float type.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Plain<T>([T; 8]);

impl<T: Float> Lanes for Plain<T> {
    type Item = T;
    type Mask = [bool; 8];
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
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0.map(Element::as_f64);
        ((a + b) + (c + d)) + ((e + f) + (g + h))
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Not `T::mul_add`, which is a library call where there is no such instruction.
        Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    unsafe fn beats(self, other: Self) -> [bool; 8] {
        std::array::from_fn(|i| self.0[i] > other.0[i] || self.0[i].is_nan())
    }

    #[inline(always)]
    unsafe fn at_most(self, other: Self) -> [bool; 8] {
        std::array::from_fn(|i| self.0[i] <= other.0[i])
    }

    #[inline(always)]
    unsafe fn replace(self, mask: [bool; 8], yes: Self) -> Self {
        Self(std::array::from_fn(|i| if mask[i] { yes.0[i] } else { self.0[i] }))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8, count: usize) {
        for i in 0..count {
            // SAFETY: the caller promises `count` bytes, at most eight.
            unsafe { to.add(i).write(self.0[i].as_f64() as u8) };
        }
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
    use super::{Job, Lanes};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512<J: Job<f32>>(job: J) -> J::Output {
        // SAFETY: the features are enabled here.
        unsafe { job.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<J: Job<f32>>(job: J) -> J::Output {
        // SAFETY: as above.
        unsafe { job.run::<Avx2>() }
    }

    /// Eight `f32` of AVX2.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
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
        type Mask = __m256;
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
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: AVX2 is there by the trait's contract.
            Self(unsafe { _mm256_add_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: AVX2 is there by the trait's contract.
            Self(unsafe { _mm256_sub_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: AVX2 is there by the trait's contract.
            Self(unsafe { _mm256_mul_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f64 {
            // SAFETY: AVX2 is there by the trait's contract.
            unsafe {
                let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(self.0));
                let four = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(self.0)), high);
                let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
                _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: FMA is there by the trait's contract.
            Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn beats(self, other: Self) -> __m256 {
            // SAFETY: AVX2 is there by the trait's contract.
            unsafe {
                let (more, nan) =
                    (_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0), _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
                _mm256_or_ps(more, nan)
            }
        }

        #[inline(always)]
        unsafe fn at_most(self, other: Self) -> __m256 {
            // SAFETY: AVX2 is there by the trait's contract.
            unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        unsafe fn replace(self, mask: __m256, yes: Self) -> Self {
            // SAFETY: AVX2 is there by the trait's contract.
            Self(unsafe { _mm256_blendv_ps(self.0, yes.0, mask) })
        }

        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8, count: usize) {
            // SAFETY: AVX2 is there by the trait's contract; `count` bytes of eight are written.
            unsafe {
                let whole = _mm256_cvttps_epi32(self.0);
                let halves = (_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
                let words = _mm_packus_epi32(halves.0, halves.1);
                let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes();
                to.copy_from_nonoverlapping(bytes.as_ptr(), count);
            }
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
    #[repr(transparent)]
    pub(crate) struct Avx512(__m512);

    impl Avx512 {
        #[inline(always)]
        fn mask(count: usize) -> __mmask16 {
            ((1u32 << count) - 1) as __mmask16
        }
    }

    impl Lanes for Avx512 {
        type Item = f32;
        type Mask = __mmask16;
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
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_add_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_sub_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_mul_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f64 {
            // SAFETY: AVX-512 is there by the trait's contract.
            unsafe {
                let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(self.0));
                _mm512_reduce_add_pd(_mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(self.0)), high))
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn beats(self, other: Self) -> __mmask16 {
            // SAFETY: AVX-512 is there by the trait's contract.
            unsafe {
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)
            }
        }

        #[inline(always)]
        unsafe fn at_most(self, other: Self) -> __mmask16 {
            // SAFETY: AVX-512 is there by the trait's contract.
            unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, other.0) }
        }

        #[inline(always)]
        unsafe fn replace(self, mask: __mmask16, yes: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            Self(unsafe { _mm512_mask_mov_ps(self.0, mask, yes.0) })
        }

        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8, count: usize) {
            // SAFETY: AVX-512 is there by the trait's contract; `count` bytes of sixteen are written.
            unsafe { _mm512_mask_cvtepi32_storeu_epi8(to.cast(), Self::mask(count), _mm512_cvttps_epi32(self.0)) };
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
