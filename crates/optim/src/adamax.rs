//! [`Adamax`]: Adam under the largest norm.

use crate::descent::{Descent, Rule, parts};
use crate::{Moments, Result, moments};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{AdamaxRule, Now};

/// Adam with the largest recent gradient in the place of the mean of squares.
///
/// `g = gradient + weight_decay · p`; `m = β₁·m + (1 − β₁)·g`; `u = max(β₂·u, |g| + eps)`;
/// `p −= learning_rate / (1 − β₁ᵗ) · m / u`.
///
/// PyTorch: `optim.Adamax`; Keras: `Adamax`.
///
/// # Reference
/// Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", algorithm 2.
///
/// # Example
/// ```
/// use maplet_optim::{Adamax, Optimizer};
///
/// let optimizer = Adamax::new(2e-3).betas(0.9, 0.99);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Adamax = Descent<AdamaxRule>;

impl Adamax {
    /// With this rate (PyTorch's is 2e-3), β 0.9 and 0.999, eps 1e-8.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(AdamaxRule { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, learning_rate, 0.0)
    }
}

impl Moments for AdamaxRule {
    fn moments_mut(&mut self) -> [&mut f64; 3] {
        [&mut self.beta1, &mut self.beta2, &mut self.eps]
    }
}

impl Rule for AdamaxRule {
    const NAME: &'static str = "adamax";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["exp_avg", "exp_inf"]
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.beta1)
    }

    fn check(&self) -> Result<()> {
        moments::check(*self)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        param.update(grad, parts::<2>(memory), *self, now)
    }
}
