//! The loops of attention, forward and backward, a block of queries and a block of keys at a time.
//!
//! Scores are kept transposed, `[keys, queries]`: so neither keys nor values need be packed for the tile (`K` is its
//! operand that is read one element at a time, `V` the one with whole rows), and the softmax of a block runs down the
//! lanes of vectors, one query each, without a horizontal sum. Only queries (and `dy`) are transposed, once a block.

use super::{Place, Plan};
use crate::math::Math;
use crate::ops::dropout::{drops, threshold};
use crate::ops::norm::lanes;
use crate::ops::number::Number;
use crate::par::{self, Shared};
use crate::product::{Matrix, block_product};
use crate::simd::vectorized;
use crate::turn::turn;
use crate::{Shape, Tensor};
use std::ops::Range;

/// Queries that are worked on at once, one a lane: two vectors of AVX-512.
const QUERIES: usize = 32;
/// Keys that are worked on at once: their scores, with the queries above, stay in the first-level cache.
const KEYS: usize = 128;
/// Lanes in a vector loop.
const LANES: usize = 16;
/// The backward pass is cut into this many tasks at least, if there are as many blocks of keys.
const PARTS: usize = 8;

/// What the kernels need of an element: one name, because `vectorized!` takes one bound.
pub(super) trait AttentionMath: Math + Number {
    /// Just above the exponent of the least normal number.
    const FLOOR: Self;

    /// `eˣ`, where what is below normal numbers is 0: −∞, which masks are full of, must not cost a slow denormal number
    /// on the way.
    #[inline(always)]
    fn weight(self) -> Self {
        let exp = if self < Self::FLOOR { Self::FLOOR } else { self }.fast_exp();
        if self < Self::FLOOR { Self::zero() } else { exp }
    }
}

impl AttentionMath for f32 {
    const FLOOR: f32 = -87.0;
}

impl AttentionMath for f64 {
    const FLOOR: f64 = -708.0;
}

/// A mask somewhere in memory: of `may` and `bias` one is empty.
pub(super) struct Mask<'a, T> {
    pub(super) may: &'a [u8],
    pub(super) bias: &'a [T],
    /// Where the matrix of each head begins.
    pub(super) starts: Vec<usize>,
    /// Elements from one query, and from one key, to the next: 0 where all share one.
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<T: AttentionMath> Mask<'_, T> {
    /// What is added to a score.
    #[inline(always)]
    fn bias(&self, at: usize) -> T {
        match self.may.is_empty() {
            true => self.bias[at],
            false if self.may[at] != 0 => T::zero(),
            false => T::LEAST,
        }
    }
}

/// The mask of dropout, which is never stored: see `ops/dropout.rs`.
#[derive(Clone, Copy)]
pub(super) struct Dropout<T> {
    seed: u64,
    below: u64,
    kept: T,
}

impl<T: AttentionMath> Dropout<T> {
    pub(super) fn new(probability: f64, seed: u64) -> Self {
        Self { seed, below: threshold(probability), kept: T::from_f64(1.0 / (1.0 - probability)) }
    }

    /// What weight `i` is multiplied by.
    #[inline(always)]
    fn factor(&self, i: u64) -> T {
        if drops(self.seed.wrapping_add(i), self.below) { T::zero() } else { self.kept }
    }
}

/// One problem: sizes, data, and what [`Attend`](super::Attend) asks.
pub(super) struct Kernel<'a, T> {
    pub(super) plan: &'a Plan,
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) mask: Option<Mask<'a, T>>,
    pub(super) causal: Option<usize>,
    pub(super) scale: T,
    pub(super) drop: Option<Dropout<T>>,
}

/// A block of queries of one head, and the block of keys that it looks at.
#[derive(Clone, Copy)]
struct Tile {
    /// Sample and head in one number.
    head: usize,
    q0: usize,
    queries: usize,
    /// `queries`, filled up to whole vectors: the length of a row of scores.
    width: usize,
    k0: usize,
    keys: usize,
}

/// Memory of a task, from the pool: pieces of so many elements each.
fn scratch<T: AttentionMath>(sizes: &[usize]) -> Tensor {
    Tensor::dirty::<T>(Shape::of(&[sizes.iter().sum()]))
}

fn pieces<const N: usize, T>(mut rest: &mut [T], sizes: [usize; N]) -> [&mut [T]; N] {
    sizes.map(|size| {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        piece
    })
}

impl<T: AttentionMath> Kernel<'_, T> {
    /// The output, and the logarithm of each query's sum of exponentials.
    pub(super) fn forward(&self) -> (Tensor, Tensor) {
        let Plan { t_q, t_k, d, d_v, .. } = *self.plan;
        let heads = self.plan.lead.elements();
        let mut y = Tensor::dirty::<T>(self.plan.output);
        let mut sums = Tensor::dirty::<T>(self.plan.sums());
        let (y_out, sums_out) = (Shared::new(y.own_slice::<T>()), Shared::new(sums.own_slice::<T>()));
        let blocks = t_q.div_ceil(QUERIES);
        let ns = (QUERIES * t_k) as f64 * (0.5 + 0.02 * (d + d_v) as f64);
        par::tasks(heads * blocks, ns, |task| {
            let (head, q0) = (task / blocks, task % blocks * QUERIES);
            let sizes = [QUERIES * d, QUERIES * KEYS, self.mask_memory(), QUERIES * d_v, 3 * QUERIES];
            let mut memory = scratch::<T>(&sizes);
            let [turned, scores, masks, sum, state] = pieces(memory.own_slice::<T>(), sizes);
            let mut tile = self.tile(head, q0);
            let width = tile.width;
            self.turn_queries(tile, turned);
            let [greatest, totals, rescale] = pieces(state, [QUERIES; 3]);
            greatest.fill(T::LEAST);
            totals.fill(T::zero());
            sum.fill(T::zero());
            let seen = self.seen(tile);
            for k0 in (0..seen).step_by(KEYS) {
                (tile.k0, tile.keys) = (k0, KEYS.min(seen - k0));
                let scores = &mut scores[..tile.keys * width];
                self.scores(tile, turned, scores, masks);
                exponentials(scores, greatest, totals, rescale, width);
                if k0 > 0 {
                    scale_rows(&mut sum[..tile.queries * d_v], rescale, d_v);
                }
                if let Some(drop) = self.drop {
                    drop_weights(scores, drop, self.first_weight(tile), t_k, width);
                }
                // Each output is a sum of values: rows are queries, steps are keys.
                let weights = Matrix { data: scores, rows: 1, columns: width };
                block_product([tile.queries, tile.keys, d_v], weights, self.rows(self.v, 2, tile, k0), sum, d_v, true);
            }
            for i in 0..tile.queries {
                let at = self.plan.places[3].of(self.plan.index(head, q0 + i));
                // SAFETY: each row of a head belongs to one task.
                let (y, log) = unsafe { (y_out.slice(at, d_v), sums_out.slice(head * t_q + q0 + i, 1)) };
                // Nothing seen: nothing said.
                let share = if totals[i] == T::zero() { T::zero() } else { T::one() / totals[i] };
                for (y, &sum) in y.iter_mut().zip(&sum[i * d_v..]) {
                    *y = sum * share;
                }
                log[0] = greatest[i] + totals[i].fast_ln();
            }
        });
        (y, sums)
    }

    /// The gradients of queries, keys and values, or of all three in one tensor.
    pub(super) fn backward(
        &self,
        y: &[T],
        sums: &[T],
        dy: &[T],
        want: [bool; 3],
        shapes: [Shape; 3],
        packed: bool,
    ) -> [Option<Tensor>; 3] {
        let Plan { heads, group, t_q, t_k, d, d_v, .. } = *self.plan;
        let all_heads = self.plan.lead.elements();
        let mut grads: [Option<Tensor>; 3] =
            std::array::from_fn(|i| (want[i] && (i == 0 || !packed)).then(|| Tensor::dirty::<T>(shapes[i])));
        let places = self.plan.places;
        let outs = grads.each_mut().map(|grad| grad.as_mut().map(|grad| Shared::new(grad.own_slice::<T>())));
        let out = |i: usize| outs[if packed { 0 } else { i }].as_ref().filter(|_| want[i]);

        // A task is a head of keys, or a part of one if heads are few; each part then has its own sum of dq.
        let key_blocks = t_k.div_ceil(KEYS).max(1);
        let parts = (PARTS / (all_heads / group).max(1)).clamp(1, key_blocks);
        let per_part = key_blocks.div_ceil(parts) * KEYS;
        let own = Place { start: 0, ..Place::axis(heads, t_q, d) };
        let mut partial = (parts > 1 && want[0]).then(|| Tensor::dirty::<T>(Shape::of(&[parts, all_heads * t_q * d])));
        let partial_out = partial.as_mut().map(|partial| Shared::new(partial.own_slice::<T>()));
        let dq_out = |part: usize| match &partial_out {
            Some(partial) => Some((partial, Place { start: part * all_heads * t_q * d, ..own })),
            None => out(0).map(|out| (out, places[0])),
        };

        let ns = (group * t_q * per_part.min(t_k)) as f64 * (0.7 + 0.02 * (3 * d + 2 * d_v) as f64);
        par::tasks(all_heads / group * parts, ns, |task| {
            let (kv_head, part) = (task / parts, task % parts);
            let keys = (part * per_part).min(t_k)..((part + 1) * per_part).min(t_k);
            let sizes = [keys.len() * d, keys.len() * d_v];
            let mut memory = scratch::<T>(&sizes);
            let [dk, dv] = pieces(memory.own_slice::<T>(), sizes);
            dk.fill(T::zero());
            dv.fill(T::zero());
            for head in kv_head * group..(kv_head + 1) * group {
                let work = Backward { kernel: self, y, sums, dy, keys: keys.clone(), want };
                work.head(head, dq_out(part), dk, dv);
            }
            for (i, grad, d) in [(1, &*dk, d), (2, &*dv, d_v)] {
                let Some(out) = out(i) else { continue };
                for (row, grad) in keys.clone().zip(grad.chunks_exact(d.max(1))) {
                    let at = places[i].of([kv_head / (heads / group), kv_head % (heads / group), row]);
                    // SAFETY: each row of a head of keys belongs to one task.
                    unsafe { out.slice(at, d) }.copy_from_slice(grad);
                }
            }
        });
        if let (Some(partial), Some(out)) = (&partial, out(0)) {
            let partial = partial.slice_of::<T>();
            par::tasks(all_heads * t_q, (parts * d) as f64 * 0.2, |row| {
                // SAFETY: each row belongs to one task.
                let dq = unsafe { out.slice(places[0].of(self.plan.index(row / t_q, row % t_q)), d) };
                for (j, dq) in dq.iter_mut().enumerate() {
                    let term = |part: usize| partial[(part * all_heads * t_q + row) * d + j];
                    *dq = (1..parts).fold(term(0), |sum, part| sum + term(part));
                }
            });
        }
        grads
    }

    /// Room for a block of the mask, and for its transpose.
    fn mask_memory(&self) -> usize {
        if self.mask.is_some() { 2 * QUERIES * KEYS } else { 0 }
    }

    fn tile(&self, head: usize, q0: usize) -> Tile {
        let queries = QUERIES.min(self.plan.t_q - q0);
        Tile { head, q0, queries, width: queries.next_multiple_of(LANES), k0: 0, keys: 0 }
    }

    /// How many keys the last query of the tile may look at.
    fn seen(&self, tile: Tile) -> usize {
        let t_k = self.plan.t_k;
        self.causal.map_or(t_k, |first| (first + tile.q0 + tile.queries).min(t_k))
    }

    /// The rows of a head of keys (or values, or queries) from row `t` on.
    fn rows<'s>(&self, data: &'s [T], input: usize, tile: Tile, t: usize) -> Matrix<'s, T> {
        let [sample, head, _] = self.plan.index(tile.head, 0);
        let head = if input == 1 || input == 2 { head / self.plan.group } else { head };
        let place = self.plan.places[input];
        Matrix { data: data.get(place.of([sample, head, t])..).unwrap_or_default(), rows: place.row, columns: 1 }
    }

    /// The number of the tile's first weight among all.
    fn first_weight(&self, tile: Tile) -> u64 {
        ((tile.head * self.plan.t_q + tile.q0) * self.plan.t_k + tile.k0) as u64
    }

    /// The tile's queries times the scale, as columns.
    fn turn_queries(&self, tile: Tile, turned: &mut [T]) {
        let queries = self.rows(self.q, 0, tile, tile.q0);
        turn_rows(queries, tile, self.plan.d, turned);
        for x in &mut turned[..self.plan.d * tile.width] {
            *x *= self.scale;
        }
    }

    /// The tile's scores `[keys, width]`, with the mask.
    fn scores(&self, tile: Tile, turned: &[T], scores: &mut [T], masks: &mut [T]) {
        let Tile { q0, k0, keys, width, .. } = tile;
        let turned = Matrix { data: turned, rows: width, columns: 1 };
        let rows = self.rows(self.k, 1, tile, k0);
        block_product([keys, self.plan.d, width], rows, turned, scores, width, false);
        if let Some(mask) = &self.mask {
            add_mask(scores, mask, tile, masks);
        }
        if let Some(first) = self.causal {
            for (k, row) in scores.chunks_exact_mut(width).enumerate() {
                row[..(k0 + k).saturating_sub(first + q0).min(width)].fill(T::LEAST);
            }
        }
    }
}

impl Plan {
    /// Sample, head and row.
    fn index(&self, head: usize, row: usize) -> [usize; 3] {
        [head / self.heads, head % self.heads, row]
    }
}

/// The backward pass of one head, for some of its keys.
struct Backward<'k, 'a, T> {
    kernel: &'k Kernel<'a, T>,
    y: &'k [T],
    sums: &'k [T],
    dy: &'k [T],
    keys: Range<usize>,
    want: [bool; 3],
}

impl<T: AttentionMath> Backward<'_, '_, T> {
    /// Writes the head's `dq`, and adds to `dk` and `dv`.
    ///
    /// With the weights `P` after softmax, `M` the mask of dropout and `D = Σ dy · y`: `dV = (P M)ᵀ dY`, `dS = P (M dY
    /// Vᵀ − D)`, `dQ = scale · dS K`, `dK = scale · dSᵀ Q`.
    fn head(&self, head: usize, dq_out: Option<(&Shared<T>, Place)>, dk: &mut [T], dv: &mut [T]) {
        let kernel = self.kernel;
        let Plan { t_q, t_k, d, d_v, .. } = *kernel.plan;
        let block = QUERIES * KEYS;
        let sizes = [QUERIES * d, QUERIES * d_v, block, block, kernel.mask_memory(), QUERIES * d, 2 * QUERIES];
        let mut memory = scratch::<T>(&sizes);
        let [turned, dy_turned, weights, slopes, masks, dq, state] = pieces(memory.own_slice::<T>(), sizes);
        let [logs, along] = pieces(state, [QUERIES; 2]);
        for q0 in (0..t_q).step_by(QUERIES) {
            let mut tile = kernel.tile(head, q0);
            let Tile { queries, width, .. } = tile;
            kernel.turn_queries(tile, turned);
            let (rows, dy_rows) = (kernel.rows(kernel.q, 0, tile, q0), kernel.rows(self.dy, 3, tile, q0));
            let y_rows = kernel.rows(self.y, 3, tile, q0);
            turn_rows(dy_rows, tile, d_v, dy_turned);
            logs.fill(T::zero());
            along.fill(T::zero());
            for i in 0..queries {
                let log = self.sums[head * t_q + q0 + i];
                // A query that looks at nothing: each of its scores is −∞, whose exponential is 0 as it should.
                logs[i] = if log == T::LEAST { T::zero() } else { log };
            }
            row_products(along, dy_rows.data, y_rows.data, y_rows.rows, [queries, d_v]);
            dq.fill(T::zero());
            let end = self.keys.end.min(kernel.seen(tile));
            for k0 in (self.keys.start..end).step_by(KEYS) {
                (tile.k0, tile.keys) = (k0, KEYS.min(end - k0));
                let (weights, slopes) = (&mut weights[..tile.keys * width], &mut slopes[..tile.keys * width]);
                kernel.scores(tile, turned, weights, masks);
                let (k_rows, v_rows) = (kernel.rows(kernel.k, 1, tile, k0), kernel.rows(kernel.v, 2, tile, k0));
                let dy_columns = Matrix { data: dy_turned, rows: width, columns: 1 };
                block_product([tile.keys, d_v, width], v_rows, dy_columns, slopes, width, false);
                let first = kernel.first_weight(tile);
                weigh(weights, slopes, logs, along, kernel.scale, kernel.drop, first, t_k, width);

                let by_key = |data| Matrix { data, rows: width, columns: 1 };
                let at = k0 - self.keys.start;
                if self.want[2] {
                    block_product([tile.keys, queries, d_v], by_key(weights), dy_rows, &mut dv[at * d_v..], d_v, true);
                }
                if self.want[1] {
                    block_product([tile.keys, queries, d], by_key(slopes), rows, &mut dk[at * d..], d, true);
                }
                if self.want[0] {
                    let by_query = Matrix { data: slopes, rows: 1, columns: width };
                    block_product([queries, tile.keys, d], by_query, k_rows, dq, d, true);
                }
            }
            let Some((out, place)) = dq_out else { continue };
            for (i, dq) in dq.chunks_exact(d.max(1)).take(queries).enumerate() {
                // SAFETY: each row of a head, in each part, belongs to one task.
                unsafe { out.slice(place.of(kernel.plan.index(head, q0 + i)), d) }.copy_from_slice(dq);
            }
        }
    }
}

/// The tile's rows as columns `[d, width]`, zeros where there is no query.
fn turn_rows<T: AttentionMath>(rows: Matrix<'_, T>, tile: Tile, d: usize, out: &mut [T]) {
    if tile.queries < tile.width {
        out.fill(T::zero());
    }
    turn([tile.queries, d], rows.data, rows.rows, out, tile.width);
}

fn add_mask<T: AttentionMath>(scores: &mut [T], mask: &Mask<'_, T>, tile: Tile, memory: &mut [T]) {
    let Tile { queries, width, keys, .. } = tile;
    let start = mask.starts[tile.head] + tile.q0 * mask.row + tile.k0 * mask.column;
    if mask.row == 0 {
        for (k, row) in scores.chunks_exact_mut(width).enumerate() {
            let bias = mask.bias(start + k * mask.column);
            row.iter_mut().for_each(|score| *score += bias);
        }
        return;
    }
    let (rows, turned) = memory.split_at_mut(QUERIES * KEYS);
    for (i, row) in rows.chunks_exact_mut(keys).take(queries).enumerate() {
        for (k, bias) in row.iter_mut().enumerate() {
            *bias = mask.bias(start + i * mask.row + k * mask.column);
        }
    }
    turn([queries, keys], rows, keys, turned, width);
    for (score, &bias) in scores.iter_mut().zip(&*turned) {
        *score += bias;
    }
}

/// The vector's worth of elements from `at` on.
#[inline(always)]
fn vector<T: Copy>(x: &[T], at: usize) -> [T; LANES] {
    x[at..at + LANES].try_into().expect("LANES elements")
}

vectorized! {
    /// Scores to `e^(score − greatest)`, where the greatest may rise: then what was summed before shrinks by `rescale`.
    fn exponentials<T: AttentionMath>(
        scores: &mut [T],
        greatest: &mut [T],
        totals: &mut [T],
        rescale: &mut [T],
        width: usize,
    ) {
        for at in (0..width).step_by(LANES) {
            let before = vector(greatest, at);
            let mut most = before;
            for row in scores.chunks_exact(width) {
                let row = vector(row, at);
                for i in 0..LANES {
                    // May lose a NaN, whose exponential then makes the sum NaN all the same.
                    most[i] = if row[i] > most[i] { row[i] } else { most[i] };
                }
            }
            // As long as nothing may be looked at: −∞ − 0, not −∞ + ∞.
            let mut shift = most;
            for shift in &mut shift {
                *shift = if *shift == T::LEAST { T::zero() } else { *shift };
            }
            let mut sum = vector(totals, at);
            for i in 0..LANES {
                rescale[at + i] = (before[i] - shift[i]).weight();
                sum[i] *= rescale[at + i];
            }
            for row in scores.chunks_exact_mut(width) {
                let row = &mut row[at..at + LANES];
                for i in 0..LANES {
                    row[i] = (row[i] - shift[i]).weight();
                    sum[i] += row[i];
                }
            }
            greatest[at..at + LANES].copy_from_slice(&most);
            totals[at..at + LANES].copy_from_slice(&sum);
        }
    }
}

vectorized! {
    fn scale_rows<T: AttentionMath>(rows: &mut [T], by: &[T], width: usize) {
        for (row, &by) in rows.chunks_exact_mut(width.max(1)).zip(by) {
            for x in row {
                *x *= by;
            }
        }
    }
}

vectorized! {
    fn drop_weights<T: AttentionMath>(weights: &mut [T], drop: Dropout<T>, first: u64, t_k: usize, width: usize) {
        for (k, row) in weights.chunks_exact_mut(width).enumerate() {
            for (i, weight) in row.iter_mut().enumerate() {
                *weight *= drop.factor(first + (i * t_k + k) as u64);
            }
        }
    }
}

vectorized! {
    /// `Σ a · b` of rows with one stride.
    fn row_products<T: AttentionMath>(out: &mut [T], a: &[T], b: &[T], stride: usize, rows: [usize; 2]) {
        let [count, width] = rows;
        for (i, out) in out.iter_mut().enumerate().take(count) {
            let (a, b) = (&a[i * stride..][..width], &b[i * stride..][..width]);
            *out = T::from_f64(lanes(width, #[inline(always)] |j| a[j] * b[j]));
        }
    }
}

vectorized! {
    /// Scores to weights after dropout, and the gradients of those weights to the gradients of the scores.
    fn weigh<T: AttentionMath>(
        weights: &mut [T],
        slopes: &mut [T],
        logs: &[T],
        along: &[T],
        scale: T,
        drop: Option<Dropout<T>>,
        first: u64,
        t_k: usize,
        width: usize,
    ) {
        for at in (0..width).step_by(LANES) {
            let (logs, along) = (vector(logs, at), vector(along, at));
            for (k, (weights, slopes)) in weights.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width)).enumerate() {
                let (weights, slopes) = (&mut weights[at..at + LANES], &mut slopes[at..at + LANES]);
                let mut kept = [T::one(); LANES];
                if let Some(drop) = drop {
                    for i in 0..LANES {
                        kept[i] = drop.factor(first + ((at + i) * t_k + k) as u64);
                    }
                }
                for i in 0..LANES {
                    let weight = (weights[i] - logs[i]).weight();
                    weights[i] = weight * kept[i];
                    slopes[i] = weight * (slopes[i] * kept[i] - along[i]) * scale;
                }
            }
        }
    }
}
