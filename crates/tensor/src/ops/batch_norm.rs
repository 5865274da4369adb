//! Batch norm above its adjoint: every channel has statistics of its own. The formulas are in `norm.rs`.

use super::matmul::Activation;
use super::moments::{Moments, OfMoments};
use super::norm::{COST, check_same};
use crate::dtype::dispatch_float;
use crate::lanes::{Job, Lanes, Lanewise, sums};
use crate::simd::vectorized;
use crate::{Element, Error, Float, Result, Shape, Tensor, par};
use std::ops::Range;

/// Elements that are read together: they stay in the first cache.
const PART: usize = 4096;
/// Planes of fewer elements are too short to be read one by one.
const SHORT: usize = 16;

impl Tensor {
    /// The mean and the biased variance of each channel, over all other axes.
    ///
    /// # Shapes
    /// - `self: [n, c, ..]`, outputs: `[c]` and `[c]`
    ///
    /// # Errors
    /// Fewer than two axes, or a type that is not float.
    pub fn channel_moments(&self) -> Result<(Tensor, Tensor)> {
        let planes = Planes::new("channel_moments", self)?;
        dispatch_float!(self.dtype(), "channel_moments", T => {
            let (planes, [x]) = planes.lengthened([self])?;
            let x = x.slice_of::<T>();
            let of_plane = |_, at: Range<usize>| {
                let parts = x[at].chunks(PART).map(|x| T::with_lanes(OfMoments(x)));
                parts.fold(Moments::default(), Moments::join)
            };
            planes.two::<T, _>(of_plane, |_, planes| {
                let Moments { count, mean, squares } = planes.fold(Moments::default(), Moments::join);
                [if count > 0.0 { mean } else { f64::NAN }, squares / count] // of nothing there is neither
            })
        })
    }

    /// `activation((x − mean) / √(var + eps) · weight + bias)` with the given statistics of each channel.
    ///
    /// # Shapes
    /// - `self: [n, c, ..]`, all others `[c]`, output: as `self`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    ///
    /// # Reference
    /// Ioffe & Szegedy (2015), "Batch Normalization", algorithm 1.
    pub fn batch_norm(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
        activation: Activation,
    ) -> Result<Tensor> {
        let planes = Planes::new("batch_norm", self)?;
        self.check_features("batch_norm", Some(1), weight, bias)?;
        self.check_features("batch_norm", Some(1), mean, var)?;
        dispatch_float!(self.dtype(), "batch_norm", T => {
            let (x, affine) = (self.slice_of::<T>(), Affine::<T>::of([mean, var, weight, bias], eps));
            Ok(planes.build::<T>(self.shape(), |channel, at, out| {
                let [scale, shift] = affine.of_channel(channel);
                match activation {
                    Activation::Identity => scale_and_shift(out, &x[at..], scale, shift),
                    Activation::Relu => scale_and_shift_relu(out, &x[at..], scale, shift),
                }
            }))
        })
    }

    /// Adjoint of [`batch_norm`](Self::batch_norm); `self` is `dy`. Gives the gradients of input, weight and bias that
    /// `want` asks for. With `fixed` the statistics are constants; without, they are those of `x` itself.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn batch_norm_grad(
        &self,
        x_given: &Tensor,
        mean: &Tensor,
        var: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
        activation: Activation,
        fixed: bool,
        want: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let planes = Planes::new("batch_norm_grad", self)?;
        self.check_features("batch_norm_grad", Some(1), mean, var)?;
        self.check_features("batch_norm_grad", Some(1), weight, bias)?;
        check_same("batch_norm_grad", self, x_given)?;
        dispatch_float!(self.dtype(), "batch_norm_grad", T => {
            let of = |x: &Tensor, channel: usize| x.slice_of::<T>()[channel].as_f64();
            let scale = |channel| 1.0 / (of(var, channel) + eps).sqrt();
            // What the ReLU cut is worked out again: cheaper than to read the output.
            let affine = Affine::<T>::of([mean, var, weight, bias], eps);
            let relu = activation == Activation::Relu;
            // dw = Σ dy x̂ and db = Σ dy
            let (long, [long_dy, long_x]) = planes.lengthened([self, x_given])?;
            let (dy, x) = (long_dy.slice_of::<T>(), long_x.slice_of::<T>());
            let of_plane = |channel, at: Range<usize>| {
                let middle = T::from_f64(of(mean, channel));
                let relu = relu.then(|| affine.of_channel(channel));
                let parts = dy[at.clone()].chunks(PART).zip(x[at].chunks(PART));
                parts.fold([0.0; 2], |sums, (dy, x)| add(sums, T::with_lanes(DotAndSum { dy, x, middle, relu })))
            };
            let (dw, db) = long.two::<T, _>(of_plane, |channel, planes| {
                let [along, sum] = planes.fold([0.0; 2], add);
                [along * scale(channel), sum]
            })?;
            let (dy, x) = (self.slice_of::<T>(), x_given.slice_of::<T>());
            let dx = want[0].then(|| planes.build::<T>(self.shape(), |channel, at, out| {
                let factor = of(weight, channel) * scale(channel);
                let share = if fixed { 0.0 } else { factor / planes.count() as f64 };
                let by_x = -share * of(&dw, channel) * scale(channel);
                let shift = -share * of(&db, channel) - by_x * of(mean, channel);
                let by = [factor, by_x, shift].map(T::from_f64);
                match relu {
                    false => combine(out, &dy[at..], &x[at..], by),
                    true => combine_relu(out, &dy[at..], &x[at..], by, affine.of_channel(channel)),
                }
            }));
            Ok([dx, want[1].then_some(dw), want[2].then_some(db)])
        })
    }
}

/// What batch norm makes of each channel: `y = scale · x + shift`.
struct Affine<T>(Vec<[T; 2]>);

impl<T: Float> Affine<T> {
    fn of([mean, var, weight, bias]: [&Tensor; 4], eps: f64) -> Self {
        let [mean, var, weight, bias] = [mean, var, weight, bias].map(Tensor::slice_of::<T>);
        let line = |channel: usize| {
            let scale = weight[channel].as_f64() / (var[channel].as_f64() + eps).sqrt();
            [scale, bias[channel].as_f64() - mean[channel].as_f64() * scale].map(T::from_f64)
        };
        Self((0..mean.len()).map(line).collect())
    }

    fn of_channel(&self, channel: usize) -> [T; 2] {
        self.0[channel]
    }
}

/// `[n, c, ..]` as `n · c` planes.
pub(super) struct Planes {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) plane: usize,
}

impl Planes {
    pub(super) fn new(op: &'static str, x: &Tensor) -> Result<Self> {
        match *x.shape() {
            [images, channels, ref plane @ ..] => Ok(Self { images, channels, plane: plane.iter().product() }),
            _ => Err(Error::shape(
                op,
                format!("the input {} has no axis of channels", x.shape()),
                "it must be [n, c, ..]",
            )),
        }
    }

    /// The number of elements of a channel.
    fn count(&self) -> usize {
        self.images * self.plane
    }

    /// The same with longer planes if these are short, and the tensors in that order: channels first.
    fn lengthened<const N: usize>(&self, tensors: [&Tensor; N]) -> Result<(Self, [Tensor; N])> {
        let Self { images, channels, plane } = *self;
        if plane >= SHORT || images < 2 {
            return Ok((Self { images, channels, plane }, tensors.map(Tensor::clone)));
        }
        let mut turned = tensors.map(Tensor::clone);
        for tensor in &mut turned {
            *tensor = tensor.transpose(0, 1)?;
        }
        Ok((Self { images: 1, channels, plane: images * plane }, turned))
    }

    /// Two numbers for each channel, `[c]` each: what `join(channel, planes)` makes of those that
    /// `of_plane(channel, place)` finds in its planes. Memory is read in its order.
    fn two<T: Float, S: Default + Copy + Send + Sync>(
        &self,
        of_plane: impl Fn(usize, Range<usize>) -> S + Sync,
        join: impl Fn(usize, &mut dyn Iterator<Item = S>) -> [f64; 2],
    ) -> Result<(Tensor, Tensor)> {
        let mut parts = vec![S::default(); self.images * self.channels];
        par::rows(&mut parts, 1, 2.0 * self.plane as f64 * COST, |first, parts| {
            for (i, part) in (first..).zip(parts) {
                *part = of_plane(i % self.channels, i * self.plane..(i + 1) * self.plane);
            }
        });
        let pairs = (0..self.channels).map(|channel| {
            let mut planes = (0..self.images).map(|image| parts[image * self.channels + channel]);
            join(channel, &mut planes)
        });
        let pairs: Vec<[f64; 2]> = pairs.collect();
        let column =
            |i: usize| Tensor::from_vec(pairs.iter().map(|pair| T::from_f64(pair[i])).collect(), [pairs.len()]);
        Ok((column(0)?, column(1)?))
    }

    /// A tensor whose planes `write(channel, start, plane)` sets.
    pub(super) fn build<T: Element>(&self, shape: Shape, write: impl Fn(usize, usize, &mut [T]) + Sync) -> Tensor {
        let plane = self.plane.max(1);
        Tensor::build(shape, |out| {
            par::rows(out, plane, plane as f64 * COST, |first, out| {
                for (i, out) in out.chunks_mut(plane).enumerate() {
                    write((first + i) % self.channels, (first + i) * plane, out);
                }
            });
        })
    }
}

fn add([a, b]: [f64; 2], [c, d]: [f64; 2]) -> [f64; 2] {
    [a + c, b + d]
}

/// `[Σ dy (x − middle), Σ dy]`, of all `dy` or of those that a ReLU behind `scale · x + shift` lets through.
pub(super) struct DotAndSum<'a, T> {
    pub(super) dy: &'a [T],
    pub(super) x: &'a [T],
    pub(super) middle: T,
    /// Scale and shift.
    pub(super) relu: Option<[T; 2]>,
}

impl<T: Float> Job<T> for DotAndSum<'_, T> {
    type Output = [f64; 2];

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) -> [f64; 2] {
        let Self { dy, x, middle, relu } = self;
        // SAFETY: promised by the caller.
        unsafe {
            let (middle, zero) = (L::splat(middle), L::splat(T::zero()));
            let Some([scale, shift]) = relu else {
                return sums(
                    [dy, x],
                    #[inline(always)]
                    |[dy, x]: [L; 2]| [dy.mul(x.sub(middle)), dy],
                );
            };
            let (scale, shift) = (L::splat(scale), L::splat(shift));
            sums(
                [dy, x],
                #[inline(always)]
                |[dy, x]: [L; 2]| {
                    let cut = x.mul(scale).add(shift).at_most(zero); // rounded twice, as in the forward pass
                    let dy = dy.replace(cut, zero);
                    [dy.mul(x.sub(middle)), dy]
                },
            )
        }
    }
}

/// `dy`, or nothing where the ReLU cut.
#[inline(always)]
fn through<T: Float>(dy: T, x: T, [scale, shift]: [T; 2]) -> T {
    if x * scale + shift <= T::zero() { T::zero() } else { dy }
}

vectorized! {
    pub(super) fn scale_and_shift<T: Float>(out: &mut [T], x: &[T], scale: T, shift: T) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * scale + shift);
    }
}

vectorized! {
    fn scale_and_shift_relu<T: Float>(out: &mut [T], x: &[T], scale: T, shift: T) {
        for (out, &x) in out.iter_mut().zip(x) {
            let y = x * scale + shift;
            *out = if y < T::zero() { T::zero() } else { y }; // NaN stays NaN
        }
    }
}

vectorized! {
    /// As [`combine`], of what the ReLU let through.
    fn combine_relu<T: Float>(out: &mut [T], dy: &[T], x: &[T], by: [T; 3], line: [T; 2]) {
        let [a, b, c] = by;
        for ((out, &dy), &x) in out.iter_mut().zip(dy).zip(x) {
            *out = a * through(dy, x, line) + b * x + c;
        }
    }
}

vectorized! {
    /// `a · dy + b · x + c`
    pub(super) fn combine<T: Float>(out: &mut [T], dy: &[T], x: &[T], by: [T; 3]) {
        let [a, b, c] = by;
        for ((out, &dy), &x) in out.iter_mut().zip(dy).zip(x) {
            *out = a * dy + b * x + c;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_near, dot, draw, moments, slope};

    #[test]
    fn batch_norm_is_its_definition() {
        for shape in [&[4usize, 3, 5, 7][..], &[6, 3], &[2, 3, 40]] {
            let x = draw(shape, 1);
            let channels_last = x.transpose(0, 1).unwrap();
            let [w, b] = [draw(&[3], 2), draw(&[3], 3)];
            let (mean, var) = x.channel_moments().unwrap();
            let per_channel: Vec<_> =
                channels_last.as_slice::<f64>().unwrap().chunks(x.len() / 3).map(moments).collect();
            assert_near(&mean, &per_channel.iter().map(|m| m.0).collect::<Vec<_>>());
            assert_near(&var, &per_channel.iter().map(|m| m.1).collect::<Vec<_>>());
            let y = x.batch_norm(&mean, &var, &w, &b, 0.1, Activation::Identity).unwrap();
            let mut want = Vec::new();
            for (channel, x) in channels_last.as_slice::<f64>().unwrap().chunks(x.len() / 3).enumerate() {
                let (mean, var) = per_channel[channel];
                let at = |x: &Tensor| x.as_slice::<f64>().unwrap()[channel];
                want.extend(x.iter().map(|x| (x - mean) / (var + 0.1).sqrt() * at(&w) + at(&b)));
            }
            assert_near(&y.transpose(0, 1).unwrap(), &want);
        }
    }

    #[test]
    fn the_adjoint_agrees_with_differences() {
        let (x, w, dy) = (draw(&[5, 3, 2, 2], 5), draw(&[3], 6), draw(&[5, 3, 2, 2], 7));
        let (mean, var) = x.channel_moments().unwrap();
        let inputs = [x.clone(), w.clone(), draw(&[3], 3)];
        for (fixed, activation) in
            [false, true].into_iter().flat_map(|fixed| [(fixed, Activation::Identity), (fixed, Activation::Relu)])
        {
            let value = |p: &[Tensor; 3]| {
                let (mean, var) = if fixed { (mean.clone(), var.clone()) } else { p[0].channel_moments().unwrap() };
                dot(&p[0].batch_norm(&mean, &var, &p[1], &p[2], 0.1, activation).unwrap(), &dy)
            };
            let grads = dy.batch_norm_grad(&x, &mean, &var, &w, &inputs[2], 0.1, activation, fixed, [true; 3]).unwrap();
            for i in 0..3 {
                let direction = draw(&inputs[i].shape(), 8);
                let difference = slope(value, &inputs, i, &direction);
                let found = dot(grads[i].as_ref().unwrap(), &direction);
                assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
            }
        }
    }

    #[test]
    fn nothing_has_no_moments() {
        for shape in [[0, 2, 20], [1, 2, 0]] {
            let (mean, var) = Tensor::zeros(shape, crate::DType::F64).channel_moments().unwrap();
            let all_nan = |x: &Tensor| x.len() == 2 && x.as_slice::<f64>().unwrap().iter().all(|x| x.is_nan());
            assert!(all_nan(&mean) && all_nan(&var), "{shape:?}");
        }
    }

    #[test]
    fn vectors_have_no_channels() {
        let text = draw(&[3], 1).channel_moments().unwrap_err().to_string();
        assert_eq!(text, "channel_moments: the input [3] has no axis of channels; help: it must be [n, c, ..]");
    }
}
