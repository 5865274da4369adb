//! [`Objective`]: the loss as something to be asked again, for optimizers that need it more than once a step.

use crate::{Error, Optimizer, Result};
use maplet_autograd::{Grads, Tensor, Var, Visit};
use maplet_tensor::DType;

/// A model and its loss on one batch. [`step_closure`] makes one.
pub trait Objective {
    /// The model, to be looked at and changed.
    fn model(&mut self) -> &mut dyn Visit;

    /// The loss of the model as it is now, and its gradients. The same weights give the same again.
    ///
    /// # Errors
    /// Whatever keeps the loss from being found.
    fn evaluate(&mut self) -> Result<(f64, Grads)>;
}

/// One step of any optimizer, which evaluates the closure as often as it needs: once, or many times in [`Lbfgs`]. The
/// closure gives the loss of the model as it is at that moment, and its gradients. Returns the first loss.
///
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{Error, Lbfgs, Optimizer, Sgd, step_closure};
///
/// let optimizers: [Box<dyn Optimizer>; 2] = [Box::new(Sgd::new(0.5)), Box::new(Lbfgs::new(1.0))];
/// for mut optimizer in optimizers {
///     let mut model = (Param::new(Tensor::from([3.0f64])),);
///     let loss = step_closure(&mut *optimizer, &mut model, |model| {
///         let x = Pass::train(0).input(Tensor::from([1.0f64]));
///         let loss = model.0.on(&x).square().sum(.., false)?;
///         Ok::<_, Error>((loss.item()?, loss.backward()?))
///     })?;
///     assert_eq!((loss, model.0.value()), (9.0, &Tensor::from([0.0f64])));
/// }
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// The closure's, as it was, and those of the optimizer.
///
/// [`Lbfgs`]: crate::Lbfgs
pub fn step_closure<M: Visit, E: From<Error>>(
    optimizer: &mut (impl Optimizer + ?Sized),
    model: &mut M,
    evaluate: impl FnMut(&M) -> Result<(f64, Grads), E>,
) -> Result<f64, E> {
    let mut closure = Closure { model, evaluate, error: None };
    let result = optimizer.step_with(&mut closure);
    match (result, closure.error) {
        (Ok(loss), _) => Ok(loss), // also if the optimizer coped with a failed evaluation
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
    }
}

struct Closure<'m, M, F, E> {
    model: &'m mut M,
    evaluate: F,
    /// The closure's own error: optimizers only see that there was one.
    error: Option<E>,
}

impl<M: Visit, E, F: FnMut(&M) -> Result<(f64, Grads), E>> Objective for Closure<'_, M, F, E> {
    fn model(&mut self) -> &mut dyn Visit {
        self.model
    }

    fn evaluate(&mut self) -> Result<(f64, Grads)> {
        (self.evaluate)(self.model).map_err(|error| {
            self.error = Some(error);
            Error::new("step_closure", "the loss could not be evaluated", "")
        })
    }
}

/// A closure that gives the loss alone, with its gradients.
pub(crate) fn differentiated<M, E: From<Error>>(
    mut loss: impl FnMut(&M) -> Result<Var, E>,
) -> impl FnMut(&M) -> Result<(f64, Grads), E> {
    move |model| {
        let loss = loss(model)?;
        Ok((number(loss.value())?, loss.backward().map_err(Error::from)?))
    }
}

/// The error of an optimizer that is given gradients, and needs the loss.
pub(crate) fn needs_loss(op: &'static str) -> Error {
    let what = "it needs the loss more than once a step, not gradients";
    Error::new(op, what, "step it by step_closure or a trainer, and wrap it in no other optimizer")
}

/// The one number in a tensor.
pub(crate) fn number(x: &Tensor) -> Result<f64> {
    Ok(x.to_dtype(DType::F64).item()?)
}
