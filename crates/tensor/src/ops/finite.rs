//! The search for NaN and infinity.

use crate::dtype::dispatch;
use crate::{Element, Tensor, par};

/// What [`Tensor::not_finite`] found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NotFinite {
    /// How many elements are NaN.
    pub nans: usize,
    /// How many elements are infinite.
    pub infinities: usize,
    /// Where the first of them is, one number an axis.
    pub index: Vec<usize>,
    /// The first of them.
    pub value: f64,
}

impl Tensor {
    /// Counts the elements that are NaN or infinite; `None` if there are none, as in every tensor of integers.
    ///
    /// ```
    /// use maplet_tensor::Tensor;
    ///
    /// let x = Tensor::from([[1.0f32, 0.0], [-1.0, 2.0]]);
    /// let found = x.log().not_finite().unwrap();
    /// assert_eq!((found.nans, found.infinities), (1, 1));
    /// assert_eq!((found.index, found.value), (vec![0, 1], f64::NEG_INFINITY));
    /// assert!(x.exp().not_finite().is_none());
    /// ```
    pub fn not_finite(&self) -> Option<NotFinite> {
        if !self.dtype().is_float() {
            return None;
        }
        dispatch!(self.dtype(), T => {
            let x = self.slice_of::<T>();
            // A sum of zeros, or of NaN: the usual answer needs no branch for an element.
            let odd = par::sum(x.len(), 0.5, |range| x[range].iter().map(|x| x.as_f64() * 0.0).sum());
            if odd == 0.0 {
                return None;
            }
            let count = |odd: fn(f64) -> bool| x.iter().filter(|x| odd(x.as_f64())).count();
            let first = x.iter().position(|x| !x.as_f64().is_finite())?;
            Some(NotFinite {
                nans: count(f64::is_nan),
                infinities: count(f64::is_infinite),
                index: place(first, &self.shape()),
                value: x[first].as_f64(),
            })
        })
    }
}

/// The index along each axis of element `i`.
fn place(mut i: usize, sizes: &[usize]) -> Vec<usize> {
    let mut index = vec![0; sizes.len()];
    for (axis, &size) in sizes.iter().enumerate().rev() {
        index[axis] = i % size;
        i /= size;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn finds_each_kind_and_the_first() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let x = Tensor::from([[[0.0, 1.0], [2.0, inf]], [[nan, -inf], [nan, f64::MAX]]]);
        let found = x.not_finite().unwrap();
        assert_eq!((found.nans, found.infinities, found.index, found.value), (2, 2, vec![0, 1, 1], inf));
        assert_eq!(Tensor::scalar(f32::NAN).not_finite().unwrap().index, [0usize; 0]);
        let mut long = vec![f32::MAX; 100_003];
        assert_eq!(Tensor::from_vec(long.clone(), [100_003]).unwrap().not_finite(), None);
        long[99_999] = f32::NEG_INFINITY;
        assert_eq!(Tensor::from_vec(long, [100_003]).unwrap().not_finite().unwrap().index, [99_999]);
    }

    #[test]
    fn nothing_and_integers_are_finite() {
        assert_eq!(Tensor::zeros([0, 3], DType::F32).not_finite(), None);
        assert_eq!(Tensor::from([i64::MAX, i64::MIN]).not_finite(), None);
    }
}
