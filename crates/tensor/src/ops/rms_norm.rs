//! RMS norm above its adjoint.
//!
//! With `r = 1 / √(mean(x²) + eps)` of a row of `d` elements and `g = dy · weight`, the gradient is
//! `dx = (g − x · r² · Σ(g x)/d) · r`.

use super::norm::{COST, check_same, sum_rows};
use crate::dtype::dispatch_float;
use crate::lanes::{Job, Lanes, Lanewise, sums};
use crate::simd::vectorized;
use crate::{Float, Result, Shape, Tensor, par};

impl Tensor {
    /// `x / √(mean(x²) + eps) · weight` over the last axis.
    ///
    /// Also returns `1 / √(mean(x²) + eps)` of each row, `[rows]`, for the adjoint.
    ///
    /// # Shapes
    /// - `self: [.., d]`, `weight: [d]`, output: `[.., d]`
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    ///
    /// # Reference
    /// Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", eq. 4.
    pub fn rms_norm(&self, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
        let width = self.check_features("rms_norm", self.rank().checked_sub(1), weight, weight)?;
        dispatch_float!(self.dtype(), "rms_norm", T => {
            let (x, w) = (self.slice_of::<T>(), weight.slice_of::<T>());
            let cost = width as f64 * COST;
            let scales = Tensor::build(Shape::from([x.len() / width.max(1)]), |out: &mut [T]| {
                par::rows(out, 1, cost, |first, out| {
                    T::with_lanes(RowScales { out, x: &x[first * width..], width, eps });
                });
            });
            let r = scales.slice_of::<T>();
            let y = Tensor::build(self.shape(), |out: &mut [T]| {
                par::rows(out, width, cost, |first, out| scale_rows(out, &x[first * width..], &r[first..], w));
            });
            Ok((y, scales))
        })
    }

    /// Adjoint of [`rms_norm`](Self::rms_norm); `self` is `dy`, `scales` its second output. Gives the gradients of
    /// input and weight that `want` asks for.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ or are not float.
    pub fn rms_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        scales: &Tensor,
        want: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        let width = x.check_features("rms_norm_grad", x.rank().checked_sub(1), weight, weight)?;
        check_same("rms_norm_grad", self, x)?;
        x.same_dtype("rms_norm_grad", scales)?;
        dispatch_float!(self.dtype(), "rms_norm_grad", T => {
            let (dy, x) = (self.slice_of::<T>(), x.slice_of::<T>());
            let (w, r) = (weight.slice_of::<T>(), scales.slice_of::<T>());
            let cost = width as f64 * COST;
            let dx = want[0].then(|| Tensor::build(self.shape(), |out: &mut [T]| {
                par::rows(out, width, 2.0 * cost, |first, out| {
                    let (dy, x, scales) = (&dy[first * width..], &x[first * width..], &r[first..]);
                    T::with_lanes(RowsGrad { out, dy, x, scales, weight: w });
                });
            }));
            let dw = |out: &mut [T], from: usize, to: usize| {
                weight_grad(out, &dy[from * width..to * width], &x[from * width..], &r[from..]);
            };
            let dw = if want[1] { Some(sum_rows(r.len(), width, cost, dw)?) } else { None };
            Ok([dx, dw])
        })
    }
}

/// `1 / √(mean of x² + eps)` of each row.
struct RowScales<'a, T> {
    out: &'a mut [T],
    x: &'a [T],
    width: usize,
    eps: f64,
}

impl<T: Float> Job<T> for RowScales<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) {
        for (i, out) in self.out.iter_mut().enumerate() {
            let x = &self.x[i * self.width..][..self.width];
            // SAFETY: promised by the caller.
            let [squares] = unsafe {
                sums(
                    [x],
                    #[inline(always)]
                    |[x]: [L; 1]| [x.mul(x)],
                )
            };
            *out = T::from_f64(1.0 / (squares / self.width as f64 + self.eps).sqrt());
        }
    }
}

vectorized! {
    fn scale_rows<T: Float>(out: &mut [T], x: &[T], scales: &[T], weight: &[T]) {
        let width = weight.len();
        for ((out, x), &r) in out.chunks_mut(width).zip(x.chunks(width)).zip(scales) {
            for j in 0..width {
                out[j] = x[j] * r * weight[j];
            }
        }
    }
}

/// The gradient of some rows.
struct RowsGrad<'a, T> {
    out: &'a mut [T],
    dy: &'a [T],
    x: &'a [T],
    scales: &'a [T],
    weight: &'a [T],
}

impl<T: Float> Job<T> for RowsGrad<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<Item = T>>(self) {
        let (width, weight) = (self.weight.len(), self.weight);
        for (i, out) in self.out.chunks_exact_mut(width).enumerate() {
            let (dy, x, r) = (&self.dy[i * width..][..width], &self.x[i * width..][..width], self.scales[i]);
            // SAFETY: promised by the caller.
            let [along] = unsafe {
                sums(
                    [dy, weight, x],
                    #[inline(always)]
                    |[dy, weight, x]: [L; 3]| [dy.mul(weight).mul(x)],
                )
            };
            let slope = T::from_f64(along / width as f64) * r * r;
            for j in 0..width {
                out[j] = (dy[j] * weight[j] - x[j] * slope) * r;
            }
        }
    }
}

vectorized! {
    /// Adds `dy · x · r` over some rows.
    fn weight_grad<T: Float>(out: &mut [T], dy: &[T], x: &[T], scales: &[T]) {
        let width = out.len();
        for ((dy, x), &r) in dy.chunks_exact(width).zip(x.chunks(width)).zip(scales) {
            for j in 0..width {
                out[j] += dy[j] * x[j] * r;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_near, dot, draw, slope};

    #[test]
    fn rms_norm_is_its_definition() {
        for shape in [&[3usize, 4, 37][..], &[5, 1], &[64], &[0, 3]] {
            let (x, width) = (draw(shape, 1), *shape.last().unwrap());
            let w = draw(&[width], 2);
            let (y, scales) = x.rms_norm(&w, 0.1).unwrap();
            let w = w.to_vec::<f64>().unwrap();
            let mut want = Vec::new();
            for row in x.as_slice::<f64>().unwrap().chunks(width) {
                let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                want.extend(row.iter().zip(&w).map(|(x, w)| x / (mean + 0.1).sqrt() * w));
            }
            assert_near(&y, &want);
            assert_eq!((y.shape(), scales.shape()), (x.shape(), Shape::from([x.len() / width])));
        }
    }

    #[test]
    fn the_adjoint_agrees_with_differences() {
        let (x, w, dy) = (draw(&[50, 7, 3], 1), draw(&[3], 2), draw(&[50, 7, 3], 4));
        let scales = x.rms_norm(&w, 0.1).unwrap().1;
        let grads = dy.rms_norm_grad(&x, &w, &scales, [true; 2]).unwrap();
        let inputs = [x.clone(), w.clone(), w.clone()];
        for i in 0..2 {
            let direction = draw(&inputs[i].shape(), 8);
            let difference = slope(|p| dot(&p[0].rms_norm(&p[1], 0.1).unwrap().0, &dy), &inputs, i, &direction);
            let found = dot(grads[i].as_ref().unwrap(), &direction);
            assert!((found - difference).abs() < 1e-6 * difference.abs().max(1.0), "{i}: {found} {difference}");
        }
        let [dx, dw] = dy.rms_norm_grad(&x, &w, &scales, [false, true]).unwrap();
        assert!(dx.is_none() && dw.is_some());
    }

    #[test]
    fn misfits_are_explained() {
        let text = draw(&[2, 3], 1).rms_norm(&draw(&[2], 2), 0.1).unwrap_err().to_string();
        let want = "rms_norm: the input [2, 3] has 3 features, a parameter is [2]; help: every parameter must be [3]";
        assert_eq!(text, want);
    }
}
