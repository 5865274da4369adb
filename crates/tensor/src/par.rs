//! The one place that decides what runs in parallel.
//!
//! Work is cut into pieces by its size, not by the number of threads, and partial sums are added in the order of the
//! pieces: so every result has the same bits with one thread and with a hundred. (A product that is cut between its
//! elements alone may make as many pieces as there are threads: see `Cut` in `product.rs`.)

use crate::team;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Work below this many nanoseconds stays on the calling thread: to share it costs about 1 µs in a pool, where others
/// wait for it, and 17 to 40 µs elsewhere, where they must be woken.
const WORTH_SHARING: [f64; 2] = [8e3, 20e3];
/// A piece of shared work takes about this many nanoseconds.
const PIECE: usize = 5_000;

/// The number of elements a piece should have if one takes `cost` nanoseconds.
///
/// A multiple of 64, so that pieces do not share cache lines, unless elements are so slow that sharing one costs
/// nothing. It depends on nothing but its argument.
fn piece_len(cost: f64) -> usize {
    match (PIECE as f64 / cost.max(1e-3)) as usize {
        few @ 0..64 => few.max(1),
        many => many.div_ceil(64) * 64,
    }
}

/// The length of equal pieces of `len`, at most `most`. If they are few, they are 1, 2, 4, 8 or 16, as far as `len` can
/// be cut so: then two, four or eight threads get as many each.
pub(crate) fn even(len: usize, most: usize) -> usize {
    match len.div_ceil(most.max(1)) {
        few @ 0..16 => len.div_ceil(few.next_power_of_two()),
        many => len.div_ceil(many),
    }
}

/// Calls `work(start, piece)` for consecutive pieces of `out`; an element takes about `cost` nanoseconds.
pub(crate) fn elements<T: Send>(out: &mut [T], cost: f64, work: impl Fn(usize, &mut [T]) + Sync) {
    rows(out, 1, cost, work);
}

/// As [`elements`], but pieces hold whole rows of `row` elements; a row takes about `cost` nanoseconds, and `work`
/// gets the number of its first row.
pub(crate) fn rows<T: Send>(out: &mut [T], row: usize, cost: f64, work: impl Fn(usize, &mut [T]) + Sync) {
    share_rows(out, row, cost, &work);
}

/// [`rows`], compiled once an element type.
fn share_rows<T: Send>(out: &mut [T], row: usize, cost: f64, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
    if out.is_empty() {
        return;
    }
    let count = out.len() / row.max(1);
    if !worth_sharing(count, cost) {
        return work(0, out);
    }
    let piece = match piece_len(cost) {
        whole_lines @ 64.. if row == 1 => even(count, whole_lines).next_multiple_of(64),
        _ => even(count, (PIECE as f64 / cost) as usize),
    };
    let len = out.len();
    let shared = Shared::new(out);
    share(len.div_ceil(piece * row), 1, &|i| {
        let start = i * piece * row;
        // SAFETY: pieces do not overlap.
        work(i * piece, unsafe { shared.slice(start, (piece * row).min(len - start)) });
    });
}

/// Calls `work(i)` for every `i` below `count`; one call takes about `cost` nanoseconds.
pub(crate) fn tasks(count: usize, cost: f64, work: impl Fn(usize) + Sync) {
    share_tasks(count, cost, &work, share);
}

/// As [`tasks`], without taking memory, as a frozen model promises: to call helpers takes a few bytes.
pub(crate) fn tasks_in_place(count: usize, cost: f64, work: impl Fn(usize) + Sync) {
    share_tasks(count, cost, &work, share_in_place);
}

/// [`tasks`], compiled once.
fn share_tasks(count: usize, cost: f64, work: &(dyn Fn(usize) + Sync), share: Share) {
    if count < 2 || !worth_sharing(count, cost) {
        return (0..count).for_each(work);
    }
    share(count, even(count, (PIECE as f64 / cost) as usize), work);
}

/// The sum of `term` over consecutive pieces of `0..count`, added in order; an element takes about `cost` nanoseconds.
///
/// The cut depends on `count` alone, also when everything runs on one thread.
pub(crate) fn sum(count: usize, cost: f64, term: impl Fn(std::ops::Range<usize>) -> f64 + Sync) -> f64 {
    let piece = piece_len(cost);
    let mut partial = vec![0.0; count.div_ceil(piece)];
    let sums = Shared::new(&mut partial);
    tasks(count.div_ceil(piece), cost * piece as f64, |i| {
        // SAFETY: each task has a place of its own.
        let sum = unsafe { sums.slice(i, 1) };
        sum[0] = term(i * piece..((i + 1) * piece).min(count));
    });
    partial.into_iter().sum()
}

fn worth_sharing(count: usize, cost: f64) -> bool {
    let [in_pool, outside] = WORTH_SHARING;
    count as f64 * cost >= if rayon::current_thread_index().is_some() { in_pool } else { outside }
}

/// A parallel loop: `work(i)` for every `i` below `count`, at least so many in one go. Not generic: each instance of
/// rayon's machinery would cost as much code as a kernel.
type Share = fn(count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync));

/// With the helpers of this thread, if it has some.
fn share(count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync)) {
    if !team::share(count, at_once, work) {
        share_in_place(count, at_once, work);
    }
}

/// With whatever threads of the pool have nothing else to do.
fn share_in_place(count: usize, at_once: usize, work: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().with_min_len(at_once).for_each(work);
}

/// Runs `work` inside the thread pool, so that the many short parallel regions of a training step need not enter it
/// one by one (17 µs each from outside, 1 to 2 µs inside).
///
/// A whole `fit` is one call of this.
pub fn enter<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Calls `work` once in each thread of the pool, and in this one.
pub(crate) fn everywhere(work: impl Fn() + Sync) {
    rayon::broadcast(|_| work());
    work();
}

/// How many threads the pool has that this thread is in, or would enter: work is shared among so many at most.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `work(memory, i, piece)` for consecutive pieces of `out`, each with one of the memories: as many calls run at
/// a time as there are memories. Which piece meets which memory is left to chance. It takes no memory of its own.
pub fn lanes<M: Send, T: Send>(
    memories: &mut [M],
    out: &mut [T],
    piece: usize,
    work: impl Fn(&mut M, usize, &mut [T]) + Sync,
) {
    let (lanes, len, next) = (memories.len(), out.len(), AtomicUsize::new(0));
    let (memories, out) = (Shared::new(memories), Shared::new(out));
    share_in_place(lanes, 1, &|lane| {
        // SAFETY: each lane is one task, with a memory of its own.
        let memory = unsafe { memories.slice(lane, 1) };
        loop {
            let i = next.fetch_add(1, Relaxed);
            let start = i.saturating_mul(piece.max(1));
            if start >= len {
                break;
            }
            // SAFETY: each `i` is drawn once, and pieces do not overlap.
            work(&mut memory[0], i, unsafe { out.slice(start, piece.max(1).min(len - start)) });
        }
    });
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
    fn even_pieces_are_even() {
        for len in 0..200 {
            for most in 1..100 {
                let piece = even(len, most);
                let pieces = len.div_ceil(piece.max(1));
                assert!(piece <= most && piece * pieces >= len, "{len} by {most}");
                let wanted = len.div_ceil(most).next_power_of_two();
                assert!(wanted > 16 || !len.is_multiple_of(wanted) || len == 0 || pieces == wanted, "{len} by {most}");
            }
        }
    }

    #[test]
    fn lanes_cover_everything_once() {
        for (len, lanes_count) in [(0, 2), (1, 3), (1000, 1), (1003, 2)] {
            let (mut memories, mut out) = (vec![0usize; lanes_count], vec![0; len]);
            lanes(&mut memories, &mut out, 10, |drawn, i, piece| {
                *drawn += 1;
                piece.iter_mut().for_each(|out| *out += i + 1);
            });
            assert_eq!(memories.iter().sum::<usize>(), len.div_ceil(10));
            assert!(out.iter().enumerate().all(|(at, &out)| out == at / 10 + 1), "{len}");
        }
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
