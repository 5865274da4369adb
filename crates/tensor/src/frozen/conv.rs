//! Convolution + bias + max-pool + activation on weights that are packed once.

use super::{Pointwise, tasks};
use crate::ops::gather::{DEPTH, NS_PER_MAC, Panels, check_offsets};
use crate::ops::geometry::{Conv, Volume, area, in_windows, place};
use crate::ops::winograd::{Winograd, Work};
use crate::par::Shared;
use crate::pooled_tile::{PooledProduct, WINDOW};
use crate::scratch;
use crate::simd::vectorized;
use crate::tile::{Block, Offsets, Start, panel_width};
use crate::turn::turn_into;
use crate::{DType, Error, Float, Result, Shape, Tensor, Window3d};

/// Sums that are computed and turned at once where the tile pools them: they stay in the first cache.
const POOLED_SUMS: usize = 4096;
/// And elsewhere: many positions share a panel of the weights while it is in the caches.
const SUMS: usize = 32_768;
/// Channels of the output that are computed at once.
const CHANNELS: usize = 128;
/// Positions of a sample from which on Winograd's tiles are enough to share the weights.
const LEAST: usize = 64;
/// The most positions in a window of the pool.
const POOL: usize = POOLED_SUMS / CHANNELS;

/// `then(max_pool(conv(x, weight) + bias))` for samples of one shape; sequences and images are volumes whose leading
/// sizes are 1.
pub struct FrozenConv {
    conv: Conv,
    /// The sizes of a sample's volumes with their padding.
    volume: Volume,
    /// For each group `[taps, o]`.
    weights: Panels,
    /// The faster way, if there is one, with the transformed weights of each group.
    winograd: Option<(Winograd, Vec<Tensor>)>,
    bias: Option<Tensor>,
    /// Offsets of the positions, those of one window of the pool side by side.
    positions: Vec<usize>,
    taps: Vec<usize>,
    pool: Volume,
    pooled: Volume,
    then: Option<Pointwise>,
}

impl FrozenConv {
    /// For samples of `[c, d, h, w]`; the pool's windows lie side by side, `[1, 1, 1]` for none.
    ///
    /// # Shapes
    /// - `weight: [o, c / groups, kd, kh, kw]`, `bias: [o]`
    ///
    /// # Errors
    /// Shapes that do not fit, weights that are not `f32`, a pool that is empty, too large, or of more than 32
    /// positions.
    pub fn new(
        sample: [usize; 4],
        weight: &Tensor,
        bias: Option<&Tensor>,
        window: Window3d,
        pool: [usize; 3],
        then: Option<Pointwise>,
    ) -> Result<Self> {
        const OP: &str = "frozen_conv";
        let [c, d, h, w] = sample;
        let conv = Conv::new(OP, Shape::from([1, c, d, h, w]), weight.shape(), window)?;
        conv.check_operands(OP, weight, weight, bias)?;
        if weight.dtype() != DType::F32 {
            return Err(Error::dtype(OP, format!("expects f32, got {}", weight.dtype()), "convert with to_dtype"));
        }
        if area(pool) == 0 || area(pool) > POOL {
            return Err(Error::value(OP, format!("a pool of {pool:?}"), "use 1 to 32 positions"));
        }
        if conv.o * conv.c * area(conv.input) == 0 {
            let what = format!("a sample of {sample:?} and {} output channels", conv.o);
            return Err(Error::value(OP, what, "every size must be 1 or more"));
        }
        let pooled = Window3d::pool(pool).output(OP, conv.output)?;
        let volume = conv.padded_volume();
        let (all, taps) = (conv.positions(volume), conv.taps(volume));
        let positions = in_windows(conv.output, pool, pooled).into_iter().map(|at| all[at]).collect();
        let weights = conv.packed_weights::<f32>(weight);
        let tiled = Winograd::suits(&conv, [conv.c_group, conv.o_group], conv.output, false);
        let winograd = tiled.filter(|_| pool == [1; 3] && area(conv.output) >= LEAST).map(|winograd| {
            let transformed = (0..conv.groups).map(|part| winograd.weights(weights.part(part).data())).collect();
            (winograd, transformed)
        });
        scratch::prepare(winograd.as_ref().map_or(SUMS, |(winograd, _)| winograd.memory()));
        Ok(Self { volume, weights, winograd, bias: bias.cloned(), positions, taps, pool, pooled, then, conv })
    }

    /// The elements of a sample of the input.
    pub fn input(&self) -> usize {
        self.conv.c * area(self.conv.input)
    }

    /// The sizes `[o, d, h, w]` of a sample of the output.
    pub fn output(&self) -> [usize; 4] {
        let [d, h, w] = self.pooled;
        [self.conv.o, d, h, w]
    }

    /// The scratch that a sample needs, in elements. A call takes as many samples at once as its scratch has room for,
    /// so room for one is enough.
    pub fn scratch(&self) -> usize {
        if self.conv.window.padding == [0; 3] { 0 } else { self.conv.c * area(self.volume) }
    }

    /// Nanoseconds for a sample, about.
    pub fn cost(&self) -> f64 {
        (self.positions.len() * self.taps.len() * self.conv.o) as f64 * NS_PER_MAC
    }

    /// Writes the output of all samples in `x` to `y`.
    ///
    /// # Panics
    /// If the slices do not hold the same number of whole samples, or the scratch is too short for one.
    pub fn run(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32], alone: bool) {
        let [from, to] = [self.input(), self.conv.o * area(self.pooled)];
        assert!(y.len().is_multiple_of(to) && x.len() == y.len() / to * from, "whole samples");
        let padded = self.scratch();
        if padded == 0 {
            return self.gather(x, from, y, alone);
        }
        let at_once = (scratch.len() / padded).min(x.len() / from);
        assert!(at_once > 0 || x.is_empty(), "the scratch holds a sample");
        for (x, y) in x.chunks(at_once.max(1) * from).zip(y.chunks_mut(at_once.max(1) * to)) {
            let scratch = &mut scratch[..x.len() / from * padded];
            self.pad(x, scratch, alone);
            self.gather(scratch, padded, y, alone);
        }
    }

    /// Copies each volume of `x` into the middle of one of zeros.
    fn pad(&self, x: &[f32], out: &mut [f32], alone: bool) {
        let (input, corner, shared) = (self.conv.input, self.conv.window.padding, Shared::new(out));
        let (from, to) = (area(input), area(self.volume));
        tasks(x.len() / from, to as f64 * 0.1, alone, |i| {
            // SAFETY: each volume is one task's alone.
            place(&x[i * from..][..from], input, unsafe { shared.slice(i * to, to) }, self.volume, corner);
        });
    }

    /// The convolution of samples that are `from` elements apart and have their padding.
    fn gather(&self, x: &[f32], from: usize, y: &mut [f32], alone: bool) {
        if let Some((winograd, weights)) = &self.winograd {
            return self.in_tiles(winograd, weights, x, y, alone);
        }
        let Conv { o, groups, c_group, o_group, .. } = self.conv;
        let (window, plane) = (area(self.pool), area(self.pooled));
        let kept = if self.pools_in_registers() { 1 } else { window }; // sums of a window
        let len = if self.pools_in_registers() { POOLED_SUMS } else { SUMS };
        let strip = (len / (o_group.min(CHANNELS) * kept)).clamp(1, plane.max(1));
        let strip_cost = (strip * window * self.taps.len() * o_group) as f64 * NS_PER_MAC;
        // Several strips a task: the cut depends on the sizes alone.
        let piece = strip * ((10_000.0 / strip_cost) as usize).max(1);
        let pieces = plane.div_ceil(piece);
        let n = y.len() / (o * plane).max(1);
        let y = Shared::new(y);
        tasks(n * groups * pieces, strip_cost * (piece / strip) as f64, alone, |task| {
            let (n, part, first) = (task / pieces / groups, task / pieces % groups, task % pieces * piece);
            let x = &x[n * from + part * c_group * area(self.volume)..];
            scratch::of_thread(len, |sums| {
                for p0 in (first..plane.min(first + piece)).step_by(strip) {
                    let count = strip.min(plane - p0).min(first + piece - p0);
                    for j0 in (0..o_group).step_by(CHANNELS) {
                        let channels = CHANNELS.min(o_group - j0);
                        self.sums(x, part, p0..p0 + count, j0..j0 + channels, sums);
                        if window > 1 && !self.pools_in_registers() {
                            keep_greatest(&mut sums[..count * window * channels], window, channels);
                        }
                        let sums = &mut sums[..count * channels];
                        if let Some(then) = self.then {
                            then.apply(sums);
                        }
                        let to = y.start().wrapping_add((n * o + part * o_group + j0) * plane + p0);
                        // SAFETY: these outputs in these channels of sample n are this task's alone, and lie in y.
                        unsafe { turn_into([count, channels], sums, channels, to, plane) };
                    }
                }
            });
        });
    }

    fn in_tiles(&self, winograd: &Winograd, weights: &[Tensor], x: &[f32], y: &mut [f32], alone: bool) {
        let Conv { o, groups, o_group, .. } = self.conv;
        let samples = y.len() / (o * area(self.pooled)).max(1);
        let y = Shared::new(y);
        for (part, weights) in weights.iter().enumerate() {
            let work = Work {
                plan: winograd,
                images: x,
                frame: [self.volume[1], self.volume[2]],
                of: [groups, part],
                weights: weights.slice_of(),
                bias: self.bias.as_ref().map(|bias| &bias.slice_of::<f32>()[part * o_group..][..o_group]),
                finish: &|pixels| {
                    if let Some(then) = self.then {
                        then.apply(pixels);
                    }
                },
            };
            tasks(winograd.strips(samples), winograd.cost(), alone, |strip| {
                // SAFETY: each strip is one task's alone.
                scratch::of_thread(winograd.memory(), |memory| unsafe { work.strip(strip, samples, memory, &y) });
            });
        }
    }

    /// Whether the tile takes the greatest of each window before it writes anything.
    fn pools_in_registers(&self) -> bool {
        area(self.pool) == WINDOW && self.taps.len() <= DEPTH
    }

    /// The convolution's own output at the positions of some windows, `sums: [window, position, channel]`; if the tile
    /// pools, `[window, channel]`.
    fn sums(
        &self,
        x: &[f32],
        part: usize,
        windows: std::ops::Range<usize>,
        channels: std::ops::Range<usize>,
        sums: &mut [f32],
    ) {
        let (width, steps) = (panel_width::<f32>(), self.taps.len());
        let rows = &self.positions[windows.start * area(self.pool)..windows.end * area(self.pool)];
        assert!(channels.start.is_multiple_of(width));
        let weights = self.weights.part(part).data::<f32>();
        let first_panel = channels.start / width;
        let bias = self.bias.as_ref().map(|bias| &bias.slice_of::<f32>()[part * self.conv.o_group + channels.start..]);
        let panels = &weights[first_panel * steps * width..];
        if self.pools_in_registers() {
            let product = PooledProduct { a: x, rows, steps: &self.taps, panels, columns: channels.len(), bias };
            return product.greatest(sums);
        }
        check_offsets(x, rows, &self.taps);
        assert!(rows.len() * channels.len() <= sums.len());
        for (panel, j) in (0..channels.len()).step_by(width).enumerate() {
            let panel = &panels[panel * steps * width..][..steps * width];
            for t0 in (0..steps.max(1)).step_by(DEPTH) {
                let block = Block {
                    rows: rows.len(),
                    steps: DEPTH.min(steps - t0),
                    columns: width.min(channels.len() - j),
                    a: x.as_ptr(),
                    a_rows: Offsets::List(rows),
                    a_steps: Offsets::List(&self.taps[t0..]),
                    b: panel[t0 * width..].as_ptr(),
                    b_stride: width,
                    c: sums[j..].as_mut_ptr(),
                    c_stride: channels.len(),
                    start: Start::along(t0 == 0, t0 + DEPTH >= steps, bias.map(|bias| &bias[j..])),
                    ahead: None,
                };
                // SAFETY: the offsets lie in x, B is a whole panel, C has room, all asserted above; the bias has a
                // number for each channel by `check_operands`.
                unsafe { block.run() };
            }
        }
    }
}

vectorized! {
    /// For `sums: [windows, window, channels]` the greatest of each window, at the beginning of `sums`; NaN counts as
    /// greatest.
    fn keep_greatest<T: Float>(sums: &mut [T], window: usize, channels: usize) {
        let whole = channels / 16 * 16;
        for i in 0..sums.len() / (window * channels) {
            let (from, to) = (i * window * channels, i * channels);
            for j in (0..whole).step_by(16) {
                greatest::<T, 16>(sums, window, channels, from + j, to + j);
            }
            for j in whole..channels {
                greatest::<T, 1>(sums, window, channels, from + j, to + j);
            }
        }
    }
}

#[inline(always)]
fn greatest<T: Float, const LANES: usize>(sums: &mut [T], window: usize, channels: usize, from: usize, to: usize) {
    let mut top = [T::neg_infinity(); LANES];
    for place in 0..window {
        let row = &sums[from + place * channels..][..LANES];
        for lane in 0..LANES {
            let x = row[lane];
            top[lane] = if (x > top[lane]) | x.is_nan() { x } else { top[lane] };
        }
    }
    sums[to..][..LANES].copy_from_slice(&top);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Rng};

    /// Against the ops one after another, whose sums run in another order: `k · ε` of numbers below 1, with room.
    fn check([n, c, o]: [usize; 3], size: [usize; 3], window: Window3d, pool: [usize; 3]) {
        let mut rng = Rng::new((n + c + o) as u64);
        let mut draw = |shape: &[usize]| Tensor::uniform(Shape::new(shape).unwrap(), -1.0f32, 1.0, &mut rng);
        let x = draw(&[&[n, c], &size[..]].concat());
        let weight = draw(&[&[o, c / window.groups], &window.kernel[..]].concat());
        let bias = draw(&[o]);
        let want = x.conv_bias(&weight, Some(&bias), window, Activation::Relu).unwrap();
        let want = want.max_pool(Window3d::pool(pool)).unwrap().0;
        let [d, h, w] = size;
        let frozen = FrozenConv::new([c, d, h, w], &weight, Some(&bias), window, pool, Some(Pointwise::Relu)).unwrap();
        assert_eq!(want.shape()[1..], frozen.output());
        let bound = (weight.len() / o + 4) as f32 * f32::EPSILON * 4.0;
        for (samples, alone) in [(1, true), (n, false)] {
            let (mut y, mut scratch) = (vec![9.0; want.len()], vec![9.0; samples * frozen.scratch()]);
            frozen.run(x.slice_of(), &mut y, &mut scratch, alone);
            for (y, want) in y.iter().zip(want.slice_of::<f32>()) {
                assert!((y - want).abs() <= bound, "{n} {c} → {o}, {size:?}, {window:?}, {pool:?}: {y} against {want}");
            }
        }
    }

    #[test]
    fn equals_the_ops_one_after_another() {
        let plain = Window3d::new([1, 3, 3]);
        check([3, 1, 32], [1, 28, 28], plain, [1, 2, 2]);
        check([2, 3, 5], [1, 9, 8], plain.padding([0, 1, 1]).stride([1, 2, 1]), [1; 3]);
        check([2, 4, 6], [3, 6, 7], Window3d::new(2).padding(1).groups(2), [2, 1, 3]);
        check([2, 300, 5], [1, 1, 9], Window3d::new([1, 1, 3]).padding([0, 0, 2]).dilation([1, 1, 2]), [1; 3]);
        check([1, 2, 150], [1, 1, 7], Window3d::new([1, 1, 2]), [1, 1, 3]);
        check([3, 32, 48], [1, 10, 13], plain.padding([0, 1, 1]).groups(1), [1; 3]); // in Winograd's tiles
        check([2, 32, 32], [1, 12, 12], plain.groups(2), [1; 3]);
    }

    #[test]
    fn misfits_are_explained() {
        let text = |weight: &Tensor, pool| {
            FrozenConv::new([1, 1, 4, 4], weight, None, Window3d::new(1), pool, None).err().unwrap().to_string()
        };
        let weight = Tensor::zeros([2, 1, 1, 1, 1], DType::F32);
        assert_eq!(text(&weight, [1, 0, 2]), "frozen_conv: a pool of [1, 0, 2]; help: use 1 to 32 positions");
        let empty = FrozenConv::new([1, 1, 0, 5], &weight, None, Window3d::new(1).padding(1), [1; 3], None);
        let expected =
            "frozen_conv: a sample of [1, 1, 0, 5] and 2 output channels; help: every size must be 1 or more";
        assert_eq!(empty.err().unwrap().to_string(), expected);
        let double = Tensor::zeros([2, 1, 1, 1, 1], DType::F64);
        assert_eq!(text(&double, [1; 3]), "frozen_conv: expects f32, got f64; help: convert with to_dtype");
    }
}
