//! What a gradient collector needs: adding in place, and the norm.

use crate::dtype::{dispatch, dispatch_float};
use crate::{Error, Result, Tensor, par};

impl Tensor {
    /// Adds `other` to this tensor in place; memory that anybody else holds is copied first.
    ///
    /// # Errors
    /// Another shape or element type.
    pub fn accumulate(&mut self, other: &Self) -> Result<()> {
        self.same_dtype("accumulate", other)?;
        if self.shape() != other.shape() {
            let what = format!("shapes differ: {} and {}", self.shape(), other.shape());
            return Err(Error::shape("accumulate", what, "this op does not broadcast; use add"));
        }
        dispatch_float!(self.dtype(), "accumulate", T => {
            let other = other.slice_of::<T>();
            par::elements(self.own_slice::<T>(), 0.3, |start, sums| {
                sums.iter_mut().zip(&other[start..]).for_each(|(sum, x)| *sum += *x);
            });
        });
        Ok(())
    }

    /// The sum of the squares of all elements, added up in `f64`.
    pub fn squared_norm(&self) -> f64 {
        dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            par::sum(x.len(), 0.5, |range| lane_sum(&x[range]))
        })
    }
}

/// Sums squares in eight lanes, which the compiler keeps in vector registers.
fn lane_sum<T: crate::Element>(x: &[T]) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x.as_f64() * x.as_f64());
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += x.as_f64() * x.as_f64());
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn accumulates_in_place_unless_shared() {
        let mut x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], [3]).unwrap();
        let before = x.clone();
        x.accumulate(&before).unwrap();
        assert_eq!(x.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0]);
        assert_eq!(before.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        let address = x.as_slice::<f32>().unwrap().as_ptr();
        x.accumulate(&before).unwrap();
        assert_eq!((x.as_slice::<f32>().unwrap().as_ptr(), x.to_vec::<f32>().unwrap()), (address, vec![3.0, 6.0, 9.0]));
        let text = x.accumulate(&Tensor::zeros([2], DType::F32)).unwrap_err().to_string();
        assert_eq!(text, "accumulate: shapes differ: [3] and [2]; help: this op does not broadcast; use add");
    }

    #[test]
    fn norm_is_pythagoras() {
        assert_eq!(Tensor::from_vec(vec![3.0f32, 4.0], [2]).unwrap().squared_norm(), 25.0);
        // The squares of 1 to n add up to n (n + 1) (2n + 1) / 6.
        let x = Tensor::from_vec((1..=1000).map(f64::from).collect(), [1000]).unwrap();
        assert_eq!(x.squared_norm(), 1000.0 * 1001.0 * 2001.0 / 6.0);
        assert_eq!(Tensor::zeros([0], DType::F64).squared_norm(), 0.0);
    }
}
