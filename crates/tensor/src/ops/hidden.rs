//! A dense layer with its activation between two others, where forward and backward pass share their work.

use super::dropout::{Dropout, check_probability};
use super::matmul::finish;
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::par::Shared;
use crate::product::{Finish, Matrix, Onto, finished_product};
use crate::simd::vectorized;
use crate::{Activation, Error, Float, Result, Rng, Tensor};

/// The activation of a [`Hidden`] layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    /// [`Tensor::relu`]
    Relu,
    /// [`Tensor::gelu`]
    Gelu,
}

/// The output of a dense layer with an activation and dropout, and what its gradient needs: all are computed together,
/// where the product has just left its elements.
///
/// ```
/// use maplet_tensor::{Activation, Bend, DType, Hidden, Rng, Tensor};
///
/// let rng = &mut Rng::new(1);
/// let [x, first, second, dy] = [[5, 3], [4, 3], [2, 4], [5, 2]].map(|shape| Tensor::normal(shape, 0.0f64, 1.0, rng));
/// let hidden = Hidden::new(&x, &first, None, Bend::Gelu, None)?; // and then y = hidden.output.linear(&second, …)
///
/// let z = x.linear(&first, None, Activation::Identity)?;
/// assert_eq!(hidden.output, z.gelu());
/// assert_eq!(hidden.grad(&dy, &second)?, z.gelu_grad(&dy.matmul(&second)?)?);
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hidden {
    /// `dropout(activation(x · weightᵀ + bias))`
    pub output: Tensor,
    slope: Slope,
}

#[derive(Debug, Clone)]
enum Slope {
    /// At each element.
    Of(Tensor),
    /// ReLU's: 0 where the output is, else what dropout multiplies by.
    Step(f64),
}

impl Hidden {
    /// The layer's output for `x`. With a probability, elements are dropped as by [`Tensor::dropout_mask`].
    ///
    /// # Shapes
    /// - `x: [.., in]`, `weight: [out, in]`, `bias: [out]`, output: `[.., out]`
    ///
    /// # Errors
    /// As [`Tensor::linear`]; a probability outside `[0, 1]`.
    pub fn new(
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        bend: Bend,
        dropout: Option<(f64, &mut Rng)>,
    ) -> Result<Self> {
        let shape = x.linear_shape(weight, bias)?;
        if let Some((probability, _)) = dropout {
            check_probability(probability)?;
        }
        let kept = dropout.as_ref().map_or(1.0, |(probability, _)| 1.0 / (1.0 - probability));
        dispatch_float!(x.dtype(), "linear", T => {
            let dropout = dropout.map(|(probability, rng)| Dropout::<T>::new(probability, rng.next_u64()));
            let linear = |work: &(dyn Fn(usize, &mut [T]) + Sync), cost| {
                x.linear_with(shape, weight, bias, Some(Finish { work, cost }))
            };
            Ok(match bend {
                Bend::Relu => {
                    let work = |start, y: &mut [T]| {
                        finish(y, Activation::Relu);
                        mask(y, start, dropout);
                    };
                    Self { output: linear(&work, if dropout.is_some() { 1.0 } else { 0.1 }), slope: Slope::Step(kept) }
                }
                Bend::Gelu => {
                    let mut output = Tensor::dirty::<T>(shape);
                    let values = Shared::new(output.own_slice::<T>());
                    let work = |start, z: &mut [T]| {
                        // SAFETY: the pieces that are finished do not overlap, and nothing else touches `output`.
                        let values = unsafe { values.slice(start, z.len()) };
                        gelu(values, z);
                        mask(values, start, dropout);
                        mask(z, start, dropout);
                    };
                    let slope = linear(&work, if dropout.is_some() { 2.0 } else { 1.0 });
                    Self { output, slope: Slope::Of(slope) }
                }
            })
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
        const OP: &str = "hidden_grad";
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
            let work = |start: usize, dz: &mut [T]| match &self.slope {
                Slope::Of(slope) => scale(dz, &slope.slice_of()[start..][..dz.len()]),
                Slope::Step(kept) => cut(dz, &output[start..][..dz.len()], *kept as T),
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
    /// As `relu_grad` has it, times what was kept.
    fn cut<T: Float>(dz: &mut [T], output: &[T], kept: T) {
        dz.iter_mut().zip(output).for_each(|(dz, y)| *dz = if *y <= T::zero() { T::zero() } else { *dz * kept });
    }
}

vectorized! {
    /// Drops elements, of which `start` come before these.
    fn mask<T: Float>(x: &mut [T], start: usize, dropout: Option<Dropout<T>>) {
        if let Some(dropout) = dropout {
            x.iter_mut().zip(start as u64..).for_each(|(x, i)| *x *= dropout.factor(i));
        }
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
                    let relu = Hidden::new(&x, &weight, bias, Bend::Relu, None).unwrap();
                    assert_eq!(relu.output, z.relu());
                    assert_eq!(relu.grad(&dy, &following).unwrap(), z.relu_grad(&before).unwrap());
                    let gelu = Hidden::new(&x, &weight, bias, Bend::Gelu, None).unwrap();
                    assert_eq!(gelu.output, z.gelu());
                    assert_eq!(gelu.grad(&dy, &following).unwrap(), z.gelu_grad(&before).unwrap());
                }
            }
        }
    }

    #[test]
    fn drops_what_the_mask_drops() {
        let draw = |shape: [usize; 2]| Tensor::normal(shape, 0.0f32, 1.0, &mut Rng::new(shape[1] as u64));
        let (x, weight, following, dy) = (draw([40, 20]), draw([70, 20]), draw([9, 70]), draw([40, 9]));
        let z = x.linear(&weight, None, Activation::Identity).unwrap();
        let mask = Tensor::dropout_mask([40, 70], DType::F32, 0.3, &mut Rng::new(8)).unwrap();
        let dh = dy.matmul(&following).unwrap().mul(&mask).unwrap();
        for (bend, y, dz) in
            [(Bend::Relu, z.relu(), z.relu_grad(&dh).unwrap()), (Bend::Gelu, z.gelu(), z.gelu_grad(&dh).unwrap())]
        {
            let hidden = Hidden::new(&x, &weight, None, bend, Some((0.3, &mut Rng::new(8)))).unwrap();
            assert_eq!(hidden.output, y.mul(&mask).unwrap());
            // The gradient is three factors, multiplied in another order.
            let found = hidden.grad(&dy, &following).unwrap();
            let apart = found.sub(&dz).unwrap().abs().sub(&dz.abs().mul_scalar(3e-7)).unwrap();
            assert!(apart.max(.., false).unwrap().item::<f32>().unwrap() <= 0.0, "{bend:?}");
        }
        let text = Hidden::new(&x, &weight, None, Bend::Relu, Some((1.5, &mut Rng::new(8)))).unwrap_err().to_string();
        assert_eq!(text, "dropout: the probability is 1.5; help: use a number from 0 to 1");
    }

    #[test]
    fn misfits_are_explained() {
        let ones = |shape: &[usize]| Tensor::ones(Shape::new(shape).unwrap(), DType::F32);
        let text = Hidden::new(&ones(&[]), &ones(&[3, 4]), None, Bend::Gelu, None).unwrap_err().to_string();
        assert_eq!(
            text,
            "linear: input [] and weight [3, 4] differ in their last sizes; help: the input's last axis must be 4"
        );
        let hidden = Hidden::new(&ones(&[2, 4]), &ones(&[3, 4]), None, Bend::Gelu, None).unwrap();
        for (dy, following) in [(&[2, 5][..], &[5, 4]), (&[2, 4], &[5, 3]), (&[3, 5], &[5, 3]), (&[5], &[5, 3])] {
            let text = hidden.grad(&ones(dy), &ones(following)).unwrap_err().to_string();
            let [dy, following] = [dy, following].map(|shape| Shape::new(shape).unwrap());
            let want = format!("hidden_grad: gradient {dy} and weight {following} do not lead back to [2, 3]");
            assert_eq!(text, format!("{want}; help: take both from the dense layer that follows"));
        }
    }
}
