//! Batch norm above its adjoint: every channel has statistics of its own. The formulas are in `norm.rs`.

use super::norm::{COST, check_same, lanes};
use crate::dtype::dispatch_float;
use crate::simd::vectorized;
use crate::{Element, Error, Float, Result, Shape, Tensor, par};

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
            let x = self.slice_of::<T>();
            planes.two_sums::<T>(|channel| {
                let count = planes.count() as f64;
                let mean = planes.of(channel, x).map(sum).sum::<f64>() / count;
                let squares = planes.of(channel, x).map(|x| squared_distance(x, T::from_f64(mean))).sum::<f64>();
                [mean, squares / count]
            })
        })
    }

    /// `(x − mean) / √(var + eps) · weight + bias` with the given statistics of each channel.
    ///
    /// # Shapes
    /// - `self: [n, c, ..]`, all others `[c]`, output: as `self`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    ///
    /// # Reference
    /// Ioffe & Szegedy (2015), "Batch Normalization", algorithm 1.
    pub fn batch_norm(&self, mean: &Tensor, var: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        let planes = Planes::new("batch_norm", self)?;
        self.check_features("batch_norm", Some(1), weight, bias)?;
        self.check_features("batch_norm", Some(1), mean, var)?;
        dispatch_float!(self.dtype(), "batch_norm", T => {
            let of = |x: &Tensor, channel: usize| x.slice_of::<T>()[channel].as_f64();
            let x = self.slice_of::<T>();
            Ok(planes.build::<T>(self.shape(), |channel, at, out| {
                let scale = of(weight, channel) / (of(var, channel) + eps).sqrt();
                let shift = of(bias, channel) - of(mean, channel) * scale;
                scale_and_shift(out, &x[at..], T::from_f64(scale), T::from_f64(shift));
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
        x: &Tensor,
        mean: &Tensor,
        var: &Tensor,
        weight: &Tensor,
        eps: f64,
        fixed: bool,
        want: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let planes = Planes::new("batch_norm_grad", self)?;
        self.check_features("batch_norm_grad", Some(1), mean, var)?;
        self.check_features("batch_norm_grad", Some(1), weight, weight)?;
        check_same("batch_norm_grad", self, x)?;
        dispatch_float!(self.dtype(), "batch_norm_grad", T => {
            let of = |x: &Tensor, channel: usize| x.slice_of::<T>()[channel].as_f64();
            let (dy, x) = (self.slice_of::<T>(), x.slice_of::<T>());
            let scale = |channel| 1.0 / (of(var, channel) + eps).sqrt();
            // dw = Σ dy x̂ and db = Σ dy
            let (dw, db) = planes.two_sums::<T>(|channel| {
                let middle = T::from_f64(of(mean, channel));
                let pairs = || planes.of(channel, dy).zip(planes.of(channel, x));
                let along = pairs().map(|(dy, x)| centered_dot(dy, x, middle)).sum::<f64>() * scale(channel);
                [along, planes.of(channel, dy).map(sum).sum()]
            })?;
            let dx = want[0].then(|| planes.build::<T>(self.shape(), |channel, at, out| {
                let factor = of(weight, channel) * scale(channel);
                let share = if fixed { 0.0 } else { factor / planes.count() as f64 };
                let by_x = -share * of(&dw, channel) * scale(channel);
                let shift = -share * of(&db, channel) - by_x * of(mean, channel);
                combine(out, &dy[at..], &x[at..], [factor, by_x, shift].map(T::from_f64));
            }));
            Ok([dx, want[1].then_some(dw), want[2].then_some(db)])
        })
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

    /// The planes of one channel.
    fn of<'x, T>(&self, channel: usize, x: &'x [T]) -> impl Iterator<Item = &'x [T]> {
        let (plane, step) = (self.plane, self.channels * self.plane);
        (0..self.images).map(move |image| &x[image * step + channel * plane..][..plane])
    }

    /// Two sums for each channel, `[c]` each.
    fn two_sums<T: Float>(&self, sums: impl Fn(usize) -> [f64; 2] + Sync) -> Result<(Tensor, Tensor)> {
        let mut pairs = vec![[0.0; 2]; self.channels];
        par::rows(&mut pairs, 1, 2.0 * self.count() as f64 * COST, |first, pairs| {
            pairs.iter_mut().enumerate().for_each(|(i, pair)| *pair = sums(first + i));
        });
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

vectorized! {
    pub(super) fn sum<T: Float>(x: &[T]) -> f64 {
        lanes(x.len(), #[inline(always)] |i| x[i])
    }
}

vectorized! {
    /// `Σ (x − middle)²`
    fn squared_distance<T: Float>(x: &[T], middle: T) -> f64 {
        lanes(x.len(), #[inline(always)] |i| (x[i] - middle) * (x[i] - middle))
    }
}

vectorized! {
    /// `Σ dy (x − middle)`
    pub(super) fn centered_dot<T: Float>(dy: &[T], x: &[T], middle: T) -> f64 {
        let x = &x[..dy.len()];
        lanes(dy.len(), #[inline(always)] |i| dy[i] * (x[i] - middle))
    }
}

vectorized! {
    pub(super) fn scale_and_shift<T: Float>(out: &mut [T], x: &[T], scale: T, shift: T) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * scale + shift);
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
            let y = x.batch_norm(&mean, &var, &w, &b, 0.1).unwrap();
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
        for fixed in [false, true] {
            let value = |p: &[Tensor; 3]| {
                let (mean, var) = if fixed { (mean.clone(), var.clone()) } else { p[0].channel_moments().unwrap() };
                dot(&p[0].batch_norm(&mean, &var, &p[1], &p[2], 0.1).unwrap(), &dy)
            };
            let grads = dy.batch_norm_grad(&x, &mean, &var, &w, 0.1, fixed, [true; 3]).unwrap();
            for i in 0..3 {
                let direction = draw(&inputs[i].shape(), 8);
                let difference = slope(value, &inputs, i, &direction);
                let found = dot(grads[i].as_ref().unwrap(), &direction);
                assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
            }
        }
    }

    #[test]
    fn vectors_have_no_channels() {
        let text = draw(&[3], 1).channel_moments().unwrap_err().to_string();
        assert_eq!(text, "channel_moments: the input [3] has no axis of channels; help: it must be [n, c, ..]");
    }
}
