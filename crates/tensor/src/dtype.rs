//! Element types: the run-time [`DType`] and the Rust types behind it.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The element type of a tensor, known at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit floating point, the default of parameters and data.
    F32,
    /// 64-bit floating point, for gradient checks and statistics.
    F64,
    /// 64-bit signed integer, for labels and indices.
    I64,
    /// 8-bit unsigned integer, for images and masks (0 is false).
    U8,
}

impl DType {
    /// The size of one element in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::U8 => 1,
        }
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// An error unless this is a floating-point type.
    pub(crate) fn expect_float(self, op: &'static str) -> Result<()> {
        if self.is_float() {
            return Ok(());
        }
        Err(Error::dtype(op, format!("expects f32 or f64, got {self}"), "convert with to_dtype(DType::F32)"))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::U8 => "u8",
        })
    }
}

pub(crate) mod sealed {
    /// Also says for which instruction sets `vectorized!` compiles the loops over a type: what is rarely in a hot path
    /// is not worth the time of the compiler.
    pub trait Sealed {
        const AVX2: bool;
        const AVX512: bool;
    }

    macro_rules! loops {
        ($($type:ty: $avx2:literal $avx512:literal),*) => {
            $(impl Sealed for $type {
                const AVX2: bool = $avx2;
                const AVX512: bool = $avx512;
            })*
        };
    }
    loops!(f32: true true, f64: false false, i64: false false, u8: false false);
}

/// A Rust type that a tensor can hold: `f32`, `f64`, `i64`, `u8`.
///
/// Every bit pattern of such a type is a value, it needs no drop, and its alignment is at most 64 bytes.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + PartialOrd + Send + Sync + fmt::Debug + fmt::Display + 'static
{
    /// The run-time name of this type.
    const DTYPE: DType;

    /// The nearest value of this type, saturating as Rust's `as` does; NaN becomes 0 in an integer.
    fn from_f64(x: f64) -> Self;

    /// This value as `f64`; integers beyond 2⁵³ are rounded.
    fn as_f64(self) -> f64;

    /// The nearest value of this type, as Rust's `as` does.
    fn from_i64(x: i64) -> Self;

    /// This value as `i64`, truncated towards zero, as Rust's `as` does.
    fn as_i64(self) -> i64;
}

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => {$(
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn from_f64(x: f64) -> Self { x as $type }
            #[inline(always)]
            fn as_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { x as $type }
            #[inline(always)]
            fn as_i64(self) -> i64 { self as i64 }
        }
    )*};
}
element!(f32 => F32, f64 => F64, i64 => I64, u8 => U8);

/// A floating-point element: `f32` or `f64`.
pub trait Float: Element + num_traits::Float + std::ops::AddAssign + std::ops::MulAssign + std::iter::Sum {}
impl Float for f32 {}
impl Float for f64 {}

/// Runs `$body` with `$T` bound to the Rust type of a `DType`: one of all four types.
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
        }
    };
}

/// Runs `$body` with `$T` bound to `f32` or `f64`; for any other type `$else`, with `$error` bound to the op's error.
macro_rules! match_float {
    ($dtype:expr, $op:expr, $T:ident => $body:expr, $error:ident => $else:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            other => {
                let $error = other.expect_float($op).unwrap_err();
                $else
            }
        }
    };
}

/// As [`match_float`], returning the error.
macro_rules! dispatch_float {
    ($dtype:expr, $op:expr, $T:ident => $body:expr) => {
        $crate::dtype::match_float!($dtype, $op, $T => $body, error => return Err(error))
    };
}
pub(crate) use {dispatch, dispatch_float, match_float};
