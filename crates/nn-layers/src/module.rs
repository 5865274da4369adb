//! [`Module`]: what every layer and every model is.

use crate::freeze::{Graph, Value};
use crate::fusion::Part;
use crate::{Error, Result};
use maplet_autograd::{State, Var, Visit, params_mut, states_mut};
use maplet_tensor::DType;

/// A mapping from one value to another, with whatever parameters it needs.
///
/// A model is a struct of layers, its parameters found through [`fields!`](maplet_autograd::fields):
///
/// ```
/// use maplet_autograd::{Tensor, Var, fields, params};
/// use maplet_nn_layers::{Linear, Module, Result};
/// use maplet_tensor::Rng;
///
/// struct Residual {
///     inner: Linear,
/// }
/// fields!(Residual: inner);
///
/// impl Module for Residual {
///     fn forward(&self, x: &Var) -> Result<Var> {
///         Ok(self.inner.forward(&x.relu())?.add(x)?)
///     }
/// }
///
/// let model = Residual { inner: Linear::new(4, 4, &mut Rng::new(42))? };
/// let y = model.forward(&Var::from(Tensor::from([[1.0f32, 2.0, 3.0, 4.0]])))?;
/// assert_eq!(y.shape(), [1, 4].into());
/// assert_eq!(params(&model)[0].0, "inner.weight");
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
pub trait Module: Visit + Send + Sync {
    /// The output for `x`. Axis 0 is the batch.
    ///
    /// # Errors
    /// A shape or an element type that the module does not take.
    fn forward(&self, x: &Var) -> Result<Var>;

    /// What [`Sequential`](crate::Sequential) may run together with its neighbors; nothing, for modules of your own.
    #[doc(hidden)]
    fn part(&self) -> Part<'_> {
        Part::Other
    }

    /// Adds what the module does at inference to the ops of a [`Frozen`](crate::Frozen) model, and returns its output;
    /// nothing, and the module will run by its forward pass.
    #[doc(hidden)]
    fn lower(&self, _graph: &mut Graph, _x: Value) -> Result<Option<Value>> {
        Ok(None)
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward(&self, x: &Var) -> Result<Var> {
        (**self).forward(x)
    }

    fn part(&self) -> Part<'_> {
        (**self).part()
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        (**self).lower(graph, x)
    }
}

/// A module that can be copied behind its pointer: what a [`Sequential`](crate::Sequential) holds.
pub(crate) trait Layer: Module {
    fn copied(&self) -> Box<dyn Layer>;
}

impl<M: Module + Clone + 'static> Layer for M {
    fn copied(&self) -> Box<dyn Layer> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Layer> {
    fn clone(&self) -> Self {
        (**self).copied()
    }
}

/// Converts every floating-point parameter and state of a model to `F32` or `F64`.
///
/// # Errors
/// `dtype` is not a floating-point type.
pub fn cast<M: Visit + ?Sized>(model: &mut M, dtype: DType) -> Result<()> {
    if !dtype.is_float() {
        return Err(Error::new("cast", format!("parameters cannot be {dtype}"), "use F32 or F64"));
    }
    for (_, param) in params_mut(model) {
        if param.dtype().is_float() {
            *param.value_mut() = param.value().to_dtype(dtype);
        }
    }
    for (_, state) in states_mut(model) {
        if state.value().dtype().is_float() {
            *state = State::new(state.value().to_dtype(dtype));
        }
    }
    Ok(())
}

/// An error unless `x` holds floating-point numbers: the unary ops on values would panic.
pub(crate) fn expect_float(op: &'static str, x: &Var) -> Result<()> {
    if x.dtype().is_float() {
        return Ok(());
    }
    let what = format!("expects f32 or f64, got {}", x.dtype());
    Err(Error::new(op, what, "convert the input with to_dtype(DType::F32)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_autograd::Param;
    use maplet_tensor::Tensor;

    #[test]
    fn parameters_stay_numbers_with_a_point() {
        let mut model = (Param::new(Tensor::from([1.5f32])),);
        cast(&mut model, DType::F64).unwrap();
        assert_eq!(model.0.value(), &Tensor::from([1.5f64]));
        let text = cast(&mut model, DType::I64).unwrap_err().to_string();
        assert_eq!(text, "cast: parameters cannot be i64; help: use F32 or F64");
        assert_eq!(model.0.value(), &Tensor::from([1.5f64]));
    }
}
