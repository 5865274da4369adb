//! [`Lamb`]: Adam's direction, with a step as long as the layer's weights suggest.

use crate::descent::{Descent, Rule, parts};
use crate::{Moments, Result, moments};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{LambMoments, Now};

/// Adam's direction, scaled for each parameter by the ratio of its norm to the step's: for very large batches.
///
/// `m`, `v` as in [`Adam`](crate::Adam); `r = m̂ / (√v̂ + eps) + weight_decay · p`;
/// `p −= learning_rate · ‖p‖ / ‖r‖ · r`, where the ratio is 1 if either norm is zero.
///
/// PyTorch: –; Keras: `Lamb`.
///
/// # Reference
/// You et al. (2020), "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2, with `φ`
/// the identity.
///
/// # Example
/// ```
/// use maplet_optim::{Group, Lamb, Optimizer};
///
/// let plain = Group::new().weight_decay(0.0);
/// let optimizer = Lamb::new(2e-3).weight_decay(0.01).group(|path: &str| path.ends_with("bias"), plain);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Lamb = Descent<LambRule>;

/// The rule of [`Lamb`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambRule {
    moments: LambMoments,
}

impl Lamb {
    /// With this rate, β 0.9 and 0.999, eps 1e-6.
    pub fn new(learning_rate: f64) -> Self {
        let moments = LambMoments { beta1: 0.9, beta2: 0.999, eps: 1e-6 };
        Self::with_rule(LambRule { moments }, learning_rate, 0.0)
    }
}

impl Moments for LambRule {
    fn moments_mut(&mut self) -> [&mut f64; 3] {
        [&mut self.moments.beta1, &mut self.moments.beta2, &mut self.moments.eps]
    }
}

impl Rule for LambRule {
    const NAME: &'static str = "lamb";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.moments.beta1)
    }

    fn check(&self) -> Result<()> {
        moments::check(*self)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let [m, v] = parts(memory);
        let mut direction = param.zeros_like();
        param.update(grad, [m, v, &mut direction], self.moments, now)?;
        let (length, step) = (param.squared_norm().sqrt(), direction.squared_norm().sqrt());
        let ratio = if length > 0.0 && step > 0.0 { length / step } else { 1.0 };
        param.blend(1.0, &direction, -now.learning_rate * ratio)
    }
}
