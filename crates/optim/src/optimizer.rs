//! [`Optimizer`]: what a training loop needs of one, and [`OptimizerState`], what a checkpoint keeps of it.

use crate::{Objective, Result};
use maplet_autograd::{Grads, Tensor, Visit};

/// Changes a model's parameters by their gradients.
///
/// Its memory of a parameter (momentum, moments) is kept under the parameter's path, so it survives a model that was
/// cloned, saved or rebuilt.
pub trait Optimizer: Send {
    /// Changes every trainable parameter that has a gradient, in place, and gives the model the states (running
    /// statistics) that the forward pass found. Parameters without a gradient stay as they are.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), and a loaded state that does not fit the model; nothing is changed then.
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()>;

    /// One step on a loss that can be evaluated again; returns the first loss. Most optimizers evaluate it once and
    /// [`step`](Self::step) by the gradients. [`Lbfgs`](crate::Lbfgs) and [`Sam`](crate::Sam) evaluate it more often,
    /// and step in no other way. To call it with a closure, see [`step_closure`](crate::step_closure).
    ///
    /// # Errors
    /// Those of the evaluation and of [`step`](Self::step).
    fn step_with(&mut self, objective: &mut dyn Objective) -> Result<f64> {
        let (loss, grads) = objective.evaluate()?;
        self.step(objective.model(), &grads)?;
        Ok(loss)
    }

    /// Whether every hyper-parameter is possible. Each [`step`](Self::step) asks too; this is to ask before training.
    ///
    /// # Errors
    /// The first that is not: `adam: learning_rate is NaN; help: …`.
    fn check(&self) -> Result<()>;

    /// Whether a [`step`](Self::step) by these gradients would be refused. The model is only read; it is `&mut` because
    /// `step` has it so. [`Partition`](crate::Partition) asks both of its optimizers before either steps.
    ///
    /// # Errors
    /// Those of `step`.
    fn check_step(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        let _ = (model, grads);
        self.check()
    }

    /// What to call it: `adam`.
    fn name(&self) -> &'static str;

    /// The base rate, before schedule and groups.
    fn learning_rate(&self) -> f64;

    /// Sets the base rate. The schedule's factor still applies.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The rate that the next step will use, before groups: the base rate times the schedule's factor.
    fn current_learning_rate(&self) -> f64;

    /// How many steps were done.
    fn steps(&self) -> u64;

    /// Everything that changes from step to step. Cheap: tensors share their memory until the next step.
    fn state(&self) -> OptimizerState;

    /// Goes on from a state of an optimizer of this kind, bit for bit. Hyper-parameters other than the rate are code
    /// and are not touched.
    ///
    /// # Errors
    /// A state of another kind, or one with tensors missing or left over; nothing is changed then. That shapes fit is
    /// checked by the next step, which sees the model.
    fn load_state(&mut self, state: OptimizerState) -> Result<()>;
}

/// Everything of an optimizer that changes from step to step.
#[derive(Clone, PartialEq)]
pub struct OptimizerState {
    /// The optimizer's [`name`](Optimizer::name), with the names of those that it wraps: `lookahead(adam)`,
    /// `partition(muon, adamw)`.
    pub optimizer: String,
    /// The steps done.
    pub step: u64,
    /// `learning_rate`
    pub numbers: Vec<(String, f64)>,
    /// For a parameter `0.weight`: `0.weight.step`, the steps it took part in, and PyTorch's names: `0.weight.exp_avg`,
    /// `0.weight.exp_avg_sq`, `0.weight.momentum_buffer`.
    pub tensors: Vec<(String, Tensor)>,
}

/// For an optimizer that is chosen at run time.
impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        (**self).step(model, grads)
    }

    fn step_with(&mut self, objective: &mut dyn Objective) -> Result<f64> {
        (**self).step_with(objective)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn check_step(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        (**self).check_step(model, grads)
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn learning_rate(&self) -> f64 {
        (**self).learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        (**self).set_learning_rate(learning_rate);
    }

    fn current_learning_rate(&self) -> f64 {
        (**self).current_learning_rate()
    }

    fn steps(&self) -> u64 {
        (**self).steps()
    }

    fn state(&self) -> OptimizerState {
        (**self).state()
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        (**self).load_state(state)
    }
}
