//! The backward loop of attention: scores are computed again, block by block, from the logarithms of their sums.

use super::kernel::{KEYS, Kernel, QUERIES, Tile, scratch, turn_rows};
use super::rows::{AttentionMath, copy_row, row_products, weigh};
use super::{Place, Plan};
use crate::par::{self, Shared};
use crate::product::{Matrix, block_product, block_product_at};
use crate::scratch::pieces;
use crate::{Shape, Tensor};
use std::ops::Range;

/// The backward pass is cut into this many tasks at least, if there are as many blocks of keys.
const PARTS: usize = 8;

impl<T: AttentionMath> Kernel<'_, T> {
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
                let at = places[i].of([kv_head / (heads / group), kv_head % (heads / group), keys.start]);
                for (row, grad) in grad.chunks_exact(d.max(1)).enumerate() {
                    // SAFETY: each row of a head of keys belongs to one task.
                    copy_row(unsafe { out.slice(at + row * places[i].row, d) }, grad);
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
        let sizes = [QUERIES * d, QUERIES * d_v, block, block, kernel.mask_memory(), 2 * QUERIES];
        let mut memory = scratch::<T>(&sizes);
        let [turned, dy_turned, weights, slopes, masks, state] = pieces(memory.own_slice::<T>(), sizes);
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
            row_products(&mut along[..queries], dy_rows.data, y_rows.data, y_rows.rows, d_v);
            let dq = dq_out.map(|(out, place)| (out, place.of(kernel.plan.index(head, q0)), place.row));
            let end = self.keys.end.min(kernel.seen(tile));
            for k0 in (self.keys.start..end).step_by(KEYS) {
                (tile.k0, tile.keys) = (k0, KEYS.min(end - k0));
                let (weights, slopes) = (&mut weights[..tile.keys * width], &mut slopes[..tile.keys * width]);
                kernel.scores(tile, turned, weights, masks);
                let (k_rows, v_rows) = (kernel.rows(kernel.k, 1, tile, k0), kernel.rows(kernel.v, 2, tile, k0));
                let dy_columns = Matrix { data: dy_turned, rows: width, columns: 1 };
                block_product([tile.keys, d_v, width], v_rows, dy_columns, slopes, width, false);
                let first = kernel.first_weight(tile);
                weigh(weights, slopes, logs, along, kernel.scale, kernel.drop, first, t_k, width, kernel.looks(tile));

                for (some, i) in kernel.looked_at(tile) {
                    let at = k0 + some.start - self.keys.start;
                    // Rows are keys, steps are the queries from `i` on.
                    let from = some.start * width + i;
                    if self.want[2] {
                        let weights = Matrix { data: &weights[from..], rows: width, columns: 1 };
                        let size = [some.len(), queries - i, d_v];
                        block_product(size, weights, dy_rows.below(i), &mut dv[at * d_v..], d_v, true);
                    }
                    if self.want[1] {
                        let slopes = Matrix { data: &slopes[from..], rows: width, columns: 1 };
                        let size = [some.len(), queries - i, d];
                        block_product(size, slopes, rows.below(i), &mut dk[at * d..], d, true);
                    }
                }
                let Some((out, start, stride)) = dq else { continue };
                for (some, keys) in kernel.lookers(tile) {
                    let by_query = Matrix { data: &slopes[some.start..], rows: 1, columns: width };
                    let to = out.start().wrapping_add(start + some.start * stride);
                    // SAFETY: each row of a head, in each part, belongs to one task.
                    unsafe {
                        block_product_at([some.len(), keys, d], by_query, k_rows, to, stride, k0 > self.keys.start)
                    };
                }
            }
            if let Some((out, start, stride)) = dq.filter(|_| end <= self.keys.start) {
                for i in 0..queries {
                    // SAFETY: as above.
                    unsafe { out.slice(start + i * stride, d) }.fill(T::zero());
                }
            }
        }
    }
}
