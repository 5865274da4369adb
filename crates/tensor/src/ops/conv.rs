//! Convolution over one, two or three spatial axes, and its adjoint towards the weight.
//!
//! These and the transposed convolution (`conv_transpose.rs`) are the product of [`tile`](crate::tile) on lists of
//! offsets, so no patch is copied:
//!
//! | | rows | steps | B |
//! |---|---|---|---|
//! | output | positions | taps (channel, kernel place) | weight, `[taps, o]` |
//! | input gradient | pixels | taps (output channel, kernel place) | weight, `[taps, c]` |
//! | weight gradient | taps | positions | `dy`, `[positions, o]` |
//!
//! How a batch is shared out is in `gathered.rs`, for the weight gradient in `conv_weight.rs`.
//!
//! Letters: `n` image, `c` input channel, `o` output channel. "Pixels" and "positions" are the places of the input and
//! of the output.

use crate::dtype::dispatch_float;
use crate::ops::gather::Panels;
use crate::ops::gathered::{Gathered, Phase};
use crate::ops::geometry::{Conv, area};
use crate::ops::matmul::Activation;
use crate::ops::winograd::Winograd;
use crate::turn::turn;
use crate::{Float, Result, Shape, Tensor, Window};

impl Tensor {
    /// Convolution (cross-correlation, as everywhere in deep learning) over one, two or three spatial axes.
    ///
    /// `y[n, o, i, ..] = Σ_{c, p, ..} x[n, c, i·stride + p·dilation − padding, ..] · weight[o, c, p, ..]`
    ///
    /// # Shapes
    /// - `self: [n, c, ..size]`, `weight: [o, c / groups, ..kernel]`, output: `[n, o, ..]` with the sizes of
    ///   [`Window::output`]
    ///
    /// # Errors
    /// Shapes that do not fit, a kernel that is not the window's, types that differ or are not float.
    ///
    /// # Numerics
    /// In `f32`, 3 × 3 with a stride of 1 and multiples of 16 channels, up to 512, goes by Winograd's minimal filtering
    /// if the batch is large enough, also in [`conv_grad_input`](Self::conv_grad_input): errors are up to `3 · √c · ε`
    /// of the largest output, 8e-6 at most; the last bits of a sample may depend on the size of its batch; and an
    /// infinity or NaN makes the whole tile of 4 × 4 outputs NaN, also those that do not see it.
    /// `MAPLET_WINOGRAD=off` in the environment keeps to plain sums.
    ///
    /// # Example
    /// ```
    /// use maplet_tensor::{Tensor, Window1d};
    ///
    /// let signal = Tensor::from([[[1.0f32, 2.0, 4.0]]]);
    /// let difference = Tensor::from([[[-1.0f32, 1.0]]]);
    /// assert_eq!(signal.conv(&difference, Window1d::new(2))?, Tensor::from([[[1.0f32, 2.0]]]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    #[doc(alias("conv1d", "conv2d", "conv3d"))]
    pub fn conv<const D: usize>(&self, weight: &Tensor, window: Window<D>) -> Result<Tensor> {
        self.conv_bias(weight, None, window, Activation::Identity)
    }

    /// [`conv`](Self::conv), then a bias for each output channel, then an activation, in one pass over the output.
    ///
    /// # Shapes
    /// - `bias: [o]`, the others as in [`conv`](Self::conv)
    ///
    /// # Errors
    /// As [`conv`](Self::conv), or a bias of another shape.
    pub fn conv_bias<const D: usize>(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        window: Window<D>,
        activation: Activation,
    ) -> Result<Tensor> {
        let op = Window::<D>::name(["conv1d", "conv2d", "conv3d"]);
        let conv = Conv::new(op, self.shape(), weight.shape(), window)?;
        conv.check_operands(op, self, weight, bias)?;
        conv.output_of(op, self, weight, bias, activation)
    }

    /// Adjoint of [`conv`](Self::conv) towards its weight; `self` is `dy: [n, o, ..]`.
    ///
    /// `dw[o, c, p, ..] = Σ_{n, i, ..} dy[n, o, i, ..] · x[n, c, i·stride + p·dilation − padding, ..]`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn conv_grad_weight<const D: usize>(
        &self,
        x: &Tensor,
        w_shape: impl Into<Shape>,
        window: Window<D>,
    ) -> Result<Tensor> {
        let op = Window::<D>::name(["conv1d_grad_weight", "conv2d_grad_weight", "conv3d_grad_weight"]);
        let conv = Conv::new(op, x.shape(), w_shape.into(), window)?;
        conv.check_operands(op, x, self, None)?;
        conv.check_dy(op, self)?;
        conv.weight_grad(op, self, x)
    }
}

impl Conv {
    /// Compiled here once, not by each crate that names a `D`; so are its neighbors.
    fn weight_grad(&self, op: &'static str, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        dispatch_float!(dy.dtype(), op, T => {
            if self.is_depthwise() {
                return Ok(self.depthwise_grad_weight::<T>(dy, x));
            }
            let input = self.framed_input::<T>(x);
            let positions = self.positions(input.volume);
            let (dy, plane) = (dy.slice_of::<T>(), positions.len());
            Ok(self.grad_weight::<T>(input, &positions, |n, part, out| {
                let dy = &dy[(n * self.o + part * self.o_group) * plane..];
                turn([self.o_group, plane], dy, plane, out, self.o_group);
            }))
        })
    }

    fn output_of(
        &self,
        op: &'static str,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        if let Some(winograd) = Winograd::of(self, x.dtype(), [self.c_group, self.o_group], self.output, false) {
            let (input, weights) = (self.framed_input(x), self.packed_weights::<f32>(weight));
            let (sizes, bias) = ([self.n, self.groups], bias.map(Tensor::slice_of));
            return Ok(Tensor::build(self.y_shape, |out| winograd.run(input, sizes, &weights, bias, activation, out)));
        }
        dispatch_float!(x.dtype(), op, T => {
            if self.is_depthwise() {
                return Ok(self.depthwise::<T>(x, weight, bias, activation));
            }
            let input = self.framed_input::<T>(x);
            let offsets = self.positions(input.volume);
            let phase = Phase {
                pixels: (0..offsets.len()).collect(),
                offsets,
                taps: self.taps(input.volume),
                weights: self.packed_weights::<T>(weight),
            };
            let gathered = Gathered {
                input,
                phases: &[phase],
                images: self.n,
                groups: self.groups,
                channels: self.o_group,
                plane: area(self.output),
                bias: bias.map(Tensor::slice_of::<T>),
                activation,
            };
            Ok(Tensor::build(self.y_shape, |out: &mut [T]| gathered.run(out)))
        })
    }

    /// For each group, the weight as `[taps, o]` in panels.
    pub(crate) fn packed_weights<T: Float>(&self, weight: &Tensor) -> Panels {
        let taps = self.c_group * area(self.window.kernel);
        let weight = weight.slice_of::<T>();
        Panels::new::<T>(self.groups, [taps, 1], self.o_group, |part, steps, rows| {
            let weight = &weight[part * self.o_group * taps + steps.start..];
            turn([self.o_group, steps.len()], weight, taps, rows, self.o_group);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::geometry::{in_volume, spatial_dims};
    use crate::{DType, Rng, Window1d, Window2d, Window3d};
    use proptest::prelude::*;
    use std::array::from_fn;

    /// `y`, and for a given `dy` the gradients `dx` and `dw`, by the definition.
    fn naive<const D: usize>(x: &Tensor, weight: &Tensor, dy: &Tensor, window: Window<D>) -> [Vec<f64>; 3] {
        let volume = |shape: Shape| -> (usize, usize, [usize; 3]) {
            let (a, b, sizes) = spatial_dims::<D>("test", "x", shape, "", "").unwrap();
            (a, b, in_volume(sizes, 1))
        };
        let ((_, c, [d, h, w]), (o, c_group, kernel)) = (volume(x.shape()), volume(weight.shape()));
        let ((_, _, [od, oh, ow]), [_, kh, kw]) = (volume(dy.shape()), kernel);
        let (stride, dilation) = (in_volume(window.stride, 1), in_volume(window.dilation, 1));
        let padding = in_volume(window.padding, 0);
        let [xs, ws, dys] = [x, weight, dy].map(|t| t.as_slice::<f64>().unwrap());
        let [mut y, mut dx, mut dw] = [dys, xs, ws].map(|like| vec![0.0; like.len()]);
        for (at, y) in y.iter_mut().enumerate() {
            let (i, channel) = ([at / (oh * ow) % od, at / ow % oh, at % ow], at / (od * oh * ow));
            let (b, oc) = (channel / o, channel % o);
            for tap in 0..c_group * area(kernel) {
                let (ci, p) = (tap / area(kernel), [tap / (kh * kw) % kernel[0], tap / kw % kh, tap % kw]);
                let u: [usize; 3] =
                    from_fn(|side| (i[side] * stride[side] + p[side] * dilation[side]).wrapping_sub(padding[side]));
                if u[0] < d && u[1] < h && u[2] < w {
                    let channel = b * c + oc / (o / window.groups) * c_group + ci;
                    let x_at = ((channel * d + u[0]) * h + u[1]) * w + u[2];
                    let w_at = oc * c_group * area(kernel) + tap;
                    *y += xs[x_at] * ws[w_at];
                    dx[x_at] += dys[at] * ws[w_at];
                    dw[w_at] += dys[at] * xs[x_at];
                }
            }
        }
        [y, dx, dw]
    }

    /// All three against the definition, in f64 and f32; sums of k terms below 1 err by k²·ε at most.
    fn check_naive<const D: usize>([n, c, o]: [usize; 3], size: [usize; D], window: Window<D>) {
        let mut rng = Rng::new((n + 3 * c + 13 * o) as u64 + size.iter().fold(0, |seed, &size| 7 * seed + size as u64));
        let mut draw = |shape: &[usize]| Tensor::uniform(Shape::new(shape).unwrap(), -1.0f64, 1.0, &mut rng);
        let x = draw(&[&[n, c], &size[..]].concat());
        let weight = draw(&[&[o, c / window.groups], &window.kernel[..]].concat());
        let dy = draw(&[&[n, o], &window.output("test", size).unwrap()[..]].concat());
        let expected = naive(&x, &weight, &dy, window);
        let kernel: usize = window.kernel.iter().product();
        for (dtype, eps) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let [x, weight, dy] = [&x, &weight, &dy].map(|t| t.to_dtype(dtype));
            let results = [
                x.conv(&weight, window).unwrap(),
                dy.conv_grad_input(&weight, x.shape(), window).unwrap(),
                dy.conv_grad_weight(&x, weight.shape(), window).unwrap(),
            ];
            let terms = [c * kernel, o * kernel, dy.len() / o.max(1)];
            for ((result, expected), terms) in results.iter().zip(&expected).zip(terms) {
                assert_eq!(result.len(), expected.len());
                let result = result.to_dtype(DType::F64);
                for (a, b) in result.as_slice::<f64>().unwrap().iter().zip(expected) {
                    let bound = (terms + 4).pow(2) as f64 * eps;
                    assert!((a - b).abs() <= bound, "{n} {c} {size:?} → {o} {window:?} {dtype}: {a} against {b}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]
        #[test]
        fn images_equal_the_definition(
            n in 0usize..3, c in 1usize..4, o in 1usize..4, groups in 1usize..3, size in [1usize..9, 1usize..9],
            kernel in [1usize..4, 1usize..4], stride in [1usize..4, 1usize..4], padding in [0usize..3, 0usize..3],
            dilation in [1usize..3, 1usize..3],
        ) {
            let window = Window2d { kernel, stride, padding, dilation, groups };
            prop_assume!(window.output("test", size).is_ok());
            check_naive([n, c * groups, o * groups], size, window);
        }

        #[test]
        fn sequences_equal_the_definition(
            n in 0usize..3, c in 1usize..4, o in 1usize..4, groups in 1usize..3, size in [1usize..20],
            kernel in [1usize..6], stride in [1usize..4], padding in [0usize..3], dilation in [1usize..4],
        ) {
            let window = Window1d { kernel, stride, padding, dilation, groups };
            prop_assume!(window.output("test", size).is_ok());
            check_naive([n, c * groups, o * groups], size, window);
        }

        #[test]
        fn volumes_equal_the_definition(
            n in 0usize..3, c in 1usize..3, o in 1usize..3, groups in 1usize..3,
            size in [1usize..5, 1usize..5, 1usize..6],
            kernel in [1usize..4, 1usize..3, 1usize..4], stride in [1usize..3, 1usize..4, 1usize..3],
            padding in [0usize..2, 0usize..3, 0usize..3], dilation in [1usize..3, 1usize..3, 1usize..3],
        ) {
            let window = Window3d { kernel, stride, padding, dilation, groups };
            prop_assume!(window.output("test", size).is_ok());
            check_naive([n, c * groups, o * groups], size, window);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn real_layers_equal_the_definition() {
        check_naive([9, 1, 32], [28, 28], Window2d::new(3));
        check_naive([2, 16, 40], [9, 9], Window2d::new(3).padding(1));
        check_naive([2, 33, 17], [8, 8], Window2d::new(3).padding(1).stride(2));
        check_naive([1, 3, 16], [23, 23], Window2d::new(11).padding(2).stride(4));
        check_naive([1, 24, 24], [6, 6], Window2d::new(3).padding(1).groups(24));
        for stride in [1, 2, 3] {
            check_naive([2, 5, 5], [9, 87], Window2d::new(3).padding(1).stride(stride).groups(5));
            check_naive(
                [3, 3, 6],
                [13, 20],
                Window2d::new([3, 5]).padding([1, 3]).stride(stride).dilation(2).groups(3),
            );
        }
        check_naive([3, 20, 70], [5, 5], Window2d::new(1));
        check_naive([2, 33, 3], [9, 40], Window2d::new(3).padding(1));
        check_naive([2, 3, 33], [11, 40], Window2d::new(5).padding(2).stride(2));
        check_naive([2, 16, 33], [50], Window1d::new(5).padding(4).dilation(2));
        check_naive([2, 3, 17], [6, 9, 9], Window3d::new(3).padding(1).stride([1, 2, 2]));
    }

    #[test]
    fn without_channels_there_are_zeros() {
        // More than 64 taps too: weights are packed in pieces of so many.
        for (c, o) in [(0, 3), (3, 0), (0, 0), (8, 0), (0, 8)] {
            for (window, size) in [
                (Window2d::new(3), [5, 6]),
                (Window2d::new(3).padding(1), [4, 4]),
                (Window2d::new(2).padding(1).stride(2), [5, 4]),
                (Window2d::new(3).padding(1).dilation(2), [7, 6]),
            ] {
                check_naive([2, c, o], size, window);
                check_naive([0, c, o], size, window);
            }
        }
        let bias = Tensor::from([0.5f32, -1.0]);
        let (x, weight) = (Tensor::zeros([1, 0, 2, 2], DType::F32), Tensor::zeros([2, 0, 3, 3], DType::F32));
        let y = x.conv_bias(&weight, Some(&bias), Window2d::new(3).padding(1), Activation::Identity).unwrap();
        assert_eq!(y, Tensor::from([[[[0.5f32; 2]; 2], [[-1.0; 2]; 2]]]));
    }

    #[test]
    fn bias_and_activation_are_applied_per_channel() {
        let x = Tensor::from([[[[1.0f32, -2.0, 3.0]]]]);
        let (weight, bias) = (Tensor::from([[[[1.0f32]]], [[[-1.0]]]]), Tensor::from([0.5f32, -0.5]));
        let window = Window2d::new(1);
        let plain = x.conv_bias(&weight, Some(&bias), window, Activation::Identity).unwrap();
        assert_eq!(plain, Tensor::from([[[[1.5f32, -1.5, 3.5]], [[-1.5, 1.5, -3.5]]]]));
        let relu = x.conv_bias(&weight, Some(&bias), window, Activation::Relu).unwrap();
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
                let y = x.conv(&weight, window).unwrap();
                let dx = y.conv_grad_input(&weight, x.shape(), window).unwrap();
                [dx, y.conv_grad_weight(&x, weight.shape(), window).unwrap(), y]
            })
        };
        assert!(run(1) == run(2) && run(1) == run(7));
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: [usize; 4]| Tensor::zeros(shape, DType::F32);
        let text = |x: &Tensor, w: [usize; 4], window| x.conv(&zeros(w), window).unwrap_err().to_string();
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
        let text = |x: &[usize], w: &[usize], window: Window3d| {
            let [x, w] = [x, w].map(|shape| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32));
            x.conv(&w, window).unwrap_err().to_string()
        };
        let expected = "conv3d: input [1, 2, 3, 4] has 4 axes; help: it must be [n, channels, depth, height, width]";
        assert_eq!(text(&[1, 2, 3, 4], &[1, 2, 1, 1, 1], Window3d::new(1)), expected);
        let expected = "conv3d: weight [1, 2, 1] has 3 axes; \
                        help: it must be [out, in / groups, kernel depth, kernel height, kernel width]";
        assert_eq!(text(&[1, 2, 3, 4, 5], &[1, 2, 1], Window3d::new(1)), expected);
        let expected = "conv3d: the window spans 4 in depth, the padded input has 3; \
                        help: use a smaller kernel or dilation, or more padding";
        assert_eq!(text(&[1, 2, 3, 4, 5], &[1, 2, 4, 1, 1], Window3d::new([4, 1, 1])), expected);
        let far = text(&[1, 1, 1, 1, 1], &[1, 1, 1, 1, 1], Window3d::new(1).padding(1 << 20));
        assert!(far.ends_with("has more elements than memory can address"), "{far}");
    }
}
