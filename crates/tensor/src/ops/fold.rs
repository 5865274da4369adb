//! The kernels of reductions: folding the elements along axes with an operation such as `+` or `max`.
//!
//! Elements are combined in blocks, and the blocks' results in blocks again: a sum of n terms then errs like log n
//! roundings instead of n, its order depends on the shape alone, and the blocks run in parallel.

use crate::simd::vectorized;
use crate::{Element, MAX_RANK, Shape, Tensor, par};

/// About the nanoseconds that one element takes.
const COST: f64 = 0.1;
/// Independent accumulators of a contiguous fold: enough to hide the latency of an addition.
const LANES: usize = 64;
/// Elements that the accumulators take before they are combined.
const BLOCK: usize = 128 * LANES;
/// Elements of a row that one task folds.
const ROW_PIECE: usize = 8 * BLOCK;
/// Rows that one task folds into one.
const COLUMN_PIECE: usize = 128;

/// What is left of `shape` when the axes of `mask` are folded.
pub(crate) fn folded(shape: &Shape, mask: &[bool; MAX_RANK], keepdims: bool) -> Shape {
    let sizes = (0..shape.rank()).filter_map(|axis| match (mask[axis], keepdims) {
        (false, _) => Some(shape[axis]),
        (true, true) => Some(1),
        (true, false) => None,
    });
    Shape::of(&sizes.collect::<Vec<_>>())
}

/// Folds the axes of `mask`; `init` is neutral. The result has the shape `shape`, which the caller knows to fit.
pub(crate) fn fold<T: Element, F: Fn(T, T) -> T + Sync>(
    x: &Tensor,
    mask: &[bool; MAX_RANK],
    shape: Shape,
    init: T,
    f: F,
) -> Tensor {
    // Neighbouring axes of one kind are one: at most alternating groups of (size, folded).
    let mut groups: Vec<(usize, bool)> = Vec::with_capacity(MAX_RANK);
    for axis in (0..x.rank()).filter(|&axis| x.shape()[axis] != 1) {
        match groups.last_mut() {
            Some((size, folded)) if *folded == mask[axis] => *size *= x.shape()[axis],
            _ => groups.push((x.shape()[axis], mask[axis])),
        }
    }
    if x.is_empty() {
        return Tensor::full(shape, init);
    }
    let mut x = x.clone();
    while let Some(at) = groups.iter().rposition(|&(_, folded)| folded) {
        let size = |groups: &[(usize, bool)]| groups.iter().map(|&(size, _)| size).product::<usize>();
        let (outer, n, inner) = (size(&groups[..at]), groups[at].0, size(&groups[at + 1..]));
        x = match inner {
            1 => fold_rows(&x, outer, n, init, &f),
            _ => fold_columns(&x, outer, n, inner, init, &f),
        };
        groups.remove(at);
    }
    x.with_shape(shape)
}

/// `[outer, n]` to `[outer]`.
fn fold_rows<T: Element, F: Fn(T, T) -> T + Sync>(x: &Tensor, outer: usize, n: usize, init: T, f: &F) -> Tensor {
    let pieces = n.div_ceil(ROW_PIECE);
    let elements = x.slice_of::<T>();
    let partial = Tensor::build(Shape::of(&[outer * pieces]), |out| {
        par::elements(out, n.min(ROW_PIECE) as f64 * COST, |start, out| {
            fold_row_pieces(out, start, elements, n, pieces, init, f);
        });
    });
    if pieces == 1 { partial } else { fold_rows(&partial, outer, pieces, init, f) }
}

vectorized! {
    fn fold_row_pieces<T: Element, F: Fn(T, T) -> T>(
        out: &mut [T], start: usize, x: &[T], n: usize, pieces: usize, init: T, f: &F,
    ) {
        for (i, out) in out.iter_mut().enumerate() {
            let (row, piece) = ((start + i) / pieces, (start + i) % pieces);
            let row = &x[row * n..][..n];
            *out = fold_slice(&row[piece * ROW_PIECE..n.min((piece + 1) * ROW_PIECE)], init, f);
        }
    }
}

/// Folds a contiguous slice; to be called in a `vectorized!` loop.
#[inline(always)]
pub(crate) fn fold_slice<T: Element, F: Fn(T, T) -> T>(x: &[T], init: T, f: &F) -> T {
    let mut total = init;
    for block in x.chunks(BLOCK) {
        let (long, rest) = block.as_chunks::<LANES>();
        if !long.is_empty() {
            total = f(total, fold_lanes(long, init, f));
        }
        let (short, rest) = rest.as_chunks::<8>();
        if !short.is_empty() {
            total = f(total, fold_lanes(short, init, f));
        }
        total = rest.iter().fold(total, |total, &x| f(total, x));
    }
    total
}

/// Folds `N` columns side by side, in registers, and then these with each other, in pairs.
#[inline(always)]
fn fold_lanes<T: Element, F: Fn(T, T) -> T, const N: usize>(vectors: &[[T; N]], init: T, f: &F) -> T {
    let mut lanes = [init; N];
    for vector in vectors {
        for i in 0..N {
            lanes[i] = f(lanes[i], vector[i]);
        }
    }
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `[outer, n, inner]` to `[outer, inner]`.
fn fold_columns<T: Element, F: Fn(T, T) -> T + Sync>(
    x: &Tensor,
    outer: usize,
    n: usize,
    inner: usize,
    init: T,
    f: &F,
) -> Tensor {
    let pieces = n.div_ceil(COLUMN_PIECE);
    let elements = x.slice_of::<T>();
    let partial = Tensor::build(Shape::of(&[outer * pieces * inner]), |out| {
        let cost = n.min(COLUMN_PIECE) as f64 * COST;
        let work = |start: usize, out: &mut [T]| fold_column_pieces(out, start, elements, n, inner, pieces, init, f);
        match inner {
            0..1024 => par::rows(out, inner, inner as f64 * cost, |row, out| work(row * inner, out)),
            _ => par::elements(out, cost, work),
        }
    });
    if pieces == 1 { partial } else { fold_columns(&partial, outer, pieces, inner, init, f) }
}

vectorized! {
    fn fold_column_pieces<T: Element, F: Fn(T, T) -> T>(
        out: &mut [T], start: usize, x: &[T], n: usize, inner: usize, pieces: usize, init: T, f: &F,
    ) {
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let (row, column) = (at / inner, at % inner);
            let width = rest.len().min(inner - column);
            let (out, next) = rest.split_at_mut(width);
            let (outer, piece) = (row / pieces, row % pieces);
            let (from, to) = (piece * COLUMN_PIECE, n.min((piece + 1) * COLUMN_PIECE));
            let rows = &x[(outer * n + from) * inner..(outer * n + to) * inner];
            out.fill(init);
            if inner <= LANES / 2 {
                fold_narrow(out, rows, f);
            } else {
                for row in rows.chunks_exact(inner) {
                    fold_into(out, &row[column..][..width], f);
                }
            }
            (at, rest) = (at + width, next);
        }
    }
}

/// Rows that do not fill the accumulators: as many as fit side by side in the accumulators are folded at once.
#[inline(always)]
fn fold_narrow<T: Element, F: Fn(T, T) -> T>(out: &mut [T], rows: &[T], f: &F) {
    let side_by_side = LANES / out.len() * out.len();
    let (first, rest) = rows.split_at(side_by_side.min(rows.len()));
    let mut lanes = [T::default(); LANES];
    let lanes = &mut lanes[..first.len()];
    lanes.copy_from_slice(first);
    for rows in rest.chunks(side_by_side) {
        fold_into(lanes, rows, f);
    }
    for row in lanes.chunks_exact(out.len()) {
        fold_into(out, row, f);
    }
}

/// `out[i] = f(out[i], x[i])` as far as `x` goes.
#[inline(always)]
fn fold_into<T: Element, F: Fn(T, T) -> T>(out: &mut [T], x: &[T], f: &F) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f(*out, x);
    }
}
