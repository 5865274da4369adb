//! Two-dimensional convolution and its two adjoints.
//!
//! All three are the product of [`tile`](crate::tile) on lists of offsets, so no patch is copied:
//!
//! | | rows | steps | B |
//! |---|---|---|---|
//! | output | positions | taps (channel, kernel row, kernel column) | weight, `[taps, o]` |
//! | input gradient | pixels | taps (output channel, kernel row, kernel column) | weight, `[taps, c]` |
//! | weight gradient | taps | positions | `dy`, `[positions, o]` |
//!
//! Results have channels innermost and are transposed on their way out, a strip of positions at a time.
//!
//! Letters: `n` image, `c` input channel, `o` output channel, `h w` input, `oh ow` output, `kh kw` kernel.

use crate::dtype::dispatch_float;
use crate::ops::gather::{DEPTH, NS_PER_MAC, Panels, check_offsets, gather_product, strip_len};
use crate::ops::geometry::{Conv, Image};
use crate::ops::matmul::{Activation, finish};
use crate::par::{self, Shared};
use crate::tile::{Block, Offsets, Start};
use crate::turn::{turn, turn_into};
use crate::{Float, Result, Shape, Tensor, Window2d};

impl Tensor {
    /// Two-dimensional convolution (cross-correlation, as everywhere in deep learning).
    ///
    /// `y[n, o, i, j] = Σ_{c, p, q} x[n, c, i·stride + p·dilation − padding, …] · weight[o, c, p, q]`
    ///
    /// # Shapes
    /// - `self: [n, c, h, w]`, `weight: [o, c / groups, kh, kw]`, output: `[n, o, oh, ow]` with `oh, ow` of
    ///   [`Window2d::output`]
    ///
    /// # Errors
    /// Shapes that do not fit, a kernel that is not the window's, types that differ or are not float.
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::{Tensor, Window2d};
    ///
    /// let image = Tensor::from([[[[1.0f32, 2.0, 4.0]]]]);
    /// let difference = Tensor::from([[[[-1.0f32, 1.0]]]]);
    /// assert_eq!(image.conv2d(&difference, Window2d::new([1, 2]))?, Tensor::from([[[[1.0f32, 2.0]]]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    pub fn conv2d(&self, weight: &Tensor, window: Window2d) -> Result<Tensor> {
        self.conv2d_bias(weight, None, window, Activation::Identity)
    }

    /// [`conv2d`](Self::conv2d), then a bias for each output channel, then an activation, in one pass over the output.
    ///
    /// # Shapes
    /// - `bias: [o]`, the others as in [`conv2d`](Self::conv2d)
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d), or a bias of another shape.
    pub fn conv2d_bias(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        window: Window2d,
        activation: Activation,
    ) -> Result<Tensor> {
        let conv = Conv::new("conv2d", self.shape(), weight.shape(), window)?;
        conv.check_operands("conv2d", self, weight, bias)?;
        dispatch_float!(self.dtype(), "conv2d", T => {
            let (image, x) = conv.padded::<T>(self);
            let weights = conv.packed_weights::<T>(weight);
            let bias = bias.map(Tensor::slice_of::<T>);
            let positions = conv.positions(image);
            let taps = conv.taps(image);
            Ok(Tensor::build(Shape::from([conv.n, conv.o, conv.oh, conv.ow]), |out: &mut [T]| {
                let plane = positions.len();
                let out = Shared::new(out);
                let strip = strip_len(taps.len() * conv.o_group);
                let [strips, parts] = [plane.div_ceil(strip), conv.groups];
                let cost = (strip * taps.len() * conv.o_group) as f64 * NS_PER_MAC;
                par::tasks(conv.n * parts * strips, cost, |task| {
                    let (n, part, first) = (task / strips / parts, task / strips % parts, task % strips * strip);
                    let rows = &positions[first..plane.min(first + strip)];
                    let x = &x.slice_of::<T>()[(n * conv.c + part * conv.c_group) * image[0] * image[1]..];
                    let o0 = part * conv.o_group;
                    let bias = bias.map(|bias| &bias[o0..][..conv.o_group]);
                    let mut sums = Tensor::dirty::<T>(Shape::from([rows.len(), conv.o_group]));
                    let sums = sums.own_slice::<T>();
                    gather_product(x, rows, &taps, weights.part(part), conv.o_group, bias, sums);
                    if activation != Activation::Identity {
                        finish(sums, conv.o_group, None, activation);
                    }
                    let to = out.start().wrapping_add((n * conv.o + o0) * plane + first);
                    // SAFETY: the strip's positions in the group's channels of image n are this task's alone.
                    unsafe { turn_into([rows.len(), conv.o_group], sums, conv.o_group, to, plane) };
                });
            }))
        })
    }

    /// Adjoint of [`conv2d`](Self::conv2d) towards its input; `self` is `dy: [n, o, oh, ow]`.
    ///
    /// `dx[n, c, u, v] = Σ_{o, p, q} dy[n, o, (u + padding − p·dilation) / stride, …] · weight[o, c, p, q]`, over the
    /// `p, q` whose quotients are whole.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn conv2d_grad_input(&self, weight: &Tensor, x_shape: impl Into<Shape>, window: Window2d) -> Result<Tensor> {
        let conv = Conv::new("conv2d_grad_input", x_shape.into(), weight.shape(), window)?;
        conv.check_operands("conv2d_grad_input", self, weight, None)?;
        conv.check_dy("conv2d_grad_input", self)?;
        dispatch_float!(self.dtype(), "conv2d_grad_input", T => {
            let (image, dy) = conv.bordered::<T>(self);
            // Pixels whose coordinates leave the same rest by the stride meet the same taps.
            let phases: Vec<Phase> = (0..window.stride[0] * window.stride[1])
                .map(|i| conv.phase::<T>([i / window.stride[1], i % window.stride[1]], image, weight))
                .collect();
            Ok(Tensor::build(Shape::from([conv.n, conv.c, conv.h, conv.w]), |out: &mut [T]| {
                let plane = conv.h * conv.w;
                let out = Shared::new(out);
                let cost = (conv.c_group * conv.o_group * plane * window.kernel[0] * window.kernel[1]) as f64
                    / (window.stride[0] * window.stride[1]) as f64 * NS_PER_MAC;
                par::tasks(conv.n * conv.groups, cost, |task| {
                    let (n, part) = (task / conv.groups, task % conv.groups);
                    let dy = &dy.slice_of::<T>()[(n * conv.o + part * conv.o_group) * image[0] * image[1]..];
                    // SAFETY: each task has the channels of one group of one image.
                    let out = unsafe {
                        out.slice((n * conv.c + part * conv.c_group) * plane, conv.c_group * plane)
                    };
                    for phase in &phases {
                        phase.run::<T>(dy, part, conv.c_group, plane, out);
                    }
                });
            }))
        })
    }

    /// Adjoint of [`conv2d`](Self::conv2d) towards its weight; `self` is `dy: [n, o, oh, ow]`.
    ///
    /// `dw[o, c, p, q] = Σ_{n, i, j} dy[n, o, i, j] · x[n, c, i·stride + p·dilation − padding, …]`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn conv2d_grad_weight(&self, x: &Tensor, w_shape: impl Into<Shape>, window: Window2d) -> Result<Tensor> {
        let conv = Conv::new("conv2d_grad_weight", x.shape(), w_shape.into(), window)?;
        conv.check_operands("conv2d_grad_weight", x, self, None)?;
        conv.check_dy("conv2d_grad_weight", self)?;
        dispatch_float!(self.dtype(), "conv2d_grad_weight", T => {
            let (image, padded) = conv.padded::<T>(x);
            let positions = conv.positions(image);
            let dy = self.slice_of::<T>();
            let plane = positions.len();
            Ok(conv.grad_weight::<T>(&padded, image, &positions, |n, part, out| {
                let dy = &dy[(n * conv.o + part * conv.o_group) * plane..];
                turn([conv.o_group, plane], dy, plane, out, conv.o_group);
            }))
        })
    }
}

impl Conv {
    /// For each group, the weight as `[taps, o]` in panels.
    pub(crate) fn packed_weights<T: Float>(&self, weight: &Tensor) -> Panels {
        let taps = self.c_group * self.window.kernel[0] * self.window.kernel[1];
        let weight = weight.slice_of::<T>();
        Panels::new::<T>(self.groups, taps, self.o_group, |part, t, o| weight[(part * self.o_group + o) * taps + t])
    }

    /// The weight gradient, given the padded input and a function that writes image `n`'s `dy` of a group as
    /// `[positions, o]`.
    pub(crate) fn grad_weight<T: Float>(
        &self,
        x: &Tensor,
        image: Image,
        positions: &[usize],
        dy: impl Fn(usize, usize, &mut [T]) + Sync,
    ) -> Tensor {
        let taps = self.taps(image);
        let part_len = taps.len() * self.o_group;
        // Each task sums some images; the partial sums are added in order. The cut depends on sizes alone.
        let per_image = (positions.len() * part_len) as f64 * NS_PER_MAC;
        let images = ((50_000.0 / per_image.max(1.0)) as usize).clamp(1, self.n.max(1)).max(self.n.div_ceil(16));
        let cuts = self.n.div_ceil(images).max(1);
        let mut partial = Tensor::dirty::<T>(Shape::from([cuts, self.groups, taps.len(), self.o_group]));
        par::rows(partial.own_slice::<T>(), part_len.max(1), per_image * images as f64, |first, sums| {
            for (i, sums) in sums.chunks_mut(part_len).enumerate() {
                let (cut, part) = ((first + i) / self.groups, (first + i) % self.groups);
                let mut turned = Tensor::dirty::<T>(Shape::from([positions.len(), self.o_group]));
                let turned = turned.own_slice::<T>();
                sums.fill(T::zero());
                for n in cut * images..self.n.min((cut + 1) * images) {
                    dy(n, part, turned);
                    let x = &x.slice_of::<T>()[(n * self.c + part * self.c_group) * image[0] * image[1]..];
                    check_offsets(x, &taps, positions);
                    for t0 in (0..positions.len()).step_by(DEPTH) {
                        let block = Block {
                            rows: taps.len(),
                            steps: DEPTH.min(positions.len() - t0),
                            columns: self.o_group,
                            a: x.as_ptr(),
                            a_rows: Offsets::List(&taps),
                            a_steps: Offsets::List(&positions[t0..]),
                            b: turned[t0 * self.o_group..].as_ptr(),
                            b_stride: self.o_group,
                            c: sums.as_mut_ptr(),
                            c_stride: self.o_group,
                            start: Start::Sum,
                        };
                        // SAFETY: the offsets lie in x (checked above), B and C have the block's sizes.
                        unsafe { block.run() };
                    }
                }
            }
        });
        let total = self.groups * part_len;
        let (sum, rest) = partial.own_slice::<T>().split_at_mut(total);
        par::elements(sum, cuts as f64 * 0.2, |start, sum| {
            for partial in rest.chunks_exact(total) {
                sum.iter_mut().zip(&partial[start..]).for_each(|(sum, &x)| *sum += x);
            }
        });
        let [kh, kw] = self.window.kernel;
        Tensor::build(Shape::from([self.o, self.c_group, kh, kw]), |out: &mut [T]| {
            for (sum, out) in sum.chunks_exact(part_len.max(1)).zip(out.chunks_exact_mut(part_len.max(1))) {
                turn([taps.len(), self.o_group], sum, self.o_group, out, taps.len());
            }
        })
    }

    /// What the pixels with `(coordinate + padding) mod stride == rest` have in common.
    fn phase<T: Float>(&self, rest: [usize; 2], image: Image, weight: &Tensor) -> Phase {
        let border = self.border();
        let Window2d { kernel, stride, padding, dilation, .. } = self.window;
        // Pixels of the phase along one side, as (pixel, its tap 0 in the bordered dy); kernel indices that meet them.
        let along = |side: usize, size: usize| -> Vec<(usize, usize)> {
            let pixels = (0..size).filter(|u| (u + padding[side]) % stride[side] == rest[side]);
            pixels.map(|u| (u, (u + padding[side]) / stride[side] + border[side])).collect()
        };
        let met = |side: usize| -> Vec<(usize, usize)> {
            let met = (0..kernel[side]).filter(|p| p * dilation[side] % stride[side] == rest[side]);
            met.map(|p| (p, p * dilation[side] / stride[side])).collect()
        };
        let ([rows, columns], [ps, qs]) = ([along(0, self.h), along(1, self.w)], [met(0), met(1)]);
        // Taps reach back from a pixel; the offsets count from the farthest, so that none is negative.
        let back = [ps.last().map_or(0, |p| p.1), qs.last().map_or(0, |q| q.1)];
        let mut phase = Phase::default();
        for &(u, i) in &rows {
            for &(v, j) in &columns {
                phase.pixels.push(u * self.w + v);
                phase.offsets.push((i - back[0]) * image[1] + j - back[1]);
            }
        }
        let mut kernels = Vec::new();
        for o in 0..self.o_group {
            for &(p, reach_h) in &ps {
                for &(q, reach_w) in &qs {
                    phase.taps.push((o * image[0] + back[0] - reach_h) * image[1] + back[1] - reach_w);
                    kernels.push((o, p * kernel[1] + q));
                }
            }
        }
        let (weight, area) = (weight.slice_of::<T>(), kernel[0] * kernel[1]);
        phase.weights = Panels::new::<T>(self.groups, kernels.len(), self.c_group, |part, t, c| {
            let (o, k) = kernels[t];
            weight[((part * self.o_group + o) * self.c_group + c) * area + k]
        });
        phase
    }
}

/// The pixels of an input gradient that meet the same taps.
#[derive(Default)]
struct Phase {
    /// The pixels' places in their plane.
    pixels: Vec<usize>,
    /// The offsets of their farthest taps in the bordered `dy`.
    offsets: Vec<usize>,
    taps: Vec<usize>,
    weights: Panels,
}

impl Phase {
    /// Writes this phase's pixels of the `channels` planes in `out`.
    fn run<T: Float>(&self, dy: &[T], part: usize, channels: usize, plane: usize, out: &mut [T]) {
        let strip = strip_len(self.taps.len() * channels);
        for (pixels, offsets) in self.pixels.chunks(strip).zip(self.offsets.chunks(strip)) {
            let mut sums = Tensor::dirty::<T>(Shape::from([pixels.len(), channels]));
            let sums = sums.own_slice::<T>();
            gather_product(dy, offsets, &self.taps, self.weights.part(part), channels, None, sums);
            if pixels[pixels.len() - 1] - pixels[0] + 1 == pixels.len() {
                turn([pixels.len(), channels], sums, channels, &mut out[pixels[0]..], plane);
                continue;
            }
            for c in 0..channels {
                for (i, &pixel) in pixels.iter().enumerate() {
                    out[c * plane + pixel] = sums[i * channels + c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng};
    use proptest::prelude::*;

    /// `y`, and for a given `dy` the gradients `dx` and `dw`, by the definition.
    fn naive(x: &Tensor, weight: &Tensor, dy: Option<&Tensor>, window: Window2d) -> [Vec<f64>; 3] {
        let ([n, c, h, w], [o, cg, kh, kw]) = (x.dims("x").unwrap(), weight.dims("w").unwrap());
        let [oh, ow] = window.output("conv2d", [h, w]).unwrap();
        let (xs, ws) = (x.as_slice::<f64>().unwrap(), weight.as_slice::<f64>().unwrap());
        let dys = dy.map(|dy| dy.as_slice::<f64>().unwrap());
        let [mut y, mut dx, mut dw] = [vec![0.0; n * o * oh * ow], vec![0.0; xs.len()], vec![0.0; ws.len()]];
        for (at, y) in y.iter_mut().enumerate() {
            let (j, i, oc, b) = (at % ow, at / ow % oh, at / ow / oh % o, at / ow / oh / o);
            for tap in 0..cg * kh * kw {
                let (q, p, ci) = (tap % kw, tap / kw % kh, tap / kw / kh);
                let u = (i * window.stride[0] + p * window.dilation[0]).wrapping_sub(window.padding[0]);
                let v = (j * window.stride[1] + q * window.dilation[1]).wrapping_sub(window.padding[1]);
                if u < h && v < w {
                    let x_at = ((b * c + oc / (o / window.groups) * cg + ci) * h + u) * w + v;
                    let w_at = oc * cg * kh * kw + tap;
                    *y += xs[x_at] * ws[w_at];
                    if let Some(dys) = dys {
                        dx[x_at] += dys[at] * ws[w_at];
                        dw[w_at] += dys[at] * xs[x_at];
                    }
                }
            }
        }
        [y, dx, dw]
    }

    /// All three against the definition, in f64 and f32; sums of k terms below 1 err by k²·ε at most.
    fn check_naive([n, c, h, w, o]: [usize; 5], window: Window2d) {
        let mut rng = Rng::new((n + 3 * c + 7 * h + 11 * w + 13 * o) as u64);
        let mut draw = |shape: [usize; 4]| Tensor::uniform(shape, -1.0f64, 1.0, &mut rng);
        let [kh, kw] = window.kernel;
        let (x, weight) = (draw([n, c, h, w]), draw([o, c / window.groups, kh, kw]));
        let y = x.conv2d(&weight, window).unwrap();
        let dy = draw(y.dims("y").unwrap());
        let expected = naive(&x, &weight, Some(&dy), window);
        for (dtype, eps) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let [x, weight, dy] = [&x, &weight, &dy].map(|t| t.to_dtype(dtype));
            let results = [
                x.conv2d(&weight, window).unwrap(),
                dy.conv2d_grad_input(&weight, x.shape(), window).unwrap(),
                dy.conv2d_grad_weight(&x, weight.shape(), window).unwrap(),
            ];
            let terms = [c * kh * kw, o * kh * kw, n * dy.len() / o.max(1) / n.max(1)];
            for ((result, expected), terms) in results.iter().zip(&expected).zip(terms) {
                assert_eq!(result.len(), expected.len());
                let result = result.to_dtype(DType::F64);
                for (a, b) in result.as_slice::<f64>().unwrap().iter().zip(expected) {
                    let bound = (terms + 4).pow(2) as f64 * eps;
                    assert!((a - b).abs() <= bound, "{n} {c} {h} {w} → {o} {window:?} {dtype}: {a} against {b}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]
        #[test]
        fn equal_the_definition(
            n in 0usize..3, c in 1usize..4, o in 1usize..4, groups in 1usize..3, size in [1usize..9, 1usize..9],
            kernel in [1usize..4, 1usize..4], stride in [1usize..4, 1usize..4], padding in [0usize..3, 0usize..3],
            dilation in [1usize..3, 1usize..3],
        ) {
            let window = Window2d { kernel, stride, padding, dilation, groups };
            prop_assume!(window.output("conv2d", size).is_ok());
            check_naive([n, c * groups, size[0], size[1], o * groups], window);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn real_layers_equal_the_definition() {
        check_naive([9, 1, 28, 28, 32], Window2d::new(3));
        check_naive([2, 16, 9, 9, 40], Window2d::new(3).padding(1));
        check_naive([2, 33, 8, 8, 17], Window2d::new(3).padding(1).stride(2));
        check_naive([1, 3, 23, 23, 16], Window2d::new(11).padding(2).stride(4));
        check_naive([1, 24, 6, 6, 24], Window2d::new(3).padding(1).groups(24));
        check_naive([3, 20, 5, 5, 70], Window2d::new(1));
    }

    #[test]
    fn bias_and_activation_are_applied_per_channel() {
        let x = Tensor::from([[[[1.0f32, -2.0, 3.0]]]]);
        let (weight, bias) = (Tensor::from([[[[1.0f32]]], [[[-1.0]]]]), Tensor::from([0.5f32, -0.5]));
        let window = Window2d::new(1);
        let plain = x.conv2d_bias(&weight, Some(&bias), window, Activation::Identity).unwrap();
        assert_eq!(plain, Tensor::from([[[[1.5f32, -1.5, 3.5]], [[-1.5, 1.5, -3.5]]]]));
        let relu = x.conv2d_bias(&weight, Some(&bias), window, Activation::Relu).unwrap();
        assert_eq!(relu, Tensor::from([[[[1.5f32, 0.0, 3.5]], [[0.0, 1.5, 0.0]]]]));
    }

    #[test]
    #[cfg(not(miri))]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::new(2);
        let x = Tensor::normal([20, 8, 14, 14], 0.0f32, 1.0, &mut rng);
        let weight = Tensor::normal([24, 8, 3, 3], 0.0f32, 1.0, &mut rng);
        let window = Window2d::new(3).padding(1);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let y = x.conv2d(&weight, window).unwrap();
                let dx = y.conv2d_grad_input(&weight, x.shape(), window).unwrap();
                [dx, y.conv2d_grad_weight(&x, weight.shape(), window).unwrap(), y]
            })
        };
        assert!(run(1) == run(2) && run(1) == run(7));
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: [usize; 4]| Tensor::zeros(shape, DType::F32);
        let text = |x: &Tensor, w: [usize; 4], window| x.conv2d(&zeros(w), window).unwrap_err().to_string();
        let x = zeros([8, 1, 28, 28]);
        let expected = "conv2d: input [8, 1, 28, 28] has 1 channel, weight [32, 3, 3, 3] expects 3; \
                        help: build the layer with in_channels = 1";
        assert_eq!(text(&x, [32, 3, 3, 3], Window2d::new(3)), expected);
        let expected =
            "conv2d: weight [32, 1, 5, 5] has another kernel than the window's [3, 3]; help: they must be the same";
        assert_eq!(text(&x, [32, 1, 5, 5], Window2d::new(3)), expected);
        let expected = "conv2d: input [28, 28] has 2 axes; help: it must be [n, channels, height, width]";
        assert_eq!(text(&Tensor::zeros([28, 28], DType::F32), [32, 1, 3, 3], Window2d::new(3)), expected);
        let expected = "conv2d: weight [3, 1, 3, 3] has 3 output channels, not divisible into 2 groups; \
                        help: use a multiple of the groups";
        assert_eq!(text(&zeros([1, 2, 9, 9]), [3, 1, 3, 3], Window2d::new(3).groups(2)), expected);
        let dy = zeros([8, 32, 28, 28]);
        let error =
            dy.conv2d_grad_input(&zeros([32, 1, 3, 3]), [8, 1, 28, 28], Window2d::new(3)).unwrap_err().to_string();
        let expected = "conv2d_grad_input: dy is [8, 32, 28, 28], the output was [8, 32, 26, 26]; \
                        help: pass the gradient of the output";
        assert_eq!(error, expected);
    }
}
