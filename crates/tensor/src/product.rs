//! The matrix product on slices: packing, blocking and parallelism around the tile.

use crate::dtype::Float;
use crate::library_product::library_product;
use crate::panels::{Panels, across, pack};
use crate::par::{self, Shared};
use crate::tensor::Tensor;
use crate::tile::{Block, Offsets, Start, panel_width, tile_rows};
use crate::vector_product::{dots, suits};
use crate::{DType, Shape, Simd, simd};

/// A matrix somewhere in a slice: element `[i, j]` is `data[i · rows + j · columns]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub(crate) data: &'a [T],
    /// Elements from one row to the next.
    pub(crate) rows: usize,
    /// Elements from one column to the next.
    pub(crate) columns: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix with rows of `width` elements, or the transpose of one.
    pub(crate) fn new(data: &'a [T], width: usize, transposed: bool) -> Self {
        if transposed { Self { data, rows: 1, columns: width } } else { Self { data, rows: width, columns: 1 } }
    }

    fn transpose(self) -> Self {
        Self { data: self.data, rows: self.columns, columns: self.rows }
    }

    /// The matrix from row `i` on.
    pub(crate) fn below(self, i: usize) -> Self {
        Self { data: &self.data[i * self.rows..], ..self }
    }

    pub(crate) fn check(&self, rows: usize, columns: usize) {
        let last = (rows.max(1) - 1) * self.rows + (columns.max(1) - 1) * self.columns;
        assert!(rows * columns == 0 || last < self.data.len(), "a matrix lies in its slice");
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Onto<'a, T> {
    Nothing,
    /// What `C` holds.
    Itself,
    /// This row, in every row of `C`.
    Row(&'a [T]),
}

impl<T: Float> Onto<'_, T> {
    /// What an element of `C` in this column starts from, if it holds `itself`.
    #[inline(always)]
    pub(crate) fn start(self, itself: T, column: usize) -> T {
        match self {
            Self::Nothing => T::zero(),
            Self::Itself => itself,
            Self::Row(row) => row[column],
        }
    }
}

/// Nanoseconds that a million multiply-adds take on one core: 2 MFLOP at about 100 GFLOP/s.
pub(crate) const NS_PER_MEGA: f64 = 20_000.0;
/// A packed `B` pays for itself from this many rows of `A` on.
const PACK_FROM_ROWS: usize = 256;
/// Rows of `A` that share a block of `B`, at most; up to a quarter more are not cut for that reason.
const ROWS: usize = 256;
/// Panels that a block of `A` is used for, at most: a block of them fits the second cache.
const PANELS: usize = 16;
/// Tasks that a product is cut into if that leaves each an area of `LARGE`, or, if there is enough to do, of `SMALL`.
const MANY: usize = 32;
const FEW: usize = 8;
const LARGE: usize = 128 * 128;
const SMALL: usize = 64 * 64;
/// Elements of `C` that one task goes through block by block, at most: with their operands they fit the second cache.
const AREA: usize = 8 * LARGE;
/// What a row or a column more costs a task, in elements of `C`: its operand must be loaded or packed.
const EDGE: usize = 8;
/// Rows are rounded up to whole cache lines of a transposed `A`.
pub(crate) const LINE: usize = 16;

/// What is done to each element of a product, once, as soon as it is there: as a rule in the caches still.
pub(crate) struct Finish<'a, T> {
    /// Gets parts of rows, or whole rows, of `C`, and the place in `C` where they begin.
    pub(crate) work: &'a (dyn Fn(usize, &mut [T]) + Sync),
    /// Nanoseconds for an element.
    pub(crate) cost: f64,
}

/// `C = onto + A · B`; `A` is `[m, k]`, `B` is `[k, n]`, `C` is row-major `[m, n]`.
///
/// The bits of the result depend on the sizes and the level of [`Simd`], not on the number of threads.
pub(crate) fn product<T: Float>(size: [usize; 3], a: Matrix<'_, T>, b: Matrix<'_, T>, c: &mut [T], onto: Onto<'_, T>) {
    finished_product(size, a, b, c, onto, None);
}

/// As [`product`], then `finish`.
pub(crate) fn finished_product<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    c: &mut [T],
    onto: Onto<'_, T>,
    finish: Option<Finish<'_, T>>,
) {
    a.check(m, k);
    b.check(k, n);
    assert_eq!(c.len(), m * n, "C is [m, n]");
    assert!(!matches!(onto, Onto::Row(row) if row.len() != n), "a row of C");
    if m * n == 0 {
        return;
    }
    // B's rows may not be contiguous. Then either pack B, or compute Cᵀ = Bᵀ · Aᵀ and pack Aᵀ if need be: whichever
    // moves less.
    let swapped_cost = 2 * m * n + if a.rows == 1 { 0 } else { m * k };
    if k == 0 {
        c.iter_mut().enumerate().for_each(|(i, c)| *c = onto.start(*c, i % n));
    } else if suits([m, k, n], a, b) {
        dots([m, k, n], a, b, onto, c, false);
    } else if T::DTYPE != DType::F32 || simd() == Simd::Plain {
        library_product([m, k, n], a, b, c, onto);
    } else if b.columns == 1 || n * k <= swapped_cost {
        return tiled_product([m, k, n], a, b, c, onto, finish);
    } else {
        let mut transposed = Tensor::scratch::<T>(Shape::from([n, m]));
        let out = transposed.own_slice::<T>();
        tiled_product([n, k, m], b.transpose(), a.transpose(), out, Onto::Nothing, None);
        let out = &*out;
        let cost = 1.0 + finish.as_ref().map_or(0.0, |finish| finish.cost);
        par::rows(c, n, n as f64 * cost, |first, rows| {
            for (i, row) in rows.chunks_mut(n).enumerate() {
                for (j, c) in row.iter_mut().enumerate() {
                    *c = onto.start(*c, j) + out[j * m + first + i];
                }
                if let Some(finish) = &finish {
                    (finish.work)((first + i) * n, row);
                }
            }
        });
        return;
    }
    if let Some(finish) = finish {
        par::rows(c, n, n as f64 * finish.cost, |first, rows| (finish.work)(first * n, rows));
    }
}

/// `C = A · B`, or `C += A · B` if `accumulate`, in this thread and without packing: for blocks that fit the caches.
/// The rows of `B` are contiguous, those of `C` are `c_stride` elements apart.
pub(crate) fn block_product<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    c: &mut [T],
    c_stride: usize,
    accumulate: bool,
) {
    assert!(m * n == 0 || (m - 1) * c_stride + n <= c.len(), "C lies in its slice");
    // SAFETY: by the assertion, and because C is borrowed here alone.
    unsafe { block_product_at([m, k, n], a, b, c.as_mut_ptr(), c_stride, accumulate) };
}

/// As [`block_product`], with a `C` between whose rows others may work.
///
/// # Safety
/// `c` points to the first of `m` rows of `n` elements, `c_stride` apart, that may be written and nobody else touches.
pub(crate) unsafe fn block_product_at<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    c: *mut T,
    c_stride: usize,
    accumulate: bool,
) {
    if m * n == 0 {
        return;
    }
    a.check(m, k);
    b.check(k, n);
    assert!(b.columns == 1, "B has whole rows");
    let block = Block {
        rows: m,
        steps: k,
        columns: n,
        a: a.data.as_ptr(),
        a_rows: Offsets::Stride(a.rows),
        a_steps: Offsets::Stride(a.columns),
        b: b.data.as_ptr(),
        b_stride: b.rows,
        c,
        c_stride,
        start: if accumulate { Start::Sum } else { Start::Zero },
        ahead: None,
    };
    // SAFETY: A and B hold every element by their checks, the rest is the caller's promise.
    unsafe { block.run() };
}

/// How a product is cut into tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    /// Rows of a task, and panels.
    rows: usize,
    group: usize,
    /// Parts of the inner axis.
    parts: usize,
}

impl Cut {
    /// By the size alone; `moves` says that `A` is read across its rows or a transposed `B` packed.
    ///
    /// What a task loads grows with its edges, what it computes with its area: so areas are as square and as large as
    /// the number of tasks allows. A long inner axis is cut before the areas are: then a thread loads its own part of
    /// both operands.
    fn by_size<T: Float>([m, k, n]: [usize; 3], moves: bool) -> Self {
        let width = panel_width::<T>();
        let count = n.div_ceil(width);
        // The most parts that the inner axis may be cut into.
        let cuts = (k / 512).max(1);
        let [rows, group] = if count == 1 {
            // A is what moves: few rows, whole, about a million multiply-adds; or more rows and some of the steps.
            let few = (1_000_000 / (k * width)).clamp(tile_rows::<T>(), ROWS).next_multiple_of(tile_rows::<T>());
            [if moves && cuts >= FEW { few.max(ROWS / 2) } else { few }.min(m), 1]
        } else {
            let mut rows = if m <= ROWS + ROWS / 4 { m } else { ROWS };
            let mut group = count.min(PANELS);
            loop {
                let (tasks, area) = (m.div_ceil(rows) * count.div_ceil(group), rows * group * width);
                let few = tasks * cuts < FEW && area * k > 1_000_000 && area > SMALL;
                let many = tasks < MANY && area > LARGE;
                // Neither holds for one panel of `LINE` rows: so there is an end.
                if !(few || many) {
                    break [rows, group];
                }
                if group > 1 && group * width >= rows {
                    group = group.div_ceil(2);
                } else {
                    rows = rows.div_ceil(2).next_multiple_of(LINE);
                }
            }
        };
        let tasks = m.div_ceil(rows) * count.div_ceil(group);
        Self { rows, group, parts: if tasks < FEW { (FEW / tasks).max(2).min(cuts) } else { 1 } }
    }

    /// Into equal shares for so many threads. The bits do not depend on it: each element is the same sum in every area.
    fn by_threads<T: Float>([m, n]: [usize; 2], threads: usize) -> Self {
        let width = panel_width::<T>();
        let count = n.div_ceil(width);
        let mut best = (usize::MAX, LINE, 2);
        for group in (1..=count / 2).map(|across| count.div_ceil(across)) {
            for rows in (1..=m.div_ceil(LINE)).map(|down| m.div_ceil(down).next_multiple_of(LINE)) {
                let tasks = m.div_ceil(rows) * count.div_ceil(group);
                let cost = tasks.div_ceil(threads) * (rows + EDGE) * (group * width + EDGE);
                if rows * group * width <= AREA {
                    best = best.min((cost, rows, group));
                }
            }
        }
        let (_, rows, group) = best;
        Self { rows, group, parts: 1 }
    }
}

/// The product by tiles, cut into tasks of rows × panels, and along the inner axis where those are few.
fn tiled_product<T: Float>(
    [m, k, n]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    c: &mut [T],
    onto: Onto<'_, T>,
    finish: Option<Finish<'_, T>>,
) {
    let width = panel_width::<T>();
    let count = n.div_ceil(width);
    let Cut { rows, group, parts } = if across(a, k) && m * n >= 2 * LARGE && count > 1 {
        Cut::by_threads::<T>([m, n], par::threads())
    } else {
        Cut::by_size::<T>([m, k, n], across(a, k) || b.columns != 1)
    };
    let grid = [m.div_ceil(rows), count.div_ceil(group)];
    let tasks = grid[0] * grid[1];
    // A panel that one task alone needs is packed there, and never leaves the first cache; so are those beside an `A`
    // that is read across its rows, where the next block of both is asked for meanwhile.
    let by_blocks = across(a, k) && group > 1;
    let packs = b.columns != 1 || m >= PACK_FROM_ROWS || by_blocks;
    let packed = (packs && grid[0] > 1 && !by_blocks).then(|| pack(k, n, b));
    let mut partial = (parts > 1).then(|| Tensor::scratch::<T>(Shape::from([parts, m, n])));
    let mut target = match &mut partial {
        Some(partial) => Shared::new(partial.own_slice::<T>()),
        None => Shared::new(&mut *c),
    };
    let target = &mut target;
    let to_finish = finish.as_ref().map_or(0.0, |finish| finish.cost);
    let ns = (NS_PER_MEGA * 1e-6 * (m * k * n) as f64 + to_finish * (m * n) as f64) / (tasks * parts) as f64;
    let panels = match &packed {
        Some(packed) => Panels::packed(packed.slice_of(), k),
        None if packs => Panels::Loose(b),
        None => Panels::of(b),
    };
    par::tasks(tasks * parts, ns, |task| {
        let (part, task) = (task / tasks, task % tasks);
        let (i0, p0) = (task / grid[1] * rows, task % grid[1] * group);
        let count = rows.min(m - i0);
        let a = Matrix { data: &a.data[i0 * a.rows..], ..a };
        let c = target.start().wrapping_add((part * m + i0) * n);
        let onto = if parts > 1 { Onto::Nothing } else { onto };
        // SAFETY: `check` has shown that A and B hold every element, and tasks own disjoint blocks of C (of one partial
        // C each).
        unsafe { panels.multiply(count, a, p0..p0 + group, part * k / parts..(part + 1) * k / parts, n, c, onto) };
        if let Some(finish) = finish.as_ref().filter(|_| parts == 1) {
            let columns = p0 * width..((p0 + group) * width).min(n);
            for start in (i0..i0 + count).map(|i| i * n + columns.start) {
                // SAFETY: as above.
                (finish.work)(start, unsafe { target.slice(start, columns.len()) });
            }
        }
    });
    if let Some(mut partial) = partial {
        let partial = Shared::new(partial.own_slice::<T>());
        par::rows(c, n, n as f64 * (parts as f64 * 0.2 + to_finish), |first, rows| {
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                // SAFETY: a row of each partial product is read beside the row of C that is written here alone.
                let of = |part: usize| unsafe { partial.slice((part * m + first + i) * n, n) };
                let sum = of(0);
                for part in 1..parts {
                    sum.iter_mut().zip(of(part)).for_each(|(sum, x)| *sum += *x);
                }
                row.iter_mut().zip(sum).enumerate().for_each(|(j, (c, sum))| *c = onto.start(*c, j) + *sum);
                if let Some(finish) = &finish {
                    (finish.work)((first + i) * n, row);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use proptest::prelude::*;

    /// The largest error of a sum of `k` products of numbers below 1: `k · ε`, each sum being below `k`.
    fn check_naive<T: Float>([m, k, n]: [usize; 3], transposed: [bool; 2], onto: usize, eps: f64) {
        let mut rng = Rng::new((m * 31 + k * 7 + n) as u64);
        let mut draw = |len| Tensor::uniform([len], T::from_f64(-1.0), T::one(), &mut rng).to_vec::<T>().unwrap();
        let (a, b, row, mut c) = (draw(m * k), draw(k * n), draw(n), draw(m * n));
        let onto = [Onto::Nothing, Onto::Itself, Onto::Row(&row)][onto];
        let a = Matrix::new(&a, if transposed[0] { m } else { k }, transposed[0]);
        let b = Matrix::new(&b, if transposed[1] { k } else { n }, transposed[1]);
        let expected: Vec<f64> = (0..m * n)
            .map(|at| {
                let (i, j) = (at / n, at % n);
                let x = |t: usize| -> f64 {
                    a.data[i * a.rows + t * a.columns].as_f64() * b.data[t * b.rows + j * b.columns].as_f64()
                };
                (0..k).map(x).sum::<f64>() + onto.start(c[at], j).as_f64()
            })
            .collect();
        product([m, k, n], a, b, &mut c, onto);
        for (c, e) in c.iter().zip(&expected) {
            assert!((c.as_f64() - e).abs() <= (k + 1) as f64 * eps, "{m} × {k} × {n} {transposed:?}: {c} against {e}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
        #[test]
        fn equals_three_loops(
            m in 0usize..70, k in 0usize..40, n in 0usize..70, ta: bool, tb: bool, onto in 0usize..3
        ) {
            check_naive::<f32>([m, k, n], [ta, tb], onto, f64::from(f32::EPSILON));
            check_naive::<f64>([m, k, n], [ta, tb], onto, f64::EPSILON);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn blocked_packed_and_cut_products_equal_three_loops() {
        for size in [[100, 700, 90], [5, 5000, 40], [40, 3000, 5], [300, 33, 200], [1, 600, 500], [130, 1, 33]] {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                for onto in 0..3 {
                    check_naive::<f32>(size, transposed, onto, f64::from(f32::EPSILON));
                }
            }
        }
    }

    /// A transposed `A` over many steps: in whole numbers, whose sums are exact.
    #[test]
    #[cfg(not(miri))]
    fn products_across_rows_are_exact() {
        let sizes =
            [[128, 2048, 128], [300, 1600, 70], [33, 515, 161], [17, 4100, 32], [130, 4500, 20], [512, 600, 70]];
        for [m, k, n] in sizes {
            for b_transposed in [false, true] {
                let whole = |len: usize, by: usize| (0..len).map(|i| ((i * by) % 7) as f32 - 3.0).collect::<Vec<_>>();
                let (a, b, row, itself) = (whole(k * m, 31), whole(k * n, 53), whole(n, 3), whole(m * n, 5));
                let (a, b) =
                    (Matrix::new(&a, m, true), Matrix::new(&b, if b_transposed { k } else { n }, b_transposed));
                let mut sums = vec![0.0f32; m * n];
                for t in 0..k {
                    for (i, sums) in sums.chunks_mut(n).enumerate() {
                        let x = a.data[t * a.columns + i];
                        sums.iter_mut().enumerate().for_each(|(j, sum)| *sum += x * b.data[t * b.rows + j * b.columns]);
                    }
                }
                for onto in [Onto::Nothing, Onto::Itself, Onto::Row(&row)] {
                    let mut c = itself.clone();
                    product([m, k, n], a, b, &mut c, onto);
                    let want = sums.iter().enumerate().map(|(i, sum)| onto.start(itself[i], i % n) + sum);
                    assert!(want.eq(c.iter().copied()), "{m} × {k} × {n}, {b_transposed}");
                }
            }
        }
    }

    /// Every way through gives each element to `finish` once, with its place.
    #[test]
    fn every_element_is_finished_once() {
        let small = [[3, 4, 5], [1, 600, 500], [70, 0, 33], [40, 9, 300]];
        let large = [[100, 700, 90], [5, 5000, 40], [300, 33, 200], [40, 2600, 20], [64, 2048, 128], [300, 640, 190]];
        for [m, k, n] in small.into_iter().chain(large.into_iter().filter(|_| !cfg!(miri))) {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                let whole = |len: usize, by: usize| (0..len).map(|i| ((i * by) % 7) as f32 - 3.0).collect::<Vec<_>>();
                let (a, b) = (whole(m * k, 31), whole(k * n, 53));
                let a = Matrix::new(&a, if transposed[0] { m } else { k }, transposed[0]);
                let b = Matrix::new(&b, if transposed[1] { k } else { n }, transposed[1]);
                let row = whole(n, 3);
                for onto in [Onto::Nothing, Onto::Itself, Onto::Row(&row)] {
                    let (mut plain, mut finished) = (whole(m * n, 5), whole(m * n, 5));
                    product([m, k, n], a, b, &mut plain, onto);
                    let work =
                        |start: usize, c: &mut [f32]| c.iter_mut().zip(start..).for_each(|(c, at)| *c += at as f32);
                    finished_product([m, k, n], a, b, &mut finished, onto, Some(Finish { work: &work, cost: 0.1 }));
                    let mut both = finished.iter().zip(&plain).enumerate();
                    let once = both.all(|(at, (found, plain))| *found == plain + at as f32);
                    assert!(once, "{m} × {k} × {n}, {transposed:?}");
                }
            }
        }
    }

    /// What has 16 million multiply-adds and more, and is no thin strip, makes work for several threads.
    #[test]
    fn large_products_are_cut() {
        let sizes = [1usize, 10, 32, 33, 100, 128, 161, 255, 500, 512, 1280, 2048, 3000];
        for (m, n) in sizes.into_iter().flat_map(|m| sizes.map(|n| (m, n))) {
            let count = |cut: Cut| m.div_ceil(cut.rows) * n.div_ceil(panel_width::<f32>()).div_ceil(cut.group);
            for k in [1, 27, 128, 500, 512, 1000, 1792, 2048, 4096, 5408, 60_000] {
                for moves in [false, true] {
                    let cut = Cut::by_size::<f32>([m, k, n], moves);
                    let enough = count(cut) * cut.parts >= 6 || m * n * k < 1 << 24 || m.min(n) < 64;
                    assert!(enough, "{m} × {k} × {n}, {moves}: {cut:?}");
                }
            }
            for threads in [1, 2, 3, 8, 100].into_iter().filter(|_| m * n >= 2 * LARGE && n > panel_width::<f32>()) {
                let cut = Cut::by_threads::<f32>([m, n], threads);
                let tasks = count(cut);
                assert!(tasks >= threads.min(8), "{m} × {n} for {threads} threads: {cut:?}");
                assert!(cut.group > 1 && cut.rows * cut.group * panel_width::<f32>() <= AREA);
            }
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::new(9);
        let a = Tensor::normal([64 * 3000], 0.0f32, 1.0, &mut rng);
        let b = Tensor::normal([3000 * 70], 0.0f32, 1.0, &mut rng);
        let sizes = [[64, 3000, 70], [4, 3000, 30], [64, 300, 700], [60, 3000, 70], [300, 640, 190], [256, 700, 130]];
        let transposed = [[false, false], [false, true], [false, false], [true, false], [true, false], [true, false]];
        for (size, transposed) in sizes.into_iter().zip(transposed) {
            let [m, k, n] = size;
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut c = vec![0.0f32; m * n];
                let a = Matrix::new(a.slice_of(), if transposed[0] { m } else { k }, transposed[0]);
                let b = Matrix::new(b.slice_of(), if transposed[1] { k } else { n }, transposed[1]);
                pool.install(|| product(size, a, b, &mut c, Onto::Nothing));
                c
            };
            assert_eq!(run(1), run(2));
            assert_eq!(run(1), run(7));
        }
    }
}
