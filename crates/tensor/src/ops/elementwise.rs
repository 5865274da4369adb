//! Functions of one element, and the loops that all elementwise ops run on.
//!
//! Activations and their adjoints are in `activation.rs`.

use super::walk::{Walk, stretched};
use crate::math::Math;
use crate::simd::vectorized;
use crate::{Element, Error, Result, Tensor, par};

/// About the nanoseconds that one element takes when a loop only reads and writes.
pub(crate) const COPY: f64 = 0.2;

vectorized! {
    fn map_slice<T: Element, U: Element, F: Fn(T, bool) -> U>(out: &mut [U], x: &[T], f: &F) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x, FUSED);
        }
    }
}

/// `f` of every element; one takes about `cost` nanoseconds.
pub(crate) fn apply<T: Element, U: Element>(x: &Tensor, cost: f64, f: impl Fn(T) -> U + Sync) -> Tensor {
    apply_fused(x, cost, move |x, _| f(x))
}

/// As [`apply`]; `f` is told whether there are fused multiply-adds.
pub(crate) fn apply_fused<T: Element, U: Element>(x: &Tensor, cost: f64, f: impl Fn(T, bool) -> U + Sync) -> Tensor {
    let input = x.slice_of::<T>();
    Tensor::build(x.shape(), |out| {
        par::elements(out, cost, |start, out| map_slice(out, &input[start..][..out.len()], &f));
    })
}

vectorized! {
    fn zip_slices<T: Element, F: Fn(T, T, bool) -> T>(out: &mut [T], a: &[T], b: &[T], f: &F) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = f(a, b, FUSED);
        }
    }
}

/// `f` of every pair of elements of two tensors that are known to have one shape, told whether there are fused
/// multiply-adds; one takes about `cost` nanoseconds.
pub(crate) fn apply_both<T: Element>(a: &Tensor, b: &Tensor, cost: f64, f: impl Fn(T, T, bool) -> T + Sync) -> Tensor {
    let (shape, a, b) = (a.shape(), a.slice_of::<T>(), b.slice_of::<T>());
    Tensor::build(shape, |out| {
        par::elements(out, cost, |start, out| zip_slices(out, &a[start..][..out.len()], &b[start..][..out.len()], &f));
    })
}

vectorized! {
    fn zip_runs<T: Element, U: Element, F: Fn(T, T) -> U>(
        out: &mut [U], start: usize, a: &[T], b: &[T], walk: &Walk<2>, f: &F,
    ) {
        let (strides, mut rest) = (walk.inner(), out);
        for ([at_a, at_b], run) in walk.runs(start, rest.len()) {
            let (out, next) = rest.split_at_mut(run);
            rest = next;
            match strides {
                [0, _] => {
                    let (a, b) = (a[at_a], &b[at_b..][..run]);
                    out.iter_mut().zip(b).for_each(|(out, &b)| *out = f(a, b));
                }
                [_, 0] => {
                    let (a, b) = (&a[at_a..][..run], b[at_b]);
                    out.iter_mut().zip(a).for_each(|(out, &a)| *out = f(a, b));
                }
                _ => {
                    let (a, b) = (&a[at_a..][..run], &b[at_b..][..run]);
                    out.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = f(a, b));
                }
            }
        }
    }
}

/// `f` of every pair of elements, broadcasting; one takes about `cost` nanoseconds.
pub(crate) fn combine<T: Element, U: Element>(
    op: &'static str,
    a: &Tensor,
    b: &Tensor,
    cost: f64,
    f: impl Fn(T, T) -> U + Sync,
) -> Result<Tensor> {
    let shape = a.shape().broadcast(op, &b.shape())?;
    let walk = Walk::new(&shape, [stretched(&a.shape(), &shape), stretched(&b.shape(), &shape)]);
    let (a, b) = (a.slice_of::<T>(), b.slice_of::<T>());
    Ok(Tensor::build(shape, |out| par::elements(out, cost, |start, out| zip_runs(out, start, a, b, &walk, &f))))
}

/// Panics with the error's own text: for ops that return a plain value.
#[track_caller]
pub(crate) fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `$body` with `$T` bound to the tensor's float type; panics with the op's error for an integer tensor.
macro_rules! float {
    ($x:expr, $op:expr, $T:ident => $body:expr) => {
        $crate::dtype::match_float!($x.dtype(), $op, $T => $body, error => panic!("{error}"))
    };
}
pub(crate) use float;

/// A function of one float, written once for both types: `unary!(x, "square", COPY, |x: T| x * x)`, with numbers
/// (`f64` outside, `T` inside) in front if it has some: `unary!(x, "elu", 0.6, [alpha], |x: T| …)`. The constant
/// `FUSED` is there for what [`Math`] has.
///
/// A macro, because the body must become an `#[inline(always)]` item: a closure of this size is not inlined into all
/// the loops that `vectorized!` makes.
macro_rules! unary {
    ($x:expr, $op:expr, $cost:expr, $([$($number:ident),+],)? |$v:ident: $T:ident| $body:expr) => {
        $crate::ops::elementwise::float!($x, $op, $T => {
            $($(let $number = $number as $T;)+)?
            #[inline(always)]
            fn f<const FUSED: bool>($v: $T $($(, $number: $T)+)?) -> $T {
                $body
            }
            $crate::ops::elementwise::apply_fused($x, $cost, move |x: $T, fused| match fused {
                true => f::<true>(x $($(, $number)+)?),
                false => f::<false>(x $($(, $number)+)?),
            })
        })
    };
}
pub(crate) use unary;

/// One method a function. All take `f32` and `f64`, and panic with the text of the error for integers: convert with
/// [`to_dtype`](Tensor::to_dtype) first.
impl Tensor {
    /// `−x`.
    #[track_caller]
    pub fn neg(&self) -> Self {
        unary!(self, "neg", COPY, |x: T| -x)
    }

    /// `|x|`.
    #[track_caller]
    pub fn abs(&self) -> Self {
        unary!(self, "abs", COPY, |x: T| x.abs())
    }

    /// −1, 0 or 1 by the sign of `x`; 0 for NaN, as in PyTorch.
    #[track_caller]
    pub fn sign(&self) -> Self {
        unary!(self, "sign", COPY, |x: T| (x > 0.0) as u8 as T - (x < 0.0) as u8 as T)
    }

    /// `x²`.
    #[track_caller]
    pub fn square(&self) -> Self {
        unary!(self, "square", COPY, |x: T| x * x)
    }

    /// `1 / x`.
    #[track_caller]
    pub fn recip(&self) -> Self {
        unary!(self, "recip", COPY, |x: T| 1.0 / x)
    }

    /// `√x`, NaN for negative `x`.
    #[track_caller]
    pub fn sqrt(&self) -> Self {
        unary!(self, "sqrt", 0.4, |x: T| x.sqrt())
    }

    /// `eˣ`.
    ///
    /// # Numerics
    /// `f32`: at most 1 ulp from the exact value, over the whole range, subnormal results included.
    #[track_caller]
    pub fn exp(&self) -> Self {
        unary!(self, "exp", 0.5, |x: T| x.fast_exp::<FUSED>())
    }

    /// The natural logarithm: −∞ at 0, NaN below.
    ///
    /// # Numerics
    /// `f32`: at most 1 ulp from the exact value, over the whole range, subnormal arguments included.
    #[track_caller]
    pub fn log(&self) -> Self {
        unary!(self, "log", 0.5, |x: T| x.fast_ln::<FUSED>())
    }

    /// The sine of `x` in radians.
    #[track_caller]
    pub fn sin(&self) -> Self {
        unary!(self, "sin", 8.0, |x: T| x.sin())
    }

    /// The cosine of `x` in radians.
    #[track_caller]
    pub fn cos(&self) -> Self {
        unary!(self, "cos", 8.0, |x: T| x.cos())
    }

    /// `x` where it lies between the bounds, else the nearer bound; NaN stays NaN.
    ///
    /// With `low > high` every element becomes `high`, as in PyTorch.
    #[track_caller]
    pub fn clamp(&self, low: f64, high: f64) -> Self {
        unary!(self, "clamp", COPY, [low, high], |x: T| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        })
    }

    /// `f` of every element.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let x = Tensor::from([1.0f32, 4.0]);
    /// assert_eq!(x.map::<f32>(|x| 2.0 * x + 1.0)?, Tensor::from([3.0f32, 9.0]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn map<T: Element>(&self, f: impl Fn(T) -> T + Sync) -> Result<Self> {
        expect::<T>("map", self)?;
        Ok(apply(self, COPY, f))
    }

    /// `f` of every pair of elements, broadcasting.
    ///
    /// # Errors
    /// `T` is not the element type of both, or the shapes do not broadcast.
    pub fn zip<T: Element>(&self, other: &Self, f: impl Fn(T, T) -> T + Sync) -> Result<Self> {
        expect::<T>("zip", self)?;
        expect::<T>("zip", other)?;
        combine("zip", self, other, COPY, f)
    }
}

fn expect<T: Element>(op: &'static str, x: &Tensor) -> Result<()> {
    if x.dtype() == T::DTYPE {
        return Ok(());
    }
    let what = format!("the tensor is {}, the function takes {}", x.dtype(), T::DTYPE);
    Err(Error::dtype(op, what, "convert with to_dtype"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    /// Name, function and definition.
    type Row = (&'static str, fn(&Tensor) -> Tensor, fn(f64) -> f64);

    /// Activations are tested in their own file.
    const TABLE: [Row; 10] = [
        ("neg", Tensor::neg, |x| -x),
        ("abs", Tensor::abs, f64::abs),
        ("sign", Tensor::sign, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        ("square", Tensor::square, |x| x * x),
        ("recip", Tensor::recip, |x| 1.0 / x),
        ("sqrt", Tensor::sqrt, f64::sqrt),
        ("exp", Tensor::exp, f64::exp),
        ("log", Tensor::log, f64::ln),
        ("sin", Tensor::sin, f64::sin),
        ("cos", Tensor::cos, f64::cos),
    ];

    #[test]
    fn functions_equal_their_definitions() {
        let len = if cfg!(miri) { 100 } else { 100_000 }; // long enough to be cut into pieces
        let x = Tensor::arange(-6.0f64, 6.0, 12.0 / len as f64).unwrap();
        for (name, function, definition) in TABLE {
            for (dtype, tolerance) in [(DType::F64, 0.0), (DType::F32, 2.0 * f32::EPSILON as f64)] {
                let x = x.to_dtype(dtype);
                let y = function(&x).to_dtype(DType::F64);
                let x = x.to_dtype(DType::F64);
                for (&x, &y) in x.as_slice::<f64>().unwrap().iter().zip(y.as_slice::<f64>().unwrap()) {
                    let expected = definition(x);
                    let close = y == expected || (y - expected).abs() <= tolerance * expected.abs();
                    assert!(close || (y.is_nan() && expected.is_nan()), "{name}({x}) = {y}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn integers_are_refused_by_name() {
        let x = Tensor::from([1i64]);
        for (name, function, _) in TABLE {
            let payload = std::panic::catch_unwind(|| function(&x)).unwrap_err();
            let text = payload.downcast_ref::<String>().unwrap();
            assert_eq!(*text, format!("{name}: expects f32 or f64, got i64; help: convert with to_dtype(DType::F32)"));
        }
    }

    #[test]
    fn signs_and_bounds_treat_nan_as_pytorch_does() {
        let x = Tensor::from([f32::NAN, -2.0, -0.0, 3.0]);
        assert_eq!(x.sign(), Tensor::from([0.0f32, -1.0, 0.0, 1.0]));
        let y = x.clamp(-1.0, 1.0).to_vec::<f32>().unwrap();
        assert!(y[0].is_nan());
        assert_eq!(y[1..], [-1.0, 0.0, 1.0]);
        assert_eq!(x.clamp(2.0, 1.0).to_vec::<f32>().unwrap()[1..], [1.0, 1.0, 1.0]);
    }

    #[test]
    fn own_functions_see_every_element() {
        let (x, y) = (Tensor::from([[1i64, 2], [3, 4]]), Tensor::from([10i64, 20]));
        assert_eq!(x.map::<i64>(|x| x * x).unwrap(), Tensor::from([[1i64, 4], [9, 16]]));
        assert_eq!(x.zip::<i64>(&y, |x, y| y - x).unwrap(), Tensor::from([[9i64, 18], [7, 16]]));
        assert_eq!(Tensor::scalar(2.0f64).exp().item::<f64>().unwrap(), 2f64.exp());
        assert!(Tensor::zeros([3, 0], DType::F32).exp().is_empty());
    }

    #[test]
    fn own_functions_of_another_type_are_refused() {
        let (x, f) = (Tensor::from([1i64, 2]), Tensor::from([1.0f32, 2.0, 3.0]));
        let text = x.map::<f32>(|x| x).unwrap_err().to_string();
        assert_eq!(text, "map: the tensor is i64, the function takes f32; help: convert with to_dtype");
        let text = x.zip::<i64>(&f, |x, _| x).unwrap_err().to_string();
        assert_eq!(text, "zip: the tensor is f32, the function takes i64; help: convert with to_dtype");
        let text = f.zip::<f32>(&f.slice(0, 0, 2).unwrap(), |x, _| x).unwrap_err().to_string();
        assert_eq!(text, "zip: [3] and [2] do not broadcast: axis 0 is 3 against 2; help: one of them must be 1");
    }
}
