//! The weight gradient of a convolution under a max-pool: only the winner of each window carries a gradient.
//!
//! The input that the taps of a window's positions see fits one AVX-512 register, and each channel's lane picks from it
//! what its winner saw: a quarter of the multiplications of a 2 × 2 pool, and no `dy` with zeros in it.

use crate::{DType, Float, Simd, Window2d, simd};
use std::array::from_fn;

/// Nanoseconds of one multiply-add of a winner.
pub(crate) const NS_PER_MAC: f64 = 0.03;

/// Lanes of a register, which holds a patch of `SIDE` rows of as many elements.
const LANES: usize = 16;
const SIDE: usize = 4;
/// Taps whose sums are kept in registers at once: those of a 3 × 3 kernel.
const TAPS: usize = 9;

/// Where the elements that a window's positions see lie in a patch.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct Picked {
    /// The rows and columns of a patch.
    size: [usize; 2],
    /// For each position of a window the lane that its first tap sees.
    places: [u32; LANES],
    /// From there, the lane of each tap.
    taps: Vec<u32>,
}

/// One image of one group.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct Image<'a, T> {
    /// The framed input `[c, volume]`.
    pub(crate) x: &'a [T],
    /// Elements from a channel of it to the next, and from a row to the next.
    pub(crate) pitch: [usize; 2],
    /// Where in a channel each window's patch begins.
    pub(crate) windows: &'a [usize],
    /// `[windows, o]`
    pub(crate) dy: &'a [T],
    /// Who won, `stride` bytes a window.
    pub(crate) winners: &'a [u8],
    pub(crate) stride: usize,
}

impl Picked {
    /// None where the machine lacks the instructions, a patch does not fit, or it does not pay.
    pub(crate) fn new<T: Float>(conv: Window2d, pool: [usize; 2]) -> Option<Self> {
        if T::DTYPE != DType::F32 || simd() != Simd::Avx512 {
            return None;
        }
        let size = from_fn(|side| (pool[side] - 1) * conv.stride[side] + conv.span(side));
        // What the pool spares must make up for the slots of taps that are not there.
        let taps = conv.kernel[0] * conv.kernel[1];
        let pays = 2 * pool[0] * pool[1] * taps >= 3 * taps.next_multiple_of(TAPS);
        if size.iter().any(|&size| size > SIDE) || !pays {
            return None;
        }
        let lane = |by: [usize; 2], [i, j]: [usize; 2]| (i * by[0] * SIDE + j * by[1]) as u32;
        let places = from_fn(|p| if p < pool[0] * pool[1] { lane(conv.stride, [p / pool[1], p % pool[1]]) } else { 0 });
        let [kh, kw] = conv.kernel;
        let taps = (0..kh * kw).map(|t| lane(conv.dilation, [t / kw, t % kw])).collect();
        Some(Self { size, places, taps })
    }

    /// Adds an image's part of the gradient to `sums: [c, taps, o]`; `bias: [o]` becomes the sum of what the ReLU let
    /// through of `dy`. An infinite input counts where it is the winner's alone.
    ///
    /// # Panics
    /// If a slice is shorter than its sizes say.
    pub(crate) fn add<T: Float>(&self, image: &Image<'_, T>, sums: &mut [T], bias: &mut [T]) {
        let (windows, o, taps) = (image.windows.len(), bias.len(), self.taps.len());
        assert!(T::DTYPE == DType::F32 && image.dy.len() >= windows * o);
        assert!(windows == 0 || (windows - 1) * image.stride + o <= image.winners.len());
        bias.fill(T::zero());
        let Some(last) = image.windows.iter().max() else { return };
        let [channel, row] = image.pitch;
        let within = last + (self.size[0] - 1) * row + self.size[1];
        assert!(sums.len() / (taps * o).max(1) * channel <= image.x.len() && within <= channel);
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `T` is `f32`, so these are the same types.
            let image = unsafe { &*std::ptr::from_ref(image).cast::<Image<'_, f32>>() };
            let [sums, bias] = [sums, bias].map(|x| {
                // SAFETY: as above.
                unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast::<f32>(), x.len()) }
            });
            // SAFETY: `new` found the instructions; all that is read lies in its slice by the assertions above.
            unsafe { x86::add(self, image, sums, bias) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Image, LANES, Picked, SIDE, TAPS};
    use crate::ops::winners::CUT;
    use std::arch::x86_64::*;
    use std::array::from_fn;

    /// # Safety
    /// AVX-512 exists, and the sizes are as [`Picked::add`] asserts.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn add(picked: &Picked, image: &Image<'_, f32>, sums: &mut [f32], bias: &mut [f32]) {
        let o = bias.len();
        for (c, sums) in sums.chunks_exact_mut(picked.taps.len() * o).enumerate() {
            for (taps, sums) in picked.taps.chunks(TAPS).zip(sums.chunks_mut(TAPS * o)) {
                for o0 in (0..o).step_by(2 * LANES) {
                    // SAFETY: as promised.
                    unsafe {
                        match o - o0 > LANES {
                            true => block::<2>(picked, image, c, taps, o0, sums, o),
                            false => block::<1>(picked, image, c, taps, o0, sums, o),
                        }
                    }
                }
            }
        }
        for (w, dy) in image.dy.chunks_exact(o).take(image.windows.len()).enumerate() {
            let winners = &image.winners[w * image.stride..][..o];
            for ((sum, &dy), &winner) in bias.iter_mut().zip(dy).zip(winners) {
                *sum += if winner == CUT { 0.0 } else { dy };
            }
        }
    }

    /// Some taps, in at most `V` vectors of channels from `o0` on.
    ///
    /// # Safety
    /// As [`add`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    unsafe fn block<const V: usize>(
        picked: &Picked,
        image: &Image<'_, f32>,
        c: usize,
        taps: &[u32],
        o0: usize,
        sums: &mut [f32],
        o: usize,
    ) {
        let [rows, columns] = picked.size;
        let first = |count: usize| ((1u32 << count.min(LANES)) - 1) as u16;
        let lanes: [__mmask16; V] = from_fn(|v| first(o - o0 - v * LANES));
        let row_masks: [__mmask8; SIDE] = from_fn(|i| if i < rows { first(columns) as u8 } else { 0 });
        // SAFETY: sixteen numbers.
        let places = unsafe { _mm512_loadu_si512(picked.places.as_ptr().cast()) };
        // Taps beyond the last repeat it.
        let offsets: [__m512i; TAPS] = from_fn(|t| _mm512_set1_epi32(taps[t.min(taps.len() - 1)] as i32));
        let mut new = [[_mm512_setzero_ps(); V]; TAPS];
        let x = image.x[c * image.pitch[0]..].as_ptr();
        for (w, &at) in image.windows.iter().enumerate() {
            // SAFETY: masked elements are not touched, the others lie in their slices.
            let row = |i: usize| unsafe { _mm_maskz_loadu_ps(row_masks[i], x.wrapping_add(at + i * image.pitch[1])) };
            let patch = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(row(0)), row(1));
            let patch = _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(patch, row(2)), row(3));
            for v in 0..V {
                let at = o0 + v * LANES;
                // SAFETY: as above.
                let (kept, winners, dy) = unsafe {
                    let winners = image.winners.as_ptr().wrapping_add(w * image.stride + at);
                    let winners = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes[v], winners.cast()));
                    let kept = _mm512_mask_cmpneq_epi32_mask(lanes[v], winners, _mm512_set1_epi32(CUT.into()));
                    (kept, winners, _mm512_maskz_loadu_ps(kept, image.dy.as_ptr().wrapping_add(w * o + at)))
                };
                let place = _mm512_permutexvar_epi32(winners, places);
                for t in 0..TAPS {
                    let seen = _mm512_maskz_permutexvar_ps(kept, _mm512_add_epi32(place, offsets[t]), patch);
                    new[t][v] = _mm512_fmadd_ps(seen, dy, new[t][v]);
                }
            }
        }
        for (t, new) in new.iter().enumerate().take(taps.len()) {
            for v in 0..V {
                let to = sums[t * o + o0 + v * LANES..].as_mut_ptr();
                // SAFETY: masked elements are not touched, the others lie in `sums`.
                unsafe {
                    let sum = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes[v], to), new[v]);
                    _mm512_mask_storeu_ps(to, lanes[v], sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::winners::CUT;
    use crate::{Rng, Tensor};

    /// Against the definition, in whole numbers, whose sums are exact.
    fn check([c, h, w, o]: [usize; 4], conv: Window2d, pool: [usize; 2]) {
        let Some(picked) = Picked::new::<f32>(conv, pool) else {
            assert_ne!(simd(), Simd::Avx512, "{conv:?} under {pool:?} fits a patch");
            return;
        };
        let mut rng = Rng::new(3);
        let mut whole = |len: usize, least: f32, beyond: f32| {
            let x = Tensor::uniform([len], least, beyond, &mut rng);
            x.slice_of::<f32>().iter().map(|x| x.floor()).collect::<Vec<_>>()
        };
        let positions = conv.output("test", [h, w]).unwrap();
        let pooled: [usize; 2] = from_fn(|side| positions[side] / pool[side]);
        let (count, stride) = (pooled[0] * pooled[1], o + 3);
        let windows: Vec<usize> = (0..count)
            .map(|i| [i / pooled[1], i % pooled[1]])
            .map(|[i, j]| i * pool[0] * conv.stride[0] * w + j * pool[1] * conv.stride[1])
            .collect();
        let (x, dy) = (whole(c * h * w, -9.0, 9.0), whole(count * o, -9.0, 9.0));
        let area = pool[0] * pool[1];
        let winners = whole(count * stride, 0.0, area as f32 + 1.0);
        let winners: Vec<u8> =
            winners.iter().map(|&place| if place == area as f32 { CUT } else { place as u8 }).collect();
        let [kh, kw] = conv.kernel;
        let (mut sums, mut bias) = (whole(c * kh * kw * o, -9.0, 9.0), vec![1.0; o]);
        let (mut want, mut want_bias) = (sums.clone(), vec![0.0; o]);
        for [at, channel] in (0..count * o).map(|i| [i / o, i % o]) {
            let winner = usize::from(winners[at * stride + channel]);
            if winner == usize::from(CUT) {
                continue;
            }
            want_bias[channel] += dy[at * o + channel];
            let [i, j] = [winner / pool[1], winner % pool[1]];
            let first = windows[at] + i * conv.stride[0] * w + j * conv.stride[1];
            for t in 0..c * kh * kw {
                let [i, j] = [t / kw % kh * conv.dilation[0], t % kw * conv.dilation[1]];
                let seen = x[t / (kh * kw) * h * w + first + i * w + j];
                want[t * o + channel] += seen * dy[at * o + channel];
            }
        }
        let image = Image { x: &x, pitch: [h * w, w], windows: &windows, dy: &dy, winners: &winners, stride };
        picked.add(&image, &mut sums, &mut bias);
        assert_eq!((sums, bias), (want, want_bias), "{c} × {h} × {w} → {o}, {conv:?} under {pool:?}");
    }

    #[test]
    fn equals_the_definition() {
        check([1, 28, 28, 32], Window2d::new(3), [2, 2]);
        check([3, 9, 8, 5], Window2d::new(3), [2, 2]);
        check([2, 11, 11, 49], Window2d::new(2).stride(2), [2, 2]);
        check([1, 7, 12, 70], Window2d::new(2).dilation(2), [2, 2]);
        check([2, 6, 9, 17], Window2d::new([1, 3]), [4, 2]);
        check([1, 9, 6, 3], Window2d::new([1, 4]), [4, 1]);
    }

    #[test]
    fn without_windows_the_sum_is_zero() {
        let Some(picked) = Picked::new::<f32>(Window2d::new(3), [2, 2]) else { return };
        let image = Image { x: &[], pitch: [0, 0], windows: &[], dy: &[], winners: &[], stride: 2 };
        let (mut sums, mut bias) = ([5.0f32; 18], [7.0f32; 2]);
        picked.add(&image, &mut sums, &mut bias);
        assert_eq!((sums, bias), ([5.0; 18], [0.0; 2]));
    }

    #[test]
    fn what_does_not_fit_or_pay_goes_the_other_way() {
        assert!(Picked::new::<f32>(Window2d::new(5), [2, 2]).is_none());
        assert!(Picked::new::<f32>(Window2d::new(3).stride(2), [2, 2]).is_none());
        assert!(Picked::new::<f32>(Window2d::new(4), [1, 1]).is_none());
        assert!(Picked::new::<f32>(Window2d::new(1), [2, 2]).is_none());
        assert!(Picked::new::<f64>(Window2d::new(3), [2, 2]).is_none());
    }
}
