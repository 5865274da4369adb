//! Memory that kernels need for a moment.

use crate::par;
use std::cell::RefCell;

/// The first elements of a memory in pieces of these sizes.
pub(crate) fn pieces<const N: usize, T>(mut rest: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    sizes.map(|size| {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        piece
    })
}

/// Lets each thread of the pool, and this one, have so many elements for [`of_thread`] from the beginning.
pub(crate) fn prepare(len: usize) {
    par::everywhere(|| of_thread(len, |_| ()));
}

/// Calls `work` with so many elements that this thread keeps for its next call: nothing is locked, and after the first
/// call nothing is allocated. Their values are anything.
pub(crate) fn of_thread<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static MEMORY: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    MEMORY.with_borrow_mut(|memory| {
        if memory.len() < len {
            memory.resize(len, 0.0);
        }
        work(&mut memory[..len])
    })
}
