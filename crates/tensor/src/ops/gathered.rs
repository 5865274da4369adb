//! A convolution, or its input gradient, of a whole batch: how it is shared out, and where the results go.
//!
//! Results have channels innermost and are transposed on their way out, a strip of pixels at a time. Few channels would
//! leave most lanes of a vector empty: there pixels are the lanes, a row at a time.

use crate::ops::gather::{NS_PER_MAC, Panels, gather_product, gather_product_turned};
use crate::ops::geometry::Framed;
use crate::ops::matmul::{Activation, finish};
use crate::par::{self, Shared};
use crate::tile::panel_width;
use crate::turn::{turn, turn_into};
use crate::{Float, Shape, Tensor};
use std::ops::Range;

/// Enough tasks for every core of an ordinary machine.
const TASKS: usize = 16;
/// Weights of more bytes than this leave the second cache before the next image needs them.
const MANY_WEIGHTS: usize = 256 << 10;
/// Rows that share a block of weights, so that loading it costs little.
const SHARING_ROWS: usize = 256;

/// So many channels or fewer are not made the lanes of vectors.
const NARROW: usize = 8;

/// Pixels of the output that meet the same taps.
pub(crate) struct Phase {
    /// The pixels' places in their plane.
    pub(crate) pixels: Vec<usize>,
    /// Where each one's first tap lies in the framed input.
    pub(crate) offsets: Vec<usize>,
    /// The other taps, from there.
    pub(crate) taps: Vec<usize>,
    /// For each group `[taps, channels]`.
    pub(crate) weights: Panels,
}

/// All that the product of a batch needs.
pub(crate) struct Gathered<'a, T> {
    pub(crate) input: Framed<'a, T>,
    pub(crate) phases: &'a [Phase],
    pub(crate) images: usize,
    pub(crate) groups: usize,
    /// Output channels of a group.
    pub(crate) channels: usize,
    /// Pixels of an output plane.
    pub(crate) plane: usize,
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) activation: Activation,
}

/// Some pixels of a phase, in some channels of some images of a group.
struct Piece<'a> {
    phase: &'a Phase,
    pixels: Range<usize>,
    channels: Range<usize>,
    images: Range<usize>,
    group: usize,
}

impl<T: Float> Gathered<'_, T> {
    /// Writes every pixel of every plane of `out: [images, groups · channels, plane]`.
    ///
    /// The cut depends on sizes alone, and no sum is cut.
    pub(crate) fn run(mut self, out: &mut [T]) {
        assert_eq!(out.len(), self.images * self.groups * self.channels * self.plane, "a place for every pixel");
        if out.is_empty() {
            return;
        }
        let strip = (32_768 / self.channels).clamp(64, 1024);
        let strips: Vec<(&Phase, Range<usize>)> = self
            .phases
            .iter()
            .flat_map(|phase| {
                let count = phase.pixels.len();
                (0..count).step_by(strip).map(move |first| (phase, first..count.min(first + strip)))
            })
            .collect();
        let taps: usize = self.phases.iter().map(|phase| phase.taps.len()).sum();
        let many = taps * self.channels * size_of::<T>() > MANY_WEIGHTS;
        let together = if many { (SHARING_ROWS / self.plane).clamp(1, self.images) } else { 1 };
        let units = [self.images.div_ceil(together), self.groups];
        // Whole images if there are enough of them; else strips of pixels and, at last, of channels.
        let [pieces, parts] = match units[0] * units[1] {
            enough if enough >= TASKS => [1, 1],
            few => [strips.len(), (TASKS / (few * strips.len())).clamp(1, self.channels.div_ceil(panel_width::<T>()))],
        };
        let across = self.channels.div_ceil(parts).next_multiple_of(panel_width::<T>());
        let parts = self.channels.div_ceil(across);
        if pieces * parts > 1 {
            self.input.frame_all(self.images);
        }
        let macs: usize = self.phases.iter().map(|phase| phase.pixels.len() * phase.taps.len()).sum();
        let cost = (macs * self.channels * together) as f64 * NS_PER_MAC / (pieces * parts) as f64;
        let out = Shared::new(out);
        par::tasks(units[0] * units[1] * pieces * parts, cost, |task| {
            let (unit, piece, part) = (task / (pieces * parts), task / parts % pieces, task % parts);
            let first = unit / self.groups * together;
            let images = first..self.images.min(first + together);
            let group = unit % self.groups;
            let mut memory = self.input.memory(images.len());
            let framed = self.input.images(images.clone(), group, memory.own_slice());
            let strips = if pieces == 1 { &strips[..] } else { &strips[piece..][..1] };
            for (phase, pixels) in strips {
                let channels = part * across..self.channels.min((part + 1) * across);
                let (images, pixels) = (images.clone(), pixels.clone());
                // SAFETY: each piece's pixels are one task's alone.
                unsafe { self.piece(Piece { phase, pixels, channels, images, group }, &framed, &out) };
            }
        });
    }

    /// # Safety
    /// Nobody else touches the piece's pixels of `out`.
    unsafe fn piece(&self, piece: Piece<'_>, framed: &[&[T]], out: &Shared<T>) {
        let Piece { phase, pixels, channels, images, group } = piece;
        let bias = self.bias.map(|bias| &bias[group * self.channels..][..self.channels]);
        let (offsets, pixels) = (&phase.offsets[pixels.clone()], &phase.pixels[pixels]);
        if self.channels <= NARROW && is_in_rows(offsets) {
            for (image, framed) in images.zip(framed) {
                let to = out.start().wrapping_add((image * self.groups + group) * self.channels * self.plane);
                // SAFETY: the piece's pixels of this image, as promised by the caller.
                unsafe { self.rows(phase, offsets, pixels, framed, group, bias, to) };
            }
            return;
        }
        let size = [pixels.len(), channels.len()];
        let mut sums = Tensor::dirty::<T>(Shape::from([framed.len(), size[0], size[1]]));
        let sums = sums.own_slice::<T>();
        gather_product(framed, offsets, &phase.taps, phase.weights.part(group), channels.clone(), bias, sums);
        if self.activation != Activation::Identity {
            finish(sums, self.activation);
        }
        let first = pixels[0];
        let in_a_row = pixels[pixels.len() - 1] - first + 1 == pixels.len();
        let mut turned = Tensor::dirty::<T>(Shape::from(if in_a_row { [0, 0] } else { [size[1], size[0]] }));
        let turned = turned.own_slice::<T>();
        for (image, sums) in images.zip(sums.chunks_exact(size[0] * size[1])) {
            let channel = (image * self.groups + group) * self.channels + channels.start;
            let to = out.start().wrapping_add(channel * self.plane);
            if in_a_row {
                // SAFETY: these pixels belong to this piece.
                unsafe { turn_into(size, sums, size[1], to.wrapping_add(first), self.plane) };
                continue;
            }
            turn(size, sums, size[1], turned, size[0]);
            for (c, row) in turned.chunks_exact(size[0]).enumerate() {
                for (&pixel, &sum) in pixels.iter().zip(row) {
                    // SAFETY: as above.
                    unsafe { *to.wrapping_add(c * self.plane + pixel) = sum };
                }
            }
        }
    }

    /// A piece's pixels of one image, a run of neighbors at a time; `to` is the group's first plane.
    ///
    /// # Safety
    /// Nobody else touches these pixels.
    unsafe fn rows(
        &self,
        phase: &Phase,
        offsets: &[usize],
        pixels: &[usize],
        framed: &[T],
        group: usize,
        bias: Option<&[T]>,
        to: *mut T,
    ) {
        let mut sums = Tensor::dirty::<T>(Shape::from([self.channels, pixels.len()]));
        let sums = sums.own_slice::<T>();
        for (c, sums) in sums.chunks_exact_mut(pixels.len()).enumerate() {
            sums.fill(bias.map_or(T::zero(), |bias| bias[c]));
        }
        let mut first = 0;
        for run in offsets.chunk_by(|a, b| a + 1 == *b) {
            let (start, part) = (sums[first..].as_mut_ptr(), phase.weights.part(group));
            let row = [run[0], run.len()];
            // SAFETY: these columns of `sums`, which is this call's own.
            unsafe { gather_product_turned(framed, row, &phase.taps, part, self.channels, start, pixels.len()) };
            first += run.len();
        }
        finish(sums, self.activation);
        for (c, sums) in sums.chunks_exact(pixels.len()).enumerate() {
            for (&pixel, &sum) in pixels.iter().zip(sums) {
                // SAFETY: promised by the caller.
                unsafe { *to.wrapping_add(c * self.plane + pixel) = sum };
            }
        }
    }
}

/// Whether runs of neighbors are long enough to fill vectors.
fn is_in_rows(offsets: &[usize]) -> bool {
    offsets.len() >= 8 * offsets.chunk_by(|a, b| a + 1 == *b).count()
}
