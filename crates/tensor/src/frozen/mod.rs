//! Kernels of inference for samples of one shape: weights packed once, nothing allocated by a call, no lock taken.
//!
//! Each is made once, may be shared by threads, and maps some samples in one slice of `f32` to those in another. With
//! `alone` a call keeps to its thread; else it shares out what is worth it. The bits are the same either way.

mod conv;
mod linear;
mod pool;
mod pointwise;

pub use conv::FrozenConv;
pub use linear::FrozenLinear;
pub use pointwise::{FrozenScale, Pointwise, add, place_columns};
pub use pool::FrozenPool;

use crate::par;

/// Calls `work(i)` for every `i` below `count`, in this thread if `alone`; one call takes about `cost` nanoseconds.
fn tasks(count: usize, cost: f64, alone: bool, work: impl Fn(usize) + Sync) {
    if alone { (0..count).for_each(work) } else { par::tasks_in_place(count, cost, work) }
}
