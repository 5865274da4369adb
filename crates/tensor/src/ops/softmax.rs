//! Softmax and its relatives over one axis, each above its adjoint.

use super::activation::check_adjoint;
use super::fold::fold_slice;
use super::number::Number;
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::simd::vectorized;
use crate::{Result, Tensor, par};

/// About the nanoseconds that one element takes.
const COST: f64 = 1.0;

/// These work on `f32` and `f64`, and give an error for integers. Rows of any size are safe from overflow: the greatest
/// element is subtracted first.
impl Tensor {
    /// `eˣ / Σ eˣ` along an axis: positive numbers that sum to 1.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let x = Tensor::from([0.0f32, 1000.0, 1000.0]);
    /// assert_eq!(x.softmax(0)?, Tensor::from([0.0f32, 0.5, 0.5]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// No such axis, or an integer tensor.
    pub fn softmax(&self, axis: isize) -> Result<Self> {
        along(
            "softmax",
            self,
            axis,
            |x| dispatch_float!(x.dtype(), "softmax", T => Ok(by_rows::<T>(x, x, softmax_rows))),
        )
    }

    /// Adjoint of [`softmax`](Self::softmax): `y · (dy − Σ y · dy)`; `self` is its output `y`.
    ///
    /// # Errors
    /// Different shapes or element types, no such axis, or integers.
    pub fn softmax_grad(&self, dy: &Self, axis: isize) -> Result<Self> {
        along_both(
            "softmax_grad",
            self,
            dy,
            axis,
            |y, dy| dispatch_float!(y.dtype(), "softmax_grad", T => Ok(by_rows::<T>(y, dy, softmax_grad_rows))),
        )
    }

    /// `x − ln Σ eˣ` along an axis: the logarithm of [`softmax`](Self::softmax), also where that is too small for a
    /// number.
    ///
    /// # Errors
    /// No such axis, or an integer tensor.
    pub fn log_softmax(&self, axis: isize) -> Result<Self> {
        along(
            "log_softmax",
            self,
            axis,
            |x| dispatch_float!(x.dtype(), "log_softmax", T => Ok(by_rows::<T>(x, x, log_softmax_rows))),
        )
    }

    /// Adjoint of [`log_softmax`](Self::log_softmax): `dy − eʸ · Σ dy`; `self` is its output `y`.
    ///
    /// # Errors
    /// Different shapes or element types, no such axis, or integers.
    pub fn log_softmax_grad(&self, dy: &Self, axis: isize) -> Result<Self> {
        along_both(
            "log_softmax_grad",
            self,
            dy,
            axis,
            |y, dy| dispatch_float!(y.dtype(), "log_softmax_grad", T => Ok(by_rows::<T>(y, dy, log_softmax_grad_rows))),
        )
    }

    /// `ln Σ eˣ` along an axis; −∞ for nothing.
    ///
    /// # Errors
    /// No such axis, or an integer tensor.
    pub fn logsumexp(&self, axis: isize, keepdims: bool) -> Result<Self> {
        self.dtype().expect_float("logsumexp")?;
        let at = self.shape().axis("logsumexp", axis)?;
        let result = if keepdims { self.shape().with_size(at, 1) } else { self.shape().without(at) };
        let x = self.axis_to_last(at);
        let n = self.shape()[at];
        dispatch_float!(self.dtype(), "logsumexp", T => {
            let x = x.slice_of::<T>();
            Ok(Tensor::build(result, |out| par::elements(out, n as f64 * COST, |start, out| {
                logsumexp_rows(out, &x[start * n..][..out.len() * n], n);
            })))
        })
    }
}

/// Runs a kernel for the last axis along any axis.
fn along(op: &'static str, x: &Tensor, axis: isize, kernel: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    x.dtype().expect_float(op)?;
    let at = x.shape().axis(op, axis)?;
    Ok(kernel(&x.axis_to_last(at))?.axis_from_last(at))
}

/// As [`along`], for two tensors of one shape.
fn along_both(
    op: &'static str,
    y: &Tensor,
    dy: &Tensor,
    axis: isize,
    kernel: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    check_adjoint(op, y, dy)?;
    let at = y.shape().axis(op, axis)?;
    along(op, y, axis, |y| kernel(y, &dy.axis_to_last(at)))
}

/// Runs `kernel(out, x, dy, n)` on pieces of whole rows of `n` elements.
fn by_rows<T: Math>(x: &Tensor, dy: &Tensor, kernel: fn(&mut [T], &[T], &[T], usize)) -> Tensor {
    let n = x.shape()[x.rank() - 1];
    let (elements, dy) = (x.slice_of::<T>(), dy.slice_of::<T>());
    Tensor::build(x.shape(), |out| {
        par::rows(out, n, n as f64 * COST, |row, out| {
            kernel(out, &elements[row * n..][..out.len()], &dy[row * n..][..out.len()], n);
        });
    })
}

vectorized! {
    fn softmax_rows<T: RowMath>(out: &mut [T], x: &[T], _dy: &[T], n: usize) {
        for (out, x) in out.chunks_mut(block(n)).zip(x.chunks(block(n))) {
            for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
                subtract_greatest(out, x);
            }
            for out in &mut *out {
                *out = out.fast_exp::<FUSED>();
            }
            for out in out.chunks_exact_mut(n) {
                let scale = T::one() / fold_slice(out, T::zero(), &T::plus);
                for out in out {
                    *out *= scale;
                }
            }
        }
    }
}

vectorized! {
    fn softmax_grad_rows<T: RowMath>(out: &mut [T], y: &[T], dy: &[T], n: usize) {
        for ((out, y), dy) in out.chunks_exact_mut(n).zip(y.chunks_exact(n)).zip(dy.chunks_exact(n)) {
            for i in 0..n {
                out[i] = y[i] * dy[i];
            }
            let sum = fold_slice(out, T::zero(), &T::plus);
            for i in 0..n {
                out[i] = y[i] * (dy[i] - sum);
            }
        }
    }
}

vectorized! {
    fn log_softmax_rows<T: RowMath>(out: &mut [T], x: &[T], _dy: &[T], n: usize) {
        let mut exps = vec![T::zero(); block(n).min(x.len())];
        for (out, x) in out.chunks_mut(block(n)).zip(x.chunks(block(n))) {
            for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
                subtract_greatest(out, x);
            }
            for (exp, out) in exps.iter_mut().zip(&*out) {
                *exp = out.fast_exp::<FUSED>();
            }
            for (out, exps) in out.chunks_exact_mut(n).zip(exps.chunks_exact(n)) {
                let log = fold_slice(exps, T::zero(), &T::plus).fast_ln::<FUSED>();
                for out in out {
                    *out = *out - log;
                }
            }
        }
    }
}

vectorized! {
    fn log_softmax_grad_rows<T: RowMath>(out: &mut [T], y: &[T], dy: &[T], n: usize) {
        for ((out, y), dy) in out.chunks_exact_mut(n).zip(y.chunks_exact(n)).zip(dy.chunks_exact(n)) {
            let sum = fold_slice(dy, T::zero(), &T::plus);
            for i in 0..n {
                out[i] = dy[i] - y[i].fast_exp::<FUSED>() * sum;
            }
        }
    }
}

vectorized! {
    fn logsumexp_rows<T: RowMath>(out: &mut [T], x: &[T], n: usize) {
        for (row, out) in out.iter_mut().enumerate() {
            let x = &x[row * n..][..n];
            let greatest = fold_slice(x, T::LEAST, &greater);
            // A row of −∞ has the sum 0, one with +∞ the sum ∞: neither may become ∞ − ∞.
            let shift = if greatest.abs() < T::GREATEST { greatest } else { T::zero() };
            *out = shift + sum_of_exps::<T, FUSED>(x, shift).fast_ln::<FUSED>();
        }
    }
}

/// `Σ exp(x − shift)`; to be called in a `vectorized!` loop.
#[inline(always)]
pub(super) fn sum_of_exps<T: RowMath, const FUSED: bool>(x: &[T], shift: T) -> T {
    /// Exponentials that are summed at once: few, since short rows pay for the whole scratch.
    const BLOCK: usize = 128;
    let (mut sum, mut scratch) = (T::zero(), [T::zero(); BLOCK]);
    for x in x.chunks(BLOCK) {
        for (scratch, &x) in scratch.iter_mut().zip(x) {
            *scratch = (x - shift).fast_exp::<FUSED>();
        }
        sum += fold_slice(&scratch[..x.len()], T::zero(), &T::plus);
    }
    sum
}

/// Whole rows that are worked on at once: one loop over all their exponentials, which short rows could not fill a
/// vector with, and few enough to stay in the first-level cache.
fn block(n: usize) -> usize {
    (2048 / n).max(1) * n
}

/// One instruction, unlike [`Number::larger`]. It may lose a NaN, whose exponential then makes the sum NaN all
/// the same.
#[inline(always)]
pub(super) fn greater<T: PartialOrd>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

#[inline(always)]
fn subtract_greatest<T: RowMath>(out: &mut [T], x: &[T]) {
    let greatest = fold_slice(x, T::LEAST, &greater);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x - greatest;
    }
}

/// What the rows need: one name, because `vectorized!` takes one bound.
pub(super) trait RowMath: Math + Number {}
impl RowMath for f32 {}
impl RowMath for f64 {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng, Shape};

    /// By the definition, in `f64`.
    fn naive(x: &Tensor, axis: usize) -> (Vec<f64>, Vec<f64>) {
        let (outer, n, inner) = x.shape().around(axis);
        let x = x.as_slice::<f64>().unwrap();
        let (mut softmax, mut sums) = (vec![0.0; x.len()], Vec::new());
        for o in 0..outer {
            for i in 0..inner {
                let at = |j: usize| (o * n + j) * inner + i;
                let sum: f64 = (0..n).map(|j| x[at(j)].exp()).sum();
                (0..n).for_each(|j| softmax[at(j)] = x[at(j)].exp() / sum);
                sums.push(sum.ln());
            }
        }
        (softmax, sums)
    }

    fn assert_close(y: &Tensor, expected: &[f64], tolerance: f64) {
        let y = y.to_dtype(DType::F64).to_vec::<f64>().unwrap();
        assert_eq!(y.len(), expected.len());
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() <= tolerance * expected.abs().max(1.0), "{y} against {expected}");
        }
    }

    #[test]
    fn equal_their_definitions_along_every_axis() {
        let sizes = if cfg!(miri) { [2, 5, 3] } else { [3, 70, 5] };
        let x = Tensor::normal(sizes, 0.0f64, 2.0, &mut Rng::new(3));
        for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
            for axis in 0..3 {
                let x = x.to_dtype(dtype);
                let (softmax, sums) = naive(&x.to_dtype(DType::F64), axis);
                let logs: Vec<f64> = softmax.iter().map(|y| y.ln()).collect();
                let axis = axis as isize;
                assert_close(&x.softmax(axis).unwrap(), &softmax, tolerance);
                assert_close(&x.log_softmax(axis).unwrap(), &logs, tolerance);
                assert_close(&x.logsumexp(axis, false).unwrap(), &sums, tolerance);
                assert_eq!(x.logsumexp(axis, true).unwrap().shape(), x.sum(axis, true).unwrap().shape());
            }
        }
    }

    #[test]
    fn adjoints_equal_central_differences() {
        let mut rng = Rng::new(4);
        let (x, dy) =
            (Tensor::normal([2, 4, 3], 0.0f64, 1.0, &mut rng), Tensor::normal([2, 4, 3], 0.0f64, 1.0, &mut rng));
        let step = 1e-5; // error: step² · third derivative, and 1e-16 / step
        for axis in 0..3 {
            type Op = fn(&Tensor, isize) -> Result<Tensor>;
            type Adjoint = fn(&Tensor, &Tensor, isize) -> Result<Tensor>;
            let pairs: [(Op, Adjoint); 2] =
                [(Tensor::softmax, Tensor::softmax_grad), (Tensor::log_softmax, Tensor::log_softmax_grad)];
            for (op, adjoint) in pairs {
                let loss = |x: &Tensor| (op(x, axis).unwrap() * &dy).sum(.., false).unwrap().item::<f64>().unwrap();
                let dx = adjoint(&op(&x, axis).unwrap(), &dy, axis).unwrap();
                for i in 0..x.len() {
                    let moved = |by: f64| {
                        let mut x = x.clone();
                        x.as_mut_slice::<f64>().unwrap()[i] += by;
                        loss(&x)
                    };
                    let slope = (moved(step) - moved(-step)) / (2.0 * step);
                    assert!((dx.as_slice::<f64>().unwrap()[i] - slope).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn infinities_do_as_in_pytorch() {
        let infinity = f32::INFINITY;
        let x = Tensor::from([-infinity, 0.0, 0.0]);
        assert_eq!(x.softmax(0).unwrap(), Tensor::from([0.0f32, 0.5, 0.5]));
        let nothing = Tensor::from([-infinity, -infinity]);
        assert_eq!(nothing.logsumexp(0, false).unwrap(), Tensor::scalar(-infinity));
        assert!(nothing.softmax(0).unwrap().as_slice::<f32>().unwrap().iter().all(|y| y.is_nan()));
        assert_eq!(Tensor::from([infinity, 1.0]).logsumexp(0, false).unwrap(), Tensor::scalar(infinity));
        for at in [0, 1, 40, 99] {
            let mut x = Tensor::zeros([100], DType::F32);
            x.as_mut_slice::<f32>().unwrap()[at] = f32::NAN;
            assert!(x.logsumexp(0, false).unwrap().item::<f32>().unwrap().is_nan());
            for y in [x.softmax(0).unwrap(), x.log_softmax(0).unwrap()] {
                assert!(y.as_slice::<f32>().unwrap().iter().all(|y| y.is_nan()));
            }
        }
    }

    #[test]
    fn large_logits_keep_their_digits() {
        let x = Tensor::from([[1000.0f32, 1001.0], [-1000.0, -1000.0]]);
        let y = x.log_softmax(1).unwrap();
        let (e, ln_2) = (1f64.exp(), 2f64.ln());
        assert_close(&y, &[-e.ln_1p(), -e.recip().ln_1p(), -ln_2, -ln_2], 1e-6);
        assert_close(&x.logsumexp(1, false).unwrap(), &[1000.0 + e.ln_1p(), -1000.0 + ln_2], 1e-7);
    }

    #[test]
    fn nothing_stays_nothing() {
        let x = Tensor::zeros([2, 0], DType::F32);
        assert_eq!(x.softmax(1).unwrap().shape(), Shape::from([2, 0]));
        assert_eq!(x.log_softmax(0).unwrap().shape(), Shape::from([2, 0]));
        assert_eq!(x.logsumexp(1, false).unwrap(), Tensor::from([f32::NEG_INFINITY; 2]));
        assert_eq!(x.logsumexp(0, false).unwrap().shape(), Shape::from([0]));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let (x, i) = (Tensor::from([1.0f32, 2.0]), Tensor::from([1i64]));
        let convert = "expects f32 or f64, got i64; help: convert with to_dtype(DType::F32)";
        let axis = "[2] has no axis 1; help: axes run from 0 to 0, or from -1 to -1";
        let differ = "[2] and the gradient [1] differ; help: both must have one shape";
        let one = Tensor::from([1.0f32]);
        for (result, text) in [
            (i.softmax(0), format!("softmax: {convert}")),
            (i.log_softmax(0), format!("log_softmax: {convert}")),
            (i.logsumexp(0, false), format!("logsumexp: {convert}")),
            (x.softmax(1), format!("softmax: {axis}")),
            (x.log_softmax(1), format!("log_softmax: {axis}")),
            (x.logsumexp(1, true), format!("logsumexp: {axis}")),
            (x.softmax_grad(&one, 0), format!("softmax_grad: {differ}")),
            (x.log_softmax_grad(&one, 0), format!("log_softmax_grad: {differ}")),
        ] {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
