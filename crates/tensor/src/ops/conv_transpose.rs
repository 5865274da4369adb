//! The adjoint of the convolution towards its input, which under another name is the transposed convolution.
//!
//! The product and its letters are those of `conv.rs`. With a stride, a pixel meets only some of the taps: pixels are
//! cut into phases that meet the same ones.

use crate::dtype::dispatch_float;
use crate::ops::gather::Panels;
use crate::ops::gathered::{Gathered, Phase};
use crate::ops::geometry::{Conv, Volume, area, lattice, pitches, spatial_dims};
use crate::ops::matmul::{Activation, check_bias};
use crate::ops::winograd::Winograd;
use crate::turn::turn;
use crate::{Error, Float, Result, Shape, Sizes, Tensor, Window};
use std::array::from_fn;

impl Tensor {
    /// Adjoint of [`conv`](Self::conv) towards its input; `self` is `dy: [n, o, ..]`.
    ///
    /// `dx[n, c, u, ..] = Σ_{o, p, ..} dy[n, o, (u + padding − p·dilation) / stride, ..] · weight[o, c, p, ..]`, over
    /// the `p` whose quotients are whole.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn conv_grad_input<const D: usize>(
        &self,
        weight: &Tensor,
        x_shape: impl Into<Shape>,
        window: Window<D>,
    ) -> Result<Tensor> {
        let op = Window::<D>::name(["conv1d_grad_input", "conv2d_grad_input", "conv3d_grad_input"]);
        let conv = Conv::new(op, x_shape.into(), weight.shape(), window)?;
        conv.check_operands(op, self, weight, None)?;
        conv.check_dy(op, self)?;
        conv.grad_input(op, self, weight, None)
    }

    /// Transposed convolution: the adjoint of a convolution as a mapping of its own, then a bias for each channel.
    ///
    /// `y[n, o, i·stride + p·dilation − padding, ..] = bias[o] + Σ x[n, c, i, ..] · weight[c, o, p, ..]`, over all
    /// `i` and `p` that lead to the same place
    ///
    /// # Shapes
    /// - `self: [n, c, ..size]`, `weight: [c, o / groups, ..kernel]`, `bias: [o]`, output: `[n, o, ..]` with the sizes
    ///   of [`Window::transposed_output`]
    ///
    /// # Errors
    /// Shapes that do not fit, a kernel that is not the window's, an output padding that is neither below the stride
    /// nor below the dilation, types that differ or are not float.
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::{Tensor, Window1d};
    ///
    /// let (x, weight) = (Tensor::from([[[1.0f32, 2.0]]]), Tensor::from([[[1.0f32, 10.0]]]));
    /// let y = x.conv_transpose(&weight, None, Window1d::new(2).stride(2), 0)?;
    /// assert_eq!(y, Tensor::from([[[1.0f32, 10.0, 2.0, 20.0]]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    #[doc(alias("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "deconvolution"))]
    pub fn conv_transpose<const D: usize>(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        window: Window<D>,
        output_padding: impl Into<Sizes<D>>,
    ) -> Result<Tensor> {
        let op = Window::<D>::name(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]);
        let (n, c, input) = spatial_dims::<D>(op, "input", self.shape(), "n, channels", "")?;
        let (i, o_group, _) = spatial_dims::<D>(op, "weight", weight.shape(), "in, out / groups", "kernel ")?;
        let output = window.transposed_output(op, input, output_padding.into().0)?;
        if c != i {
            let plural = if c == 1 { "channel" } else { "channels" };
            let what = format!("input {} has {c} {plural}, weight {} expects {i}", self.shape(), weight.shape());
            return Err(Error::shape(op, what, format!("build the layer with in_channels = {c}")));
        }
        if i % window.groups != 0 {
            let groups = window.groups;
            let what = format!("weight {} has {i} input channels, not divisible into {groups} groups", weight.shape());
            return Err(Error::shape(op, what, "use a multiple of the groups"));
        }
        let y_shape = Shape::new(&[&[n, o_group.saturating_mul(window.groups)], &output[..]].concat())?;
        let conv = Conv::new(op, y_shape, weight.shape(), window)?;
        self.same_dtype(op, weight)?;
        if let Some(bias) = bias {
            self.same_dtype(op, bias)?;
            check_bias(op, bias, conv.c)?;
        }
        // An output padding of a stride or more makes room for further inputs: they are zeros.
        let given = self.shape();
        if conv.y_shape == given {
            return conv.grad_input(op, self, weight, bias);
        }
        let more: Vec<_> = conv.y_shape.iter().zip(given.sizes()).map(|(all, given)| (0, all - given)).collect();
        conv.grad_input(op, &self.pad(&more, 0.0)?, weight, bias)
    }
}

impl Conv {
    /// The input gradient plus a bias for each input channel.
    fn grad_input(&self, op: &'static str, dy: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        if let Some(winograd) = Winograd::of(self, dy.dtype(), [self.o_group, self.c_group], self.input, true) {
            let input = self.framed_dy(dy);
            let phases = self.phases::<f32>(input.volume, weight);
            let (sizes, weights, bias) = ([self.n, self.groups], &phases[0].weights, bias.map(Tensor::slice_of));
            let (shape, none) = (self.x_shape, Activation::Identity);
            return Ok(Tensor::build(shape, |out| winograd.run(input, sizes, weights, bias, none, out)));
        }
        dispatch_float!(dy.dtype(), op, T => {
            if self.is_depthwise() {
                return Ok(self.depthwise_grad_input::<T>(dy, weight, bias));
            }
            let input = self.framed_dy::<T>(dy);
            let phases = self.phases::<T>(input.volume, weight);
            let gathered = Gathered {
                input,
                phases: &phases,
                images: self.n,
                groups: self.groups,
                channels: self.c_group,
                plane: area(self.input),
                bias: bias.map(Tensor::slice_of::<T>),
                activation: Activation::Identity,
            };
            Ok(Tensor::build(self.x_shape, |out: &mut [T]| gathered.run(out)))
        })
    }

    /// Pixels whose coordinates leave the same rests by the strides meet the same taps.
    fn phases<T: Float>(&self, volume: Volume, weight: &Tensor) -> Vec<Phase> {
        let sides: [Vec<Side>; 3] = from_fn(|side| {
            let stride = self.window.stride[side];
            // From the first pixel of each rest on.
            (0..stride.min(self.input[side]))
                .map(|u| self.side(side, (u + self.window.padding[side]) % stride))
                .collect()
        });
        let [depths, rows, columns] = &sides;
        let mut phases = Vec::new();
        for depth in depths {
            for row in rows {
                phases.extend(columns.iter().map(|column| self.phase::<T>([depth, row, column], volume, weight)));
            }
        }
        phases
    }

    /// The pixels along one side with `(coordinate + padding) mod stride == rest`, and what they meet.
    fn side(&self, side: usize, rest: usize) -> Side {
        let Window { kernel, stride, padding, dilation, .. } = self.window;
        let [kernel, stride, padding, dilation] = [kernel, stride, padding, dilation].map(|sizes| sizes[side]);
        let kernels: Vec<usize> = (0..kernel).filter(|p| p * dilation % stride == rest).collect();
        // Taps reach back from a pixel; the offsets count from the farthest, so that none is negative.
        let farthest = kernels.last().map_or(0, |p| p * dilation / stride);
        let taps = kernels.iter().map(|p| farthest - p * dilation / stride).collect();
        let pixels: Vec<usize> = (0..self.input[side]).filter(|u| (u + padding) % stride == rest).collect();
        let offsets = pixels.iter().map(|u| (u + padding) / stride + self.border()[side] - farthest).collect();
        Side { pixels, offsets, kernels, taps }
    }

    fn phase<T: Float>(&self, sides: [&Side; 3], volume: Volume, weight: &Tensor) -> Phase {
        let scaled = |list: &[usize], by: usize| -> Vec<usize> { list.iter().map(|x| x * by).collect() };
        let [places, inside, pitch] = [pitches(self.input), pitches(volume), pitches(self.window.kernel)];
        let along = |pick: fn(&Side) -> &Vec<usize>, pitch: Volume| -> [Vec<usize>; 3] {
            from_fn(|side| scaled(pick(sides[side]), pitch[side]))
        };
        let [depth, row, column] = along(|side| &side.taps, inside);
        let channels = (0..self.o_group).map(|o| o * area(volume)).collect();
        let kernels = lattice(&along(|side| &side.kernels, pitch));
        let size = [self.c_group, area(self.window.kernel)];
        let weight = weight.slice_of::<T>();
        let steps = [self.o_group * kernels.len(), kernels.len()];
        Phase {
            pixels: lattice(&along(|side| &side.pixels, places)),
            offsets: lattice(&along(|side| &side.offsets, inside)),
            taps: lattice(&[channels, depth, row, column]),
            // For each output channel [c, kernel] becomes [kernel, c], of which the phase takes some rows.
            weights: Panels::new::<T>(self.groups, steps, self.c_group, |part, steps, rows| {
                let mut turned = Tensor::dirty::<T>(Shape::from([size[1], size[0]]));
                let turned = turned.own_slice::<T>();
                for (i, rows) in rows.chunks_exact_mut(kernels.len() * size[0]).enumerate() {
                    let o = part * self.o_group + steps.start / kernels.len() + i;
                    turn(size, &weight[o * size[0] * size[1]..], size[1], turned, size[0]);
                    for (row, &kernel) in rows.chunks_exact_mut(size[0]).zip(&kernels) {
                        row.copy_from_slice(&turned[kernel * size[0]..][..size[0]]);
                    }
                }
            }),
        }
    }
}

/// Along one side: pixels, where each one's farthest tap lies in the framed `dy`, and the kernel places that they
/// meet, with their distance from the farthest tap.
struct Side {
    pixels: Vec<usize>,
    offsets: Vec<usize>,
    kernels: Vec<usize>,
    taps: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::geometry::in_volume;
    use crate::{DType, Rng, Window1d, Window2d, Window3d};
    use proptest::prelude::*;

    /// Every product goes to its place, by the definition.
    fn naive<const D: usize>(x: &Tensor, weight: &Tensor, bias: &Tensor, window: Window<D>, y: Shape) -> Vec<f64> {
        let volume = |shape: Shape| -> (usize, usize, [usize; 3]) {
            let (a, b, sizes) = spatial_dims::<D>("test", "x", shape, "", "").unwrap();
            (a, b, in_volume(sizes, 1))
        };
        let ((n, c, [d, h, w]), (_, o_group, [kd, kh, kw])) = (volume(x.shape()), volume(weight.shape()));
        let (_, o, [yd, yh, yw]) = volume(y);
        let (stride, dilation) = (in_volume(window.stride, 1), in_volume(window.dilation, 1));
        let padding = in_volume(window.padding, 0);
        let [xs, ws, bs] = [x, weight, bias].map(|t| t.as_slice::<f64>().unwrap());
        let mut y: Vec<f64> = (0..n * o * yd * yh * yw).map(|at| bs[at / (yd * yh * yw) % o]).collect();
        for at in 0..n * c * d * h * w {
            let (b, ci, from) = (at / (c * d * h * w), at / (d * h * w) % c, [at / (h * w) % d, at / w % h, at % w]);
            for tap in 0..o_group * kd * kh * kw {
                let (oc, p) = (tap / (kd * kh * kw), [tap / (kh * kw) % kd, tap / kw % kh, tap % kw]);
                let to: [usize; 3] =
                    from_fn(|side| (from[side] * stride[side] + p[side] * dilation[side]).wrapping_sub(padding[side]));
                if to[0] < yd && to[1] < yh && to[2] < yw {
                    let channel = ci / (c / window.groups) * o_group + oc;
                    let place = (((b * o + channel) * yd + to[0]) * yh + to[1]) * yw + to[2];
                    y[place] += xs[at] * ws[ci * o_group * kd * kh * kw + tap];
                }
            }
        }
        y
    }

    fn check_naive<const D: usize>([n, c, o]: [usize; 3], size: [usize; D], window: Window<D>, more: [usize; D]) {
        let mut rng = Rng::new((n + 3 * c + 7 * o + size.iter().sum::<usize>()) as u64);
        let mut draw = |shape: &[usize]| Tensor::uniform(Shape::new(shape).unwrap(), -1.0f64, 1.0, &mut rng);
        let x = draw(&[&[n, c], &size[..]].concat());
        let weight = draw(&[&[c, o / window.groups], &window.kernel[..]].concat());
        let bias = draw(&[o]);
        let y = x.conv_transpose(&weight, Some(&bias), window, more).unwrap();
        let sizes = window.transposed_output("test", size, more).unwrap();
        assert_eq!(y.shape().sizes(), [&[n, o], &sizes[..]].concat());
        let expected = naive(&x, &weight, &bias, window, y.shape());
        // Sums of at most c · kernel terms below 1.
        let bound = (c * window.kernel.iter().product::<usize>() + 4).pow(2) as f64 * f64::EPSILON;
        let pairs = y.as_slice::<f64>().unwrap().iter().zip(&expected);
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= bound), "{size:?} {window:?} {more:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
        #[test]
        fn equals_the_definition(
            n in 0usize..3, c in 1usize..4, o in 1usize..4, groups in 1usize..3,
            size in [1usize..4, 1usize..6, 1usize..6], kernel in [1usize..3, 1usize..4, 1usize..4],
            stride in [1usize..3, 1usize..4, 1usize..4], padding in [0usize..2, 0usize..3, 0usize..3],
            dilation in [1usize..3, 1usize..4, 1usize..4], more in [0usize..2, 0usize..3, 0usize..3],
        ) {
            let window = Window3d { kernel, stride, padding, dilation, groups };
            let channels = [n, c * groups, o * groups];
            prop_assume!(window.transposed_output("test", size, more).is_ok());
            check_naive(channels, size, window, more);
            let [_, kh, kw] = kernel;
            let flat = Window2d { kernel: [kh, kw], stride: [stride[1], stride[2]], padding: [padding[1], padding[2]],
                dilation: [dilation[1], dilation[2]], groups };
            check_naive(channels, [size[1], size[2]], flat, [more[1], more[2]]);
            let line = Window1d { kernel: [kw], stride: [stride[2]], padding: [padding[2]], dilation: [dilation[2]],
                groups };
            check_naive(channels, [size[2]], line, [more[2]]);
        }
    }

    /// With a stride of a million, a phase for each rest would take years.
    #[test]
    fn huge_strides_are_only_walked_where_pixels_are() {
        let weight = Tensor::full([1, 1, 1, 1, 1], 2.0f32);
        let window = Window3d::new(1).stride(1 << 20);
        let dx = Tensor::full([1, 1, 1, 1, 1], 3.0f32).conv_grad_input(&weight, [1, 1, 1, 1, 2], window).unwrap();
        assert_eq!(dx, Tensor::from([6.0f32, 0.0]).reshape([1, 1, 1, 1, 2]).unwrap());
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let dy = zeros(&[8, 32, 28, 28]);
        let error = dy.conv_grad_input(&zeros(&[32, 1, 3, 3]), [8, 1, 28, 28], Window2d::new(3)).unwrap_err();
        let expected = "conv2d_grad_input: dy is [8, 32, 28, 28], the output was [8, 32, 26, 26]; \
                        help: pass the gradient of the output";
        assert_eq!(error.to_string(), expected);

        let text = |x: &[usize], w: &[usize], window: Window1d, more: usize| {
            zeros(x).conv_transpose(&zeros(w), Some(&zeros(&[4])), window, more).unwrap_err().to_string()
        };
        let window = Window1d::new(3);
        let expected = "conv_transpose1d: input [2, 3] has 2 axes; help: it must be [n, channels, length]";
        assert_eq!(text(&[2, 3], &[3, 4, 3], window, 0), expected);
        let expected = "conv_transpose1d: weight [3, 4] has 2 axes; help: it must be [in, out / groups, kernel length]";
        assert_eq!(text(&[2, 3, 5], &[3, 4], window, 0), expected);
        let expected = "conv_transpose1d: input [2, 1, 5] has 1 channel, weight [3, 4, 3] expects 3; \
                        help: build the layer with in_channels = 1";
        assert_eq!(text(&[2, 1, 5], &[3, 4, 3], window, 0), expected);
        let expected = "conv_transpose1d: weight [3, 4, 3] has 3 input channels, not divisible into 2 groups; \
                        help: use a multiple of the groups";
        assert_eq!(text(&[2, 3, 5], &[3, 4, 3], window.groups(2), 0), expected);
        let expected =
            "conv_transpose1d: weight [3, 4, 3] has another kernel than the window's [5]; help: they must be the same";
        assert_eq!(text(&[2, 3, 5], &[3, 4, 3], Window1d::new(5), 0), expected);
        let expected = "conv_transpose1d: output_padding 1 in length with stride 1 and dilation 1; \
                        help: it must be smaller than the stride or the dilation";
        assert_eq!(text(&[2, 3, 5], &[3, 4, 3], window, 1), expected);
        let expected = "conv_transpose1d: bias is [4], the weight has 2 outputs; help: the bias must be [2]";
        assert_eq!(text(&[2, 3, 5], &[3, 2, 3], window, 0), expected);
    }
}
