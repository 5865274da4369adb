//! [`Sam`]: gradients from the worst place nearby.

use crate::objective::{self, needs_loss};
use crate::wrapper::{Own, inner_answers};
use crate::{Error, Objective, Optimizer, OptimizerState, Result, step_closure};
use maplet_autograd::{Grads, Tensor, Var, Visit, params, params_mut};

/// Sharpness-aware minimization: the inner optimizer's step, by the gradients at the steepest place within a radius.
///
/// `e = radius · g / ‖g‖` over all parameters; the gradients at `p + e` step from `p`. Adaptive, `g` counts in units of
/// `|p|`: `e = radius · p²·g / ‖p·g‖`.
///
/// It needs the loss twice a step, so it takes a closure; a trainer has one. Running statistics are those of the first
/// pass.
///
/// PyTorch: –; Keras: `SharpnessAwareMinimization`.
///
/// # Reference
/// Foret, Kleiner, Mobahi & Neyshabur (2021), "Sharpness-Aware Minimization for Efficiently Improving Generalization",
/// eq. 2; adaptive: Kwon et al. (2021), "ASAM", eq. 5, without its η.
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{Result, Sam, Sgd};
///
/// let mut model = (Param::new(Tensor::from([3.0f32])),);
/// let mut sam = Sam::new(Sgd::new(0.1), 0.05);
/// for step in 0..100 {
///     sam.step(&mut model, |model| -> Result<_> {
///         let x = Pass::train(step).input(Tensor::from([1.0f32])); // the same pass both times
///         Ok(model.0.on(&x).square().sum(.., false)?)
///     })?;
/// }
/// assert!(model.0.value().item::<f32>()?.abs() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sam<O> {
    inner: O,
    radius: f64,
    adaptive: bool,
}

impl<O: Optimizer> Sam<O> {
    /// With this radius, usually 0.05 (0.5 if it is adaptive).
    pub fn new(inner: O, radius: f64) -> Self {
        Self { inner, radius, adaptive: false }
    }

    /// Measures the radius in units of the weights.
    pub fn adaptive(mut self) -> Self {
        self.adaptive = true;
        self
    }

    /// One step; the closure gives the loss of the model as it is at that moment. Returns the first loss.
    ///
    /// # Errors
    /// The closure's, and those of the inner optimizer; the weights are as before then.
    pub fn step<M: Visit, E: From<Error>>(
        &mut self,
        model: &mut M,
        loss: impl FnMut(&M) -> Result<Var, E>,
    ) -> Result<f64, E> {
        step_closure(self, model, objective::differentiated(loss))
    }

    /// Moves the weights by `e`.
    fn climb(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        let mut parts = Vec::new();
        for (_, param) in params_mut(model) {
            let Some(grad) = grads.of(&*param) else { continue };
            let part = if self.adaptive { grad.mul(param.value())? } else { grad.clone() };
            parts.push((param, part));
        }
        let norm = parts.iter().map(|(_, part)| part.squared_norm()).sum::<f64>().sqrt();
        let length = if norm > 0.0 { self.radius / norm } else { 0.0 };
        for (param, part) in parts {
            let part = if self.adaptive { part.mul(param.value())? } else { part };
            param.value_mut().blend(1.0, &part, length)?;
        }
        Ok(())
    }
}

const NAME: &str = "sam";

impl<O: Optimizer> Optimizer for Sam<O> {
    fn step(&mut self, _: &mut dyn Visit, _: &Grads) -> Result<()> {
        Err(needs_loss(NAME))
    }

    fn step_with(&mut self, objective: &mut dyn Objective) -> Result<f64> {
        self.check()?;
        let (value, grads) = objective.evaluate()?;
        let before: Vec<Tensor> =
            params(objective.model()).into_iter().map(|(_, param)| param.value().clone()).collect();
        self.climb(objective.model(), &grads)?;
        let above = objective.evaluate();
        for ((_, param), before) in params_mut(objective.model()).into_iter().zip(before) {
            param.set_value(before)?;
        }
        let (mut found, (loss, above)) = (Grads::default(), above?);
        if !loss.is_finite() {
            let what = format!("the loss is {loss} at the distance of the radius {}", self.radius);
            return Err(Error::new(NAME, what, "use a smaller radius or learning rate; the weights are as before"));
        }
        for (_, param) in params(objective.model()) {
            above.of(param).into_iter().for_each(|grad| found.set(param, grad.clone()));
        }
        grads.apply_states(objective.model())?;
        self.inner.step(objective.model(), &found)?;
        Ok(value)
    }

    fn check(&self) -> Result<()> {
        let fine = self.radius.is_finite() && self.radius >= 0.0;
        Error::unless(fine, NAME, "radius", self.radius, "use a finite number, 0 or more")?;
        self.inner.check()
    }

    fn check_step(&self, _: &mut dyn Visit, _: &Grads) -> Result<()> {
        Err(needs_loss(NAME))
    }

    fn name(&self) -> &'static str {
        NAME
    }

    inner_answers!(inner);

    fn state(&self) -> OptimizerState {
        Own::default().around(NAME, self.inner.state())
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        let (_, inner) = Own::unwrap(NAME, state)?;
        self.inner.load_state(inner)
    }
}
