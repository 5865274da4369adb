//! A dense layer with its activation between two others, where forward and backward pass share their work.

use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::par::Shared;
use crate::product::{Finish, Matrix, Onto, finished_product};
use crate::simd::vectorized;
use crate::{Activation, Error, Float, Result, Tensor};

/// The activation of a [`Hidden`] layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    /// [`Tensor::relu`]
    Relu,
    /// [`Tensor::gelu`]
    Gelu,
}

/// The output of a dense layer with an activation, and what its gradient needs: activation and slope are computed
/// together, where the product has just left its elements.
///
/// ```
/// use maplet_tensor::{Activation, Bend, DType, Hidden, Rng, Tensor};
///
/// let rng = &mut Rng::new(1);
/// let [x, first, second, dy] = [[5, 3], [4, 3], [2, 4], [5, 2]].map(|shape| Tensor::normal(shape, 0.0f64, 1.0, rng));
/// let hidden = Hidden::new(&x, &first, None, Bend::Gelu)?; // and then y = hidden.output.linear(&second, …)
///
/// let z = x.linear(&first, None, Activation::Identity)?;
/// assert_eq!(hidden.output, z.gelu());
/// assert_eq!(hidden.grad(&dy, &second)?, z.gelu_grad(&dy.matmul(&second)?)?);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hidden {
    /// `activation(x · weightᵀ + bias)`
    pub output: Tensor,
    /// The slope of the activation at each element; ReLU's is told by the output.
    slope: Option<Tensor>,
}

impl Hidden {
    /// The layer's output for `x`.
    ///
    /// # Shapes
    /// - `x: [.., in]`, `weight: [out, in]`, `bias: [out]`, output: `[.., out]`
    ///
    /// # Errors
    /// As [`Tensor::linear`].
    pub fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, bend: Bend) -> Result<Self> {
        if bend == Bend::Relu {
            return Ok(Self { output: x.linear(weight, bias, Activation::Relu)?, slope: None });
        }
        let shape = x.linear_shape(weight, bias)?;
        dispatch_float!(x.dtype(), "linear", T => {
            let mut output = Tensor::dirty::<T>(shape);
            let values = Shared::new(output.own_slice::<T>());
            // SAFETY: the pieces that are finished do not overlap, and nothing else touches `output` meanwhile.
            let work = |start, z: &mut [T]| gelu(unsafe { values.slice(start, z.len()) }, z);
            let slope = x.linear_with(shape, weight, bias, Some(Finish { work: &work, cost: 1.0 }));
            Ok(Self { output, slope: Some(slope) })
        })
    }

    /// The gradient before the activation: `(dy · following) · slope`, where `dy` is the gradient of the dense layer
    /// that follows and `following` its weight.
    ///
    /// # Shapes
    /// - `dy: [.., next]`, `following: [next, out]`, result: `[.., out]`
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn grad(&self, dy: &Tensor, following: &Tensor) -> Result<Tensor> {
        const OP: &str = "linear_grad";
        let [next, features] = following.dims(OP)?;
        dy.same_dtype(OP, following)?;
        dy.same_dtype(OP, &self.output)?;
        let shape = self.output.shape();
        let fits = shape.last() == Some(&features) && dy.shape() == shape.with_size(shape.rank() - 1, next);
        if !fits {
            let what = format!("gradient {} and weight {} do not lead back to {shape}", dy.shape(), following.shape());
            return Err(Error::shape(OP, what, "take both from the dense layer that follows"));
        }
        let rows = shape.elements() / features.max(1);
        dispatch_float!(dy.dtype(), OP, T => Ok(Tensor::build(shape, |out: &mut [T]| {
            let (dy, w) = (Matrix::new(dy.slice_of(), next, false), Matrix::new(following.slice_of(), features, false));
            let output = self.output.slice_of::<T>();
            let slope = self.slope.as_ref().map(Tensor::slice_of::<T>);
            let work = |start: usize, dz: &mut [T]| match slope {
                Some(slope) => scale(dz, &slope[start..][..dz.len()]),
                None => cut(dz, &output[start..][..dz.len()]),
            };
            finished_product([rows, next, features], dy, w, out, Onto::Nothing, Some(Finish { work: &work, cost: 0.1 }));
        })))
    }
}

vectorized! {
    /// The values of the function, and its slopes in the arguments' place.
    fn gelu<T: Math>(values: &mut [T], arguments: &mut [T]) {
        for (value, x) in values.iter_mut().zip(arguments) {
            let (distribution, density) = x.normal_distribution::<FUSED>();
            *value = *x * distribution;
            *x = distribution + *x * density;
        }
    }
}

vectorized! {
    fn scale<T: Float>(dz: &mut [T], slope: &[T]) {
        dz.iter_mut().zip(slope).for_each(|(dz, slope)| *dz *= *slope);
    }
}

vectorized! {
    /// As `relu_grad` has it.
    fn cut<T: Float>(dz: &mut [T], output: &[T]) {
        dz.iter_mut().zip(output).for_each(|(dz, y)| *dz = if *y <= T::zero() { T::zero() } else { *dz });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Rng, Shape};

    #[test]
    fn equals_the_ops_that_it_joins() {
        let rng = &mut Rng::new(5);
        for (shape, features, next) in [(&[3, 40, 20][..], 70, 9), (&[5, 4], 33, 2), (&[0, 4], 3, 2), (&[6], 40, 3)] {
            for dtype in [DType::F32, DType::F64] {
                let mut draw =
                    |shape: &[usize]| Tensor::normal(Shape::new(shape).unwrap(), 0.0f64, 1.0, rng).to_dtype(dtype);
                let x = draw(shape);
                let (weight, bias) = (draw(&[features, shape[shape.len() - 1]]), draw(&[features]));
                let (following, dy) = (draw(&[next, features]), draw(&x.shape().with_size(x.rank() - 1, next)));
                for bias in [None, Some(&bias)] {
                    let z = x.linear(&weight, bias, Activation::Identity).unwrap();
                    let before = dy.matmul(&following);
                    let before = before.or_else(|_| dy.reshape([1, next]).and_then(|dy| dy.matmul(&following)));
                    let before = before.and_then(|dh| dh.reshape(z.shape())).unwrap();
                    let relu = Hidden::new(&x, &weight, bias, Bend::Relu).unwrap();
                    assert_eq!(relu.output, z.relu());
                    assert_eq!(relu.grad(&dy, &following).unwrap(), z.relu_grad(&before).unwrap());
                    let gelu = Hidden::new(&x, &weight, bias, Bend::Gelu).unwrap();
                    assert_eq!(gelu.output, z.gelu());
                    assert_eq!(gelu.grad(&dy, &following).unwrap(), z.gelu_grad(&before).unwrap());
                }
            }
        }
    }

    #[test]
    fn misfits_are_explained() {
        let ones = |shape: &[usize]| Tensor::ones(Shape::new(shape).unwrap(), DType::F32);
        let text = Hidden::new(&ones(&[]), &ones(&[3, 4]), None, Bend::Gelu).unwrap_err().to_string();
        assert_eq!(
            text,
            "linear: input [] and weight [3, 4] differ in their last sizes; help: the input's last axis must be 4"
        );
        let hidden = Hidden::new(&ones(&[2, 4]), &ones(&[3, 4]), None, Bend::Gelu).unwrap();
        for (dy, following) in [(&[2, 5][..], &[5, 4]), (&[2, 4], &[5, 3]), (&[3, 5], &[5, 3]), (&[5], &[5, 3])] {
            let text = hidden.grad(&ones(dy), &ones(following)).unwrap_err().to_string();
            let [dy, following] = [dy, following].map(|shape| Shape::new(shape).unwrap());
            let want = format!("linear_grad: gradient {dy} and weight {following} do not lead back to [2, 3]");
            assert_eq!(text, format!("{want}; help: take both from the dense layer that follows"));
        }
    }
}
