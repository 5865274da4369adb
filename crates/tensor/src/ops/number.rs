//! What kernels do with one element, the same words for floats and integers.

use crate::Element;

/// Arithmetic on an element: IEEE for floats, wrapping for integers.
#[allow(clippy::eq_op)] // only a NaN differs from itself
pub(crate) trait Number: Element {
    /// The least value, where a maximum starts.
    const LEAST: Self;
    /// The greatest value, where a minimum starts.
    const GREATEST: Self;

    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// Integers truncate towards zero; the divisor is not an integer 0.
    fn over(self, other: Self) -> Self;
    /// The exponent is not a negative integer.
    fn power(self, exponent: Self) -> Self;

    /// The greater of two, NaN if either is.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other || self != self { self } else { other }
    }

    /// The lesser of two, NaN if either is.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other || self != self { self } else { other }
    }

    /// Whether this is a NaN.
    #[inline(always)]
    fn is_not_a_number(self) -> bool {
        self != self
    }

    /// An integer with the order of the numbers: −0 and 0 are equal, NaN is the greatest.
    fn rank(self) -> u64;
}

macro_rules! float {
    ($($T:ident)*) => {$(
        impl Number for $T {
            const LEAST: Self = $T::NEG_INFINITY;
            const GREATEST: Self = $T::INFINITY;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self + other }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self - other }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self * other }
            #[inline(always)]
            fn over(self, other: Self) -> Self { self / other }
            #[inline(always)]
            fn power(self, exponent: Self) -> Self { self.powf(exponent) }
            #[inline(always)]
            fn rank(self) -> u64 {
                // IEEE's bits are sign and magnitude: flip the negative ones, put the others above them.
                const SIGN: u64 = 1 << 63;
                let bits = (self as f64 + 0.0).to_bits();
                if self.is_nan() { u64::MAX } else if bits & SIGN == 0 { bits | SIGN } else { !bits }
            }
        }
    )*};
}
float!(f32 f64);

macro_rules! integer {
    ($($T:ident)*) => {$(
        impl Number for $T {
            const LEAST: Self = $T::MIN;
            const GREATEST: Self = $T::MAX;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline(always)]
            fn over(self, other: Self) -> Self { self.wrapping_div(other) }
            #[inline(always)]
            fn power(self, exponent: Self) -> Self {
                let (mut power, mut square, mut rest) = (1 as Self, self, exponent as u64);
                while rest > 0 {
                    if rest % 2 == 1 {
                        power = power.wrapping_mul(square);
                    }
                    square = square.wrapping_mul(square);
                    rest /= 2;
                }
                power
            }
            #[inline(always)]
            fn rank(self) -> u64 { (self as i64 as u64) ^ (1 << 63) }
        }
    )*};
}
integer!(i64 u8);

/// Runs `$body` with `$T` bound to the element type and `$f` to a function of two elements.
///
/// A macro, because the function's type differs: floats get the item itself, and a vector loop is compiled for it;
/// integers get a pointer, so that all their functions share one loop and the library stays small.
macro_rules! with_function {
    ($dtype:expr, $T:ident, $f:ident = $item:expr => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                let $f = $item;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                let $f = $item;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                let $f: fn($T, $T) -> _ = $item;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                let $f: fn($T, $T) -> _ = $item;
                $body
            }
        }
    };
}
pub(crate) use with_function;
