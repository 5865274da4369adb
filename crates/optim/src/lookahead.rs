//! [`Lookahead`]: slow weights that follow fast ones.

use crate::wrapper::{Own, inner_answers};
use crate::{Error, Optimizer, OptimizerState, Result};
use maplet_autograd::{Grads, Param, Tensor, Visit, params_mut};
use std::collections::BTreeMap;

/// Lets the inner optimizer run ahead for some steps, then goes a part of its way, and starts it from there again.
///
/// After every `steps`-th step `slow += part · (p − slow)` and `p = slow`; the slow weights begin as the model's.
///
/// PyTorch: –; Keras: –.
///
/// # Reference
/// Zhang, Lucas, Hinton & Ba (2019), "Lookahead Optimizer: k steps forward, 1 step back", algorithm 1.
///
/// # Example
/// ```
/// use maplet_optim::{Adam, Lookahead, Optimizer};
///
/// let optimizer = Lookahead::new(Adam::new(1e-3)).every(10).part(0.8);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub struct Lookahead<O> {
    inner: O,
    every: u64,
    part: f64,
    /// By the parameters' paths.
    slow: BTreeMap<String, Tensor>,
}

impl<O: Optimizer> Lookahead<O> {
    /// Five steps ahead, half of the way.
    pub fn new(inner: O) -> Self {
        Self { inner, every: 5, part: 0.5, slow: BTreeMap::new() }
    }

    /// How many steps the inner optimizer runs ahead: the paper's `k`.
    pub fn every(mut self, steps: u64) -> Self {
        self.every = steps;
        self
    }

    /// How much of the way is gone: the paper's `α`.
    pub fn part(mut self, part: f64) -> Self {
        self.part = part;
        self
    }

    /// An error unless the slow weights are of the model's sizes.
    fn check_params(&self, params: &[(String, &mut Param)]) -> Result<()> {
        for (path, param) in params.iter().filter(|(_, param)| param.is_trainable()) {
            let (shape, dtype) = (param.shape(), param.dtype());
            let Some(slow) = self.slow.get(path) else { continue };
            if (slow.shape(), slow.dtype()) != (shape, dtype) {
                let there = format!("its slow weights {} {}", slow.dtype(), slow.shape());
                let help = "load the state of a model of the same sizes";
                return Err(Error::new(NAME, format!("`{path}` is {dtype} {shape}, {there}"), help));
            }
        }
        Ok(())
    }
}

const NAME: &str = "lookahead";

impl<O: Optimizer> Optimizer for Lookahead<O> {
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        let params = params_mut(model);
        self.check_params(&params)?;
        for (path, param) in params {
            if param.is_trainable() {
                self.slow.entry(path).or_insert_with(|| param.value().clone());
            }
        }
        let before = self.inner.steps();
        self.inner.step(model, grads)?;
        // An inner optimizer that gathers gradients does not step each time.
        if self.inner.steps() == before || !self.inner.steps().is_multiple_of(self.every) {
            return Ok(());
        }
        for (path, param) in params_mut(model) {
            let Some(slow) = self.slow.get_mut(&path).filter(|_| param.is_trainable()) else { continue };
            let meet = slow.blend(1.0 - self.part, param.value(), self.part);
            meet.and_then(|()| param.value_mut().blend(0.0, slow, 1.0))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        Error::unless(self.every > 0, NAME, "every", self.every as f64, "use 1 step or more")?;
        Error::unless((0.0..=1.0).contains(&self.part), NAME, "part", self.part, "use a number from 0 to 1")?;
        self.inner.check()
    }

    fn check_step(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        self.check_params(&params_mut(model))?;
        self.inner.check_step(model, grads)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    inner_answers!(inner);

    fn state(&self) -> OptimizerState {
        Own { tensors: self.slow.clone(), ..Own::default() }.around(NAME, self.inner.state())
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        let (own, inner) = Own::unwrap(NAME, state)?;
        self.inner.load_state(inner)?;
        self.slow = own.tensors;
        Ok(())
    }
}
