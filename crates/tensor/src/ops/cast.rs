//! Conversion between element types.

use super::elementwise::{COPY, apply};
use crate::dtype::dispatch;
use crate::{DType, Element, Tensor};

impl Tensor {
    /// The same values in another element type, as Rust's `as` converts: floats are cut towards zero and saturate in
    /// integers (NaN becomes 0), wide integers wrap in narrow ones. Free if the type is this one already.
    pub fn to_dtype(&self, dtype: DType) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        dispatch!(self.dtype(), T => dispatch!(dtype, U => apply(self, COPY, |x: T| match T::DTYPE {
            DType::F32 | DType::F64 => U::from_f64(x.as_f64()),
            _ => U::from_i64(x.as_i64()),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_as_rust_does() {
        let x = Tensor::from([-1.5f64, 2.9, 300.0, f64::NAN]);
        assert_eq!(x.to_dtype(DType::I64), Tensor::from([-1i64, 2, 300, 0]));
        assert_eq!(x.to_dtype(DType::U8), Tensor::from([0u8, 2, 255, 0]));
        assert_eq!(Tensor::from([257i64, -1]).to_dtype(DType::U8), Tensor::from([1u8, 255]));
        assert_eq!(Tensor::from([0.1f64]).to_dtype(DType::F32), Tensor::from([0.1f32]));
        assert_eq!(Tensor::from([7u8]).to_dtype(DType::F32), Tensor::from([7.0f32]));
        let large = Tensor::from([(1i64 << 53) + 1]);
        assert_eq!(large.to_dtype(DType::I64), large);
        assert_eq!(large.to_dtype(DType::F64), Tensor::from([(1i64 << 53) as f64]));
    }

    #[test]
    fn the_same_type_costs_nothing() {
        let x = Tensor::from([1.0f32, 2.0]);
        assert_eq!(x.to_dtype(DType::F32).as_slice::<f32>().unwrap().as_ptr(), x.as_slice::<f32>().unwrap().as_ptr());
    }
}
