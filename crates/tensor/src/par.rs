//! The one place that decides what runs in parallel.
//!
//! Work is cut into pieces by its size, never by the number of threads, and partial sums are added in the order of
//! the pieces: so every result has the same bits with one thread and with a hundred.

use rayon::prelude::*;

/// Work below this many nanoseconds stays on the calling thread: waking another one costs 1 to 40 µs.
const WORTH_SHARING: usize = 20_000;
/// A piece of shared work takes about this many nanoseconds.
const PIECE: usize = 10_000;

/// The number of elements a piece should have if one takes `cost` nanoseconds.
///
/// A multiple of 64, so that pieces do not share cache lines; it depends on nothing but its argument.
fn piece_len(cost: f64) -> usize {
    ((PIECE as f64 / cost.max(1e-3)) as usize).div_ceil(64) * 64
}

/// Calls `work(start, piece)` for consecutive pieces of `out`; an element takes about `cost` nanoseconds.
pub(crate) fn elements<T: Send>(out: &mut [T], cost: f64, work: impl Fn(usize, &mut [T]) + Sync) {
    rows(out, 1, cost, work);
}

/// As [`elements`], but pieces hold whole rows of `row` elements; a row takes about `cost` nanoseconds, and `work`
/// gets the number of its first row.
pub(crate) fn rows<T: Send>(out: &mut [T], row: usize, cost: f64, work: impl Fn(usize, &mut [T]) + Sync) {
    let count = out.len() / row.max(1);
    if (count as f64 * cost) < WORTH_SHARING as f64 {
        return if out.is_empty() { () } else { work(0, out) };
    }
    let piece = if row == 1 { piece_len(cost) } else { ((PIECE as f64 / cost) as usize).max(1) };
    let pieces = out.par_chunks_mut(piece * row).enumerate();
    pieces.for_each(|(i, out)| work(i * piece, out));
}

/// Calls `work(i)` for every `i` below `count`; one call takes about `cost` nanoseconds.
pub(crate) fn tasks(count: usize, cost: f64, work: impl Fn(usize) + Sync + Send) {
    if count < 2 || (count as f64 * cost) < WORTH_SHARING as f64 {
        return (0..count).for_each(work);
    }
    let least = ((PIECE as f64 / cost) as usize).clamp(1, count);
    (0..count).into_par_iter().with_min_len(least).for_each(work);
}

/// The sum of `term` over consecutive pieces of `0..count`, added in order; an element takes about `cost` nanoseconds.
///
/// The cut depends on `count` alone, also when everything runs on one thread.
pub(crate) fn sum(count: usize, cost: f64, term: impl Fn(std::ops::Range<usize>) -> f64 + Sync + Send) -> f64 {
    let piece = piece_len(cost);
    let range = |i: usize| i * piece..((i + 1) * piece).min(count);
    let pieces = count.div_ceil(piece);
    if pieces < 2 || (count as f64 * cost) < WORTH_SHARING as f64 {
        return (0..pieces).map(|i| term(range(i))).sum();
    }
    let partial: Vec<f64> = (0..pieces).into_par_iter().map(|i| term(range(i))).collect();
    partial.into_iter().sum()
}

/// Runs `work` inside the thread pool, so that the many short parallel regions of a training step need not enter it
/// one by one (17 µs each from outside, 1 to 2 µs inside).
///
/// A whole `fit` is one call of this.
pub fn enter<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// A pointer that parallel tasks may write through, each to a place of its own.
pub(crate) struct Shared<T>(*mut T, usize);

// SAFETY: `Shared` only hands out places through `unsafe` methods whose callers promise that no two tasks touch the
// same one.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(out: &mut [T]) -> Self {
        Self(out.as_mut_ptr(), out.len())
    }

    /// The first element's address, for kernels that write scattered places.
    pub(crate) fn start(&self) -> *mut T {
        self.0
    }

    /// The elements `start..start + len`.
    ///
    /// # Safety
    /// While the slice lives, no other task reads or writes these elements.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.1 && len <= self.1 - start);
        // SAFETY: in bounds by the line above, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once() {
        for len in [0, 1, 63, 64, 65, 100_000, 1_000_003] {
            let mut out = vec![0u32; len];
            elements(&mut out, 1.0, |start, piece| {
                piece.iter_mut().enumerate().for_each(|(i, out)| *out += (start + i) as u32);
            });
            assert!(out.iter().enumerate().all(|(i, &x)| x == i as u32), "{len}");
        }
        let mut out = vec![0u32; 7 * 3000];
        rows(&mut out, 7, 100.0, |first, rows| {
            rows.chunks_mut(7).enumerate().for_each(|(i, row)| row.fill((first + i) as u32));
        });
        assert!(out.iter().enumerate().all(|(i, &x)| x == (i / 7) as u32));
    }

    #[test]
    fn a_sum_has_the_same_bits_for_every_number_of_threads() {
        let x: Vec<f64> = (0..1_000_000).map(|i| (i as f64).sin()).collect();
        let total = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| sum(x.len(), 1.0, |range| x[range].iter().sum())).to_bits()
        };
        assert_eq!((total(1), total(1)), (total(2), total(7)));
    }
}
