//! Convolutions of 3 × 3 with a quarter of the multiplications: Winograd's minimal filtering F(4 × 4, 3 × 3).
//!
//! Each tile of 6 × 6 pixels, and each kernel, is transformed into 36 numbers; the 36 products of tiles × channels with
//! channels × output channels run through the tile; what comes out is transformed back into 4 × 4 pixels:
//! `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`.
//!
//! # Numerics
//! The transforms make errors larger than those of plain sums: of normal random numbers in `c` channels, at most
//! `3 · √c · ε` of the largest output (the tests' bound, 4e-7 · √c). It is used up to 512 channels, where that is 8e-6.
//! `MAPLET_WINOGRAD=off` in the environment leaves it out, and so does double precision.
//!
//! # Reference
//! Winograd (1980), "Arithmetic Complexity of Computations"; Lavin & Gray (2016), "Fast Algorithms for Convolutional
//! Neural Networks", section 4.3.

use crate::lanes::{Job, Lanes, Lanewise};
use crate::ops::gather::{DEPTH, NS_PER_MAC, Panels};
use crate::ops::geometry::{Conv, Framed, Volume};
use crate::ops::matmul::{Activation, finish};
use crate::par::{self, Shared};
use crate::scratch::pieces;
use crate::tile::{Block, Offsets, Start, panel_width};
use crate::turn::{turn, turn_into};
use crate::{DType, Shape, Simd, Tensor, simd};
use std::sync::OnceLock;

/// Numbers of a transformed tile.
const POINTS: usize = 36;
/// Tiles whose transforms stay in the second cache, with up to 64 channels.
const TILES: usize = 48;
/// The most tiles in a line, which is never cut: wider images would need too much scratch.
const WIDEST: usize = 128;
/// From so many tiles of a batch on, the transform of the weights pays for itself (measured on the layers of ResNets).
const WORTH: usize = 48;
/// Sums of more products would be too inexact.
const MOST_CHANNELS: usize = 512;

/// Channels of input and output, the output's size, and whether the kernel is read backwards, as in an input gradient.
pub(crate) struct Winograd {
    channels: [usize; 2],
    output: [usize; 2],
    flipped: bool,
    /// Lines of tiles that are worked on together.
    lines: usize,
}

impl Winograd {
    /// If the convolution of such channels, with an output of this size, gains by it, even with weights that are
    /// transformed for it alone.
    pub(crate) fn of(conv: &Conv, dtype: DType, channels: [usize; 2], output: Volume, flipped: bool) -> Option<Self> {
        let tiles = conv.n * output[1].div_ceil(4) * output[2].div_ceil(4);
        let plan = (tiles >= WORTH && dtype == DType::F32).then(|| Self::suits(conv, channels, output, flipped));
        plan.flatten().map(|plan| Self { lines: par::even(conv.n * output[1].div_ceil(4), plan.lines), ..plan })
    }

    /// If the convolution gains by it, its weights transformed once for all.
    pub(crate) fn suits(conv: &Conv, channels: [usize; 2], output: Volume, flipped: bool) -> Option<Self> {
        let window = conv.window;
        let plain = window.kernel == [1, 3, 3] && window.stride == [1; 3] && window.dilation == [1; 3];
        let frame_fits = window.padding[0] == 0 && window.padding[1] <= 2 && window.padding[2] <= 2;
        let whole = channels.iter().all(|&count| count > 0 && count.is_multiple_of(16));
        // Half-empty tiles at the border cost as much as full ones.
        let filled = 5 * output[1] * output[2] >= 3 * 16 * output[1].div_ceil(4) * output[2].div_ceil(4);
        let in_bounds = channels[0] <= MOST_CHANNELS && output[0] == 1 && (1..=4 * WIDEST).contains(&output[2]);
        let gains = plain && frame_fits && whole && in_bounds && filled && output[1] > 0;
        let lines = TILES.div_ceil(output[2].div_ceil(4).max(1));
        (gains && is_on()).then_some(Self { channels, output: [output[1], output[2]], flipped, lines })
    }

    /// The kernels of one group, transformed: `[panel, point, c, width]`, from panels `[panel, c · 9, width]`.
    pub(crate) fn weights(&self, panels: &[f32]) -> Tensor {
        let ([c, o], width) = (self.channels, panel_width::<f32>());
        let count = o.div_ceil(width);
        Tensor::build(Shape::from([count, POINTS, c, width]), |out: &mut [f32]| {
            let out = Shared::new(out);
            par::tasks(count * c, 36.0 * 16.0 * 0.1, |task| {
                let (panel, channel) = (task / c, task % c);
                let kernel = &panels[task * 9 * width..][..9 * width];
                let to = out.start().wrapping_add((panel * POINTS * c + channel) * width);
                f32::with_lanes(Kernel { kernel, flipped: self.flipped, to, apart: c * width, width });
            });
        })
    }

    /// Writes the output of all images of all groups.
    pub(crate) fn run(
        &self,
        mut input: Framed<'_, f32>,
        [images, groups]: [usize; 2],
        packed: &Panels,
        bias: Option<&[f32]>,
        activation: Activation,
        out: &mut [f32],
    ) {
        let ([_, o], [h, w]) = (self.channels, self.output);
        assert_eq!(out.len(), images * groups * o * h * w, "a place for every pixel");
        input.frame_all(images);
        let out = Shared::new(out);
        for group in 0..groups {
            let weights = self.weights(packed.part(group).data());
            let work = Work {
                plan: self,
                images: input.data(),
                frame: [input.volume[1], input.volume[2]],
                of: [groups, group],
                weights: weights.slice_of(),
                bias: bias.map(|bias| &bias[group * self.channels[1]..][..self.channels[1]]),
                finish: &|pixels| {
                    if activation != Activation::Identity {
                        finish(pixels, activation);
                    }
                },
            };
            par::tasks(self.strips(images), self.cost(), |strip| {
                let mut memory = Tensor::dirty::<f32>(Shape::from([self.memory()]));
                // SAFETY: each strip is one task's alone.
                unsafe { work.strip(strip, images, memory.own_slice(), &out) };
            });
        }
    }

    /// Parts of so many images.
    pub(crate) fn strips(&self, images: usize) -> usize {
        (images * self.output[0].div_ceil(4)).div_ceil(self.lines)
    }

    /// Nanoseconds of a strip, about.
    pub(crate) fn cost(&self) -> f64 {
        let tiles = self.lines * self.output[1].div_ceil(4);
        (tiles * POINTS * self.channels[0] * self.channels[1]) as f64 * NS_PER_MAC * 1.3
    }

    /// The sizes of the memory of a strip: a line's pixels with channels innermost, its transforms, their products, and
    /// a line of the output.
    fn sizes(&self) -> [usize; 4] {
        let (across, width, c) = (self.output[1].div_ceil(4), panel_width::<f32>(), self.channels[0]);
        let tiles = self.lines * across;
        [6 * (4 * across + 2) * c, POINTS * tiles * c, POINTS * tiles * width, 16 * across * width]
    }

    /// The elements of scratch that a strip needs.
    pub(crate) fn memory(&self) -> usize {
        self.sizes().iter().sum()
    }
}

/// Whether the environment allows it, found out once.
fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    simd() != Simd::Plain && *ON.get_or_init(|| std::env::var("MAPLET_WINOGRAD").as_deref() != Ok("off"))
}

/// What the strips of one group have in common.
pub(crate) struct Work<'a> {
    pub(crate) plan: &'a Winograd,
    /// `[image, group, c, ..frame]`
    pub(crate) images: &'a [f32],
    /// Height and width with the padding.
    pub(crate) frame: [usize; 2],
    /// So many groups, and which of them.
    pub(crate) of: [usize; 2],
    /// Transformed.
    pub(crate) weights: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    /// What happens to some pixels at last.
    pub(crate) finish: &'a (dyn Fn(&mut [f32]) + Sync),
}

impl Work<'_> {
    /// Computes strip `number` of so many images.
    ///
    /// # Safety
    /// Nobody else touches its lines of `out: [image, group, o, h, w]`, which has all of them.
    pub(crate) unsafe fn strip(&self, number: usize, images: usize, memory: &mut [f32], out: &Shared<f32>) {
        let ([c, o], [h, w], lines) = (self.plan.channels, self.plan.output, self.plan.lines);
        let ([down, across], [frame_h, frame_w]) = ([h.div_ceil(4), w.div_ceil(4)], self.frame);
        let [groups, group] = self.of;
        let first = number * lines;
        let count = lines.min(images * down - first);
        let (tiles, columns, width) = (count * across, 4 * across + 2, panel_width::<f32>());
        let [turned, points, products, pixels] = pieces(memory, self.plan.sizes());
        for line in 0..count {
            let (image, y) = ((first + line) / down, (first + line) % down * 4);
            let frame = &self.images[(image * groups + group) * c * frame_h * frame_w..];
            for (row, turned) in turned.chunks_exact_mut(columns * c).enumerate() {
                let there = if y + row < frame_h { frame_w.min(columns) } else { 0 };
                if there > 0 {
                    turn([c, there], &frame[(y + row) * frame_w..], frame_h * frame_w, turned, c);
                }
                turned[there * c..].fill(0.0);
            }
            let to = &mut points[line * across * c..];
            f32::with_lanes(Tiles { turned, columns, c, to, across, apart: tiles * c });
        }
        for j0 in (0..o).step_by(width) {
            let kept = width.min(o - j0);
            for point in 0..POINTS {
                let weights = &self.weights[(j0 / width * POINTS + point) * c * width..][..c * width];
                for t0 in (0..c).step_by(DEPTH) {
                    let block = Block {
                        rows: tiles,
                        steps: DEPTH.min(c - t0),
                        columns: kept,
                        a: points[point * tiles * c + t0..].as_ptr(),
                        a_rows: Offsets::Stride(c),
                        a_steps: Offsets::Stride(1),
                        b: weights[t0 * width..].as_ptr(),
                        b_stride: width,
                        c: products[point * tiles * width..].as_mut_ptr(),
                        c_stride: width,
                        start: if t0 == 0 { Start::Zero } else { Start::Sum },
                        ahead: None,
                    };
                    // SAFETY: A is [tiles, c], B [c, width] and C [tiles, width], each from its first element on.
                    unsafe { block.run() };
                }
            }
            for line in 0..count {
                let (image, y) = ((first + line) / down, (first + line) % down * 4);
                let products = &products[line * across * width..];
                let bias = self.bias.map(|bias| &bias[j0..][..kept]);
                let apart = tiles * width;
                f32::with_lanes(Pixels { products, apart, width, count: kept, across, bias, to: pixels });
                (self.finish)(pixels);
                let plane = ((image * groups + group) * o + j0) * h * w;
                for (row, pixels) in pixels.chunks_exact(4 * across * width).enumerate().take(h - y) {
                    let to = out.start().wrapping_add(plane + (y + row) * w);
                    // SAFETY: these rows of the planes are this strip's alone.
                    unsafe { turn_into([w, kept], pixels, width, to, h * w) };
                }
            }
        }
    }
}

/// `a + by · b`
#[inline(always)]
unsafe fn plus<L: Lanes<Item = f32>>(a: L, by: f32, b: L) -> L {
    // SAFETY: the caller has these instructions.
    unsafe { L::splat(by).mul_add(b, a) }
}

/// The points at which polynomials are multiplied: 0, ±√½, ±√2 and ∞. With the usual 0, ±1, ±2 errors are three times
/// as large.
const NEAR: f32 = std::f32::consts::FRAC_1_SQRT_2;
const FAR: f32 = std::f32::consts::SQRT_2;

/// `Bᵀ d`
#[inline(always)]
unsafe fn spread<L: Lanes<Item = f32>>([d0, d1, d2, d3, d4, d5]: [L; 6]) -> [L; 6] {
    // SAFETY: the caller has these instructions.
    unsafe {
        let (near_even, near_odd) = (plus(d4, -2.0, d2), plus(d3, -2.0, d1));
        let (far_even, far_odd) = (plus(d4, -0.5, d2), plus(d3, -0.5, d1));
        [
            plus(plus(d0, 1.0, d4), -2.5, d2),
            plus(near_even, NEAR, near_odd),
            plus(near_even, -NEAR, near_odd),
            plus(far_even, FAR, far_odd),
            plus(far_even, -FAR, far_odd),
            plus(plus(d1, 1.0, d5), -2.5, d3),
        ]
    }
}

/// `G g`
#[inline(always)]
unsafe fn spread_kernel<L: Lanes<Item = f32>>([g0, g1, g2]: [L; 3]) -> [L; 6] {
    // SAFETY: the caller has these instructions.
    unsafe {
        let times = |by: f32, x: L| L::splat(by).mul_add(x, L::splat(0.0));
        let (near, far) = (plus(times(-2.0 / 3.0, g0), -1.0 / 3.0, g2), plus(times(1.0 / 6.0, g0), 1.0 / 3.0, g2));
        [
            g0,
            plus(near, -FAR / 3.0, g1),
            plus(near, FAR / 3.0, g1),
            plus(far, FAR / 6.0, g1),
            plus(far, -FAR / 6.0, g1),
            g2,
        ]
    }
}

/// `Aᵀ m`
#[inline(always)]
unsafe fn gather<L: Lanes<Item = f32>>([m0, m1, m2, m3, m4, m5]: [L; 6]) -> [L; 4] {
    // SAFETY: the caller has these instructions.
    unsafe {
        let times = |by: f32, x: L| L::splat(by).mul_add(x, L::splat(0.0));
        let (near_even, near_odd) = (plus(m1, 1.0, m2), plus(m1, -1.0, m2));
        let (far_even, far_odd) = (plus(m3, 1.0, m4), plus(m3, -1.0, m4));
        [
            plus(plus(m0, 1.0, near_even), 1.0, far_even),
            plus(times(NEAR, near_odd), FAR, far_odd),
            plus(times(0.5, near_even), 2.0, far_even),
            plus(plus(m5, 0.5 * NEAR, near_odd), 2.0 * FAR, far_odd),
        ]
    }
}

/// A line of tiles, from `[6, columns, c]` to 36 matrices `[tiles, c]`, `apart` from each other.
struct Tiles<'a> {
    turned: &'a [f32],
    columns: usize,
    c: usize,
    to: &'a mut [f32],
    across: usize,
    apart: usize,
}

impl Job<f32> for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = f32>>(self) {
        let Self { turned, columns, c, to, across, apart } = self;
        assert!(turned.len() >= 6 * columns * c && columns >= 4 * across + 2 && c.is_multiple_of(L::WIDTH));
        assert!(to.len() >= (POINTS - 1) * apart + across * c);
        for tile in 0..across {
            for lane in (0..c).step_by(L::WIDTH) {
                // SAFETY: all places lie in their slices by the assertions; the instructions are the caller's promise.
                unsafe {
                    let at = |row: usize, column: usize| {
                        L::load(turned.as_ptr().add((row * columns + 4 * tile + column) * c + lane))
                    };
                    let mut lines = [[L::splat(0.0); 6]; 6];
                    for column in 0..6 {
                        let at = |row: usize| at(row, column);
                        let d = spread([at(0), at(1), at(2), at(3), at(4), at(5)]);
                        for row in 0..6 {
                            lines[row][column] = d[row];
                        }
                    }
                    for row in 0..6 {
                        let line = spread(lines[row]);
                        for column in 0..6 {
                            line[column].store(to.as_mut_ptr().add((row * 6 + column) * apart + tile * c + lane));
                        }
                    }
                }
            }
        }
    }
}

/// The kernels `[9, width]` of one input channel, to 36 rows `apart` from each other.
struct Kernel<'a> {
    kernel: &'a [f32],
    flipped: bool,
    to: *mut f32,
    apart: usize,
    width: usize,
}

impl Job<f32> for Kernel<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = f32>>(self) {
        let Self { kernel, flipped, to, apart, width } = self;
        assert!(kernel.len() >= 9 * width && width.is_multiple_of(L::WIDTH));
        for lane in (0..width).step_by(L::WIDTH) {
            // SAFETY: the kernel is long enough by the assertion; the caller of `with_lanes` owns the rows of `to`.
            unsafe {
                let at = |row: usize, column: usize| {
                    let place = row * 3 + column;
                    L::load(kernel.as_ptr().add(if flipped { 8 - place } else { place } * width + lane))
                };
                let mut lines = [[L::splat(0.0); 3]; 6];
                for column in 0..3 {
                    let g = spread_kernel([at(0, column), at(1, column), at(2, column)]);
                    for row in 0..6 {
                        lines[row][column] = g[row];
                    }
                }
                for row in 0..6 {
                    let line = spread_kernel(lines[row]);
                    for column in 0..6 {
                        line[column].store(to.add((row * 6 + column) * apart + lane));
                    }
                }
            }
        }
    }
}

/// A line of tiles, from 36 matrices `[tiles, width]`, `apart` from each other, to pixels `[4, 4 · across, width]`.
struct Pixels<'a> {
    products: &'a [f32],
    apart: usize,
    width: usize,
    /// Channels that are there.
    count: usize,
    across: usize,
    bias: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl Job<f32> for Pixels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = f32>>(self) {
        let Self { products, apart, width, count, across, bias, to } = self;
        assert!(products.len() >= (POINTS - 1) * apart + across * width && to.len() >= 16 * across * width);
        assert!(count <= width && count.is_multiple_of(L::WIDTH) && bias.is_none_or(|bias| bias.len() >= count));
        for tile in 0..across {
            for lane in (0..count).step_by(L::WIDTH) {
                // SAFETY: all places lie in their slices by the assertions; the instructions are the caller's promise.
                unsafe {
                    let at = |point: usize| L::load(products.as_ptr().add(point * apart + tile * width + lane));
                    let mut lines = [[L::splat(0.0); 6]; 4];
                    for column in 0..6 {
                        let at = |row: usize| at(row * 6 + column);
                        let m = gather([at(0), at(1), at(2), at(3), at(4), at(5)]);
                        for row in 0..4 {
                            lines[row][column] = m[row];
                        }
                    }
                    let bias = bias.map_or(L::splat(0.0), |bias| L::load(bias.as_ptr().add(lane)));
                    for row in 0..4 {
                        let line = gather(lines[row]);
                        for column in 0..4 {
                            let place = (row * across + tile) * 4 + column;
                            plus(line[column], 1.0, bias).store(to.as_mut_ptr().add(place * width + lane));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use crate::{Activation, DType, Rng, Shape, Tensor, Window2d};

    /// Output and input gradient against those of double precision, which go the plain way.
    fn check([n, c, o]: [usize; 3], [h, w]: [usize; 2], window: Window2d) {
        let mut rng = Rng::new((n + c + 3 * o + h + w) as u64);
        let mut draw = |shape: [usize; 4]| Tensor::normal(Shape::from(shape), 0.0f64, 1.0, &mut rng);
        let (x, weight) = (draw([n, c, h, w]), draw([o, c / window.groups, 3, 3]));
        let y = x.conv(&weight, window).unwrap();
        let dx = y.conv_grad_input(&weight, x.shape(), window).unwrap();
        let [x32, weight32, y32] = [&x, &weight, &y].map(|x| x.to_dtype(DType::F32));
        let found = [x32.conv(&weight32, window), y32.conv_grad_input(&weight32, x.shape(), window)];
        for ((found, expected), channels) in found.into_iter().zip([y, dx]).zip([c, o]) {
            let found = found.unwrap().to_dtype(DType::F64);
            let (found, expected) = (found.as_slice::<f64>().unwrap(), expected.as_slice::<f64>().unwrap());
            let largest = expected.iter().fold(0.0, |most: f64, x| x.abs().max(most));
            let worst = found.iter().zip(expected).fold(0.0, |most: f64, (a, b)| (a - b).abs().max(most));
            // The bound that the module's page states.
            let bound = 3.0 * ((channels / window.groups) as f64).sqrt() * f64::from(f32::EPSILON) * largest;
            assert!(worst <= bound, "{n} × {c} → {o}, {h} × {w}, {window:?}: {}", worst / largest);
        }
    }

    #[test]
    fn tiles_equal_the_plain_convolution() {
        let same = Window2d::new(3).padding(1);
        check([2, 16, 16], [32, 32], same);
        check([3, 32, 48], [21, 30], same); // half-empty tiles, and half a panel
        check([2, 64, 32], [28, 28], Window2d::new(3));
        check([1, 16, 32], [41, 38], Window2d::new(3).padding(2));
        check([4, 32, 64], [24, 24], same.groups(2));
        check([32, 64, 64], [8, 8], same);
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::new(2);
        let x = Tensor::normal([5, 16, 30, 22], 0.0f32, 1.0, &mut rng);
        let (weight, window) = (Tensor::normal([48, 16, 3, 3], 0.0f32, 1.0, &mut rng), Window2d::new(3).padding(1));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| x.conv(&weight, window).unwrap())
        };
        assert!(run(1) == run(2) && run(1) == run(7));
    }

    #[test]
    fn bias_and_activation_are_applied() {
        let mut rng = Rng::new(4);
        let x = Tensor::normal([4, 16, 32, 32], 0.0f32, 1.0, &mut rng);
        let weight = Tensor::normal([16, 16, 3, 3], 0.0f32, 1.0, &mut rng);
        let (bias, window) = (Tensor::normal([16], 0.0f32, 1.0, &mut rng), Window2d::new(3));
        let plain = x.conv(&weight, window).unwrap().add(&bias.reshape([16, 1, 1]).unwrap()).unwrap().relu();
        let found = x.conv_bias(&weight, Some(&bias), window, Activation::Relu).unwrap();
        let (found, plain) = (found.as_slice::<f32>().unwrap(), plain.as_slice::<f32>().unwrap());
        // The plain way begins its sums with the bias: other roundings of sums that are no larger than the largest.
        let bound = 16.0 * f32::EPSILON * plain.iter().fold(0.0, |most: f32, x| x.abs().max(most));
        assert!(found.iter().zip(plain).all(|(a, b)| (a - b).abs() <= bound));
    }

    #[test]
    fn many_channels_stay_exact_enough() {
        check([8, 512, 16], [14, 14], Window2d::new(3).padding(1));
    }
}
