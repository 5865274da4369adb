//! A convolution under a 2 × 2 max-pool: the four positions of a window stay in registers, and only the greatest
//! leaves them.

use crate::lanes::{Lanes, Plain};
use crate::ops::gather::check_offsets;
use crate::ops::winners::{after_relu, better};
use crate::tile::panel_width;
use crate::{DType, Float, Simd, simd};
use std::array::from_fn;

/// Positions in a window.
pub(crate) const WINDOW: usize = 4;

/// `best[w, j] = max_p Σ_t a[rows[4w + p] + steps[t]] · B[t, j] + bias[j]`, in one thread.
#[derive(Clone, Copy)]
pub(crate) struct PooledProduct<'a, T> {
    pub(crate) a: &'a [T],
    /// The positions, window by window.
    pub(crate) rows: &'a [usize],
    pub(crate) steps: &'a [usize],
    /// `B` as `[panel, steps, width]`, with the width of [`panel_width`].
    pub(crate) panels: &'a [T],
    pub(crate) columns: usize,
    pub(crate) bias: Option<&'a [T]>,
}

/// Where the results go; with places (and bytes from one window's to the next's) they are those after a ReLU.
#[derive(Clone, Copy)]
struct Out<T> {
    best: *mut T,
    places: Option<(*mut u8, usize)>,
}

impl<T: Float> PooledProduct<'_, T> {
    /// Writes the greatest of all windows, `[windows, columns]`.
    ///
    /// # Panics
    /// If a slice is shorter than it must be, or a row's step lies beyond `a`.
    pub(crate) fn greatest(&self, best: &mut [T]) {
        assert!(self.windows() * self.columns <= best.len());
        // SAFETY: `best` is long enough.
        unsafe { self.run(Out { best: best.as_mut_ptr(), places: None }) }
    }

    /// Writes the greatest of all windows after a ReLU, and where it was, as [`win`](crate::ops::winners::win) does;
    /// `places` has `stride` bytes a window.
    ///
    /// # Panics
    /// As [`greatest`](Self::greatest).
    pub(crate) fn winners(&self, best: &mut [T], places: &mut [u8], stride: usize) {
        assert!(self.windows() * self.columns <= best.len());
        assert!(self.windows() == 0 || (self.windows() - 1) * stride + self.columns <= places.len());
        // SAFETY: both are long enough.
        unsafe { self.run(Out { best: best.as_mut_ptr(), places: Some((places.as_mut_ptr(), stride)) }) }
    }

    fn windows(&self) -> usize {
        self.rows.len() / WINDOW
    }

    /// # Safety
    /// There is room for the results.
    unsafe fn run(&self, out: Out<T>) {
        check_offsets(self.a, self.rows, self.steps);
        assert!(self.columns.next_multiple_of(panel_width::<T>()) * self.steps.len() <= self.panels.len());
        assert!(self.bias.is_none_or(|bias| self.columns <= bias.len()));
        #[cfg(target_arch = "x86_64")]
        if T::DTYPE == DType::F32 {
            // SAFETY: `T` is `f32`, so these are the same types.
            let product = unsafe { &*std::ptr::from_ref(self).cast::<PooledProduct<'_, f32>>() };
            let out = Out { best: out.best.cast(), places: out.places };
            match simd() {
                // SAFETY: the instructions exist; sizes and offsets are asserted above.
                Simd::Avx512 => return unsafe { x86::avx512(product, out) },
                // SAFETY: as above.
                Simd::Avx2 => return unsafe { x86::avx2(product, out) },
                Simd::Plain => {}
            }
        }
        // SAFETY: plain code runs everywhere; the rest as above.
        unsafe { panels::<Plain<T>, 1, 1>(self, out) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Out, PooledProduct, panels};
    use crate::lanes::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(product: &PooledProduct<'_, f32>, out: Out<f32>) {
        // SAFETY: the features are enabled here; the rest is the caller's promise.
        unsafe { panels::<Avx512, 2, 2>(product, out) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(product: &PooledProduct<'_, f32>, out: Out<f32>) {
        // SAFETY: as above.
        unsafe { panels::<Avx2, 1, 2>(product, out) }
    }
}

/// Panels of `V` vectors; in each all windows, `WINDOWS` at a time.
///
/// # Safety
/// All that the formula names lies in the slices, and there is room for the results.
#[inline(always)]
unsafe fn panels<L: Lanes, const WINDOWS: usize, const V: usize>(
    product: &PooledProduct<'_, L::Item>,
    out: Out<L::Item>,
) {
    let (width, windows) = (V * L::WIDTH, product.windows());
    for column in (0..product.columns).step_by(width) {
        let panel = product.panels.as_ptr().wrapping_add(column * product.steps.len());
        let lanes: [usize; V] = from_fn(|v| (product.columns - column).saturating_sub(v * L::WIDTH).min(L::WIDTH));
        // SAFETY: the caller's promise; masked vectors touch `lanes[v]` elements of bias and results.
        unsafe {
            let zero = L::splat(num_traits::Zero::zero());
            let bias: [L; V] = match product.bias {
                Some(bias) => from_fn(|v| L::load_first(bias.as_ptr().wrapping_add(column + v * L::WIDTH), lanes[v])),
                None => [zero; V],
            };
            for w in (0..windows).step_by(WINDOWS) {
                let sums = sums::<L, WINDOWS, V>(product, panel, w);
                for (i, sums) in sums.iter().enumerate().take(windows - w) {
                    for v in 0..V {
                        let at = column + v * L::WIDTH;
                        // Adding one number to all four does not change which is the greatest.
                        let top = match out.places {
                            None => sums[0][v].greater(sums[1][v]).greater(sums[2][v].greater(sums[3][v])).add(bias[v]),
                            Some((places, stride)) => {
                                let mut top = (sums[0][v], zero);
                                for p in 1..WINDOW {
                                    top = better(top, sums[p][v], p);
                                }
                                let (top, place) = after_relu((top.0.add(bias[v]), top.1));
                                place.store_bytes(places.wrapping_add((w + i) * stride + at), lanes[v]);
                                top
                            }
                        };
                        let to = out.best.wrapping_add((w + i) * product.columns + at);
                        if lanes[v] == L::WIDTH { top.store(to) } else { top.store_first(to, lanes[v]) }
                    }
                }
            }
        }
    }
}

/// The sums of the windows from `w` on; those beyond the last repeat it.
///
/// # Safety
/// As [`panels`].
#[inline(always)]
unsafe fn sums<L: Lanes, const WINDOWS: usize, const V: usize>(
    product: &PooledProduct<'_, L::Item>,
    panel: *const L::Item,
    w: usize,
) -> [[[L; V]; WINDOW]; WINDOWS] {
    let a: [[*const L::Item; WINDOW]; WINDOWS] = from_fn(|i| {
        let rows = &product.rows[(w + i).min(product.windows() - 1) * WINDOW..];
        from_fn(|p| product.a.as_ptr().wrapping_add(rows[p]))
    });
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[L::splat(num_traits::Zero::zero()); V]; WINDOW]; WINDOWS];
        let mut b = panel;
        for &at in product.steps {
            let row: [L; V] = from_fn(|v| L::load(b.add(v * L::WIDTH)));
            for i in 0..WINDOWS {
                for p in 0..WINDOW {
                    let x = L::splat(*a[i][p].wrapping_add(at));
                    for v in 0..V {
                        sums[i][p][v] = x.mul_add(row[v], sums[i][p][v]);
                    }
                }
            }
            b = b.add(V * L::WIDTH);
        }
        sums
    }
}
