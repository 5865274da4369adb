//! [`Accumulate`]: several small batches as one large.

use crate::wrapper::{Own, inner_answers};
use crate::{Error, Optimizer, OptimizerState, Result};
use maplet_autograd::{Grads, Tensor, Visit, params};
use std::collections::BTreeMap;

/// Lets the inner optimizer step once in so many steps, by the mean of the gradients since: what one batch of all their
/// samples gives, in the memory of one of them.
///
/// It fits into a trainer as any optimizer does, and its [`state`](Optimizer::state) holds a sum that is not complete
/// yet. [`steps`](Optimizer::steps) counts the inner optimizer's, which schedules follow. Running statistics are taken
/// over after every batch. After an error the sum begins anew.
///
/// PyTorch: –; Keras: `gradient_accumulation_steps`.
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{Accumulate, Optimizer, Sgd};
///
/// let mut model = (Param::new(Tensor::from([1.0f32])),);
/// let mut optimizer = Accumulate::new(2, Sgd::new(0.5));
/// for x in [1.0f32, 3.0] {
///     let x = Pass::train(0).input(Tensor::from([x]));
///     let loss = model.0.on(&x).mul(&x)?.sum(.., false)?; // its gradient is x
///     optimizer.step(&mut model, &loss.backward()?)?;
/// }
/// assert_eq!(model.0.value(), &Tensor::from([0.0f32])); // 1 − 0.5 · (1 + 3) / 2
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Accumulate<O> {
    inner: O,
    every: u64,
    /// The batches in the sums.
    count: u64,
    /// By the parameters' paths.
    sums: BTreeMap<String, Tensor>,
}

impl<O: Optimizer> Accumulate<O> {
    /// One step of the inner optimizer for every so many batches.
    pub fn new(every: u64, inner: O) -> Self {
        Self { inner, every, count: 0, sums: BTreeMap::new() }
    }

    /// Adds the gradients of one batch.
    fn add(&mut self, model: &dyn Visit, grads: &Grads) -> Result<()> {
        for (path, param) in params(model) {
            let Some(grad) = grads.of(param).filter(|_| param.is_trainable()) else { continue };
            match self.sums.get_mut(&path) {
                None => _ = self.sums.insert(path, grad.clone()),
                Some(sum) => sum.accumulate(grad)?,
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The means, and an empty sum.
    fn take(&mut self, model: &dyn Visit) -> Grads {
        let (mut means, factor) = (Grads::default(), (self.every as f64).recip());
        for (path, param) in params(model) {
            if let Some(sum) = self.sums.remove(&path) {
                means.set(param, sum.mul_scalar(factor));
            }
        }
        self.clear();
        means
    }

    fn clear(&mut self) {
        (self.count, self.sums) = (0, BTreeMap::new());
    }
}

const NAME: &str = "accumulate";

impl<O: Optimizer> Optimizer for Accumulate<O> {
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        if let Err(error) = self.add(model, grads) {
            self.clear();
            return Err(error);
        }
        grads.apply_states(model)?;
        if self.count < self.every {
            return Ok(());
        }
        let means = self.take(model);
        self.inner.step(model, &means)
    }

    fn check(&self) -> Result<()> {
        Error::unless(self.every > 0, NAME, "every", self.every as f64, "use 1 batch or more")?;
        self.inner.check()
    }

    /// Of this batch's gradients: the inner optimizer sees their mean only when the sum is complete.
    fn check_step(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        self.inner.check_step(model, grads)
    }

    fn name(&self) -> &'static str {
        NAME
    }

    inner_answers!(inner);

    fn state(&self) -> OptimizerState {
        let numbers = [("count".to_string(), self.count as f64)].into();
        Own { numbers, tensors: self.sums.clone() }.around(NAME, self.inner.state())
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        let (own, inner) = Own::unwrap(NAME, state)?;
        let count = own.count(NAME, "count")?;
        self.inner.load_state(inner)?;
        (self.count, self.sums) = (count, own.tensors);
        Ok(())
    }
}
