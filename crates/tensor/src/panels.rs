//! The right operand of a product as the tile reads it: in panels.

use crate::Shape;
use crate::dtype::Float;
use crate::par::{self, Shared};
use crate::product::{LINE, Matrix, Onto};
use crate::simd::vectorized;
use crate::tensor::Tensor;
use crate::tile::{Ahead, Block, Offsets, Start, panel_width};
use crate::turn::turn;
use std::ops::Range;

/// Steps along the inner axis before the sums go back to memory: a packed panel of them stays in the first cache.
pub(crate) const DEPTH: usize = 256;

/// The same where `A` is read across its rows, `apart` elements from one step to the next: so few that what the tile
/// reads of `A` stays there for the next tile, which reads the other halves of the same cache lines. Lines that are
/// whole kilobytes apart fall into few of that cache's sets and do not stay; then `C` is at least moved less often.
fn across_depth(apart: usize) -> usize {
    if apart.is_multiple_of(256) { 128 } else { 64 }
}

/// `B` cut into panels of `width` columns, each `[k, width]`, the last one filled up with anything.
pub(crate) fn pack<T: Float>(k: usize, n: usize, b: Matrix<'_, T>) -> Tensor {
    let width = panel_width::<T>();
    Tensor::build(Shape::from([n.div_ceil(width), k, width]), |out: &mut [T]| {
        let strip = DEPTH.min(k) * width;
        // A strip of a panel is one task: [at most DEPTH, width].
        let (panels, strips) = (n.div_ceil(width), k.div_ceil(DEPTH));
        let shared = Shared::new(out);
        par::tasks(strips * panels, strip as f64 * 0.3, |task| {
            let (t0, panel) = (task / panels * DEPTH, task % panels);
            let (j0, depth) = (panel * width, DEPTH.min(k - t0));
            // SAFETY: strips of panels do not overlap.
            let out = unsafe { shared.slice((panel * k + t0) * width, depth * width) };
            pack_strip(out, width, b, t0, j0, (n - j0).min(width));
        });
    })
}

/// Rows `t0..` and columns `j0..j0 + count` of `b`, which is a matrix or the transpose of one, into `out: [.., width]`;
/// anything beyond `count`.
fn pack_strip<T: Float>(out: &mut [T], width: usize, b: Matrix<'_, T>, t0: usize, j0: usize, count: usize) {
    if b.columns == 1 {
        let from = &b.data[t0 * b.rows + j0..];
        // Whole rows as long as the slice has them: nobody reads beyond `count`.
        let whole = from.len().checked_sub(width).map_or(0, |last| last / b.rows + 1).min(out.len() / width);
        let (out, rest) = out.split_at_mut(whole * width);
        match width {
            32 => copy_rows(from, b.rows, out.as_chunks_mut::<32>().0),
            16 => copy_rows(from, b.rows, out.as_chunks_mut::<16>().0),
            8 => copy_rows(from, b.rows, out.as_chunks_mut::<8>().0),
            _ => unreachable!("a panel is as wide as the tile of some machine"),
        }
        for (row, t) in rest.chunks_mut(width).zip(whole..) {
            row[..count].copy_from_slice(&from[t * b.rows..][..count]);
        }
        return;
    }
    let depth = out.len() / width;
    turn([count, depth], &b.data[j0 * b.columns + t0..], b.columns, out, width);
}

vectorized! {
    /// Copies the beginnings of rows that are `stride` elements apart: of a known length, without a call for each.
    fn copy_rows<T: Float; const LEN: usize>(from: &[T], stride: usize, to: &mut [[T; LEN]]) {
        for (t, to) in to.iter_mut().enumerate() {
            to.copy_from_slice(&from[t * stride..][..LEN]);
        }
    }
}

/// `B` as the tile reads it.
#[derive(Clone, Copy)]
pub(crate) enum Panels<'a, T> {
    /// Panels in memory.
    Laid {
        data: &'a [T],
        /// Elements from one panel to the next.
        panel: usize,
        /// Elements from one row of a panel to the next.
        row: usize,
    },
    /// A matrix whose panels are packed where they are used.
    Loose(Matrix<'a, T>),
}

impl<'a, T: Float> Panels<'a, T> {
    /// Those of a matrix whose rows are contiguous, side by side.
    pub(crate) fn of(b: Matrix<'a, T>) -> Self {
        Self::Laid { data: b.data, panel: panel_width::<T>(), row: b.rows }
    }

    /// Those that [`pack`] made of a matrix of `k` rows.
    pub(crate) fn packed(data: &'a [T], k: usize) -> Self {
        Self::Laid { data, panel: k * panel_width::<T>(), row: panel_width::<T>() }
    }

    /// `m` rows of `C` in the columns of some panels, as far as there are `n` columns: the sum over `steps` of the
    /// inner axis.
    ///
    /// # Safety
    /// `a` and the panels hold every element of the product, a row that is added has `n`, `c` points to the first of
    /// `m` rows of `n` elements, and nobody else touches the panels' columns of them.
    pub(crate) unsafe fn multiply(
        self,
        m: usize,
        a: Matrix<'_, T>,
        panels: Range<usize>,
        steps: Range<usize>,
        n: usize,
        c: *mut T,
        onto: Onto<'_, T>,
    ) {
        let width = panel_width::<T>();
        let loose = matches!(self, Self::Loose(_));
        let mut memory = loose.then(|| Tensor::scratch::<T>(Shape::from([DEPTH.min(steps.len()) * width])));
        let memory = memory.as_mut().map_or(&mut [][..], Tensor::own_slice::<T>);
        let across = across(a, steps.len()) && panels.len() > 1;
        let most = if across { across_depth(a.columns) } else { DEPTH };
        for t0 in steps.clone().step_by(most) {
            let depth = most.min(steps.end - t0);
            let (first, last) = (t0 == steps.start, t0 + depth == steps.end);
            // The next block is asked for while this one is computed with, a line in each step of a tile: of A beside
            // the first panel; beside the others of B, two columns for each row of the tiles, so that the 8 rows of
            // AVX-512 ask for one line of 16.
            let ahead = |panel: usize| {
                let column = panel.saturating_sub(1) * 2 * m;
                match self {
                    _ if !across || last => None,
                    _ if panel == 0 => {
                        let start = a.data[(t0 + depth) * a.columns..].as_ptr();
                        Some(Ahead { start, step: a.columns, row: 1 })
                    }
                    Self::Loose(b) if b.columns == 1 && column < panels.len() * width => {
                        let at = (t0 + depth) * b.rows + panels.start * width + column;
                        Some(Ahead { start: b.data.as_ptr().wrapping_add(at), step: b.rows, row: 2 })
                    }
                    _ => None,
                }
            };
            for panel in panels.start..panels.end.min(n.div_ceil(width)) {
                let columns = width.min(n - panel * width);
                let (b, b_stride) = match self {
                    Self::Laid { data, panel: apart, row } => (data[panel * apart + t0 * row..].as_ptr(), row),
                    Self::Loose(b) => {
                        pack_strip(&mut memory[..depth * width], width, b, t0, panel * width, columns);
                        (memory.as_ptr(), width)
                    }
                };
                let block = Block {
                    rows: m,
                    steps: depth,
                    columns,
                    a: a.data[t0 * a.columns..].as_ptr(),
                    a_rows: Offsets::Stride(a.rows),
                    a_steps: Offsets::Stride(a.columns),
                    b,
                    b_stride,
                    c: c.wrapping_add(panel * width),
                    c_stride: n,
                    start: match onto {
                        Onto::Itself => Start::Sum,
                        Onto::Nothing => Start::along(first, last, None),
                        Onto::Row(row) => Start::along(first, last, Some(&row[panel * width..])),
                    },
                    ahead: ahead(panel - panels.start),
                };
                // SAFETY: promised by the caller.
                unsafe { block.run() };
            }
        }
    }
}

/// Whether a product of so many steps, enough to pay for it, goes through an `A` across its rows block by block.
pub(crate) fn across<T>(a: Matrix<'_, T>, steps: usize) -> bool {
    a.rows == 1 && a.columns > LINE && steps >= 2 * DEPTH
}
