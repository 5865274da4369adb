//! Products whose left operand is gathered by lists of offsets: the engine of the convolutions, for one thread.
//!
//! How a whole batch is shared out is in `gathered.rs`.

use crate::par::{self, Shared};
use crate::tile::{Block, Offsets, Start, panel_width};
use crate::{Float, Shape, Tensor};
use std::ops::Range;

/// Steps before the sums go back to memory, so that a panel of B stays in the first cache.
pub(crate) const DEPTH: usize = 256;

/// Nanoseconds of one multiply-add.
pub(crate) const NS_PER_MAC: f64 = 0.02;

/// For each group a matrix `[steps, columns]`, cut into panels of the tile's width: `[panel, step, width]`.
pub(crate) struct Panels {
    data: Tensor,
    part_len: usize,
}

/// One group's panels.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a>(&'a Tensor, usize);

impl Panels {
    /// Packs a matrix for each of `parts` groups; `fill(part, steps, rows)` writes the rows `[steps, columns]`. It is
    /// asked for multiples of `unit` steps at a time, which divides `steps`.
    pub(crate) fn new<T: Float>(
        parts: usize,
        [steps, unit]: [usize; 2],
        columns: usize,
        fill: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
    ) -> Self {
        let width = panel_width::<T>();
        let panels = columns.div_ceil(width);
        let part_len = panels * steps * width;
        let data = Tensor::build(Shape::from([parts, panels, steps, width]), |out: &mut [T]| {
            if out.is_empty() {
                return; // no columns or no steps
            }
            let out = Shared::new(out);
            let chunk = (64 / unit.max(1)).max(1) * unit.max(1);
            let chunks = steps.div_ceil(chunk);
            par::tasks(parts * chunks, (chunk * columns) as f64 * 0.5, |task| {
                let (part, from) = (task / chunks, task % chunks * chunk);
                let steps_here = from..steps.min(from + chunk);
                let mut rows = Tensor::dirty::<T>(Shape::from([steps_here.len(), columns]));
                let rows = rows.own_slice::<T>();
                fill(part, steps_here.clone(), rows);
                for panel in 0..panels {
                    let start = part * part_len + (panel * steps + from) * width;
                    // SAFETY: each chunk of steps of each group is one task's alone.
                    let out = unsafe { out.slice(start, steps_here.len() * width) };
                    let (j0, count) = (panel * width, width.min(columns - panel * width));
                    for (out, row) in out.chunks_exact_mut(width).zip(rows.chunks_exact(columns)) {
                        out[..count].copy_from_slice(&row[j0..][..count]);
                        out[count..].fill(T::zero());
                    }
                }
            });
        });
        Self { data, part_len }
    }

    pub(crate) fn part(&self, part: usize) -> Part<'_> {
        Part(&self.data, part * self.part_len)
    }
}

impl<'a> Part<'a> {
    /// All panels of this group, and what lies behind them.
    pub(crate) fn data<T: Float>(self) -> &'a [T] {
        &self.0.slice_of()[self.1..]
    }
}

/// `sums[i, r, j] = bias[j] + Σ_t images[i][rows[r] + steps[t]] · B[t, j]` for some columns `j` of `B`, which is in
/// panels; the first of the columns begins one.
pub(crate) fn gather_product<T: Float>(
    images: &[&[T]],
    rows: &[usize],
    steps: &[usize],
    panels: Part<'_>,
    columns: Range<usize>,
    bias: Option<&[T]>,
    sums: &mut [T],
) {
    images.iter().for_each(|image| check_offsets(image, rows, steps));
    let count = columns.len();
    assert!(bias.is_none_or(|bias| bias.len() >= columns.end), "a bias for each column");
    assert_eq!(sums.len(), images.len() * rows.len() * count);
    let width = panel_width::<T>();
    let panels = panels.data::<T>();
    assert!(columns.start.is_multiple_of(width) && columns.end.div_ceil(width) * steps.len() * width <= panels.len());
    for j0 in columns.clone().step_by(width) {
        let panel = &panels[j0 * steps.len()..]; // panel j0 / width has steps · width elements
        for t0 in (0..steps.len().max(1)).step_by(DEPTH) {
            for (image, sums) in images.iter().zip(sums.chunks_exact_mut((rows.len() * count).max(1))) {
                let block = Block {
                    rows: rows.len(),
                    steps: DEPTH.min(steps.len() - t0),
                    columns: width.min(columns.end - j0),
                    a: image.as_ptr(),
                    a_rows: Offsets::List(rows),
                    a_steps: Offsets::List(&steps[t0..]),
                    b: panel.as_ptr().wrapping_add(t0 * width),
                    b_stride: width,
                    c: sums.as_mut_ptr().wrapping_add(j0 - columns.start),
                    c_stride: count,
                    start: Start::along(t0 == 0, t0 + DEPTH >= steps.len(), bias.map(|bias| &bias[j0..])),
                    ahead: None,
                };
                // SAFETY: the offsets lie in the image, B and C have the block's sizes: all asserted above.
                unsafe { block.run() };
            }
        }
    }
}

/// The same product the other way round, for one image and few columns `j`, at most a panel: `sums[j, r]`, where the
/// rows lie side by side in the image, from `row` on. `sums` has `stride` elements a column and holds what is added to.
///
/// # Safety
/// `sums` has `columns` rows of `count` elements, `stride` apart, and nobody else touches them.
pub(crate) unsafe fn gather_product_turned<T: Float>(
    image: &[T],
    [row, count]: [usize; 2],
    steps: &[usize],
    panels: Part<'_>,
    columns: usize,
    sums: *mut T,
    stride: usize,
) {
    if let Some(step) = steps.iter().max() {
        assert!(row + count + step <= image.len(), "every tap lies in the image");
    }
    let width = panel_width::<T>();
    let panel = panels.data::<T>();
    assert!(columns <= width && steps.len() * width <= panel.len());
    for t0 in (0..steps.len()).step_by(DEPTH) {
        let block = Block {
            rows: columns,
            steps: DEPTH.min(steps.len() - t0),
            columns: count,
            a: panel[t0 * width..].as_ptr(),
            a_rows: Offsets::Stride(1),
            a_steps: Offsets::Stride(width),
            b: image[row..].as_ptr(),
            b_stride: 0,
            c: sums,
            c_stride: stride,
            start: Start::Sum,
            ahead: None,
        };
        // SAFETY: the offsets lie in the image and the panel (asserted above), the sums are the caller's promise.
        unsafe { block.run_listed(&steps[t0..]) };
    }
}

/// Panics unless every row's every step lies in `a`.
pub(crate) fn check_offsets<T>(a: &[T], rows: &[usize], steps: &[usize]) {
    if let (Some(row), Some(step)) = (rows.iter().max(), steps.iter().max()) {
        assert!(row + step < a.len(), "every tap lies in the image");
    }
}
