//! [`Adadelta`]: steps in units of steps.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{AdadeltaRule, Now};

/// Steps in units of the recent steps, so that it hardly needs a rate.
///
/// `g = gradient + weight_decay · p`; `v = ρ·v + (1 − ρ)·g²`; `d = √(u + eps) / √(v + eps) · g`;
/// `u = ρ·u + (1 − ρ)·d²`; `p −= learning_rate · d`.
///
/// PyTorch: `optim.Adadelta`; Keras: `Adadelta`.
///
/// # Reference
/// Zeiler (2012), "ADADELTA: An Adaptive Learning Rate Method", algorithm 1.
///
/// # Example
/// ```
/// use maplet_optim::{Adadelta, Optimizer};
///
/// let optimizer = Adadelta::new(1.0).rho(0.95);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Adadelta = Descent<AdadeltaRule>;

impl Adadelta {
    /// With this rate (PyTorch's is 1), ρ 0.9, eps 1e-6.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(AdadeltaRule { rho: 0.9, eps: 1e-6 }, learning_rate, 0.0)
    }

    /// The decay of both means.
    pub fn rho(mut self, rho: f64) -> Self {
        self.rule.rho = rho;
        self
    }

    /// What is added under both roots.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }
}

impl Rule for AdadeltaRule {
    const NAME: &'static str = "adadelta";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["square_avg", "acc_delta"]
    }

    fn check(&self) -> Result<()> {
        Error::unless((0.0..=1.0).contains(&self.rho), Self::NAME, "rho", self.rho, "use a number from 0 to 1")?;
        Error::unless_finite(Self::NAME, "eps", self.eps)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        param.update(grad, parts::<2>(memory), *self, now)
    }
}
