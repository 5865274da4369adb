//! The innermost kernel of every product and convolution: a few rows by a few vectors, kept in registers.
//!
//! `C[r, j] = start[r, j] + Σ_t A[rows(r) + steps(t)] · B[t, j]`
//!
//! `A` is read one element at a time, each broadcast to a whole vector, from wherever `rows` and `steps` say: with
//! multiples of two strides that is a matrix, plain or transposed; with two lists of offsets it is all patches of an
//! image at once (rows are positions and steps are taps, or the other way round for the weight gradient). So no patch
//! is ever copied. `B` is read in whole vectors along its rows.
//!
//! # Reference
//! Goto & van de Geijn (2008), "Anatomy of High-Performance Matrix Multiplication"; Dukhan (2019), "The Indirect
//! Convolution Algorithm".

use crate::lanes::{Lanes, Plain};
use crate::{DType, Float, Simd, simd};

/// Where the elements of `A` lie along one of its two axes.
#[derive(Clone, Copy)]
pub(crate) enum Offsets<'a> {
    /// `0, stride, 2·stride, …`
    Stride(usize),
    /// As listed.
    List(&'a [usize]),
}

impl Offsets<'_> {
    #[inline(always)]
    unsafe fn get(self, i: usize) -> usize {
        match self {
            Self::Stride(stride) => i * stride,
            // SAFETY: the caller keeps `i` below the list's length.
            Self::List(list) => unsafe { *list.get_unchecked(i) },
        }
    }
}

/// What is added to the sums in the end: at the beginning a row would cost digits, and what `C` holds is not there yet.
#[derive(Clone, Copy)]
pub(crate) enum Start<T> {
    /// Nothing.
    Zero,
    /// What `C` holds.
    Sum,
    /// This row, in every row of `C`.
    Row(*const T),
    /// What `C` holds, then the row.
    SumAndRow(*const T),
}

impl<T> Start<T> {
    /// For one of several blocks along the inner axis, the last of which adds the row, if there is one.
    pub(crate) fn along(first: bool, last: bool, row: Option<&[T]>) -> Self {
        match (first, row.filter(|_| last)) {
            (true, None) => Self::Zero,
            (false, None) => Self::Sum,
            (true, Some(row)) => Self::Row(row.as_ptr()),
            (false, Some(row)) => Self::SumAndRow(row.as_ptr()),
        }
    }
}

/// One block of a product, in one thread.
#[derive(Clone, Copy)]
#[repr(C)] // the same layout for f32 and for a generic T that is f32
pub(crate) struct Block<'a, T> {
    pub(crate) rows: usize,
    pub(crate) steps: usize,
    pub(crate) columns: usize,
    pub(crate) a: *const T,
    pub(crate) a_rows: Offsets<'a>,
    pub(crate) a_steps: Offsets<'a>,
    pub(crate) b: *const T,
    /// Elements between two rows of `B`.
    pub(crate) b_stride: usize,
    pub(crate) c: *mut T,
    /// Elements between two rows of `C`.
    pub(crate) c_stride: usize,
    pub(crate) start: Start<T>,
    pub(crate) ahead: Option<Ahead<T>>,
}

/// What will be needed later, where no processor guesses it: in step `t` of the tile whose first row is `r`, the line
/// at `start[t · step + r · row]` is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<T> {
    pub(crate) start: *const T,
    pub(crate) step: usize,
    pub(crate) row: usize,
}

/// From so many bytes between its steps on, no processor guesses where `A` goes on within a tile.
const FAR: usize = 2048;
/// Steps before an element of such an `A` is needed when it is asked for: more than the second cache takes to answer.
const SOON: usize = 6;

/// Columns that the kernel of this machine takes at once: the natural width of a packed panel of `B`.
pub(crate) fn panel_width<T: Float>() -> usize {
    match (T::DTYPE, simd()) {
        (DType::F32, Simd::Avx512) => 32,
        (DType::F32, Simd::Avx2) => 16,
        _ => 8,
    }
}

/// Rows that the kernel of this machine takes at once.
pub(crate) fn tile_rows<T: Float>() -> usize {
    match (T::DTYPE, simd()) {
        (DType::F32, Simd::Avx512) => 8,
        (DType::F32, Simd::Avx2) => 6,
        _ => 4,
    }
}

impl<T: Float> Block<'_, T> {
    /// Computes the block.
    ///
    /// # Safety
    /// Every element that the formula names lies in its array, lists are as long as `rows` and `steps` say, and nobody
    /// else touches this block of `C`.
    pub(crate) unsafe fn run(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.run_on(None) }
    }

    /// As [`run`](Self::run), with the rows of `B` at listed places: `b_stride` is not looked at.
    ///
    /// # Safety
    /// As there; the list has as many places as there are steps.
    pub(crate) unsafe fn run_listed(&self, b_rows: &[usize]) {
        assert!(b_rows.len() >= self.steps, "a row for each step");
        // SAFETY: the caller's promise.
        unsafe { self.run_on(Some(b_rows)) }
    }

    unsafe fn run_on(&self, b_rows: Option<&[usize]>) {
        #[cfg(target_arch = "x86_64")]
        if T::DTYPE == DType::F32 {
            // SAFETY: `T` is `f32`, so this is the same type.
            let block = unsafe { &*std::ptr::from_ref(self).cast::<Block<'_, f32>>() };
            match simd() {
                // SAFETY: the instructions exist; the rest is the caller's promise.
                Simd::Avx512 => return unsafe { x86::avx512(block, b_rows) },
                // SAFETY: as above.
                Simd::Avx2 => return unsafe { x86::avx2(block, b_rows) },
                Simd::Plain => {}
            }
        }
        // SAFETY: plain code runs everywhere; the rest is the caller's promise.
        unsafe { run::<Plain<T>, 4, 4, 1>(self, b_rows) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, run};
    use crate::lanes::{Avx2, Avx512};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn avx512(block: &Block<'_, f32>, b_rows: Option<&[usize]>) {
        // SAFETY: the features are enabled here; the rest is the caller's promise.
        unsafe { run::<Avx512, 8, 9, 2>(block, b_rows) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(block: &Block<'_, f32>, b_rows: Option<&[usize]>) {
        // SAFETY: as above.
        unsafe { run::<Avx2, 6, 6, 2>(block, b_rows) }
    }
}

/// The block, with its steps known to the compiler: as a list or as multiples of a stride.
#[inline(always)]
unsafe fn run<L: Lanes, const R: usize, const LAST: usize, const V: usize>(
    block: &Block<'_, L::Item>,
    b_rows: Option<&[usize]>,
) {
    let b_stride = block.b_stride;
    // SAFETY: promised by the caller; `t` stays below `steps`.
    unsafe {
        match (block.a_steps, b_rows) {
            (Offsets::Stride(by), None) => panels::<L, R, LAST, V>(block, |t| t * by, |t| t * b_stride),
            (Offsets::List(at), None) => panels::<L, R, LAST, V>(block, |t| *at.get_unchecked(t), |t| t * b_stride),
            (a, Some(b)) => panels::<L, R, LAST, V>(block, |t| a.get(t), |t| *b.get_unchecked(t)),
        }
    }
}

/// Panels of `V` vectors, and in each of them tiles of `R` rows; a last tile of `LAST` rows is taken whole (a 3 × 3
/// kernel on one channel has 9 taps).
#[inline(always)]
unsafe fn panels<L: Lanes, const R: usize, const LAST: usize, const V: usize>(
    block: &Block<'_, L::Item>,
    step: impl Fn(usize) -> usize + Copy,
    b_row: impl Fn(usize) -> usize + Copy,
) {
    let width = V * L::WIDTH;
    for column in (0..block.columns).step_by(width) {
        let count = (block.columns - column).min(width);
        let mut row = 0;
        while row < block.rows {
            // SAFETY: the tile lies inside the block.
            row += unsafe {
                match (count == width, count > L::WIDTH) {
                    (true, _) => rows::<L, R, LAST, V, true>(block, row, column, count, step, b_row),
                    (false, true) => rows::<L, R, LAST, V, false>(block, row, column, count, step, b_row),
                    (false, false) => rows::<L, R, LAST, 1, false>(block, row, column, count, step, b_row),
                }
            };
        }
    }
}

/// One tile of as many rows as are left, at most `R` or just `LAST`; says how many.
#[inline(always)]
unsafe fn rows<L: Lanes, const R: usize, const LAST: usize, const V: usize, const FULL: bool>(
    block: &Block<'_, L::Item>,
    row: usize,
    column: usize,
    count: usize,
    step: impl Fn(usize) -> usize + Copy,
    b_row: impl Fn(usize) -> usize + Copy,
) -> usize {
    let left = block.rows - row;
    // SAFETY: promised by the caller.
    unsafe {
        match left {
            1 => tile::<L, 1, V, FULL>(block, row, column, count, step, b_row),
            2 => tile::<L, 2, V, FULL>(block, row, column, count, step, b_row),
            3 | 4 => tile::<L, 4, V, FULL>(block, row, column, count, step, b_row),
            _ if left == LAST => tile::<L, LAST, V, FULL>(block, row, column, count, step, b_row),
            _ => tile::<L, R, V, FULL>(block, row, column, count, step, b_row),
        }
    }
    if left == LAST { LAST } else { left.min(R) }
}

/// Asks for a cache line, at whatever address.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn fetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, and a hint reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

/// As [`fetch`], into the second cache.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn fetch_near<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, and a hint reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
}

/// `R` rows (those beyond the block's last repeat it and are not stored) by `count` columns in `V` vectors.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize, const FULL: bool>(
    block: &Block<'_, L::Item>,
    row: usize,
    column: usize,
    count: usize,
    step: impl Fn(usize) -> usize,
    b_row: impl Fn(usize) -> usize,
) {
    let rows = (block.rows - row).min(R);
    let lanes = |v: usize| (count - v * L::WIDTH).min(L::WIDTH); // of vector v, when the tile is not FULL
    // SAFETY: every element that is read or written lies in the block, which the caller vouches for; masked vectors
    // touch only the first `lanes(v)` elements.
    unsafe {
        let load = |from: *const L::Item, v: usize| {
            let from = from.add(v * L::WIDTH);
            if FULL { L::load(from) } else { L::load_first(from, lanes(v)) }
        };
        let a: [*const L::Item; R] =
            std::array::from_fn(|r| block.a.wrapping_add(block.a_rows.get(row + r.min(rows - 1))));
        let c: [*mut L::Item; R] =
            std::array::from_fn(|r| block.c.wrapping_add((row + r.min(rows - 1)) * block.c_stride + column));
        let mut sums = [[L::splat(num_traits::Zero::zero()); V]; R];
        if V > 1 {
            c.iter().for_each(|c| (0..V).for_each(|v| fetch(c.wrapping_add(v * L::WIDTH))));
        }
        let b = block.b.wrapping_add(column);
        let at = |t: usize| (step(t), b.wrapping_add(b_row(t)));
        let apart = if let Offsets::Stride(apart) = block.a_steps { apart } else { 0 };
        let far = apart * size_of::<L::Item>() >= FAR;
        match block.ahead {
            // Worth a loop of its own in the tile that large products are made of.
            ahead if FULL && R * V > 8 && (far || ahead.is_some()) => {
                let (start, step) =
                    ahead.map_or((a[0], 0), |ahead| (ahead.start.wrapping_add(row * ahead.row), ahead.step));
                let first = a[0];
                let ask = |t: usize, _| {
                    fetch_near(start.wrapping_add(t * step));
                    fetch(first.wrapping_add((t + SOON) * apart));
                };
                multiply(&mut sums, a, block.steps, at, load, ask);
            }
            // Hints pay for whole panels; a narrow one waits for its loads as it is. They ask for the next panel of a
            // matrix that was not packed, in memory too far from this one for a processor to guess it. Of a packed one
            // it is the next row, which would come by itself.
            _ if V > 1 => {
                let ask = |_, b: *const L::Item| (V..2 * V).for_each(|v| fetch(b.wrapping_add(v * L::WIDTH)));
                multiply(&mut sums, a, block.steps, at, load, ask);
            }
            _ => multiply(&mut sums, a, block.steps, at, load, |_, _| ()),
        }
        if let Start::Sum | Start::SumAndRow(_) = block.start {
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = sums[r][v].add(load(c[r], v));
                }
            }
        }
        if let Start::Row(row) | Start::SumAndRow(row) = block.start {
            let row: [L; V] = std::array::from_fn(|v| load(row.add(column), v));
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = sums[r][v].add(row[v]);
                }
            }
        }
        for r in 0..rows {
            for v in 0..V {
                let to = c[r].add(v * L::WIDTH);
                if FULL { sums[r][v].store(to) } else { sums[r][v].store_first(to, lanes(v)) }
            }
        }
    }
}

/// Adds all steps to the sums; `at` says where a step's elements lie in rows of `A` and where its row of `B` begins,
/// and `ask` gives a hint in each step.
#[inline(always)]
unsafe fn multiply<L: Lanes, const R: usize, const V: usize>(
    sums: &mut [[L; V]; R],
    a: [*const L::Item; R],
    steps: usize,
    at: impl Fn(usize) -> (usize, *const L::Item),
    load: impl Fn(*const L::Item, usize) -> L,
    ask: impl Fn(usize, *const L::Item),
) {
    for t in 0..steps {
        let (at, b) = at(t);
        let b_row: [L; V] = std::array::from_fn(|v| load(b, v));
        ask(t, b);
        for r in 0..R {
            // SAFETY: the caller vouches for every element of the block.
            unsafe {
                let x = L::splat(*a[r].wrapping_add(at));
                for v in 0..V {
                    sums[r][v] = x.mul_add(b_row[v], sums[r][v]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tail of rows and columns, both kinds of offsets, against the formula.
    #[test]
    fn tiles_are_the_formula() {
        let a: Vec<f32> = (0..4000).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
        let b: Vec<f32> = (0..4000).map(|i| ((i * 53) % 23) as f32 - 11.0).collect();
        for (rows, steps, columns) in
            [(1, 3, 1), (2, 1, 40), (3, 5, 15), (7, 9, 33), (8, 0, 16), (9, 5, 20), (13, 4, 31), (17, 2, 70)]
        {
            let row_list: Vec<usize> = (0..rows).map(|r| (r * 29) % 50).collect();
            let step_list: Vec<usize> = (0..steps).map(|t| (t * 31) % 70).collect();
            for (a_rows, a_steps) in [
                (Offsets::Stride(steps), Offsets::Stride(1)),
                (Offsets::Stride(1), Offsets::Stride(rows)),
                (Offsets::List(&row_list), Offsets::List(&step_list)),
            ] {
                let mut c = vec![1.0f32; rows * (columns + 3)];
                let mut expected = c.clone();
                for r in 0..rows {
                    for j in 0..columns {
                        for t in 0..steps {
                            // SAFETY: r and t are below the lists' lengths.
                            let at = unsafe { a_rows.get(r) + a_steps.get(t) };
                            expected[r * (columns + 3) + j] += a[at] * b[t * (columns + 1) + j];
                        }
                    }
                }
                let (b, c_start) = (b.as_ptr(), c.as_mut_ptr());
                let (b_stride, c_stride, start) = (columns + 1, columns + 3, Start::Sum);
                let block = Block {
                    rows,
                    steps,
                    columns,
                    a: a.as_ptr(),
                    a_rows,
                    a_steps,
                    b,
                    b_stride,
                    c: c_start,
                    c_stride,
                    start,
                    ahead: None,
                };
                // SAFETY: the arrays hold every element named: at most 49 + 69 in a, 9·71 in b.
                unsafe { block.run() };
                assert_eq!(c, expected, "{rows} × {steps} × {columns}"); // small integers: exact
                c.fill(1.0);
                // SAFETY: as above.
                unsafe { run::<Plain<f32>, 4, 4, 1>(&block, None) };
                assert_eq!(c, expected, "plain {rows} × {steps} × {columns}");
                let b_rows: Vec<usize> = (0..steps).map(|t| t * b_stride).collect();
                c.fill(1.0);
                // SAFETY: as above, `B` lies where it lay.
                unsafe { Block { b_stride: 0, ..block }.run_listed(&b_rows) };
                assert_eq!(c, expected, "listed {rows} × {steps} × {columns}");
            }
        }
    }
}
