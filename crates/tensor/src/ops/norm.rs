//! Layer norm above its adjoint, and what it shares with batch norm.
//!
//! With `x̂ = (x − mean) / √(var + eps)` and `g = dy · weight`, the gradient through statistics of `m` elements is
//! `dx = (g − Σg/m − x̂ · Σ(g x̂)/m) / √(var + eps)`.

use super::moments::{Moments, moments};
use crate::dtype::dispatch_float;
use crate::lanes::{Job, Lanes, Lanewise, sums};
use crate::par::Shared;
use crate::simd::vectorized;
use crate::{Error, Float, Result, Shape, Tensor, par};

/// About the nanoseconds that one element takes.
pub(super) const COST: f64 = 0.4;

/// Elements of neighboring rows that are worked on at once: they stay in the cache.
const BLOCK: usize = 4096;

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
            let mut stats = Tensor::dirty::<T>(Shape::from([rows, 2]));
            let all_stats = Shared::new(stats.own_slice::<T>());
            let y = Tensor::build(self.shape(), |out: &mut [T]| {
                par::rows(out, width, 2.0 * width as f64 * COST, |first, out| {
                    // A block is read again while it is in the cache.
                    let rows = (BLOCK / width).max(1);
                    for (i, out) in out.chunks_mut(rows * width).enumerate() {
                        let (first, rows) = (first + i * rows, out.len() / width);
                        let x = &x[first * width..][..out.len()];
                        // SAFETY: rows have statistics of their own.
                        let stats = unsafe { all_stats.slice(2 * first, 2 * rows) };
                        T::with_lanes(RowStats { out: stats, x, width, eps });
                        normalize_rows(out, x, stats, w, b);
                    }
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
        if stats.shape() != Shape::from([x.len() / width.max(1), 2]) {
            let what = format!("the input {} has statistics {}", x.shape(), stats.shape());
            return Err(Error::shape("layer_norm_grad", what, "pass the second result of layer_norm"));
        }
        dispatch_float!(self.dtype(), "layer_norm_grad", T => {
            let (dy, x, w) = (self.slice_of::<T>(), x.slice_of::<T>(), weight.slice_of::<T>());
            let st = stats.slice_of::<T>();
            let mut dx = want[0].then(|| Tensor::dirty::<T>(self.shape()));
            let all_dx = dx.as_mut().map(|dx| Shared::new(dx.own_slice::<T>()));
            let (rows, cost) = (dy.len() / width.max(1), 3.0 * width as f64 * COST);
            let sums = sum_rows(rows, 2 * width, cost, |out: &mut [T], from, to| {
                let (dy, x, stats) = (&dy[from * width..to * width], &x[from * width..], &st[2 * from..]);
                affine_grad(out, dy, x, stats);
                if let Some(dx) = &all_dx {
                    // SAFETY: each row is summed once.
                    let out = unsafe { dx.slice(from * width, dy.len()) };
                    T::with_lanes(RowsGrad { out, dy, x, stats, weight: w });
                }
            })?;
            let sum = |part| sums.slice(0, part * width, (part + 1) * width);
            let dw = if want[1] { Some(sum(0)?) } else { None };
            let db = if want[2] { Some(sum(1)?) } else { None };
            Ok([dx, dw, db])
        })
    }

    /// The size of `axis`, which two vectors of features must have.
    pub(super) fn check_features(
        &self,
        op: &'static str,
        axis: Option<usize>,
        a: &Tensor,
        b: &Tensor,
    ) -> Result<usize> {
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

pub(super) fn check_same(op: &'static str, dy: &Tensor, x: &Tensor) -> Result<()> {
    dy.same_dtype(op, x)?;
    if dy.shape() == x.shape() {
        return Ok(());
    }
    Err(Error::shape(op, format!("{} and the gradient {} differ", x.shape(), dy.shape()), "both must have one shape"))
}

/// `[len]`, the sum over all rows of what `add(out, from, to)` sums over the rows `from..to`; a row takes `cost`.
///
/// Rows come in pieces of a fixed size, which are then added in order: the threads do not matter.
pub(super) fn sum_rows<T: Float>(
    rows: usize,
    len: usize,
    cost: f64,
    add: impl Fn(&mut [T], usize, usize) + Sync,
) -> Result<Tensor> {
    let piece = (32_768 / len.max(1)).max(8); // sums are small beside what they are taken of
    let parts = Tensor::build(Shape::from([rows.div_ceil(piece), len]), |out: &mut [T]| {
        par::rows(out, len, cost * piece as f64, |first, out| {
            for (i, out) in out.chunks_mut(len.max(1)).enumerate() {
                out.fill(T::zero());
                let from = (first + i) * piece;
                add(out, from, (from + piece).min(rows));
            }
        });
    });
    parts.sum(0, false)
}

/// Mean and `1 / √(var + eps)` of each row.
pub(super) struct RowStats<'a, T> {
    pub(super) out: &'a mut [T],
    pub(super) x: &'a [T],
    pub(super) width: usize,
    pub(super) eps: f64,
}

impl<T: Float> Job<T> for RowStats<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) {
        for (i, out) in self.out.chunks_exact_mut(2).enumerate() {
            let x = &self.x[i * self.width..][..self.width];
            // SAFETY: promised by the caller.
            let Moments { count, mean, squares } = unsafe { moments::<L>(x) };
            out.copy_from_slice(&[T::from_f64(mean), T::from_f64(1.0 / (squares / count + self.eps).sqrt())]);
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

/// The gradient of some rows.
struct RowsGrad<'a, T> {
    out: &'a mut [T],
    dy: &'a [T],
    x: &'a [T],
    stats: &'a [T],
    weight: &'a [T],
}

impl<T: Float> Job<T> for RowsGrad<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) {
        let (width, weight) = (self.weight.len(), self.weight);
        for (i, out) in self.out.chunks_exact_mut(width).enumerate() {
            let (dy, x) = (&self.dy[i * width..][..width], &self.x[i * width..][..width]);
            let (mean, scale) = (self.stats[2 * i], self.stats[2 * i + 1]);
            // SAFETY: promised by the caller.
            let [level, along] = unsafe {
                let middle = L::splat(mean);
                sums(
                    [dy, weight, x],
                    #[inline(always)]
                    |[dy, weight, x]: [L; 3]| {
                        let g = dy.mul(weight);
                        [g, g.mul(x.sub(middle))]
                    },
                )
            };
            let level = T::from_f64(level / width as f64);
            let slope = T::from_f64(along / width as f64) * scale * scale;
            for j in 0..width {
                out[j] = (dy[j] * weight[j] - level - (x[j] - mean) * slope) * scale;
            }
        }
    }
}

vectorized! {
    /// The sums over some rows of `dy · x̂` and of `dy`, one after the other in `out`.
    fn affine_grad<T: Float>(out: &mut [T], dy: &[T], x: &[T], stats: &[T]) {
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
    use crate::Activation;
    use crate::DType;
    use crate::ops::testing::{assert_near, assert_same_on_any_threads, dot, draw, moments, slope};

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
    fn the_adjoint_agrees_with_differences() {
        let (x, w, b, dy) = (draw(&[50, 7, 3], 1), draw(&[3], 2), draw(&[3], 3), draw(&[50, 7, 3], 4));
        let stats = x.layer_norm(&w, &b, 0.1).unwrap().1;
        let grads = dy.layer_norm_grad(&x, &w, &stats, [true; 3]).unwrap();
        let inputs = [x.clone(), w.clone(), b];
        for i in 0..3 {
            let direction = draw(&inputs[i].shape(), 8);
            let difference =
                slope(|p| dot(&p[0].layer_norm(&p[1], &p[2], 0.1).unwrap().0, &dy), &inputs, i, &direction);
            let found = dot(grads[i].as_ref().unwrap(), &direction);
            assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
        }
        let [dx, dw, db] = dy.layer_norm_grad(&x, &w, &stats, [false, true, false]).unwrap();
        assert!(dx.is_none() && dw.is_some() && db.is_none());
    }

    /// Of all the norms, forwards and backwards.
    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let single = |shape: &[usize], seed| draw(shape, seed).to_dtype(DType::F32);
        let (rows, channels) = if cfg!(miri) { (9, 4) } else { (900, 8) };
        let (x, dy, w, b) = (single(&[rows, 70], 1), single(&[rows, 70], 2), single(&[70], 3), single(&[70], 4));
        assert_same_on_any_threads(|| {
            let (y, stats) = x.layer_norm(&w, &b, 0.1).unwrap();
            let (z, scales) = x.rms_norm(&w, 0.1).unwrap();
            let grads = dy.layer_norm_grad(&x, &w, &stats, [true; 3]).unwrap();
            (y, z, grads, dy.rms_norm_grad(&x, &w, &scales, [true; 2]).unwrap())
        });
        let shape = [40, channels, rows / 9, 2];
        let (x, dy) = (single(&shape, 5), single(&shape, 6));
        let (w, b) = (single(&[channels], 7), single(&[channels], 8));
        assert_same_on_any_threads(|| {
            let (y, stats) = x.group_norm(2, &w, &b, 0.1).unwrap();
            let (mean, var) = x.channel_moments().unwrap();
            let z = x.batch_norm(&mean, &var, &w, &b, 0.1, Activation::Relu).unwrap();
            let grads = dy.group_norm_grad(&x, 2, &w, &stats, [true; 3]).unwrap();
            (y, z, grads, dy.batch_norm_grad(&x, &mean, &var, &w, &b, 0.1, Activation::Relu, false, [true; 3]).unwrap())
        });
    }

    #[test]
    fn misfits_are_explained() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let text = zeros(&[2, 3]).layer_norm(&zeros(&[2]), &zeros(&[3]), 0.1).unwrap_err().to_string();
        let want = "layer_norm: the input [2, 3] has 3 features, a parameter is [2]; help: every parameter must be [3]";
        assert_eq!(text, want);
        let text = zeros(&[]).layer_norm(&zeros(&[1]), &zeros(&[1]), 0.1).unwrap_err().to_string();
        assert_eq!(text, "layer_norm: the input [] has too few axes; help: it needs an axis of features");
        let (x, w) = (zeros(&[2, 3]), zeros(&[3]));
        let text = x.layer_norm_grad(&x, &w, &zeros(&[1, 2]), [true; 3]).unwrap_err().to_string();
        let want =
            "layer_norm_grad: the input [2, 3] has statistics [1, 2]; help: pass the second result of layer_norm";
        assert_eq!(text, want);
    }
}
