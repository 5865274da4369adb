//! Comparisons, which give masks of `u8` (1 is true), and the choice by a mask.

use super::elementwise::{COPY, combine};
use super::walk::{Walk, stretched};
use crate::dtype::dispatch;
use crate::simd::vectorized;
use crate::{DType, Element, Error, Result, Tensor, par};

const LESS: u8 = 1;
const EQUAL: u8 = 2;
const GREATER: u8 = 4;
/// A NaN is involved.
const UNORDERED: u8 = 8;

/// Comparisons broadcast, take any element type, and give `u8` masks: 1 where true, 0 where false. NaN equals nothing
/// and has no order.
///
/// ```
/// # use maplet_tensor::Tensor;
/// let x = Tensor::from([1.0f32, 5.0, 3.0]);
/// assert_eq!(x.greater(&Tensor::scalar(2.0f32))?, Tensor::from([0u8, 1, 1]));
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
impl Tensor {
    /// Where `self = other`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn equal(&self, other: &Self) -> Result<Self> {
        compare("equal", self, other, EQUAL)
    }

    /// Where `self ≠ other`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn not_equal(&self, other: &Self) -> Result<Self> {
        compare("not_equal", self, other, LESS | GREATER | UNORDERED)
    }

    /// Where `self < other`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn less(&self, other: &Self) -> Result<Self> {
        compare("less", self, other, LESS)
    }

    /// Where `self ≤ other`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn less_equal(&self, other: &Self) -> Result<Self> {
        compare("less_equal", self, other, LESS | EQUAL)
    }

    /// Where `self > other`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn greater(&self, other: &Self) -> Result<Self> {
        compare("greater", self, other, GREATER)
    }

    /// Where `self ≥ other`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, or different element types.
    pub fn greater_equal(&self, other: &Self) -> Result<Self> {
        compare("greater_equal", self, other, GREATER | EQUAL)
    }
}

/// Where the relation of the elements is one of `wanted`: one loop for all six comparisons.
fn compare(op: &'static str, a: &Tensor, b: &Tensor, wanted: u8) -> Result<Tensor> {
    a.same_dtype(op, b)?;
    dispatch!(a.dtype(), T => combine(op, a, b, COPY, move |a: T, b: T| {
        let unless_less = if a == b { EQUAL } else if a > b { GREATER } else { UNORDERED };
        ((if a < b { LESS } else { unless_less }) & wanted != 0) as u8
    }))
}

/// Choosing.
impl Tensor {
    /// `a` where the mask `self` is not 0, else `b`; all three broadcast.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let (x, zero) = (Tensor::from([-1.0f32, 2.0]), Tensor::scalar(0.0f32));
    /// assert_eq!(x.less(&zero)?.where_cond(&zero, &x)?, Tensor::from([0.0f32, 2.0]));
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// `self` is not `u8`, `a` and `b` have different element types, or the shapes do not broadcast.
    pub fn where_cond(&self, a: &Self, b: &Self) -> Result<Self> {
        const OP: &str = "where_cond";
        if self.dtype() != DType::U8 {
            return Err(Error::dtype(OP, format!("the mask is {}", self.dtype()), "a comparison gives a u8 mask"));
        }
        a.same_dtype(OP, b)?;
        let shape = a.shape().broadcast(OP, &b.shape())?.broadcast(OP, &self.shape())?;
        let walk = Walk::new(&shape, [self, a, b].map(|input| stretched(&input.shape(), &shape)));
        let mask = self.slice_of::<u8>();
        dispatch!(a.dtype(), T => {
            let (a, b) = (a.slice_of::<T>(), b.slice_of::<T>());
            Ok(Tensor::build(shape, |out| {
                par::elements(out, COPY, |start, out| choose_runs(out, start, mask, a, b, &walk));
            }))
        })
    }
}

vectorized! {
    fn choose_runs<T: Element>(out: &mut [T], start: usize, mask: &[u8], a: &[T], b: &[T], walk: &Walk<3>) {
        let (steps, mut rest) = (walk.inner(), out);
        for ([at_mask, at_a, at_b], run) in walk.runs(start, rest.len()) {
            let (out, next) = rest.split_at_mut(run);
            rest = next;
            let (mask, a, b) = (&mask[at_mask..], &a[at_a..], &b[at_b..]);
            match steps {
                [1, 1, 1] => choose(out, &mask[..run], |i| a[i], |i| b[i]),
                [1, 1, 0] => choose(out, &mask[..run], |i| a[i], |_| b[0]),
                [1, 0, 1] => choose(out, &mask[..run], |_| a[0], |i| b[i]),
                [1, 0, 0] => choose(out, &mask[..run], |_| a[0], |_| b[0]),
                // One mask element for the whole run.
                [_, 1, _] if mask[0] != 0 => out.copy_from_slice(&a[..run]),
                [_, _, 1] if mask[0] == 0 => out.copy_from_slice(&b[..run]),
                _ => out.fill(if mask[0] != 0 { a[0] } else { b[0] }),
            }
        }
    }
}

#[inline(always)]
fn choose<T: Copy>(out: &mut [T], mask: &[u8], a: impl Fn(usize) -> T, b: impl Fn(usize) -> T) {
    for (i, (out, &mask)) in out.iter_mut().zip(mask).enumerate() {
        let (a, b) = (a(i), b(i)); // both are read, so that the loop has no branches
        *out = if mask != 0 { a } else { b };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_on_every_type() {
        type Comparison = fn(&Tensor, &Tensor) -> Result<Tensor>;
        let rows: [(Comparison, [u8; 3]); 6] = [
            (Tensor::equal, [0, 1, 0]),
            (Tensor::not_equal, [1, 0, 1]),
            (Tensor::less, [1, 0, 0]),
            (Tensor::less_equal, [1, 1, 0]),
            (Tensor::greater, [0, 0, 1]),
            (Tensor::greater_equal, [0, 1, 1]),
        ];
        let (a, b) = (Tensor::from([1u8, 2, 3]), Tensor::scalar(2u8));
        for dtype in [DType::F32, DType::F64, DType::I64, DType::U8] {
            for (op, expected) in rows {
                assert_eq!(op(&a.to_dtype(dtype), &b.to_dtype(dtype)).unwrap(), Tensor::from(expected));
            }
        }
    }

    #[test]
    fn nan_is_unequal_to_itself_and_unordered() {
        let x = Tensor::from([f64::NAN]);
        assert_eq!(x.not_equal(&x).unwrap().item::<u8>().unwrap(), 1);
        for op in [Tensor::equal, Tensor::less, Tensor::less_equal, Tensor::greater, Tensor::greater_equal] {
            assert_eq!(op(&x, &x).unwrap().item::<u8>().unwrap(), 0);
        }
    }

    #[test]
    fn choice_broadcasts_all_three() {
        let mask = Tensor::from([[1u8], [0]]);
        let (a, b) = (Tensor::from([1i64, 2, 3]), Tensor::scalar(9i64));
        assert_eq!(mask.where_cond(&a, &b).unwrap(), Tensor::from([[1i64, 2, 3], [9, 9, 9]]));
        assert_eq!(mask.where_cond(&b, &a).unwrap(), Tensor::from([[9i64, 9, 9], [1, 2, 3]]));
        assert_eq!(mask.where_cond(&b, &b.mul_scalar(0.0)).unwrap(), Tensor::from([[9i64], [0]]));
        let same = Tensor::from([7u8, 0, 1]);
        assert_eq!(same.where_cond(&a, &b).unwrap(), Tensor::from([1i64, 9, 3]));
        assert_eq!(same.where_cond(&b, &a).unwrap(), Tensor::from([9i64, 2, 9]));
        assert_eq!(same.where_cond(&b, &b.mul_scalar(0.0)).unwrap(), Tensor::from([9i64, 0, 9]));
        assert_eq!(same.where_cond(&a, &a.mul_scalar(-1.0)).unwrap(), Tensor::from([1i64, -2, 3]));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let (f, i) = (Tensor::from([1.0f32]), Tensor::from([1i64, 2]));
        let text = f.where_cond(&f, &f).unwrap_err().to_string();
        assert_eq!(text, "where_cond: the mask is f32; help: a comparison gives a u8 mask");
        let text = f.less_equal(&i).unwrap_err().to_string();
        let differ = "less_equal: element types differ: f32 and i64; help: convert one of them with to_dtype";
        assert_eq!(text, differ);
        let text = Tensor::from([1u8, 0, 1]).where_cond(&i, &i).unwrap_err().to_string();
        let shapes = "where_cond: [2] and [3] do not broadcast: axis 0 is 2 against 3; help: one of them must be 1";
        assert_eq!(text, shapes);
    }
}
