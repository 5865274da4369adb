//! [`Radam`]: Adam with a rectified second moment.

use crate::descent::{Descent, Rule, parts};
use crate::{Moments, Result, moments};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{Now, RadamRule};

/// Adam that steps by the mean of gradients alone until it has seen enough of their squares.
///
/// With `ρ∞ = 2/(1 − β₂) − 1` and `ρ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ)` the step is `learning_rate · m̂` while `ρ ≤ 5`, and after
/// that `learning_rate · m̂ · r · √(1 − β₂ᵗ) / (√v + eps)` with
/// `r² = (ρ − 4)(ρ − 2)·ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)·ρ)`. Weight decay joins the gradient unless it is
/// [`decoupled`](Self::decoupled).
///
/// PyTorch: `optim.RAdam`; Keras: –.
///
/// # Reference
/// Liu et al. (2020), "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2.
///
/// # Example
/// ```
/// use maplet_optim::{Radam, Optimizer};
///
/// let optimizer = Radam::new(1e-3).weight_decay(0.01).decoupled();
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Radam = Descent<RadamRule>;

impl Radam {
    /// With this rate, β 0.9 and 0.999, eps 1e-8.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(RadamRule { beta1: 0.9, beta2: 0.999, eps: 1e-8, decoupled: false }, learning_rate, 0.0)
    }

    /// Weight decay shrinks the parameter itself, as in [`AdamW`](crate::AdamW), instead of joining the gradient.
    pub fn decoupled(mut self) -> Self {
        self.rule.decoupled = true;
        self
    }
}

impl Moments for RadamRule {
    fn moments_mut(&mut self) -> [&mut f64; 3] {
        [&mut self.beta1, &mut self.beta2, &mut self.eps]
    }
}

impl Rule for RadamRule {
    const NAME: &'static str = "radam";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
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
