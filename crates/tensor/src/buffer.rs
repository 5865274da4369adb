//! Memory of tensors: buffers that return to a pool, so that a training step takes nothing from the system; where
//! batches and sequences change their sizes, it takes little at first and then nothing either.
//!
//! Memory is zeroed when the system hands it out and only recycled after that, so every byte of a buffer is
//! always initialised: a kernel may read what it has not written and gets rubbish, never undefined behaviour.
//! Debug builds fill recycled memory with ones (NaN in both float types), so that such a kernel fails a test.

use crate::Element;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Smallest size class and least alignment: one cache line, one AVX-512 vector.
const LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
const CLASSES: usize = 4 * 40; // four size classes an octave: at most a quarter of a new buffer is unused
/// So many classes are looked through for an idle block, up to twice the size: shorter batches and sequences find room
/// in what longer ones left, and do not each fill a class of their own. Looking further, a training of always the same
/// shapes takes four steps instead of two until it needs nothing more.
const NEAR: usize = 5;

/// The classes from `CLASSES` on are the same again for [`Buffer::scratch`].
static IDLE: [Mutex<Vec<Block>>; 2 * CLASSES] = [const { Mutex::new(Vec::new()) }; 2 * CLASSES];
static IDLE_BYTES: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(2 << 30);

/// Sets how many bytes of idle memory the pool may keep for later tensors, 2 GiB by default.
///
/// What is idle beyond the limit goes back to the system at once.
pub fn set_pool_limit(bytes: usize) {
    LIMIT.store(bytes, Relaxed);
    for (class, idle) in IDLE.iter().enumerate() {
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        while IDLE_BYTES.load(Relaxed) > bytes {
            let Some(block) = idle.pop() else { break };
            IDLE_BYTES.fetch_sub(class_bytes(class), Relaxed);
            block.release(class);
        }
    }
}

/// The bytes of idle memory that the pool holds now.
pub fn pool_idle_bytes() -> usize {
    IDLE_BYTES.load(Relaxed)
}

/// Size of a class: 64, 128, 192, 256, then 5/4, 6/4, 7/4 and 8/4 of each power of two.
fn class_bytes(class: usize) -> usize {
    let class = class % CLASSES;
    match (class / 4, class % 4) {
        (0, quarter) => LINE * (quarter + 1),
        (octave, quarter) => (LINE << (octave - 1)) * (5 + quarter),
    }
}

/// The smallest class that holds `bytes`.
fn class_of(bytes: usize) -> usize {
    let lines = bytes.div_ceil(LINE).max(1);
    if lines <= 4 {
        return lines - 1;
    }
    let octave = (lines - 1).ilog2() as usize - 1;
    let step = 1 << (octave - 1);
    octave * 4 + lines.div_ceil(step) - 5
}

/// A piece of the system's memory that belongs to nobody, or to one buffer.
struct Block(NonNull<u8>);

// SAFETY: a block is plain memory with one owner.
unsafe impl Send for Block {}

impl Block {
    fn layout(class: usize) -> Layout {
        let bytes = class_bytes(class);
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { LINE };
        Layout::from_size_align(bytes, align).expect("a shape's bytes fit in isize")
    }

    /// From the pool, else from the system; with the class that the block is of.
    fn take(class: usize) -> (Self, usize) {
        let end = (class / CLASSES + 1) * CLASSES;
        for near in class..(class + NEAR).min(end) {
            let recycled = IDLE[near].lock().unwrap_or_else(PoisonError::into_inner).pop();
            if let Some(block) = recycled {
                IDLE_BYTES.fetch_sub(class_bytes(near), Relaxed);
                return (block, near);
            }
        }
        let layout = Self::layout(class);
        // SAFETY: the layout's size is at least one cache line.
        let start = unsafe { alloc(layout) };
        let block = Self(NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)));
        block.ask_for_huge_pages(layout.size()); // before the first touch, which makes the pages
        // SAFETY: the block has so many bytes.
        unsafe { block.0.as_ptr().write_bytes(0, layout.size()) };
        (block, class)
    }

    /// To the pool if there is room, else to the system.
    fn give_back(self, class: usize) {
        let bytes = class_bytes(class);
        if cfg!(debug_assertions) {
            // SAFETY: the block has `bytes` bytes and one owner.
            unsafe { self.0.as_ptr().write_bytes(0xFF, bytes) };
        }
        if IDLE_BYTES.fetch_add(bytes, Relaxed) + bytes > LIMIT.load(Relaxed) {
            IDLE_BYTES.fetch_sub(bytes, Relaxed);
            return self.release(class);
        }
        IDLE[class].lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    fn release(self, class: usize) {
        // SAFETY: the block came from `alloc` with the layout of its class.
        unsafe { dealloc(self.0.as_ptr(), Self::layout(class)) };
    }

    /// Fewer page-table walks for weights and activations of megabytes. Only a hint: failure is of no consequence.
    fn ask_for_huge_pages(&self, bytes: usize) {
        #[cfg(all(target_os = "linux", not(miri)))]
        if bytes >= HUGE_PAGE {
            const MADV_HUGEPAGE: i32 = 14;
            unsafe extern "C" {
                fn madvise(address: *mut u8, length: usize, advice: i32) -> i32;
            }
            // SAFETY: the range lies inside this block, and the advice does not change its contents.
            unsafe { madvise(self.0.as_ptr(), bytes, MADV_HUGEPAGE) };
        }
        let _ = bytes;
    }
}

/// The memory behind one tensor or several.
pub(crate) struct Buffer {
    block: Block,
    /// The bytes in use.
    bytes: usize,
    owner: Owner,
}

enum Owner {
    Pool {
        class: usize,
    },
    /// The memory of a `Vec<T>` that became a tensor without a copy.
    Vec {
        capacity: usize,
        free: unsafe fn(NonNull<u8>, usize),
    },
}

// SAFETY: a buffer is plain memory; it is written only through `&mut Buffer`.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Room for `len` elements whose values are anything.
    pub(crate) fn dirty<T: Element>(len: usize) -> Self {
        Self::taken::<T>(len, 0)
    }

    /// The same for a kernel's own use. It comes from idle scratch, never from what a tensor left: else it would depend
    /// on chance for how many steps of a training the tensors of one step find no room in what those before left.
    pub(crate) fn scratch<T: Element>(len: usize) -> Self {
        Self::taken::<T>(len, CLASSES)
    }

    fn taken<T: Element>(len: usize, first_class: usize) -> Self {
        let bytes = len * size_of::<T>();
        let (block, class) = Block::take(first_class + class_of(bytes));
        Self { block, bytes, owner: Owner::Pool { class } }
    }

    /// Takes over the memory of a vector.
    pub(crate) fn from_vec<T: Element>(vec: Vec<T>) -> Self {
        /// # Safety
        /// `start` and `capacity` are those of a forgotten `Vec<T>`.
        unsafe fn free<T>(start: NonNull<u8>, capacity: usize) {
            // SAFETY: promised by the caller; length 0 is enough, elements need no drop.
            drop(unsafe { Vec::from_raw_parts(start.cast::<T>().as_ptr(), 0, capacity) });
        }
        let mut vec = std::mem::ManuallyDrop::new(vec);
        let start = NonNull::new(vec.as_mut_ptr().cast::<u8>()).expect("a vector's pointer is never null");
        let owner = Owner::Vec { capacity: vec.capacity(), free: free::<T> };
        Self { block: Block(start), bytes: vec.len() * size_of::<T>(), owner }
    }

    /// The whole buffer as elements of the type that it was made for.
    pub(crate) fn as_slice<T: Element>(&self) -> &[T] {
        debug_assert!(self.block.0.cast::<T>().is_aligned());
        // SAFETY: `bytes` initialised bytes, aligned for the type that the buffer was made for (a tensor's dtype never
        // changes), every bit pattern of an Element is a value, and `&self` forbids writes.
        unsafe { std::slice::from_raw_parts(self.block.0.cast::<T>().as_ptr(), self.bytes / size_of::<T>()) }
    }

    /// The whole buffer as elements, to be written.
    pub(crate) fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        debug_assert!(self.block.0.cast::<T>().is_aligned());
        // SAFETY: as in `as_slice`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.block.0.cast::<T>().as_ptr(), self.bytes / size_of::<T>()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.owner {
            Owner::Pool { class } => Block(self.block.0).give_back(class),
            // SAFETY: pointer and capacity are those of the vector taken over in `from_vec`.
            Owner::Vec { capacity, free } => unsafe { free(self.block.0, capacity) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_is_asked_and_waste_little() {
        for bytes in (0..5000).chain([1 << 20, (1 << 20) + 1, (3 << 30) - 7]) {
            let class = class_of(bytes);
            assert!(class_bytes(class) >= bytes, "{bytes}");
            assert!(class == 0 || class_bytes(class - 1) < bytes, "{bytes}");
            assert!(bytes < 256 || class_bytes(class) <= bytes + bytes / 4 + LINE, "{bytes}");
        }
    }

    #[test]
    fn memory_comes_back_to_what_fits_and_poisoned_in_debug_builds() {
        const LEN: usize = 20_000_000; // far more than any other test of this crate uses
        let mut buffer = Buffer::dirty::<f32>(LEN);
        assert!(buffer.as_slice::<f32>().iter().all(|&x| x == 0.0));
        buffer.as_mut_slice::<f32>().fill(1.0);
        let start = buffer.as_slice::<f32>().as_ptr();
        drop(buffer);
        let buffer = Buffer::dirty::<f32>(LEN);
        assert_eq!(buffer.as_slice::<f32>().as_ptr(), start);
        assert_eq!(buffer.as_slice::<f32>()[LEN - 1].is_nan(), cfg!(debug_assertions));
        drop(buffer);
        let fits = Buffer::dirty::<f32>(LEN * 3 / 5);
        assert_eq!((fits.as_slice::<f32>().as_ptr(), fits.as_slice::<f32>().len()), (start, LEN * 3 / 5));
    }

    #[test]
    fn scratch_and_tensors_keep_their_memory_apart() {
        const LEN: usize = 9_000_000; // as above
        let start = |buffer: &Buffer| buffer.as_slice::<f32>().as_ptr();
        let (tensor, scratch) = (Buffer::dirty::<f32>(LEN), Buffer::scratch::<f32>(LEN));
        let starts = [&tensor, &scratch].map(start);
        drop([tensor, scratch]);
        let (scratch, tensor) = (Buffer::scratch::<f32>(LEN), Buffer::dirty::<f32>(LEN));
        assert_eq!([&tensor, &scratch].map(start), starts);
    }

    #[test]
    fn a_vector_is_taken_over_without_a_copy() {
        let vec = vec![1i64, 2, 3];
        let start = vec.as_ptr();
        let buffer = Buffer::from_vec(vec);
        assert_eq!((buffer.as_slice::<i64>(), buffer.as_slice::<i64>().as_ptr()), (&[1i64, 2, 3][..], start));
    }
}
