//! [`Lion`]: the sign of a mean.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{LionRule, Now};

/// Steps of one size for every weight; a mean of gradients votes on the direction. Half of Adam's memory.
///
/// `p −= learning_rate · (sign(β₁·m + (1 − β₁)·g) + weight_decay · p)`; then `m = β₂·m + (1 − β₂)·g`. The paper advises
/// a rate three to ten times below AdamW's, and a decay as much above.
///
/// PyTorch: –; Keras: `Lion`.
///
/// # Reference
/// Chen et al. (2023), "Symbolic Discovery of Optimization Algorithms", algorithm 2.
///
/// # Example
/// ```
/// use maplet_optim::{Lion, Optimizer};
///
/// let optimizer = Lion::new(1e-4).weight_decay(0.1);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Lion = Descent<LionRule>;

impl Lion {
    /// With this rate, β 0.9 and 0.99.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(LionRule { beta1: 0.9, beta2: 0.99 }, learning_rate, 0.0)
    }

    /// How much the mean has to say in the step, and its decay.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.rule.beta1, self.rule.beta2) = (beta1, beta2);
        self
    }
}

impl Rule for LionRule {
    const NAME: &'static str = "lion";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.beta1)
    }

    fn check(&self) -> Result<()> {
        Error::unless_decays(Self::NAME, [("beta1", self.beta1), ("beta2", self.beta2)])
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        param.update(grad, parts::<1>(memory), *self, now)
    }
}
