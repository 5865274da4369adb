//! A convolution under a 2 × 2 max-pool: the four positions of a window stay in registers, and only the greatest
//! leaves them.

use crate::Float;
use crate::lanes::{Lanes, Plain};
use crate::ops::gather::check_offsets;
use crate::ops::winners::{after_relu, better};
use crate::tile::panel_width;
#[cfg(target_arch = "x86_64")]
use crate::{DType, Simd, simd};
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

    /// Writes the greatest of all windows after a ReLU, and where it was, as [`win`](crate::ops::winners::win) does of
    /// the sums without bias (with it two of them may become equal); `places` has `stride` bytes a window.
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
        unsafe { panels::<Plain<T>, 1, 1, 1>(self, out) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Out, PooledProduct, panels};
    use crate::lanes::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(product: &PooledProduct<'_, f32>, out: Out<f32>) {
        // SAFETY: the features are enabled here; the rest is the caller's promise.
        unsafe { panels::<Avx512, 2, 4, 2>(product, out) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(product: &PooledProduct<'_, f32>, out: Out<f32>) {
        // SAFETY: as above.
        unsafe { panels::<Avx2, 1, 2, 2>(product, out) }
    }
}

/// Panels of `V` vectors, `WINDOWS` windows at a time; a last one of only one vector, `MORE` at a time.
///
/// # Safety
/// All that the formula names lies in the slices, and there is room for the results.
#[inline(always)]
unsafe fn panels<L: Lanes, const WINDOWS: usize, const MORE: usize, const V: usize>(
    product: &PooledProduct<'_, L::Item>,
    out: Out<L::Item>,
) {
    let width = V * L::WIDTH;
    for column in (0..product.columns).step_by(width) {
        // SAFETY: the caller's promise.
        unsafe {
            match product.columns - column > L::WIDTH {
                true => panel::<L, WINDOWS, V>(product, out, column, width),
                false => panel::<L, MORE, 1>(product, out, column, width),
            }
        }
    }
}

/// All windows of the panel that begins at `column` and has rows of `width` elements, `V` vectors of which are columns.
///
/// # Safety
/// As [`panels`].
#[inline(always)]
unsafe fn panel<L: Lanes, const WINDOWS: usize, const V: usize>(
    product: &PooledProduct<'_, L::Item>,
    out: Out<L::Item>,
    column: usize,
    width: usize,
) {
    let lanes: [usize; V] = from_fn(|v| (product.columns - column).saturating_sub(v * L::WIDTH).min(L::WIDTH));
    // SAFETY: the caller's promise; masked vectors touch `lanes[v]` elements of bias and results.
    unsafe {
        let zero = L::splat(num_traits::Zero::zero());
        let bias: [L; V] = match product.bias {
            Some(bias) => from_fn(|v| L::load_first(bias.as_ptr().wrapping_add(column + v * L::WIDTH), lanes[v])),
            None => [zero; V],
        };
        for w in (0..product.windows()).step_by(WINDOWS) {
            let sums = sums::<L, WINDOWS, V>(product, column, width, w);
            for (i, sums) in sums.iter().enumerate().take(product.windows() - w) {
                for v in 0..V {
                    let at = column + v * L::WIDTH;
                    // The bias is the same for all four, so it comes after the greatest is known.
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

/// The sums of the windows from `w` on; those beyond the last repeat it.
///
/// # Safety
/// As [`panels`].
#[inline(always)]
unsafe fn sums<L: Lanes, const WINDOWS: usize, const V: usize>(
    product: &PooledProduct<'_, L::Item>,
    column: usize,
    width: usize,
    w: usize,
) -> [[[L; V]; WINDOW]; WINDOWS] {
    let a: [[*const L::Item; WINDOW]; WINDOWS] = from_fn(|i| {
        let rows = &product.rows[(w + i).min(product.windows() - 1) * WINDOW..];
        from_fn(|p| product.a.as_ptr().wrapping_add(rows[p]))
    });
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[L::splat(num_traits::Zero::zero()); V]; WINDOW]; WINDOWS];
        let mut b = product.panels.as_ptr().wrapping_add(column * product.steps.len());
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
            b = b.add(width);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::winners::win;

    /// Against sums and maxima one after another, in whole numbers, with NaN and infinities among the input.
    fn check<T: Float>([windows, steps, columns]: [usize; 3]) {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let number = |i: usize| T::from_f64(if i % 97 == 96 { odd[i / 97 % 3] } else { ((i * 31) % 19) as f64 - 9.0 });
        let a: Vec<T> = (0..600).map(number).collect();
        let rows: Vec<usize> = (0..windows * WINDOW).map(|r| (r * 37) % 300).collect();
        let taps: Vec<usize> = (0..steps).map(|t| (t * 29) % 300).collect();
        let width = panel_width::<T>();
        let panels: Vec<T> = (0..columns.next_multiple_of(width) * steps).map(|i| number(i * 2 % 96)).collect();
        let bias: Vec<T> = (0..columns).map(|j| number(j % 50)).collect();
        let weight = |t: usize, j: usize| panels[j / width * width * steps + t * width + j % width];
        let sum = |r: usize, j: usize| (0..steps).fold(T::zero(), |sum, t| sum + a[rows[r] + taps[t]] * weight(t, j));
        let sums: Vec<T> =
            (0..rows.len() * columns).map(|i| sum(i / columns, i % columns) + bias[i % columns]).collect();

        let stride = columns + 3;
        let (mut want, mut want_places) = (vec![T::one(); windows * columns], vec![7; windows * stride]);
        win(&sums, WINDOW, columns, &mut want, &mut want_places, stride);
        let product = PooledProduct { a: &a, rows: &rows, steps: &taps, panels: &panels, columns, bias: Some(&bias) };
        let (mut best, mut places) = (vec![T::zero(); windows * columns], vec![7; windows * stride]);
        product.winners(&mut best, &mut places, stride);
        let same = |a: &[T], b: &[T]| a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        assert!(same(&best, &want) && places == want_places, "{windows} windows, {steps} steps, {columns} columns");

        product.greatest(&mut best);
        for (i, best) in best.iter().enumerate() {
            let all: Vec<T> = (0..WINDOW).map(|p| sums[(i / columns * WINDOW + p) * columns + i % columns]).collect();
            let top = all.iter().fold(T::neg_infinity(), |a, &b| if b > a || b.is_nan() { b } else { a });
            assert!(*best == top || all.iter().any(|x| x.is_nan()) && best.is_nan(), "{windows}, {steps}, {columns}");
        }
    }

    #[test]
    fn the_greatest_of_each_window_wins() {
        for sizes in [[1, 9, 32], [3, 9, 16], [5, 1, 49], [2, 25, 8], [7, 4, 37], [6, 9, 65], [0, 9, 32]] {
            check::<f32>(sizes);
            check::<f64>(sizes);
        }
    }
}
