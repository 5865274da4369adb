//! Broadcasting arithmetic of two tensors, or of a tensor and a number; the operators `+ - * /` are in `operators.rs`.

use super::elementwise::{COPY, apply, combine, must};
use super::number::{Number, with_function};
use crate::dtype::dispatch;
use crate::{Element, Error, Result, Tensor};

/// One rule for all: shapes broadcast from the right, both operands have the same element type, integers wrap around
/// on overflow as in PyTorch.
///
/// ```
/// # use maplet_tensor::Tensor;
/// let x = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
/// assert_eq!(x.sub(&Tensor::from([[1.0f32], [2.0]]))?, Tensor::from([[0.0f32, 1.0], [1.0, 2.0]]));
///
/// let error = x.add(&Tensor::from([1.0f32, 2.0, 3.0])).unwrap_err();
/// let text = "add: [2, 2] and [3] do not broadcast: axis 1 is 2 against 3; help: one of them must be 1";
/// assert_eq!(error.to_string(), text);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
impl Tensor {
    /// `self + other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.same_dtype("add", other)?;
        with_function!(self.dtype(), T, f = T::plus => combine("add", self, other, COPY, f))
    }

    /// `self − other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.same_dtype("sub", other)?;
        with_function!(self.dtype(), T, f = T::minus => combine("sub", self, other, COPY, f))
    }

    /// `self · other`, element by element, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.same_dtype("mul", other)?;
        with_function!(self.dtype(), T, f = T::times => combine("mul", self, other, COPY, f))
    }

    /// `self / other`, broadcasting; integers are truncated towards zero.
    ///
    /// # Errors
    /// Shapes that do not broadcast, different element types, or an integer division by zero.
    pub fn div(&self, other: &Self) -> Result<Self> {
        self.same_dtype("div", other)?;
        dispatch!(self.dtype(), T => {
            let zero = |divisor: &T| *divisor == T::default();
            if !T::DTYPE.is_float() && let Some(at) = other.slice_of::<T>().iter().position(zero) {
                let what = format!("element {at} of the {} divisor {} is 0", T::DTYPE, other.shape());
                return Err(Error::value("div", what, "integers have no infinity: convert both with to_dtype first"));
            }
        });
        with_function!(self.dtype(), T, f = T::over => combine("div", self, other, COPY, f))
    }

    /// The greater of each pair, broadcasting; NaN if either is.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn maximum(&self, other: &Self) -> Result<Self> {
        self.same_dtype("maximum", other)?;
        with_function!(self.dtype(), T, f = T::larger => combine("maximum", self, other, COPY, f))
    }

    /// The lesser of each pair, broadcasting; NaN if either is.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn minimum(&self, other: &Self) -> Result<Self> {
        self.same_dtype("minimum", other)?;
        with_function!(self.dtype(), T, f = T::smaller => combine("minimum", self, other, COPY, f))
    }

    /// `self` to the power `other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast, different element types, or a negative integer exponent.
    pub fn pow(&self, other: &Self) -> Result<Self> {
        self.same_dtype("pow", other)?;
        dispatch!(self.dtype(), T => {
            let negative = |exponent: &&T| **exponent < T::default();
            if !T::DTYPE.is_float() && let Some(exponent) = other.slice_of::<T>().iter().find(negative) {
                let what = format!("{} to the power {exponent} is no integer", self.dtype());
                return Err(Error::value("pow", what, "convert both with to_dtype first"));
            }
            let power: fn(T, T) -> T = T::power; // too slow for a loop of its own to matter
            combine("pow", self, other, 20.0, power)
        })
    }
}

/// With a number, rounded to the element type. An integer tensor panics, with the text of the error, if the number
/// is not of its type: 0.5, or −1 for `u8`.
impl Tensor {
    /// `self + value`.
    #[track_caller]
    pub fn add_scalar(&self, value: f64) -> Self {
        dispatch!(self.dtype(), T => {
            let value: T = must(scalar("add_scalar", value));
            apply(self, COPY, move |x: T| x.plus(value))
        })
    }

    /// `self · value`.
    #[track_caller]
    pub fn mul_scalar(&self, value: f64) -> Self {
        dispatch!(self.dtype(), T => {
            let value: T = must(scalar("mul_scalar", value));
            apply(self, COPY, move |x: T| x.times(value))
        })
    }

    /// `self` to the power `value`.
    ///
    /// # Panics
    /// Also for a negative power of integers.
    #[track_caller]
    pub fn pow_scalar(&self, value: f64) -> Self {
        match value {
            1.0 => return self.clone(),
            2.0 => return dispatch!(self.dtype(), T => apply(self, COPY, |x: T| x.times(x))),
            0.5 if self.dtype().is_float() => return self.sqrt(),
            -1.0 if self.dtype().is_float() => return self.recip(),
            _ => {}
        }
        dispatch!(self.dtype(), T => {
            let exponent: T = must(scalar("pow_scalar", value));
            must(self.pow(&Tensor::scalar(exponent)))
        })
    }

    /// `self − value`, for the operator.
    #[track_caller]
    pub(crate) fn sub_scalar(&self, value: f64) -> Self {
        dispatch!(self.dtype(), T => {
            let value: T = must(scalar("sub", value));
            apply(self, COPY, move |x: T| x.minus(value))
        })
    }

    /// `self / value`, for the operator.
    #[track_caller]
    pub(crate) fn div_scalar(&self, value: f64) -> Self {
        dispatch!(self.dtype(), T => {
            let divisor: T = must(scalar("div", value));
            if !T::DTYPE.is_float() {
                return must(self.div(&Tensor::scalar(divisor)));
            }
            apply(self, COPY, move |x: T| x.over(divisor))
        })
    }
}

/// The number as an element: rounded to a float, but an integer must hold it exactly.
fn scalar<T: Element>(op: &'static str, value: f64) -> Result<T> {
    let element = T::from_f64(value);
    if T::DTYPE.is_float() || element.as_f64() == value {
        return Ok(element);
    }
    let what = format!("{value} is not a value of {}", T::DTYPE);
    Err(Error::value(op, what, "convert the tensor with to_dtype first"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Shape};
    use proptest::prelude::*;

    /// The element of `x` that belongs to `index` of the shape that it broadcasts to.
    fn stretched_element(x: &Tensor, index: &[usize]) -> f64 {
        let skip = index.len() - x.rank();
        let at =
            x.shape().iter().zip(&index[skip..]).fold(0, |at, (&size, &i)| at * size + if size == 1 { 0 } else { i });
        x.as_slice::<f64>().unwrap()[at]
    }

    /// Two shapes that broadcast: the second has some sizes set to 1 or leading axes cut off, and so may the first.
    fn pair() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        let axis = (prop_oneof![0..4usize, Just(17), Just(1)], any::<bool>(), any::<bool>());
        (proptest::collection::vec(axis, 0..5), 0..5usize).prop_map(|(axes, cut)| {
            let a = axes.iter().map(|&(size, one, _)| if one { 1 } else { size }).collect();
            let b = axes.iter().skip(cut).map(|&(size, _, one)| if one { 1 } else { size }).collect();
            (a, b)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn broadcasts_as_a_naive_loop_does((a, b) in pair(), swap in any::<bool>()) {
            let numbered = |sizes: &[usize], from: f64| {
                let shape = Shape::new(sizes).unwrap();
                Tensor::from_vec((0..shape.elements()).map(|i| from + i as f64).collect(), shape).unwrap()
            };
            let (mut a, mut b) = (numbered(&a, 1.0), numbered(&b, 1000.0));
            if swap {
                std::mem::swap(&mut a, &mut b);
            }
            let y = a.sub(&b).unwrap();
            for (at, &y_at) in y.as_slice::<f64>().unwrap().iter().enumerate() {
                let mut index = vec![0; y.rank()];
                let mut rest = at;
                for axis in (0..y.rank()).rev() {
                    (rest, index[axis]) = (rest / y.shape()[axis], rest % y.shape()[axis]);
                }
                prop_assert_eq!(y_at, stretched_element(&a, &index) - stretched_element(&b, &index));
            }
        }
    }

    #[test]
    fn large_operands_are_cut_into_pieces_without_a_seam() {
        let len = if cfg!(miri) { 300 } else { 300_007 };
        let x = Tensor::arange(0.0f64, len as f64, 1.0).unwrap();
        let y = x.add(&x).unwrap();
        assert!(y.as_slice::<f64>().unwrap().iter().enumerate().all(|(i, &y)| y == 2.0 * i as f64));
        let rows = x.slice(0, 0, len / 7 * 7).unwrap().reshape([len / 7, 7]).unwrap();
        let column = Tensor::arange(0.0f64, (len / 7) as f64, 1.0).unwrap().unsqueeze(1).unwrap();
        let y = rows.sub(&column).unwrap();
        assert!(y.as_slice::<f64>().unwrap().iter().enumerate().all(|(i, &y)| y == (i - i / 7) as f64));
    }

    #[test]
    fn every_op_on_floats() {
        let (a, b) = (Tensor::from([7.0f32, -8.0, 0.0]), Tensor::from([2.0f32, 3.0, 0.0]));
        assert_eq!(a.add(&b).unwrap(), Tensor::from([9.0f32, -5.0, 0.0]));
        assert_eq!(a.sub(&b).unwrap(), Tensor::from([5.0f32, -11.0, 0.0]));
        assert_eq!(a.mul(&b).unwrap(), Tensor::from([14.0f32, -24.0, 0.0]));
        assert_eq!(a.maximum(&b).unwrap(), Tensor::from([7.0f32, 3.0, 0.0]));
        assert_eq!(a.minimum(&b).unwrap(), Tensor::from([2.0f32, -8.0, 0.0]));
        assert_eq!(a.pow(&b).unwrap(), Tensor::from([49.0f32, -512.0, 1.0]));
        let quotient = a.div(&b).unwrap().to_vec::<f32>().unwrap();
        assert!(quotient[0] == 3.5 && quotient[2].is_nan());
    }

    #[test]
    fn maxima_propagate_nan_from_both_sides() {
        let (a, b) = (Tensor::from([f32::NAN, 1.0]), Tensor::from([1.0f32, f32::NAN]));
        for y in [a.maximum(&b).unwrap(), a.minimum(&b).unwrap()] {
            assert!(y.as_slice::<f32>().unwrap().iter().all(|y| y.is_nan()));
        }
    }

    #[test]
    fn integers_wrap_and_truncate() {
        let byte = Tensor::from([250u8, 3]);
        assert_eq!(byte.add(&Tensor::from([10u8, 4])).unwrap(), Tensor::from([4u8, 7]));
        assert_eq!(byte.sub(&Tensor::from([251u8, 4])).unwrap(), Tensor::from([255u8, 255]));
        assert_eq!(byte.mul_scalar(2.0), Tensor::from([244u8, 6]));
        assert_eq!(byte.add_scalar(250.0), Tensor::from([244u8, 253]));
        let x = Tensor::from([-7i64, 7, i64::MIN]);
        assert_eq!(x.div(&Tensor::from([2i64, -2, -1])).unwrap(), Tensor::from([-3i64, -3, i64::MIN]));
        assert_eq!(x.pow(&Tensor::from([3i64, 0, 2])).unwrap(), Tensor::from([-343i64, 1, 0]));
        assert_eq!(Tensor::from([-1i64, 2]).pow_scalar(63.0), Tensor::from([-1i64, i64::MIN]));
    }

    #[test]
    fn powers_with_short_cuts_equal_those_without() {
        let x = Tensor::from([0.25f64, 1.0, 9.0]);
        for power in [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0] {
            let expected: Vec<f64> = x.to_vec::<f64>().unwrap().iter().map(|x| x.powf(power)).collect();
            assert_eq!(x.pow_scalar(power).to_vec::<f64>().unwrap(), expected);
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let (f, i) = (Tensor::zeros([2, 3], DType::F32), Tensor::from([[1i64, 2, 0]]));
        type Op = fn(&Tensor, &Tensor) -> Result<Tensor>;
        let ops: [(&str, Op); 7] = [
            ("add", Tensor::add),
            ("sub", Tensor::sub),
            ("mul", Tensor::mul),
            ("div", Tensor::div),
            ("maximum", Tensor::maximum),
            ("minimum", Tensor::minimum),
            ("pow", Tensor::pow),
        ];
        for (name, op) in ops {
            let text = op(&f, &i).unwrap_err().to_string();
            let dtypes = "element types differ: f32 and i64; help: convert one of them with to_dtype";
            assert_eq!(text, format!("{name}: {dtypes}"));
            let text = op(&f, &Tensor::zeros([2], DType::F32)).unwrap_err().to_string();
            let shapes = "[2, 3] and [2] do not broadcast: axis 1 is 3 against 2; help: one of them must be 1";
            assert_eq!(text, format!("{name}: {shapes}"));
        }
        let text = i.div(&i).unwrap_err().to_string();
        let zero = "div: element 2 of the i64 divisor [1, 3] is 0; \
                    help: integers have no infinity: convert both with to_dtype first";
        assert_eq!(text, zero);
        let text = i.pow(&Tensor::from([-2i64])).unwrap_err().to_string();
        assert_eq!(text, "pow: i64 to the power -2 is no integer; help: convert both with to_dtype first");
    }

    #[test]
    #[should_panic(expected = "mul_scalar: 0.5 is not a value of i64; help: convert the tensor with to_dtype first")]
    fn an_integer_tensor_takes_no_fractions() {
        Tensor::from([1i64]).mul_scalar(0.5);
    }
}
