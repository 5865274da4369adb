//! Pooling over one, two or three spatial axes, and its adjoints.
//!
//! A plane is one channel of one image. What an output sees is in `windows.rs`, the loops over a plane are in
//! `pool_planes.rs`.

use super::pool_planes::{max_plane, mean_plane, mean_plane_grad};
use super::resample::Resize;
use super::windows::{OutputSize, Pool, Windows, spatial};
use crate::dtype::dispatch_float;
use crate::par::{self, Shared};
use crate::{DType, Error, Result, Shape, Sizes, Tensor, Window};
use num_traits::Zero;

const MAX_POOL: [&str; 3] = ["max_pool1d", "max_pool2d", "max_pool3d"];
const MAX_UNPOOL: [&str; 3] = ["max_unpool1d", "max_unpool2d", "max_unpool3d"];
const FRACTIONAL: [&str; 3] = ["fractional_max_pool1d", "fractional_max_pool2d", "fractional_max_pool3d"];
const AVG_POOL: [&str; 3] = ["avg_pool1d", "avg_pool2d", "avg_pool3d"];
const AVG_POOL_GRAD: [&str; 3] = ["avg_pool1d_grad", "avg_pool2d_grad", "avg_pool3d_grad"];
const ADAPTIVE_MAX: [&str; 3] = ["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"];

/// Nanoseconds to look at one element of a window.
const LOOK: f64 = 0.2;

/// Greatest elements. Places are `I64`, counted in a plane: `(depth · height + row) · width + column`.
impl Tensor {
    /// The largest element of each window, and its place.
    ///
    /// The first of equal elements wins; NaN counts as largest. Padding counts as −∞.
    ///
    /// # Shapes
    /// - `self: [n, c, sizes..]` with `D` sizes; outputs: `[n, c, sizes'..]` with those of [`Pool::output`]
    ///
    /// # Errors
    /// Another rank or type, a pool that [`Pool::check`] refuses, or a window larger than the padded input.
    pub fn max_pool<const D: usize>(&self, pool: impl Into<Pool<D>>) -> Result<(Tensor, Tensor)> {
        self.max_of(Window::<D>::name(MAX_POOL), &Windows::of_pool(MAX_POOL, self.shape(), &pool.into())?, &|_| None)
    }

    /// As [`max_pool`](Self::max_pool), for windows that share the input out evenly, as many as `sizes` says.
    ///
    /// # Errors
    /// Another rank or type, or a size of 0.
    pub fn adaptive_max_pool<const D: usize>(&self, sizes: impl Into<OutputSize<D>>) -> Result<(Tensor, Tensor)> {
        self.max_of(
            Window::<D>::name(ADAPTIVE_MAX),
            &Windows::adaptive(ADAPTIVE_MAX, self.shape(), sizes.into())?,
            &|_| None,
        )
    }

    /// As [`max_pool`](Self::max_pool), for windows of `kernel` that begin at every second or third place, irregularly,
    /// so that as many fit as `to` says. `samples: [n, c, D]`, of 0 to 1, shifts the windows of each channel along each
    /// axis.
    ///
    /// # Errors
    /// Another rank or type, windows that do not fit, samples of another shape or outside 0 to 1.
    ///
    /// # Reference
    /// Graham (2014), "Fractional Max-Pooling", §2: the pseudorandom sequences.
    pub fn fractional_max_pool<const D: usize>(
        &self,
        kernel: impl Into<Sizes<D>>,
        to: impl Into<Resize<D>>,
        samples: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (op, shape, Sizes(kernel)) = (Window::<D>::name(FRACTIONAL), self.shape(), kernel.into());
        let sizes = to.into().output(op, spatial::<D>(op, shape)?)?;
        let windows = Windows::fractional(op, shape, kernel, sizes, [0.0; D])?;
        let expected = Shape::from([shape[0], shape[1], D]);
        if samples.shape() != expected {
            let what = format!("samples are {}, input {shape} needs {expected}", samples.shape());
            return Err(Error::shape(op, what, "give one number for each channel and axis"));
        }
        let samples = samples.to_dtype(DType::F64);
        let samples = samples.slice_of::<f64>();
        if let Some(sample) = samples.iter().find(|sample| !(0.0..=1.0).contains(*sample)) {
            return Err(Error::value(op, format!("a sample is {sample}"), "draw samples from 0 to 1"));
        }
        self.max_of(op, &windows, &|plane| {
            let shift = std::array::from_fn(|side| samples[plane * D + side]);
            Windows::fractional(op, shape, kernel, sizes, shift).ok()
        })
    }

    /// The maxima of `windows`, or of those of its own that `of_plane` gives a plane.
    fn max_of(
        &self,
        op: &'static str,
        windows: &Windows,
        of_plane: &(dyn Fn(usize) -> Option<Windows> + Sync),
    ) -> Result<(Tensor, Tensor)> {
        let (plane, out) = (windows.plane(), windows.out_plane());
        dispatch_float!(self.dtype(), op, T => {
            let mut places = Tensor::dirty::<i64>(windows.output);
            let y = Tensor::build(windows.output, |y: &mut [T]| {
                let x = self.slice_of::<T>();
                let places = Shared::new(places.own_slice::<i64>());
                par::rows(y, out, windows.seen() as f64 * LOOK, |first, planes| {
                    for (i, y) in planes.chunks_mut(out).enumerate() {
                        // SAFETY: each plane is one task's alone.
                        let places = unsafe { places.slice((first + i) * out, out) };
                        let own = of_plane(first + i);
                        let windows = own.as_ref().unwrap_or(windows);
                        max_plane(windows, &x[(first + i) * plane..][..plane], y, places);
                    }
                });
            });
            Ok((y, places))
        })
    }

    /// Adjoint of [`max_pool`](Self::max_pool) and [`adaptive_max_pool`](Self::adaptive_max_pool): each `dy` (`self`)
    /// is added to the place its maximum came from.
    ///
    /// # Errors
    /// Shapes that do not fit, or a place outside the plane.
    pub fn max_pool_grad(&self, places: &Tensor, x_shape: impl Into<Shape>) -> Result<Tensor> {
        self.put("max_pool_grad", places, x_shape.into(), true)
    }

    /// Adjoint of [`max_pool_grad`](Self::max_pool_grad) and [`max_unpool`](Self::max_unpool): the elements at the
    /// places.
    ///
    /// # Errors
    /// Shapes that do not fit, or a place outside the plane.
    pub fn max_pool_gather(&self, places: &Tensor) -> Result<Tensor> {
        let (out, plane) = check_places("max_pool_gather", places.shape(), places, self.shape())?;
        dispatch_float!(self.dtype(), "max_pool_gather", T => Ok(Tensor::build(places.shape(), |y: &mut [T]| {
            let (x, places) = (self.slice_of::<T>(), places.slice_of::<i64>());
            par::rows(y, out, out as f64, |first, planes| {
                for (i, y) in planes.chunks_mut(out).enumerate() {
                    let (x, places) = (&x[(first + i) * plane..][..plane], &places[(first + i) * out..][..out]);
                    y.iter_mut().zip(places).for_each(|(y, &at)| *y = x[at as usize]);
                }
            });
        })))
    }

    /// Puts each element at its place in planes of the given sizes, with zeros elsewhere; the last of several at one
    /// place stays.
    ///
    /// # Errors
    /// Another rank or type, shapes that do not fit, or a place outside the plane.
    pub fn max_unpool<const D: usize>(&self, places: &Tensor, sizes: impl Into<Sizes<D>>) -> Result<Tensor> {
        let op = Window::<D>::name(MAX_UNPOOL);
        spatial::<D>(op, self.shape())?;
        let shape = Shape::new(&[&self.shape()[..2], &sizes.into().0].concat())?;
        self.put(op, places, shape, false)
    }

    fn put(&self, op: &'static str, places: &Tensor, shape: Shape, adds: bool) -> Result<Tensor> {
        let (out, plane) = check_places(op, self.shape(), places, shape)?;
        dispatch_float!(self.dtype(), op, T => Ok(Tensor::build(shape, |planes: &mut [T]| {
            let (x, places) = (self.slice_of::<T>(), places.slice_of::<i64>());
            par::rows(planes, plane, 0.2 * plane as f64 + out as f64, |first, planes| {
                planes.fill(T::zero());
                for (i, y) in planes.chunks_mut(plane).enumerate() {
                    let (x, places) = (&x[(first + i) * out..][..out], &places[(first + i) * out..][..out]);
                    match adds {
                        true => x.iter().zip(places).for_each(|(&x, &at)| y[at as usize] += x),
                        false => x.iter().zip(places).for_each(|(&x, &at)| y[at as usize] = x),
                    }
                }
            });
        })))
    }
}

/// Means.
impl Tensor {
    /// The mean of each window. Padding counts as zeros, and is counted unless the pool says otherwise.
    ///
    /// # Shapes
    /// - `self: [n, c, sizes..]` with `D` sizes; output: `[n, c, sizes'..]` with those of [`Pool::output`]
    ///
    /// # Errors
    /// Another rank or type, a pool that [`Pool::check`] refuses, or a window larger than the padded input.
    pub fn avg_pool<const D: usize>(&self, pool: impl Into<Pool<D>>) -> Result<Tensor> {
        let windows = Windows::of_pool(AVG_POOL, self.shape(), &pool.into())?;
        self.mean_of(Window::<D>::name(AVG_POOL), &windows)
    }

    /// Adjoint of [`avg_pool`](Self::avg_pool); `self` is `dy`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn avg_pool_grad<const D: usize>(&self, x_shape: impl Into<Shape>, pool: impl Into<Pool<D>>) -> Result<Tensor> {
        let x_shape = x_shape.into();
        let windows = Windows::of_pool(AVG_POOL_GRAD, x_shape, &pool.into())?;
        let op = Window::<D>::name(AVG_POOL_GRAD);
        self.mean_grad_of(op, x_shape, &windows)
    }

    /// Compiled here once, not by each crate that names a `D`; so is its neighbor.
    fn mean_of(&self, op: &'static str, windows: &Windows) -> Result<Tensor> {
        let (plane, out) = (windows.plane(), windows.out_plane());
        dispatch_float!(self.dtype(), op, T => Ok(Tensor::build(windows.output, |y: &mut [T]| {
            let (x, counts) = (self.slice_of::<T>(), windows.counts());
            par::rows(y, out, windows.seen() as f64 * LOOK, |first, planes| {
                for (i, y) in planes.chunks_mut(out).enumerate() {
                    mean_plane(windows, &counts, &x[(first + i) * plane..][..plane], y);
                }
            });
        })))
    }

    fn mean_grad_of(&self, op: &'static str, x_shape: Shape, windows: &Windows) -> Result<Tensor> {
        if self.shape() != windows.output {
            let what = format!("dy is {}, the output was {}", self.shape(), windows.output);
            return Err(Error::shape(op, what, "pass the gradient of the output"));
        }
        let (plane, out) = (windows.plane(), windows.out_plane());
        dispatch_float!(self.dtype(), op, T => Ok(Tensor::build(x_shape, |dx: &mut [T]| {
            let (dy, counts) = (self.slice_of::<T>(), windows.counts());
            par::rows(dx, plane, windows.seen() as f64 * LOOK, |first, planes| {
                let mut parts = vec![T::zero(); counts.len()];
                for (i, dx) in planes.chunks_mut(plane).enumerate() {
                    mean_plane_grad(windows, &counts, &dy[(first + i) * out..][..out], &mut parts, dx);
                }
            });
        })))
    }
}

/// The elements of a plane of `from` and of `x`, if the places lead from one to the other.
fn check_places(op: &'static str, from: Shape, places: &Tensor, x: Shape) -> Result<(usize, usize)> {
    if places.dtype() != DType::I64 {
        let help = "pass the second result of a max-pool";
        return Err(Error::dtype(op, format!("the indices are {}", places.dtype()), help));
    }
    let fits = from == places.shape() && from.rank() == x.rank() && x.rank() > 2 && x[..2] == from[..2];
    if !fits {
        let what = format!("{from}, indices {} and input {x} do not belong together", places.shape());
        return Err(Error::shape(op, what, "pass the shapes of one max-pool"));
    }
    let plane = x[2..].iter().product::<usize>();
    if let Some(place) = places.slice_of::<i64>().iter().find(|&&place| place < 0 || place >= plane as i64) {
        let what = format!("index {place} is outside a plane of {plane}");
        return Err(Error::index(op, what, "pass the second result of the max-pool that made the plane smaller"));
    }
    Ok((from[2..].iter().product(), plane))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rng, Window, Window1d, Window2d, Window3d};
    use proptest::prelude::*;

    /// Maximum and mean of each window by the definition, and their adjoints for `dy = y`'s place number.
    fn check_naive<const D: usize>([n, c]: [usize; 2], sizes: [usize; D], pool: Pool<D>) {
        let Window { kernel, stride, padding, dilation, .. } = pool.window;
        let plane: usize = sizes.iter().product();
        let shape = Shape::new(&[&[n, c], &sizes[..]].concat()).unwrap();
        let x = Tensor::uniform(shape, -1.0f64, 1.0, &mut Rng::new(plane as u64));
        let xs = x.as_slice::<f64>().unwrap();
        let mean = x.avg_pool(pool).unwrap();
        let dy = Tensor::arange(0.0, mean.len() as f64, 1.0).unwrap().reshape(mean.shape()).unwrap();
        let outs = pool.output("pool", sizes).unwrap();
        let mut expected = [vec![], vec![0.0; xs.len()], vec![], vec![0.0; xs.len()]];
        for at in 0..mean.len() {
            // The window's taps one by one: where each lies, and whether the mean counts it.
            let (mut seen, mut counted) = (vec![], 0);
            for tap in 0..kernel.iter().product() {
                let (mut rest, mut tap, mut place, mut pitch, mut inside, mut counts) = (at, tap, 0, 1, true, true);
                for side in (0..D).rev() {
                    let corner = rest % outs[side] * stride[side] + tap % kernel[side] * dilation[side];
                    (rest, tap) = (rest / outs[side], tap / kernel[side]);
                    inside &= (padding[side]..padding[side] + sizes[side]).contains(&corner);
                    counts &= corner < sizes[side] + 2 * padding[side];
                    place += (corner as i64 - padding[side] as i64) * pitch;
                    pitch *= sizes[side] as i64;
                }
                counted += usize::from(if pool.count_include_pad { counts } else { inside });
                if inside {
                    seen.push(rest * plane + place as usize);
                }
            }
            let share = 1.0 / pool.divisor_override.unwrap_or(counted) as f64;
            expected[0].push(seen.iter().map(|&p| xs[p]).sum::<f64>() * share);
            seen.iter().for_each(|&p| expected[1][p] += at as f64 * share);
            let best = seen.into_iter().max_by(|&a, &b| xs[a].total_cmp(&xs[b])).unwrap();
            expected[2].push(xs[best]);
            expected[3][best] += at as f64;
        }
        // To the bit: every sum is taken in the order of its terms.
        let same =
            |result: &Tensor, expected: &[f64]| assert_eq!(result.as_slice::<f64>().unwrap(), expected, "{pool:?}");
        same(&mean, &expected[0]);
        same(&dy.avg_pool_grad(shape, pool).unwrap(), &expected[1]);
        let (y, places) = x.max_pool(pool).unwrap();
        same(&y, &expected[2]);
        same(&dy.max_pool_grad(&places, shape).unwrap(), &expected[3]);
        assert_eq!(x.max_pool_gather(&places).unwrap(), y);
    }

    fn axis() -> impl Strategy<Value = [usize; 5]> {
        [1usize..9, 1usize..4, 1usize..4, 0usize..3, 1usize..3]
    }

    /// Size, kernel, stride, padding and dilation of each axis.
    fn pool<const D: usize>(axes: [[usize; 5]; D], options: (bool, bool, usize)) -> ([usize; D], Pool<D>) {
        let [sizes, kernel, stride, padding, dilation] = std::array::from_fn(|number| axes.map(|axis| axis[number]));
        let window = Window { kernel, stride, padding, dilation, groups: 1 };
        let pool = Pool::from(window).ceil_mode(options.0).count_include_pad(options.1);
        (sizes, if options.2 == 0 { pool } else { pool.divisor_override(options.2) })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]
        #[test]
        fn equal_the_definition(
            planes in [0usize..3, 1usize..3], axes in [axis(), axis(), axis()], d in 1..4,
            options in (any::<bool>(), any::<bool>(), 0usize..3),
        ) {
            fn check<const D: usize>(planes: [usize; 2], (sizes, pool): ([usize; D], Pool<D>)) {
                let shape = Shape::new(&[&planes, &sizes[..]].concat()).unwrap();
                if Windows::of_pool(MAX_POOL, shape, &pool).is_ok() {
                    check_naive(planes, sizes, pool);
                }
            }
            match d {
                1 => check(planes, pool([axes[0]], options)),
                2 => check(planes, pool([axes[0], axes[1]], options)),
                _ => check(planes, pool(axes, options)),
            }
        }

        #[test]
        fn adaptive_windows_share_the_input_out(size in 1usize..20, out in 1usize..20) {
            let x = Tensor::uniform([1, 2, size], -1.0f64, 1.0, &mut Rng::new(1));
            let windows: Vec<_> = (0..out).map(|i| (i * size / out, ((i + 1) * size).div_ceil(out))).collect();
            let pieces = |f: &dyn Fn(Tensor) -> Tensor| {
                let pieces: Vec<_> = windows.iter().map(|&(from, to)| f(x.slice(2, from, to).unwrap())).collect();
                Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 2).unwrap()
            };
            let (largest, places) = x.adaptive_max_pool([out]).unwrap();
            prop_assert_eq!(&largest, &pieces(&|piece| piece.max(2, true).unwrap()));
            prop_assert_eq!(x.max_pool_gather(&places).unwrap(), largest);
        }
    }

    #[test]
    fn a_dilated_window_may_begin_behind_the_next() {
        // The first window sees place 2 alone, the second place 0.
        check_naive([2, 1], [3], Window1d::new(2).dilation(3).padding(1).into());
    }

    #[test]
    fn pooling_with_divisible_sizes_is_adaptive() {
        let x = Tensor::uniform([2, 3, 4, 6, 8], -1.0f32, 1.0, &mut Rng::new(1));
        let window = Window3d::pool([2, 3, 4]);
        assert_eq!(x.max_pool(window).unwrap(), x.adaptive_max_pool([2, 2, 2]).unwrap());
        let kept = x.adaptive_max_pool([None, Some(2), None]).unwrap();
        assert_eq!(kept, x.max_pool(Window3d::pool([1, 3, 1])).unwrap());
    }

    #[test]
    fn nan_is_largest_and_the_first_of_equals_wins() {
        let x = Tensor::from([[[[1.0f32, f32::NAN], [2.0, 2.0]], [[3.0, 3.0], [3.0, -1.0]]]]);
        let (y, places) = x.max_pool(Window2d::pool(2)).unwrap();
        assert!(y.as_slice::<f32>().unwrap()[0].is_nan());
        assert_eq!(places.to_vec::<i64>().unwrap(), [1, 0]);
    }

    #[test]
    fn fractional_windows_begin_irregularly() {
        // torch 2.15: F.fractional_max_pool2d_with_indices(torch.arange(30.).reshape(1, 1, 5, 6), 2, (3, 4),
        //     _random_samples=torch.tensor([[[0.1, 0.9]]])), which are width and height there.
        let x = Tensor::arange(0.0f32, 30.0, 1.0).unwrap().reshape([1, 1, 5, 6]).unwrap();
        let samples = Tensor::from([[[0.9f32, 0.1]]]);
        let (y, places) = x.fractional_max_pool(2, [3, 4], &samples).unwrap();
        let expected = Tensor::from([[[[7i64, 8, 9, 11], [13, 14, 15, 17], [25, 26, 27, 29]]]]);
        assert_eq!((places, y.to_dtype(DType::I64)), (expected.clone(), expected));
        assert_eq!(x.fractional_max_pool(2, [0.7, 0.7], &samples).unwrap().0, y);
        let whole = x.fractional_max_pool([5, 6], [1, 1], &samples).unwrap().0;
        assert_eq!(whole, Tensor::from([[[[29.0f32]]]]));
        let text = |sizes: [usize; 2], samples: &Tensor| {
            let error = x.fractional_max_pool(2, sizes, samples).unwrap_err().to_string();
            error.strip_prefix("fractional_max_pool2d: ").unwrap().to_string()
        };
        let expected = "5 windows of 2 do not fit in a height of 5; \
                        help: kernel + output - 1 may be at most the input's size, and a kernel not 0";
        assert_eq!(text([5, 4], &samples), expected);
        let expected = "samples are [1, 2], input [1, 1, 5, 6] needs [1, 1, 2]; \
                        help: give one number for each channel and axis";
        assert_eq!(text([3, 4], &Tensor::from([[0.5f32, 0.5]])), expected);
        let expected = "a sample is 1.5; help: draw samples from 0 to 1";
        assert_eq!(text([3, 4], &Tensor::from([[[0.5f32, 1.5]]])), expected);
        assert_eq!(text([0, 4], &samples), "the output's height is 0; help: use a larger size or factor");
    }

    #[test]
    fn unpooling_puts_maxima_back() {
        // The example in torch.nn.MaxUnpool1d's documentation.
        let x = Tensor::from([[[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]]]);
        let (y, places) = x.max_pool(Window1d::pool(2)).unwrap();
        let expected = Tensor::from([[[0.0f32, 2.0, 0.0, 4.0, 0.0, 6.0, 0.0, 8.0, 0.0]]]);
        assert_eq!(y.max_unpool(&places, [9]).unwrap(), expected);
        assert_eq!(y.max_unpool(&places, [8]).unwrap(), expected.slice(2, 0, 8).unwrap());
        // One element may be the maximum of several windows: it is put back once.
        let (y, places) = x.max_pool(Window1d::new(5).dilation(2)).unwrap();
        assert_eq!(y.max_unpool(&places, [9]).unwrap(), Tensor::from([[[0.0f32, 0., 0., 0., 0., 0., 0., 0., 9.0]]]));
    }

    #[test]
    fn misfits_are_explained() {
        let x = Tensor::zeros([1, 1, 4, 4], DType::F32);
        let text = |pool: Pool<2>| x.max_pool(pool).unwrap_err().to_string();
        let window = Window2d::new(2).dilation(6).padding(3);
        let expected = "max_pool2d: dilation [6, 6] leaves windows without an element of [1, 1, 4, 4]; \
                        help: use a smaller dilation or less padding";
        assert_eq!(text(window.into()), expected);
        assert_eq!(text(Window2d::pool(2).groups(2).into()), "max_pool2d: groups is 2; help: a pool has one group");
        let expected =
            "avg_pool3d: input [1, 1, 4, 4] has 4 axes; help: it must be [n, channels, depth, height, width]";
        assert_eq!(x.avg_pool(Window3d::pool(2)).unwrap_err().to_string(), expected);
        let empty = Tensor::zeros([1, 1, 4, 0], DType::F32);
        let expected = "max_pool2d: input [1, 1, 4, 0] has no width; help: every spatial size must be 1 or more";
        assert_eq!(empty.max_pool(Window2d::pool(2)).unwrap_err().to_string(), expected);
        let expected = "adaptive_max_pool2d: the output's width is 0; help: use 1 or more";
        assert_eq!(x.adaptive_max_pool([1, 0]).unwrap_err().to_string(), expected);
        let expected = "avg_pool2d_grad: dy is [1, 1, 4, 4], the output was [1, 1, 2, 2]; \
                        help: pass the gradient of the output";
        assert_eq!(x.avg_pool_grad([1, 1, 4, 4], Window2d::pool(2)).unwrap_err().to_string(), expected);
        let help = "pass the second result of the max-pool that made the plane smaller";
        let text = |places: &Tensor| {
            let places = x.max_unpool(places, [3, 3]).unwrap_err().to_string();
            places.strip_prefix("max_unpool2d: ").unwrap().to_string()
        };
        let expected = format!("index 9 is outside a plane of 9; help: {help}");
        assert_eq!(text(&Tensor::full([1, 1, 4, 4], 9i64)), expected);
        let expected = format!("index -1 is outside a plane of 9; help: {help}");
        assert_eq!(text(&Tensor::full([1, 1, 4, 4], -1i64)), expected);
        let expected = "[1, 1, 4, 4], indices [1, 1, 4, 3] and input [1, 1, 3, 3] do not belong together; \
                        help: pass the shapes of one max-pool";
        assert_eq!(text(&Tensor::full([1, 1, 4, 3], 1i64)), expected);
        let expected = "the indices are f32; help: pass the second result of a max-pool";
        assert_eq!(text(&x), expected);
    }
}
