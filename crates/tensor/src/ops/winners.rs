//! The loops of the fused convolution, ReLU and max-pool: which position of each window wins, and what it gets back.
//!
//! Channels are innermost, so that they are the lanes of vectors.

use crate::lanes::{Job, Lanes, Lanewise, Plain};
use crate::simd::vectorized;
use crate::{DType, Float};

/// The ReLU cut this element: it passes no gradient.
pub(crate) const CUT: u8 = u8::MAX;

/// For each window of `sums: [windows, window, channels]` and each channel the largest sum after the ReLU, and where it
/// was; `places` has `stride` bytes a window. NaN counts as largest.
///
/// # Panics
/// If a slice is shorter than this, or a window has 255 positions or more.
pub(crate) fn win<T: Float>(
    sums: &[T],
    window: usize,
    channels: usize,
    best: &mut [T],
    places: &mut [u8],
    stride: usize,
) {
    let windows = best.len() / channels.max(1);
    assert!(window < usize::from(CUT) && windows * channels == best.len() && sums.len() == best.len() * window);
    assert!(windows == 0 || (windows - 1) * stride + channels <= places.len());
    let task = Task {
        sums: sums.as_ptr(),
        best: best.as_mut_ptr(),
        places: places.as_mut_ptr(),
        sizes: [windows, window, channels, stride],
    };
    if T::DTYPE == DType::F32 {
        let Task { sums, best, places, sizes } = task;
        return f32::with_lanes(Task { sums: sums.cast(), best: best.cast(), places, sizes }); // `T` is `f32`
    }
    // SAFETY: plain code runs everywhere; the slices are long enough by the assertions above.
    unsafe { run::<Plain<T>>(task) }
}

/// The arguments of [`win`], their lengths checked.
#[derive(Clone, Copy)]
struct Task<T> {
    sums: *const T,
    best: *mut T,
    places: *mut u8,
    /// Windows, positions of one, channels, and bytes of places a window.
    sizes: [usize; 4],
}

impl Job<f32> for Task<f32> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = f32>>(self) {
        // SAFETY: the caller has these instructions, and `win` checked the lengths.
        unsafe { run::<L>(self) }
    }
}

/// The greater of `top` and `x`, and its place; NaN counts as greatest.
///
/// # Safety
/// The instructions of `L` exist.
#[inline(always)]
pub(crate) unsafe fn better<L: Lanes>((top, place): (L, L), x: L, position: usize) -> (L, L) {
    // SAFETY: the caller's promise.
    unsafe {
        let wins = x.beats(top);
        (top.replace(wins, x), place.replace(wins, number(position)))
    }
}

/// What a ReLU leaves of the greatest, and of its place.
///
/// # Safety
/// The instructions of `L` exist.
#[inline(always)]
pub(crate) unsafe fn after_relu<L: Lanes>((top, place): (L, L)) -> (L, L) {
    // SAFETY: the caller's promise.
    unsafe {
        let cut = top.at_most(number(0));
        (top.replace(cut, number(0)), place.replace(cut, number(usize::from(CUT))))
    }
}

#[inline(always)]
unsafe fn number<L: Lanes>(n: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe { L::splat(<L::Item as crate::Element>::from_f64(n as f64)) }
}

#[inline(always)]
unsafe fn run<L: Lanes>(task: Task<L::Item>) {
    let [windows, window, channels, stride] = task.sizes;
    for i in 0..windows {
        for o in (0..channels).step_by(L::WIDTH) {
            let count = (channels - o).min(L::WIDTH);
            // SAFETY: every place named lies in its slice, by the assertions of `win`.
            unsafe {
                let at = task.sums.add(i * window * channels + o);
                let load = |from| if count == L::WIDTH { L::load(from) } else { L::load_first(from, count) };
                let mut top = (load(at), number(0));
                for position in 1..window {
                    top = better(top, load(at.add(position * channels)), position);
                }
                let (top, place) = after_relu(top);
                let best = task.best.add(i * channels + o);
                if count == L::WIDTH {
                    top.store(best)
                } else {
                    top.store_first(best, count)
                }
                place.store_bytes(task.places.add(i * stride + o), count);
            }
        }
    }
}

vectorized! {
    /// Spreads `dy: [windows, channels]` over `out: [windows, window, channels]`: to the place that won, zeros
    /// elsewhere; `sums: [channels]` becomes the sum of what the ReLU let through. `winners` has `stride` bytes a
    /// window.
    pub(crate) fn keep<T: Float>(dy: &[T], winners: &[u8], stride: usize, window: usize, out: &mut [T], sums: &mut [T]) {
        let channels = sums.len();
        sums.fill(T::zero());
        for (i, (dy, out)) in dy.chunks_exact(channels).zip(out.chunks_exact_mut(window * channels)).enumerate() {
            let winners = &winners[i * stride..][..channels];
            for ((sum, &dy), &winner) in sums.iter_mut().zip(dy).zip(winners) {
                *sum += if winner == CUT { T::zero() } else { dy };
            }
            for (place, out) in out.chunks_exact_mut(channels).enumerate() {
                for ((out, &dy), &winner) in out.iter_mut().zip(dy).zip(winners) {
                    *out = if u32::from(winner) == place as u32 { dy } else { T::zero() };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, for all tails of channels, with NaN and infinities among the sums.
    fn check<T: Float>() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0];
        for (windows, window, channels, stride) in [(1, 1, 1, 1), (3, 4, 16, 16), (2, 6, 37, 40), (5, 9, 8, 11)] {
            let value = |i: usize| match i % 13 {
                0 => odd[i / 13 % 5],
                _ => ((i * 31) % 23) as f64 - 14.0,
            };
            let sums: Vec<T> = (0..windows * window * channels).map(|i| T::from_f64(value(i))).collect();
            let (mut best, mut places) = (vec![T::one(); windows * channels], vec![7; windows * stride]);
            win(&sums, window, channels, &mut best, &mut places, stride);
            for i in 0..windows {
                for o in 0..channels {
                    let along: Vec<T> = (0..window).map(|at| sums[(i * window + at) * channels + o]).collect();
                    let (found, place) = (best[i * channels + o], places[i * stride + o]);
                    if along.iter().any(|x| x.is_nan()) {
                        assert!(found.is_nan() && along[usize::from(place)].is_nan());
                        continue;
                    }
                    let largest = along.iter().fold(T::neg_infinity(), |a, &b| a.max(b));
                    assert_eq!(found, largest.max(T::zero()));
                    match largest > T::zero() {
                        true => assert_eq!(usize::from(place), along.iter().position(|&x| x == largest).unwrap()),
                        false => assert_eq!(place, CUT),
                    }
                }
                assert!(places[i * stride + channels..(i + 1) * stride].iter().all(|&place| place == 7));
            }
        }
    }

    #[test]
    fn the_largest_wins() {
        check::<f32>();
        check::<f64>();
    }
}
