//! Two-dimensional pooling and its adjoints.
//!
//! Letters: `n` image, `c` channel, `h w` input, `oh ow` output. A plane is one channel of one image.

use crate::dtype::dispatch_float;
use crate::par::{self, Shared};
use crate::{DType, Error, Float, Result, Shape, Tensor, Window2d};
use num_traits::Zero;

impl Tensor {
    /// The largest element of each window, and where it was.
    ///
    /// # Shapes
    /// - `self: [n, c, h, w]`, outputs: `[n, c, oh, ow]` with `oh, ow` of [`Window2d::output`]
    ///
    /// The second result is `I64`: the place of each maximum in its plane, `row · w + column`. The first of equal
    /// elements wins; NaN counts as largest. Padding counts as −∞.
    ///
    /// # Errors
    /// Another rank or type, groups, a window that does not fit or that lies in the padding alone.
    pub fn max_pool2d(&self, window: Window2d) -> Result<(Tensor, Tensor)> {
        let pool = Pool::new("max_pool2d", self.shape(), window)?;
        pool.check_padding()?;
        dispatch_float!(self.dtype(), "max_pool2d", T => {
            let mut argmax = Tensor::dirty::<i64>(pool.output());
            let y = Tensor::build(pool.output(), |y: &mut [T]| {
                let x = self.slice_of::<T>();
                let argmax = Shared::new(argmax.own_slice::<i64>());
                par::rows(y, pool.out_plane().max(1), pool.cost(), |first, planes| {
                    for (i, y) in planes.chunks_mut(pool.out_plane()).enumerate() {
                        let plane = first + i;
                        // SAFETY: each plane is one task's alone.
                        let argmax = unsafe { argmax.slice(plane * pool.out_plane(), pool.out_plane()) };
                        max_plane(&pool, &x[plane * pool.plane()..][..pool.plane()], y, argmax);
                    }
                });
            });
            Ok((y, argmax))
        })
    }

    /// Adjoint of [`max_pool2d`](Self::max_pool2d): each `dy` (`self`) is added to the place its maximum came from.
    ///
    /// # Errors
    /// Shapes that do not fit, or a place outside the plane.
    pub fn max_pool2d_grad(&self, argmax: &Tensor, x_shape: impl Into<Shape>) -> Result<Tensor> {
        let x_shape = x_shape.into();
        let (out, plane) = check_argmax("max_pool2d_grad", self.shape(), argmax, x_shape)?;
        dispatch_float!(self.dtype(), "max_pool2d_grad", T => Ok(Tensor::build(x_shape, |dx: &mut [T]| {
            let (dy, argmax) = (self.slice_of::<T>(), argmax.slice_of::<i64>());
            par::rows(dx, plane.max(1), plane as f64 + out as f64, |first, planes| {
                planes.fill(T::zero());
                for (i, dx) in planes.chunks_mut(plane).enumerate() {
                    let places = (first + i) * out..(first + i + 1) * out;
                    for (&dy, &at) in dy[places.clone()].iter().zip(&argmax[places]) {
                        dx[at as usize] += dy;
                    }
                }
            });
        })))
    }

    /// Adjoint of [`max_pool2d_grad`](Self::max_pool2d_grad): the elements of `self: [n, c, h, w]` at the places.
    ///
    /// # Errors
    /// Shapes that do not fit, or a place outside the plane.
    pub fn max_pool2d_gather(&self, argmax: &Tensor) -> Result<Tensor> {
        let (out, plane) = check_argmax("max_pool2d_gather", argmax.shape(), argmax, self.shape())?;
        dispatch_float!(self.dtype(), "max_pool2d_gather", T => Ok(Tensor::build(argmax.shape(), |y: &mut [T]| {
            let (x, argmax) = (self.slice_of::<T>(), argmax.slice_of::<i64>());
            par::rows(y, out.max(1), out as f64, |first, planes| {
                for (i, y) in planes.iter_mut().enumerate() {
                    let at = first * out + i;
                    *y = x[at / out * plane + argmax[at] as usize];
                }
            });
        })))
    }

    /// The mean of each window. Padding counts as zeros, and is counted (PyTorch's `count_include_pad=True`).
    ///
    /// # Shapes
    /// - `self: [n, c, h, w]`, output: `[n, c, oh, ow]` with `oh, ow` of [`Window2d::output`]
    ///
    /// # Errors
    /// Another rank or type, groups, or a window that does not fit.
    pub fn avg_pool2d(&self, window: Window2d) -> Result<Tensor> {
        let pool = Pool::new("avg_pool2d", self.shape(), window)?;
        dispatch_float!(self.dtype(), "avg_pool2d", T => Ok(Tensor::build(pool.output(), |y: &mut [T]| {
            let x = self.slice_of::<T>();
            let share = pool.share::<T>();
            par::rows(y, pool.out_plane().max(1), pool.cost(), |first, planes| {
                for (i, y) in planes.chunks_mut(pool.out_plane()).enumerate() {
                    let x = &x[(first + i) * pool.plane()..][..pool.plane()];
                    pool.windows(|at, pixels| {
                        let sum = pixels.fold(T::zero(), |sum, pixel| sum + x[pixel]);
                        y[at] = sum * share;
                    });
                }
            });
        })))
    }

    /// Adjoint of [`avg_pool2d`](Self::avg_pool2d); `self` is `dy`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn avg_pool2d_grad(&self, x_shape: impl Into<Shape>, window: Window2d) -> Result<Tensor> {
        let x_shape = x_shape.into();
        let pool = Pool::new("avg_pool2d_grad", x_shape, window)?;
        if self.shape() != pool.output() {
            let what = format!("dy is {}, the output was {}", self.shape(), pool.output());
            return Err(Error::shape("avg_pool2d_grad", what, "pass the gradient of the output"));
        }
        dispatch_float!(self.dtype(), "avg_pool2d_grad", T => Ok(Tensor::build(x_shape, |dx: &mut [T]| {
            let dy = self.slice_of::<T>();
            let share = pool.share::<T>();
            par::rows(dx, pool.plane().max(1), pool.cost(), |first, planes| {
                planes.fill(T::zero());
                for (i, dx) in planes.chunks_mut(pool.plane()).enumerate() {
                    let dy = &dy[(first + i) * pool.out_plane()..][..pool.out_plane()];
                    pool.windows(|at, pixels| pixels.for_each(|pixel| dx[pixel] += dy[at] * share));
                }
            });
        })))
    }
}

/// The sizes of one pooling.
struct Pool {
    op: &'static str,
    planes: [usize; 2],
    input: [usize; 2],
    out: [usize; 2],
    window: Window2d,
}

impl Pool {
    fn new(op: &'static str, x: Shape, window: Window2d) -> Result<Self> {
        let &[n, c, h, w] = &*x else {
            let what = format!("input {x} has {} axes", x.rank());
            return Err(Error::shape(op, what, "it must be [n, channels, height, width]"));
        };
        if window.groups != 1 {
            return Err(Error::value(op, format!("groups is {}", window.groups), "a pool has no groups: use 1"));
        }
        Ok(Self { op, planes: [n, c], input: [h, w], out: window.output(op, [h, w])?, window })
    }

    fn output(&self) -> Shape {
        Shape::from([self.planes[0], self.planes[1], self.out[0], self.out[1]])
    }

    fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn out_plane(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Nanoseconds a plane takes.
    fn cost(&self) -> f64 {
        (self.out_plane() * self.window.kernel[0] * self.window.kernel[1]) as f64 * 0.7
    }

    /// One part of the mean.
    fn share<T: Float>(&self) -> T {
        T::one() / T::from_f64((self.window.kernel[0] * self.window.kernel[1]) as f64)
    }

    /// The pixels along one side that window `i` covers.
    fn along(&self, side: usize, i: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
        let Window2d { kernel, stride, padding, dilation, .. } = self.window;
        let start = i * stride[side];
        // The first kernel index inside the image, and how many stay inside.
        let first = padding[side].saturating_sub(start).div_ceil(dilation[side]).min(kernel[side]);
        let from = (start + first * dilation[side]).saturating_sub(padding[side]);
        let to = (start + (kernel[side] - 1) * dilation[side] + 1).saturating_sub(padding[side]).min(self.input[side]);
        let to = if first == kernel[side] { from } else { to.max(from) };
        (from..to).step_by(dilation[side])
    }

    /// An error if some window sees no pixel: its maximum would not exist.
    fn check_padding(&self) -> Result<()> {
        for side in 0..2 {
            if (0..self.out[side]).any(|i| self.along(side, i).len() == 0) {
                let what = format!("padding {:?} leaves windows without a pixel", self.window.padding);
                return Err(Error::value(self.op, what, "use a padding of at most half the kernel"));
            }
        }
        Ok(())
    }

    /// Calls `visit` with each window's place in the output and its pixels' places in the plane.
    #[inline(always)]
    fn windows(&self, mut visit: impl FnMut(usize, &mut dyn Iterator<Item = usize>)) {
        for i in 0..self.out[0] {
            for j in 0..self.out[1] {
                let columns = self.along(1, j);
                let width = self.input[1];
                let mut pixels = self.along(0, i).flat_map(|u| columns.clone().map(move |v| u * width + v));
                visit(i * self.out[1] + j, &mut pixels);
            }
        }
    }
}

fn max_plane<T: Float>(pool: &Pool, x: &[T], y: &mut [T], argmax: &mut [i64]) {
    let columns: Vec<_> = (0..pool.out[1]).map(|j| pool.along(1, j)).collect();
    for i in 0..pool.out[0] {
        for (j, columns) in columns.iter().enumerate() {
            let (mut best, mut place) = (T::neg_infinity(), usize::MAX);
            for u in pool.along(0, i) {
                for v in columns.clone() {
                    let at = u * pool.input[1] + v;
                    let x = x[at];
                    if x > best || place == usize::MAX || (x.is_nan() && !best.is_nan()) {
                        (best, place) = (x, at);
                    }
                }
            }
            let at = i * pool.out[1] + j;
            (y[at], argmax[at]) = (best, place as i64);
        }
    }
}

/// The sizes of an output plane and an input plane, if `argmax` leads from one to the other.
fn check_argmax(op: &'static str, dy: Shape, argmax: &Tensor, x: Shape) -> Result<(usize, usize)> {
    if argmax.dtype() != DType::I64 {
        return Err(Error::dtype(op, format!("argmax is {}", argmax.dtype()), "pass the second result of max_pool2d"));
    }
    let fits = dy == argmax.shape() && x.rank() == 4 && dy.rank() == 4 && x[..2] == dy[..2];
    if !fits {
        let what = format!("{dy}, argmax {} and input {x} do not belong together", argmax.shape());
        return Err(Error::shape(op, what, "pass the shapes of one max_pool2d"));
    }
    let plane = x[2] * x[3];
    if let Some(place) = argmax.slice_of::<i64>().iter().find(|&&place| place < 0 || place >= plane as i64) {
        let what = format!("argmax {place} is outside a plane of {plane}");
        return Err(Error::index(op, what, "pass the second result of max_pool2d"));
    }
    Ok((dy[2] * dy[3], plane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use proptest::prelude::*;

    /// Maximum and mean of each window by the definition, and their adjoints for `dy = y`'s place number.
    fn check_naive(shape: [usize; 4], window: Window2d) {
        let x = Tensor::uniform(shape, -1.0f64, 1.0, &mut Rng::new(shape.iter().sum::<usize>() as u64));
        let [n, _, h, w] = shape;
        let xs = x.as_slice::<f64>().unwrap();
        let mean = x.avg_pool2d(window).unwrap();
        let [.., oh, ow] = *mean.shape() else { unreachable!() };
        let dy = Tensor::arange(0.0, mean.len() as f64, 1.0).unwrap().reshape(mean.shape()).unwrap();
        let mut expected = [vec![], vec![0.0; xs.len()], vec![], vec![0.0; xs.len()]];
        for at in 0..mean.len() {
            let (j, i, plane) = (at % ow, at / ow % oh, at / ow / oh);
            let mut pixels = vec![];
            for p in 0..window.kernel[0] {
                for q in 0..window.kernel[1] {
                    let u = (i * window.stride[0] + p * window.dilation[0]).wrapping_sub(window.padding[0]);
                    let v = (j * window.stride[1] + q * window.dilation[1]).wrapping_sub(window.padding[1]);
                    if u < h && v < w {
                        pixels.push(plane * h * w + u * w + v);
                    }
                }
            }
            let share = 1.0 / (window.kernel[0] * window.kernel[1]) as f64;
            expected[0].push(pixels.iter().map(|&p| xs[p]).sum::<f64>() * share);
            pixels.iter().for_each(|&p| expected[1][p] += at as f64 * share);
            if let Some(&best) = pixels.iter().max_by(|&&a, &&b| xs[a].total_cmp(&xs[b])) {
                expected[2].push(xs[best]);
                expected[3][best] += at as f64;
            }
        }
        let close = |result: &Tensor, expected: &[f64]| {
            let result = result.as_slice::<f64>().unwrap();
            assert_eq!(result.len(), expected.len());
            assert!(result.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs().max(1.0)), "{window:?}");
        };
        close(&mean, &expected[0]);
        close(&dy.avg_pool2d_grad(shape, window).unwrap(), &expected[1]);
        match x.max_pool2d(window) {
            Err(error) => assert!(expected[2].len() < mean.len() || n == 0, "{error}"),
            Ok((y, argmax)) => {
                close(&y, &expected[2]);
                close(&dy.max_pool2d_grad(&argmax, shape).unwrap(), &expected[3]);
                assert_eq!(x.max_pool2d_gather(&argmax).unwrap(), y);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]
        #[test]
        fn equal_the_definition(
            n in 0usize..3, c in 1usize..3, size in [1usize..10, 1usize..10], kernel in [1usize..4, 1usize..4],
            stride in [1usize..4, 1usize..4], padding in [0usize..3, 0usize..3], dilation in [1usize..3, 1usize..3],
        ) {
            let window = Window2d { kernel, stride, padding, dilation, groups: 1 };
            prop_assume!(window.output("pool", size).is_ok());
            check_naive([n, c, size[0], size[1]], window);
        }
    }

    #[test]
    fn nan_is_largest_and_the_first_of_equals_wins() {
        let x = Tensor::from([[[[1.0f32, f32::NAN], [2.0, 2.0]], [[3.0, 3.0], [3.0, -1.0]]]]);
        let (y, argmax) = x.max_pool2d(Window2d::pool(2)).unwrap();
        assert!(y.as_slice::<f32>().unwrap()[0].is_nan());
        assert_eq!(argmax.to_vec::<i64>().unwrap(), [1, 0]);
    }

    #[test]
    fn misfits_are_explained() {
        let x = Tensor::zeros([1, 1, 4, 4], DType::F32);
        let text = |window| x.max_pool2d(window).unwrap_err().to_string();
        let expected = "max_pool2d: padding [2, 2] leaves windows without a pixel; \
                        help: use a padding of at most half the kernel";
        assert_eq!(text(Window2d::pool(2).padding(2)), expected);
        assert_eq!(text(Window2d::pool(2).groups(2)), "max_pool2d: groups is 2; help: a pool has no groups: use 1");
        let place = Tensor::full([1, 1, 1, 1], 16i64);
        let error = x.max_pool2d_gather(&place).unwrap_err().to_string();
        let expected =
            "max_pool2d_gather: argmax 16 is outside a plane of 16; help: pass the second result of max_pool2d";
        assert_eq!(error, expected);
    }
}
