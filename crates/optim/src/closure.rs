//! Losses as closures: for optimizers that need the loss more than once a step.

use crate::{Error, Result};
use maplet_autograd::{Grads, Tensor, Var};
use maplet_tensor::DType;

/// The loss of the model as it is now, and its gradients.
pub(crate) fn evaluate<M, E: From<Error>>(
    model: &M,
    loss: &mut impl FnMut(&M) -> Result<Var, E>,
) -> Result<(f64, Grads), E> {
    let loss = loss(model)?;
    Ok((number(loss.value())?, loss.backward().map_err(Error::from)?))
}

/// The one number in a tensor.
pub(crate) fn number(x: &Tensor) -> Result<f64> {
    Ok(x.to_dtype(DType::F64).item()?)
}
