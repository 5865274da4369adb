//! Products whose left operand is gathered by lists of offsets: the engine of the convolutions.

use crate::par;
use crate::tile::{Block, Offsets, Start, panel_width};
use crate::{Float, Shape, Tensor};

/// Steps before the sums go back to memory, so that a panel of B stays in the first cache.
pub(crate) const DEPTH: usize = 256;

/// Nanoseconds of one multiply-add.
pub(crate) const NS_PER_MAC: f64 = 0.02;

/// For each group a matrix `[steps, columns]`, cut into panels of the tile's width: `[panel, step, width]`.
#[derive(Default)]
pub(crate) struct Panels {
    data: Option<Tensor>,
    part_len: usize,
}

/// One group's panels.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a>(Option<&'a Tensor>, usize);

impl Panels {
    pub(crate) fn new<T: Float>(
        parts: usize,
        steps: usize,
        columns: usize,
        element: impl Fn(usize, usize, usize) -> T + Sync,
    ) -> Self {
        let width = panel_width::<T>();
        let panels = columns.div_ceil(width);
        let part_len = panels * steps * width;
        let data = Tensor::build(Shape::from([parts, panels, steps, width]), |out: &mut [T]| {
            par::rows(out, width, width as f64, |first, rows| {
                for (i, row) in rows.chunks_mut(width).enumerate() {
                    let (t, panel) = ((first + i) % steps, (first + i) / steps);
                    let (part, j0) = (panel / panels, panel % panels * width);
                    for (j, x) in row.iter_mut().enumerate() {
                        *x = if j0 + j < columns { element(part, t, j0 + j) } else { T::zero() };
                    }
                }
            });
        });
        Self { data: Some(data), part_len }
    }

    pub(crate) fn part(&self, part: usize) -> Part<'_> {
        Part(self.data.as_ref(), part * self.part_len)
    }
}

/// `sums[r, j] = bias[j] + Σ_t a[rows[r] + steps[t]] · B[t, j]`, with `B` in panels.
pub(crate) fn gather_product<T: Float>(
    a: &[T],
    rows: &[usize],
    steps: &[usize],
    Part(panels, start): Part<'_>,
    columns: usize,
    bias: Option<&[T]>,
    sums: &mut [T],
) {
    check_offsets(a, rows, steps);
    assert_eq!(sums.len(), rows.len() * columns);
    let width = panel_width::<T>();
    let panels = &panels.expect("a phase's weights are packed before use").slice_of::<T>()[start..];
    assert!(columns.div_ceil(width) * steps.len() * width <= panels.len());
    for j0 in (0..columns).step_by(width) {
        let panel = &panels[j0 * steps.len()..]; // panel j0 / width has steps · width elements
        for t0 in (0..steps.len().max(1)).step_by(DEPTH) {
            let block = Block {
                rows: rows.len(),
                steps: DEPTH.min(steps.len() - t0),
                columns: width.min(columns - j0),
                a: a.as_ptr(),
                a_rows: Offsets::List(rows),
                a_steps: Offsets::List(&steps[t0..]),
                b: panel.as_ptr().wrapping_add(t0 * width),
                b_stride: width,
                c: sums.as_mut_ptr().wrapping_add(j0),
                c_stride: columns,
                start: match bias {
                    _ if t0 > 0 => Start::Sum,
                    Some(bias) => Start::Row(bias[j0..].as_ptr()),
                    None => Start::Zero,
                },
            };
            // SAFETY: the offsets lie in a, B and C have the block's sizes: all asserted above.
            unsafe { block.run() };
        }
    }
}

/// Panics unless every row's every step lies in `a`.
pub(crate) fn check_offsets<T>(a: &[T], rows: &[usize], steps: &[usize]) {
    if let (Some(row), Some(step)) = (rows.iter().max(), steps.iter().max()) {
        assert!(row + step < a.len(), "every tap lies in the image");
    }
}

/// Positions whose sums are computed and transposed at once: about a million multiply-adds.
pub(crate) fn strip_len(macs: usize) -> usize {
    (1_000_000 / macs.max(1)).clamp(32, 1024).next_multiple_of(8)
}
