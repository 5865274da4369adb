//! The forward loop of attention, a block of queries and a block of keys at a time, and what the backward loop shares.
//!
//! Scores are kept transposed, `[keys, queries]`: so neither keys nor values need be packed for the tile (`K` is its
//! operand that is read one element at a time, `V` the one with whole rows), and the softmax of a block runs down the
//! lanes of vectors, one query each, without a horizontal sum. Only queries (and `dy`) are transposed, once a block.

use super::Plan;
use super::rows::{AttentionMath, LANES, copy_row, drop_weights, exponentials, finish, hide, scale, scale_rows};
use crate::ops::dropout::Dropout;
use crate::par::{self, Shared};
use crate::product::{Matrix, block_product};
use crate::scratch::pieces;
use crate::turn::turn;
use crate::{Shape, Tensor};
use std::array::from_fn;
use std::ops::Range;

/// Queries that are worked on at once, one a lane: two vectors of AVX-512.
pub(super) const QUERIES: usize = VECTORS * LANES;
/// Vectors of queries in a block of them.
pub(super) const VECTORS: usize = 2;
/// Keys that are worked on at once: their scores, with the queries above, stay in the first-level cache.
pub(super) const KEYS: usize = 128;
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
pub(super) struct Tile {
    /// Sample and head in one number.
    pub(super) head: usize,
    pub(super) q0: usize,
    pub(super) queries: usize,
    /// `queries`, filled up to whole vectors: the length of a row of scores.
    pub(super) width: usize,
    pub(super) k0: usize,
    pub(super) keys: usize,
}

/// Memory of a task, from the pool: pieces of so many elements each.
pub(super) fn scratch<T: AttentionMath>(sizes: &[usize]) -> Tensor {
    Tensor::dirty::<T>(Shape::of(&[sizes.iter().sum()]))
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
                exponentials(scores, greatest, totals, rescale, width, self.looks(tile));
                if k0 > 0 {
                    scale_rows(&mut sum[..tile.queries * d_v], rescale, d_v);
                }
                if let Some(drop) = self.drop {
                    drop_weights(scores, drop, self.first_weight(tile), t_k, width);
                }
                // Each output is a sum of values: rows are queries, steps are keys.
                let values = self.rows(self.v, 2, tile, k0);
                for (some, keys) in self.lookers(tile) {
                    let weights = Matrix { data: &scores[some.start..], rows: 1, columns: width };
                    let sum = &mut sum[some.start * d_v..];
                    block_product([some.len(), keys, d_v], weights, values, sum, d_v, true);
                }
            }
            // What totals become are the logarithms.
            finish(greatest, totals, rescale);
            scale_rows(&mut sum[..tile.queries * d_v], rescale, d_v);
            let place = self.plan.places[3];
            let at = place.of(self.plan.index(head, q0));
            for i in 0..tile.queries {
                // SAFETY: each row of a head belongs to one task.
                copy_row(unsafe { y_out.slice(at + i * place.row, d_v) }, &sum[i * d_v..]);
            }
            // SAFETY: as above.
            let logs = unsafe { sums_out.slice(head * t_q + q0, tile.queries) };
            logs.copy_from_slice(&totals[..tile.queries]);
        });
        (y, sums)
    }

    /// Room for a block of the mask, and for its transpose.
    pub(super) fn mask_memory(&self) -> usize {
        if self.mask.is_some() { 2 * QUERIES * KEYS } else { 0 }
    }

    pub(super) fn tile(&self, head: usize, q0: usize) -> Tile {
        let queries = QUERIES.min(self.plan.t_q - q0);
        Tile { head, q0, queries, width: queries.next_multiple_of(LANES), k0: 0, keys: 0 }
    }

    /// How many keys the last query of the tile may look at.
    pub(super) fn seen(&self, tile: Tile) -> usize {
        let t_k = self.plan.t_k;
        self.causal.map_or(t_k, |first| (first + tile.q0 + tile.queries).min(t_k))
    }

    /// The rows of a head of keys (or values, or queries) from row `t` on.
    pub(super) fn rows<'s>(&self, data: &'s [T], input: usize, tile: Tile, t: usize) -> Matrix<'s, T> {
        let [sample, head, _] = self.plan.index(tile.head, 0);
        let head = if input == 1 || input == 2 { head / self.plan.group } else { head };
        let place = self.plan.places[input];
        Matrix { data: data.get(place.of([sample, head, t])..).unwrap_or_default(), rows: place.row, columns: 1 }
    }

    /// How many of the tile's keys each vector of its queries looks at: the first so many. Weights of others are never
    /// computed.
    pub(super) fn looks(&self, tile: Tile) -> [usize; VECTORS] {
        let Tile { q0, k0, keys, .. } = tile;
        let end = |first: usize, vector: usize| (first + q0 + (vector + 1) * LANES).saturating_sub(k0).min(keys);
        from_fn(|vector| self.causal.map_or(keys, |first| end(first, vector)))
    }

    /// The tile's queries in groups with the number of keys that they look at.
    pub(super) fn lookers(&self, tile: Tile) -> impl Iterator<Item = (Range<usize>, usize)> {
        let looks = self.looks(tile);
        let group = if looks[0] == tile.keys { QUERIES } else { LANES };
        (0..tile.queries).step_by(group).map(move |i| (i..tile.queries.min(i + group), looks[(i + group - 1) / LANES]))
    }

    /// The tile's keys in groups with the first query that looks at them.
    pub(super) fn looked_at(&self, tile: Tile) -> impl Iterator<Item = (Range<usize>, usize)> {
        let looks = self.looks(tile);
        let groups = (0..VECTORS)
            .map(move |vector| (if vector == 0 { 0 } else { looks[vector - 1] }..looks[vector], vector * LANES));
        groups.filter(move |(keys, i)| !keys.is_empty() && *i < tile.queries)
    }

    /// The number of the tile's first weight among all.
    pub(super) fn first_weight(&self, tile: Tile) -> u64 {
        ((tile.head * self.plan.t_q + tile.q0) * self.plan.t_k + tile.k0) as u64
    }

    /// The tile's queries times the scale, as columns.
    pub(super) fn turn_queries(&self, tile: Tile, turned: &mut [T]) {
        let queries = self.rows(self.q, 0, tile, tile.q0);
        turn_rows(queries, tile, self.plan.d, turned);
        scale(&mut turned[..self.plan.d * tile.width], self.scale);
    }

    /// The tile's scores `[keys, width]`, with the mask.
    pub(super) fn scores(&self, tile: Tile, turned: &[T], scores: &mut [T], masks: &mut [T]) {
        let Tile { q0, k0, keys, width, .. } = tile;
        let turned = Matrix { data: turned, rows: width, columns: 1 };
        let rows = self.rows(self.k, 1, tile, k0);
        block_product([keys, self.plan.d, width], rows, turned, scores, width, false);
        if let Some(mask) = &self.mask {
            add_mask(scores, mask, tile, masks);
        }
        if let Some(first) = self.causal {
            let seen_by_all = (first + q0 + 1).saturating_sub(k0);
            let hidden = (k0 + seen_by_all).saturating_sub(first + q0);
            hide(scores.get_mut(seen_by_all * width..).unwrap_or_default(), width, hidden);
        }
    }
}

impl Plan {
    /// Sample, head and row.
    pub(super) fn index(&self, head: usize, row: usize) -> [usize; 3] {
        [head / self.heads, head % self.heads, row]
    }
}

/// The tile's rows as columns `[d, width]`, zeros where there is no query.
pub(super) fn turn_rows<T: AttentionMath>(rows: Matrix<'_, T>, tile: Tile, d: usize, out: &mut [T]) {
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
