//! Between tensors and other arrays: `ndarray`'s views and arrays, and Rust's nested arrays.

use crate::{Element, Error, MAX_RANK, Result, Shape, Tensor};
use ndarray::{Array, ArrayD, ArrayViewD, ArrayViewMutD, Dimension, IxDyn};

impl Tensor {
    /// The elements as an `ndarray` view, without a copy.
    ///
    /// ```
    /// # use maplet_tensor::Tensor;
    /// let x = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.view::<f32>()?[[1, 0]], 3.0);
    /// # Ok::<(), maplet_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        check::<T>("view", self)?;
        Ok(ArrayViewD::from_shape(IxDyn(&self.shape()), self.slice_of()).expect("a tensor is dense"))
    }

    /// The elements as an `ndarray` view to be written. Memory that anybody else holds is copied first.
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn view_mut<T: Element>(&mut self) -> Result<ArrayViewMutD<'_, T>> {
        check::<T>("view_mut", self)?;
        let shape = self.shape();
        Ok(ArrayViewMutD::from_shape(IxDyn(&shape), self.own_slice()).expect("a tensor is dense"))
    }

    /// The elements as an `ndarray` array, copied.
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn into_array<T: Element>(self) -> Result<ArrayD<T>> {
        check::<T>("into_array", &self)?;
        let elements = self.slice_of::<T>().to_vec();
        Ok(ArrayD::from_shape_vec(IxDyn(&self.shape()), elements).expect("a tensor is dense"))
    }
}

fn check<T: Element>(op: &'static str, x: &Tensor) -> Result<()> {
    if x.dtype() == T::DTYPE {
        return Ok(());
    }
    let what = format!("the tensor is {}, asked for {}", x.dtype(), T::DTYPE);
    Err(Error::dtype(op, what, "convert with to_dtype"))
}

/// Takes over the array's memory if it is dense and row-major, else copies it.
///
/// # Panics
/// If the array has more than 8 axes.
impl<T: Element, D: Dimension> From<Array<T, D>> for Tensor {
    fn from(array: Array<T, D>) -> Self {
        assert!(array.ndim() <= MAX_RANK, "an array of {} axes: a tensor has at most {MAX_RANK}", array.ndim());
        let shape = Shape::of(array.shape());
        let dense = if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() };
        let (elements, offset) = dense.into_raw_vec_and_offset();
        let offset = offset.unwrap_or(0);
        match elements.len() == shape.elements() {
            true => Self::from_vec(elements, shape),
            false => Self::from_slice(&elements[offset..][..shape.elements()], shape), // the array had been cut
        }
        .expect("as many elements as the array had")
    }
}

impl<T: Element, const A: usize> From<[T; A]> for Tensor {
    fn from(elements: [T; A]) -> Self {
        Self::build(Shape::from([A]), |out| out.copy_from_slice(&elements))
    }
}

impl<T: Element, const A: usize, const B: usize> From<[[T; B]; A]> for Tensor {
    fn from(rows: [[T; B]; A]) -> Self {
        Self::build(Shape::from([A, B]), |out| out.copy_from_slice(rows.as_flattened()))
    }
}

impl<T: Element, const A: usize, const B: usize, const C: usize> From<[[[T; C]; B]; A]> for Tensor {
    fn from(planes: [[[T; C]; B]; A]) -> Self {
        Self::build(Shape::from([A, B, C]), |out| out.copy_from_slice(planes.as_flattened().as_flattened()))
    }
}

impl<T: Element, const A: usize, const B: usize, const C: usize, const D: usize> From<[[[[T; D]; C]; B]; A]>
    for Tensor
{
    fn from(blocks: [[[[T; D]; C]; B]; A]) -> Self {
        let elements = blocks.as_flattened().as_flattened().as_flattened();
        Self::build(Shape::from([A, B, C, D]), |out| out.copy_from_slice(elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Axis, array, s};

    #[test]
    fn dense_arrays_are_taken_over() {
        let array = array![[1.0f32, 2.0], [3.0, 4.0]];
        let start = array.as_ptr();
        let x = Tensor::from(array);
        assert_eq!(x, Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]));
        assert_eq!(x.as_slice::<f32>().unwrap().as_ptr(), start);
        assert_eq!(x.view::<f32>().unwrap().as_ptr(), start);
        assert_eq!(x.into_array::<f32>().unwrap(), array![[1.0f32, 2.0], [3.0, 4.0]].into_dyn());
    }

    #[test]
    fn other_layouts_are_copied_in_order() {
        let array = array![[1i64, 2, 3], [4, 5, 6]];
        assert_eq!(Tensor::from(array.clone().reversed_axes()), Tensor::from([[1i64, 4], [2, 5], [3, 6]]));
        assert_eq!(Tensor::from(array.clone().slice_move(s![1.., ..2])), Tensor::from([[4i64, 5]]));
        assert_eq!(Tensor::from(array.clone().slice_move(s![1.., ..])), Tensor::from([[4i64, 5, 6]]));
        let mut flipped = array;
        flipped.invert_axis(Axis(1));
        assert_eq!(Tensor::from(flipped), Tensor::from([[3i64, 2, 1], [6, 5, 4]]));
    }

    #[test]
    fn nested_arrays_give_their_shape() {
        assert_eq!(Tensor::from([0u8; 3]).shape(), Shape::from([3]));
        assert_eq!(Tensor::from([[0u8; 0]; 3]).shape(), Shape::from([3, 0]));
        assert_eq!(Tensor::from([[[0u8; 4]; 3]; 2]).shape(), Shape::from([2, 3, 4]));
        let x = Tensor::from([[[[1i64, 2]], [[3, 4]]]]);
        assert_eq!((x.shape(), x.to_vec::<i64>().unwrap()), (Shape::from([1, 2, 1, 2]), vec![1, 2, 3, 4]));
    }

    #[test]
    fn writing_through_a_view_leaves_other_holders_alone() {
        let mut x = Tensor::from([1.0f32, 2.0]);
        let y = x.clone();
        x.view_mut::<f32>().unwrap()[0] = 9.0;
        assert_eq!((x, y), (Tensor::from([9.0f32, 2.0]), Tensor::from([1.0f32, 2.0])));
    }

    #[test]
    fn wrong_types_are_named() {
        let mut x = Tensor::from([1u8]);
        let text = "the tensor is u8, asked for f32; help: convert with to_dtype";
        assert_eq!(x.view::<f32>().unwrap_err().to_string(), format!("view: {text}"));
        assert_eq!(x.view_mut::<f32>().unwrap_err().to_string(), format!("view_mut: {text}"));
        assert_eq!(x.into_array::<f32>().unwrap_err().to_string(), format!("into_array: {text}"));
    }

    #[test]
    #[should_panic(expected = "an array of 9 axes: a tensor has at most 8")]
    fn arrays_of_too_many_axes_are_refused() {
        _ = Tensor::from(ArrayD::<f32>::zeros(vec![1; 9]));
    }
}
