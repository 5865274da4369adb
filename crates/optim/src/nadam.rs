//! [`Nadam`]: Adam with Nesterov's momentum.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Moments, Result, moments};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{NadamStep, Now};
use maplet_tensor::{DType, Shape};

/// Adam that looks ahead along its mean of gradients, as Nesterov's momentum does.
///
/// `m`, `v` as in [`Adam`](crate::Adam); with `μ(t) = β₁ · (1 − 0.96^(t · momentum_decay) / 2)` and
/// `Π(t) = μ(1) ⋯ μ(t)`:
/// `p −= learning_rate · ((1 − μ(t)) / (1 − Π(t)) · g + μ(t + 1) / (1 − Π(t + 1)) · m) / (√v̂ + eps)`. Weight decay
/// joins the gradient unless it is [`decoupled`](Self::decoupled).
///
/// PyTorch: `optim.NAdam`; Keras: `Nadam`.
///
/// # Reference
/// Dozat (2016), "Incorporating Nesterov Momentum into Adam", algorithm 2, with PyTorch's decay of the momentum.
///
/// # Example
/// ```
/// use maplet_optim::{Nadam, Optimizer};
///
/// let optimizer = Nadam::new(2e-3).weight_decay(0.01).decoupled();
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Nadam = Descent<NadamRule>;

/// The product of all momenta: one number for a parameter.
const PRODUCT: &str = "mu_product";

/// The rule of [`Nadam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NadamRule {
    beta1: f64,
    beta2: f64,
    eps: f64,
    momentum_decay: f64,
    decoupled: bool,
}

impl Nadam {
    /// With this rate (PyTorch's is 2e-3), β 0.9 and 0.999, eps 1e-8, momentum decay 4e-3.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(
            NadamRule { beta1: 0.9, beta2: 0.999, eps: 1e-8, momentum_decay: 4e-3, decoupled: false },
            learning_rate,
            0.0,
        )
    }

    /// How fast the momentum grows towards β₁.
    pub fn momentum_decay(mut self, momentum_decay: f64) -> Self {
        self.rule.momentum_decay = momentum_decay;
        self
    }

    /// Weight decay shrinks the parameter itself, as in [`AdamW`](crate::AdamW), instead of joining the gradient.
    pub fn decoupled(mut self) -> Self {
        self.rule.decoupled = true;
        self
    }
}

impl Moments for NadamRule {
    fn moments_mut(&mut self) -> [&mut f64; 3] {
        [&mut self.beta1, &mut self.beta2, &mut self.eps]
    }
}

impl Rule for NadamRule {
    const NAME: &'static str = "nadam";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq", "mu_product"]
    }

    fn memory_shape(&self, name: &str, param: Shape) -> Shape {
        if name == PRODUCT { Shape::from([]) } else { param }
    }

    fn memory_start(&self, name: &str, _: Now) -> f64 {
        if name == PRODUCT { 1.0 } else { 0.0 }
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.beta1)
    }

    fn check(&self) -> Result<()> {
        moments::check(*self)?;
        Error::unless_finite(Self::NAME, "momentum_decay", self.momentum_decay)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let Self { beta1, beta2, eps, momentum_decay, decoupled } = *self;
        let [m, v, product] = parts(memory);
        let momentum = |step: u64| beta1 * (1.0 - 0.5 * 0.96f64.powf(step as f64 * momentum_decay));
        let (momentum, ahead) = (momentum(now.step), momentum(now.step + 1));
        *product = product.mul_scalar(momentum);
        let product = product.to_dtype(DType::F64).item()?;
        param.update(grad, [m, v], NadamStep { beta1, beta2, eps, decoupled, momentum, ahead, product }, now)
    }
}
