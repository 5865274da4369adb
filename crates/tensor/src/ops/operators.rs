//! The operators `+ - * /` between tensors and with an `f64` on the right, and unary `-`.

use super::elementwise::must;
use crate::Tensor;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A macro for the combinations of owned and borrowed operands, which Rust wants one by one.
macro_rules! operator {
    ($Op:ident $op:ident $scalar:ident, $($Left:ty, $Right:ty);*) => {
        $(impl $Op<$Right> for $Left {
            type Output = Tensor;

            /// Broadcasts.
            ///
            /// # Panics
            /// With the text of the error that the method of this name returns.
            #[track_caller]
            fn $op(self, other: $Right) -> Tensor {
                must(Tensor::$op(&self, &other))
            }
        })*
        operator!(scalar $Op $op $scalar, Tensor, &Tensor);
    };
    (scalar $Op:ident $op:ident $scalar:ident, $($Left:ty),*) => {
        $(impl $Op<f64> for $Left {
            type Output = Tensor;

            /// With a number, rounded to the element type.
            ///
            /// # Panics
            /// If the tensor holds integers and the number is not of that type.
            #[track_caller]
            fn $op(self, value: f64) -> Tensor {
                self.$scalar(value)
            }
        })*
    };
}
operator!(Add add add_scalar, Tensor, Tensor; Tensor, &Tensor; &Tensor, Tensor; &Tensor, &Tensor);
operator!(Sub sub sub_scalar, Tensor, Tensor; Tensor, &Tensor; &Tensor, Tensor; &Tensor, &Tensor);
operator!(Mul mul mul_scalar, Tensor, Tensor; Tensor, &Tensor; &Tensor, Tensor; &Tensor, &Tensor);
operator!(Div div div_scalar, Tensor, Tensor; Tensor, &Tensor; &Tensor, Tensor; &Tensor, &Tensor);

impl Neg for &Tensor {
    type Output = Tensor;

    /// # Panics
    /// If the tensor holds integers.
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::neg(self)
    }
}

impl Neg for Tensor {
    type Output = Tensor;

    /// # Panics
    /// If the tensor holds integers.
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::neg(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_like_arithmetic() {
        let (x, y) = (Tensor::from([6.0f32, 8.0]), Tensor::from([2.0f32, 4.0]));
        assert_eq!(&x + &y * 2.0 - &y / &x * 0.0, Tensor::from([10.0f32, 16.0]));
        assert_eq!(-(&x - 1.0) / 5.0 + x.clone(), Tensor::from([5.0f32, 6.6]));
        assert_eq!(Tensor::from([7i64, 8]) / 2.0 - 1.0, Tensor::from([2i64, 3]));
    }

    #[test]
    #[should_panic(expected = "add: [2] and [3] do not broadcast: axis 0 is 2 against 3; help: one of them must be 1")]
    fn panic_with_the_text_of_the_error() {
        let _ = Tensor::from([1.0f32, 2.0]) + Tensor::from([1.0f32, 2.0, 3.0]);
    }

    #[test]
    #[should_panic(expected = "neg: expects f32 or f64, got u8; help: convert with to_dtype(DType::F32)")]
    fn negation_is_for_floats() {
        let _ = -Tensor::from([1u8]);
    }
}
