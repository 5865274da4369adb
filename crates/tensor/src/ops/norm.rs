//! Normalisation with its statistics: of rows (layer norm) and of channels (batch norm), each above its adjoint.
//!
//! With `x̂ = (x − mean) / √(var + eps)` and `g = dy · weight`, the gradient through statistics of `m` elements is
//! `dx = (g − Σg/m − x̂ · Σ(g x̂)/m) / √(var + eps)`.

use crate::dtype::dispatch_float;
use crate::simd::vectorized;
use crate::{Element, Error, Float, Result, Shape, Tensor, par};

/// About the nanoseconds that one element takes.
const COST: f64 = 0.4;

impl Tensor {
    /// `(x − mean) / √(var + eps) · weight + bias` over the last axis, with the biased variance.
    ///
    /// Also returns the mean and `1 / √(var + eps)` of each row, `[rows, 2]`, for the adjoint.
    ///
    /// # Shapes
    /// - `self: [.., d]`, `weight: [d]`, `bias: [d]`, output: `[.., d]`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    ///
    /// # Reference
    /// Ba, Kiros & Hinton (2016), "Layer Normalization", eq. 4.
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
        let width = self.check_features("layer_norm", self.rank().checked_sub(1), weight, bias)?;
        dispatch_float!(self.dtype(), "layer_norm", T => {
            let (x, w, b) = (self.slice_of::<T>(), weight.slice_of::<T>(), bias.slice_of::<T>());
            let rows = x.len() / width.max(1);
            let stats = Tensor::build(Shape::from([rows, 2]), |out: &mut [T]| {
                par::rows(out, 2, width as f64 * COST, |first, out| row_stats(out, &x[first * width..], width, eps));
            });
            let st = stats.slice_of::<T>();
            let y = Tensor::build(self.shape(), |out: &mut [T]| {
                par::rows(out, width, width as f64 * COST, |first, out| {
                    normalize_rows(out, &x[first * width..], &st[2 * first..], w, b);
                });
            });
            Ok((y, stats))
        })
    }

    /// Adjoint of [`layer_norm`](Self::layer_norm); `self` is `dy`, `stats` its second output. Gives the gradients of
    /// input, weight and bias that `want` asks for.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn layer_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        stats: &Tensor,
        want: [bool; 3],
    ) -> Result<[Option<Tensor>; 3]> {
        let width = x.check_features("layer_norm_grad", x.rank().checked_sub(1), weight, weight)?;
        check_same("layer_norm_grad", self, x)?;
        x.same_dtype("layer_norm_grad", stats)?;
        dispatch_float!(self.dtype(), "layer_norm_grad", T => {
            let (dy, x, w) = (self.slice_of::<T>(), x.slice_of::<T>(), weight.slice_of::<T>());
            let st = stats.slice_of::<T>();
            let dx = want[0].then(|| Tensor::build(self.shape(), |out: &mut [T]| {
                par::rows(out, width, 2.0 * width as f64 * COST, |first, out| {
                    let at = first * width;
                    rows_grad(out, &dy[at..], &x[at..], &st[2 * first..], w);
                });
            }));
            // Rows in pieces of a fixed size, summed by piece and then in order.
            let (rows, piece) = (dy.len() / width.max(1), (16_384 / width.max(1)).max(1));
            let parts = Tensor::build(Shape::from([rows.div_ceil(piece), 2 * width]), |out: &mut [T]| {
                let cost = (piece * width) as f64 * COST;
                par::rows(out, 2 * width, cost, |first, out| {
                    for (i, out) in out.chunks_mut((2 * width).max(1)).enumerate() {
                        let from = (first + i) * piece;
                        let to = (from + piece).min(rows);
                        affine_grad(out, &dy[from * width..to * width], &x[from * width..], &st[2 * from..]);
                    }
                });
            });
            let sums = parts.sum(0, false)?;
            let sum = |wanted, part| if wanted { Ok(Some(sums.slice(0, part * width, (part + 1) * width)?)) } else { Ok(None) };
            Ok([dx, sum(want[1], 0)?, sum(want[2], 1)?])
        })
    }

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
                let mean = planes.of(channel, x).map(|x| sum(x)).sum::<f64>() / count;
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
                [along, planes.of(channel, dy).map(|dy| sum(dy)).sum()]
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

    /// The size of `axis`, which two vectors of features must have.
    fn check_features(&self, op: &'static str, axis: Option<usize>, a: &Tensor, b: &Tensor) -> Result<usize> {
        let Some(&size) = axis.and_then(|axis| self.shape().sizes().get(axis).copied()).as_ref() else {
            let what = format!("the input {} has too few axes", self.shape());
            return Err(Error::shape(op, what, "it needs an axis of features"));
        };
        for vector in [a, b] {
            self.same_dtype(op, vector)?;
            if vector.shape() != Shape::from([size]) {
                let what = format!("the input {} has {size} features, a parameter is {}", self.shape(), vector.shape());
                return Err(Error::shape(op, what, format!("every parameter must be [{size}]")));
            }
        }
        Ok(size)
    }
}

fn check_same(op: &'static str, dy: &Tensor, x: &Tensor) -> Result<()> {
    dy.same_dtype(op, x)?;
    if dy.shape() == x.shape() {
        return Ok(());
    }
    Err(Error::shape(op, format!("{} and the gradient {} differ", x.shape(), dy.shape()), "both must have one shape"))
}

/// `[n, c, ..]` as `n · c` planes.
struct Planes {
    images: usize,
    channels: usize,
    plane: usize,
}

impl Planes {
    fn new(op: &'static str, x: &Tensor) -> Result<Self> {
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
    fn build<T: Element>(&self, shape: Shape, write: impl Fn(usize, usize, &mut [T]) + Sync) -> Tensor {
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

/// Sums in sixteen lanes, which the compiler keeps in vector registers.
#[inline(always)]
fn lanes<T: Float>(len: usize, term: impl Fn(usize) -> T) -> f64 {
    let mut lanes = [T::zero(); 16];
    for chunk in 0..len / 16 {
        for lane in 0..16 {
            lanes[lane] += term(chunk * 16 + lane);
        }
    }
    for i in len / 16 * 16..len {
        lanes[i % 16] += term(i);
    }
    lanes.iter().map(|lane| lane.as_f64()).sum()
}

vectorized! {
    fn sum<T: Float>(x: &[T]) -> f64 {
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
    fn centered_dot<T: Float>(dy: &[T], x: &[T], middle: T) -> f64 {
        let x = &x[..dy.len()];
        lanes(dy.len(), #[inline(always)] |i| dy[i] * (x[i] - middle))
    }
}

vectorized! {
    fn scale_and_shift<T: Float>(out: &mut [T], x: &[T], scale: T, shift: T) {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * scale + shift);
    }
}

vectorized! {
    /// `a · dy + b · x + c`
    fn combine<T: Float>(out: &mut [T], dy: &[T], x: &[T], by: [T; 3]) {
        let [a, b, c] = by;
        for ((out, &dy), &x) in out.iter_mut().zip(dy).zip(x) {
            *out = a * dy + b * x + c;
        }
    }
}

vectorized! {
    fn row_stats<T: Float>(out: &mut [T], x: &[T], width: usize, eps: f64) {
        for (i, out) in out.chunks_exact_mut(2).enumerate() {
            let x = &x[i * width..][..width];
            let mean = lanes(width, #[inline(always)] |i| x[i]) / width as f64;
            let middle = T::from_f64(mean);
            let var = lanes(width, #[inline(always)] |i| (x[i] - middle) * (x[i] - middle)) / width as f64;
            out.copy_from_slice(&[middle, T::from_f64(1.0 / (var + eps).sqrt())]);
        }
    }
}

vectorized! {
    fn normalize_rows<T: Float>(out: &mut [T], x: &[T], stats: &[T], weight: &[T], bias: &[T]) {
        let width = weight.len();
        for (i, out) in out.chunks_mut(width).enumerate() {
            let (x, mean, scale) = (&x[i * width..][..width], stats[2 * i], stats[2 * i + 1]);
            for j in 0..width {
                out[j] = (x[j] - mean) * scale * weight[j] + bias[j];
            }
        }
    }
}

vectorized! {
    fn rows_grad<T: Float>(out: &mut [T], dy: &[T], x: &[T], stats: &[T], weight: &[T]) {
        let width = weight.len();
        for (i, out) in out.chunks_mut(width).enumerate() {
            let (dy, x) = (&dy[i * width..][..width], &x[i * width..][..width]);
            let (mean, scale) = (stats[2 * i], stats[2 * i + 1]);
            let level = lanes(width, #[inline(always)] |j| dy[j] * weight[j]) / width as f64;
            let along = lanes(width, #[inline(always)] |j| dy[j] * weight[j] * (x[j] - mean)) / width as f64;
            let (level, slope) = (T::from_f64(level), T::from_f64(along) * scale * scale);
            for j in 0..width {
                out[j] = (dy[j] * weight[j] - level - (x[j] - mean) * slope) * scale;
            }
        }
    }
}

vectorized! {
    /// The sums over some rows of `dy · x̂` and of `dy`, one after the other in `out`.
    fn affine_grad<T: Float>(out: &mut [T], dy: &[T], x: &[T], stats: &[T]) {
        out.fill(T::zero());
        let width = out.len() / 2;
        let (dw, db) = out.split_at_mut(width);
        for (i, dy) in dy.chunks_exact(width).enumerate() {
            let (x, mean, scale) = (&x[i * width..][..width], stats[2 * i], stats[2 * i + 1]);
            for j in 0..width {
                dw[j] += dy[j] * (x[j] - mean) * scale;
                db[j] += dy[j];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng};

    fn draw(shape: &[usize], seed: u64) -> Tensor {
        Tensor::normal(Shape::new(shape).unwrap(), 1.0f64, 2.0, &mut Rng::new(seed))
    }

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
    }

    fn assert_near(found: &Tensor, want: &[f64]) {
        let found = found.as_slice::<f64>().unwrap();
        assert_eq!(found.len(), want.len());
        // A few roundings of numbers below 10.
        assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-13), "{found:?}\n{want:?}");
    }

    #[test]
    fn layer_norm_is_its_definition() {
        for shape in [&[3usize, 4, 37][..], &[5, 1], &[64], &[0, 3]] {
            let (x, width) = (draw(shape, 1), *shape.last().unwrap());
            let (w, b) = (draw(&[width], 2), draw(&[width], 3));
            let (y, stats) = x.layer_norm(&w, &b, 0.1).unwrap();
            let (w, b) = (w.to_vec::<f64>().unwrap(), b.to_vec::<f64>().unwrap());
            let mut want = Vec::new();
            for row in x.as_slice::<f64>().unwrap().chunks(width) {
                let (mean, var) = moments(row);
                want.extend(row.iter().enumerate().map(|(j, x)| (x - mean) / (var + 0.1).sqrt() * w[j] + b[j]));
            }
            assert_near(&y, &want);
            assert_eq!((y.shape(), stats.shape()), (x.shape(), Shape::from([x.len() / width, 2])));
        }
    }

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

    /// Along any direction the adjoint agrees with differences of the forward kernel.
    #[test]
    fn adjoints_agree_with_differences() {
        let (x, w, b, dy) = (draw(&[50, 7, 3], 1), draw(&[3], 2), draw(&[3], 3), draw(&[50, 7, 3], 4));
        let (xb, wb, dyb) = (draw(&[5, 3, 2, 2], 5), draw(&[3], 6), draw(&[5, 3, 2, 2], 7));
        let dot = |a: &Tensor, b: &Tensor| a.mul(b).unwrap().sum(.., false).unwrap().item::<f64>().unwrap();
        let layer = |p: &[Tensor; 3]| dot(&p[0].layer_norm(&p[1], &p[2], 0.1).unwrap().0, &dy);
        let batch = |p: &[Tensor; 3]| {
            let (mean, var) = p[0].channel_moments().unwrap();
            dot(&p[0].batch_norm(&mean, &var, &p[1], &p[2], 0.1).unwrap(), &dyb)
        };
        let (mean, var) = xb.channel_moments().unwrap();
        let fixed = |p: &[Tensor; 3]| dot(&p[0].batch_norm(&mean, &var, &p[1], &p[2], 0.1).unwrap(), &dyb);
        let stats = x.layer_norm(&w, &b, 0.1).unwrap().1;
        let layer_grad = dy.layer_norm_grad(&x, &w, &stats, [true; 3]).unwrap();
        let batch_grad = |fixed| dyb.batch_norm_grad(&xb, &mean, &var, &wb, 0.1, fixed, [true; 3]).unwrap();
        type Case<'a> = (&'a dyn Fn(&[Tensor; 3]) -> f64, [Tensor; 3], [Option<Tensor>; 3]);
        let cases: [Case<'_>; 3] = [
            (&layer, [x.clone(), w.clone(), b.clone()], layer_grad),
            (&batch, [xb.clone(), wb.clone(), b.clone()], batch_grad(false)),
            (&fixed, [xb.clone(), wb.clone(), b], batch_grad(true)),
        ];
        for (value, inputs, grads) in &cases {
            for i in 0..3 {
                let direction = draw(&inputs[i].shape(), 8);
                let moved = |step: f64| {
                    let mut inputs = inputs.clone();
                    inputs[i] = inputs[i].add(&direction.mul_scalar(step)).unwrap();
                    value(&inputs)
                };
                let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                let found = dot(grads[i].as_ref().unwrap(), &direction);
                assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
            }
        }
        let [dx, dw, db] = dy.layer_norm_grad(&x, &w, &stats, [false, true, false]).unwrap();
        assert!(dx.is_none() && dw.is_some() && db.is_none());
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let text = zeros(&[2, 3]).layer_norm(&zeros(&[2]), &zeros(&[3]), 0.1).unwrap_err().to_string();
        let want = "layer_norm: the input [2, 3] has 3 features, a parameter is [2]; help: every parameter must be [3]";
        assert_eq!(text, want);
        let text = zeros(&[]).layer_norm(&zeros(&[1]), &zeros(&[1]), 0.1).unwrap_err().to_string();
        assert_eq!(text, "layer_norm: the input [] has too few axes; help: it needs an axis of features");
        let text = zeros(&[3]).channel_moments().unwrap_err().to_string();
        assert_eq!(text, "channel_moments: the input [3] has no axis of channels; help: it must be [n, c, ..]");
    }
}
