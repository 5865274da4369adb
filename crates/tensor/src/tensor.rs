//! [`Tensor`]: a shape over shared, dense, row-major memory.

use crate::buffer::Buffer;
use crate::dtype::dispatch;
use crate::{DType, Element, Error, Result, Rng, Shape};
use std::sync::Arc;

/// A dense, row-major array of any rank, with its element type known at run time.
///
/// Cloning shares the memory; writing through [`as_mut_slice`](Self::as_mut_slice) copies it first if anybody else
/// holds it. Reshaping and slicing along axis 0 are free.
///
/// ```
/// use maplet_tensor::{DType, Tensor};
///
/// let x = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// assert_eq!((x.shape().to_string().as_str(), x.dtype()), ("[2, 3]", DType::F32));
/// assert_eq!(x.slice(0, 1, 2)?.as_slice::<f32>()?, [4.0, 5.0, 6.0]);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<Buffer>,
    /// The first element's place in the buffer.
    offset: usize,
    shape: Shape,
    dtype: DType,
}

/// Making tensors.
impl Tensor {
    /// A tensor whose elements are anything: for kernels that write every one.
    pub(crate) fn dirty<T: Element>(shape: Shape) -> Self {
        Self { buffer: Arc::new(Buffer::dirty::<T>(shape.elements())), offset: 0, shape, dtype: T::DTYPE }
    }

    /// As [`dirty`](Self::dirty), for a kernel's own use: see [`Buffer::scratch`].
    pub(crate) fn scratch<T: Element>(shape: Shape) -> Self {
        Self { buffer: Arc::new(Buffer::scratch::<T>(shape.elements())), offset: 0, shape, dtype: T::DTYPE }
    }

    /// A tensor whose elements `write` sets, every one.
    pub(crate) fn build<T: Element>(shape: Shape, write: impl FnOnce(&mut [T])) -> Self {
        let mut tensor = Self::dirty::<T>(shape);
        write(tensor.own_slice());
        tensor
    }

    /// All zeros.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Self {
        dispatch!(dtype, T => Self::full(shape, T::default()))
    }

    /// All ones.
    pub fn ones(shape: impl Into<Shape>, dtype: DType) -> Self {
        dispatch!(dtype, T => Self::full(shape, T::from_i64(1)))
    }

    /// All the same value; its type is the tensor's.
    pub fn full<T: Element>(shape: impl Into<Shape>, value: T) -> Self {
        Self::build(shape.into(), |out| out.fill(value))
    }

    /// Zeros of this tensor's shape and type.
    pub fn zeros_like(&self) -> Self {
        Self::zeros(self.shape, self.dtype)
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self::full([], value)
    }

    /// The vector's elements, row-major, without a copy.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn from_vec<T: Element>(vec: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        check_elements("from_vec", &"the vector", vec.len(), &shape)?;
        Ok(Self { buffer: Arc::new(Buffer::from_vec(vec)), offset: 0, shape, dtype: T::DTYPE })
    }

    /// A copy of the slice's elements, row-major.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn from_slice<T: Element>(slice: &[T], shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        check_elements("from_slice", &"the slice", slice.len(), &shape)?;
        Ok(Self::build(shape, |out| out.copy_from_slice(slice)))
    }

    /// `start`, `start + step`, … up to but without `end`.
    ///
    /// # Errors
    /// A step of zero or of the wrong sign, or a bound that is not finite.
    pub fn arange<T: Element>(start: T, end: T, step: T) -> Result<Self> {
        let (first, last, by) = (start.as_f64(), end.as_f64(), step.as_f64());
        let count = ((last - first) / by).ceil();
        let finite = first.is_finite() && last.is_finite() && by.is_finite();
        if !finite || by == 0.0 || count < 0.0 || count > isize::MAX as f64 {
            let what = format!("no steps of {step} lead from {start} to {end}");
            return Err(Error::value("arange", what, "use finite bounds, and a step that points from start to end"));
        }
        let shape = Shape::new(&[count as usize])?;
        Ok(Self::build(shape, |out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = match T::DTYPE.is_float() {
                    true => T::from_f64(first + i as f64 * by),
                    false => T::from_i64(start.as_i64() + i as i64 * step.as_i64()),
                };
            }
        }))
    }

    /// Independent draws, uniform in `[low, high)`.
    pub fn uniform<T: Element>(shape: impl Into<Shape>, low: T, high: T, rng: &mut Rng) -> Self {
        let (low, width) = (low.as_f64(), high.as_f64() - low.as_f64());
        Self::build(shape.into(), |out| out.fill_with(|| T::from_f64(low + width * rng.uniform())))
    }

    /// Independent draws from a normal distribution.
    pub fn normal<T: Element>(shape: impl Into<Shape>, mean: T, std: T, rng: &mut Rng) -> Self {
        let (mean, std) = (mean.as_f64(), std.as_f64());
        Self::build(shape.into(), |out| out.fill_with(|| T::from_f64(mean + std * rng.normal())))
    }
}

/// Reading tensors.
impl Tensor {
    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.elements()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of one axis, counted from the end if negative.
    ///
    /// # Errors
    /// No such axis.
    pub fn size(&self, axis: isize) -> Result<usize> {
        Ok(self.shape[self.shape.axis("size", axis)?])
    }

    /// The sizes of exactly `N` axes, to be named by a pattern: `let [n, c, h, w] = x.dims("conv2d")?;`.
    ///
    /// # Errors
    /// Another rank; the text begins with `op`.
    pub fn dims<const N: usize>(&self, op: &'static str) -> Result<[usize; N]> {
        self.shape.sizes().try_into().map_err(|_| {
            let what = format!("expects {N} axes, got {} with {}", self.shape, self.rank());
            Error::shape(op, what, "reshape or unsqueeze the input")
        })
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.check_dtype::<T>("as_slice")?;
        Ok(self.slice_of())
    }

    /// The elements, row-major, to be written. Memory that anybody else holds is copied first.
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        self.check_dtype::<T>("as_mut_slice")?;
        Ok(self.own_slice())
    }

    /// A copy of the elements, row-major.
    ///
    /// # Errors
    /// `T` is not the tensor's element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_dtype::<T>("to_vec")?;
        Ok(self.slice_of().to_vec())
    }

    /// The only element.
    ///
    /// # Errors
    /// More or fewer elements than one, or `T` is not the tensor's element type.
    pub fn item<T: Element>(&self) -> Result<T> {
        self.check_dtype::<T>("item")?;
        match *self.slice_of::<T>() {
            [item] => Ok(item),
            _ => {
                let what = format!("{} has {} elements", self.shape, self.len());
                Err(Error::shape("item", what, "reduce to one element first, or use to_vec"))
            }
        }
    }

    /// Whether nobody else holds this memory, so that it can be overwritten in place.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.buffer) == 1
    }

    /// The same elements under another shape, for free.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        check_elements("reshape", &self.shape, self.len(), &shape)?;
        Ok(self.with_shape(shape))
    }
}

/// For the kernels.
impl Tensor {
    /// The elements, when the type was dispatched on.
    pub(crate) fn slice_of<T: Element>(&self) -> &[T] {
        debug_assert_eq!(T::DTYPE, self.dtype);
        &self.buffer.as_slice()[self.offset..][..self.shape.elements()]
    }

    /// The elements, uniquely owned, when the type was dispatched on.
    pub(crate) fn own_slice<T: Element>(&mut self) -> &mut [T] {
        debug_assert_eq!(T::DTYPE, self.dtype);
        let len = self.len();
        if Arc::get_mut(&mut self.buffer).is_none() {
            *self = Self::build(self.shape, |out| out.copy_from_slice(self.slice_of::<T>()));
        }
        let buffer = Arc::get_mut(&mut self.buffer).expect("made unique above");
        &mut buffer.as_mut_slice()[self.offset..][..len]
    }

    /// The same elements under a shape that is known to fit.
    pub(crate) fn with_shape(&self, shape: Shape) -> Self {
        debug_assert_eq!(shape.elements(), self.len());
        Self { shape, ..self.clone() }
    }

    /// Elements `start..` of the row-major order under another shape that is known to fit, sharing the memory.
    pub(crate) fn window(&self, start: usize, shape: Shape) -> Self {
        debug_assert!(start + shape.elements() <= self.len());
        Self { offset: self.offset + start, shape, ..self.clone() }
    }

    fn check_dtype<T: Element>(&self, op: &'static str) -> Result<()> {
        if self.dtype == T::DTYPE {
            return Ok(());
        }
        let what = format!("the tensor is {}, asked for {}", self.dtype, T::DTYPE);
        Err(Error::dtype(op, what, "convert with to_dtype"))
    }

    /// An error unless both have one element type.
    pub(crate) fn same_dtype(&self, op: &'static str, other: &Self) -> Result<()> {
        if self.dtype == other.dtype {
            return Ok(());
        }
        let what = format!("element types differ: {} and {}", self.dtype, other.dtype);
        Err(Error::dtype(op, what, "convert one of them with to_dtype"))
    }
}

/// `what` is written out only in an error.
fn check_elements(op: &'static str, what: &dyn std::fmt::Display, elements: usize, shape: &Shape) -> Result<()> {
    if elements == shape.elements() {
        return Ok(());
    }
    let what = format!("{what} has {elements} elements, {shape} needs {}", shape.elements());
    Err(Error::shape(op, what, format!("the sizes must multiply to {elements}")))
}

/// Another handle on the same memory.
impl From<&Tensor> for Tensor {
    fn from(tensor: &Tensor) -> Self {
        tensor.clone()
    }
}

/// Equal means: same type, same shape, and every element equal (so a NaN is never equal).
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && dispatch!(self.dtype, T => self.slice_of::<T>() == other.slice_of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_until_written() {
        let mut x = Tensor::full([2, 2], 1.0f32);
        let y = x.clone();
        assert!(!x.is_unique() && std::ptr::eq(x.slice_of::<f32>(), y.slice_of::<f32>()));
        x.as_mut_slice::<f32>().unwrap()[0] = 5.0;
        assert_eq!((x.to_vec::<f32>().unwrap()[0], y.to_vec::<f32>().unwrap()[0]), (5.0, 1.0));
        assert!(x.is_unique() && y.is_unique());
    }

    #[test]
    fn a_window_is_written_alone() {
        let x = Tensor::from_vec((0..6).collect::<Vec<i64>>(), [3, 2]).unwrap();
        let mut row = x.window(2, Shape::from([2]));
        drop(x);
        row.own_slice::<i64>()[1] = 9;
        assert_eq!(row.to_vec::<i64>().unwrap(), [2, 9]);
    }

    #[test]
    fn arange_counts_as_numpy_does() {
        assert_eq!(Tensor::arange(0.0f64, 1.0, 0.25).unwrap().to_vec::<f64>().unwrap(), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(Tensor::arange(5i64, 0, -2).unwrap().to_vec::<i64>().unwrap(), [5, 3, 1]);
        assert!(Tensor::arange(2u8, 2, 1).unwrap().is_empty());
        let error = Tensor::arange(0i64, 5, -1).unwrap_err().to_string();
        let text = "arange: no steps of -1 lead from 0 to 5; \
                    help: use finite bounds, and a step that points from start to end";
        assert_eq!(error, text);
    }

    #[test]
    fn wrong_types_and_counts_are_named() {
        let x = Tensor::zeros([2, 3], DType::U8);
        let text = x.as_slice::<f32>().unwrap_err().to_string();
        assert_eq!(text, "as_slice: the tensor is u8, asked for f32; help: convert with to_dtype");
        let text = x.item::<u8>().unwrap_err().to_string();
        assert_eq!(text, "item: [2, 3] has 6 elements; help: reduce to one element first, or use to_vec");
        let text = Tensor::from_vec(vec![1u8], [2]).unwrap_err().to_string();
        assert_eq!(text, "from_vec: the vector has 1 elements, [2] needs 2; help: the sizes must multiply to 1");
        let text = x.dims::<4>("conv2d").unwrap_err().to_string();
        assert_eq!(text, "conv2d: expects 4 axes, got [2, 3] with 2; help: reshape or unsqueeze the input");
    }
}
