//! [`Adam`] and [`AdamW`]: steps of a size of their own for every weight.

use crate::descent::{Descent, Now, Rule};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::AdamStep;

/// Adaptive moment estimation; its weight decay joins the gradient (L2).
///
/// `g = gradient + weight_decay · p`; `m = β₁·m + (1 − β₁)·g`; `v = β₂·v + (1 − β₂)·g²`;
/// `p −= learning_rate · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)`, where `t` counts the updates of the parameter.
///
/// # Reference
/// Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", algorithm 1.
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{Adam, Optimizer};
///
/// let mut model = (Param::new(Tensor::from([3.0f32])),);
/// let mut adam = Adam::new(0.1);
/// let x = Pass::train(0).input(Tensor::from([1.0f32]));
/// let loss = model.0.on(&x).square().sum(.., false)?;
/// adam.step(&mut model, &loss.backward()?)?;
/// assert!((model.0.value().item::<f32>()? - 2.9).abs() < 1e-6); // the first step is the rate itself
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Adam = Descent<AdamRule<false>>;

/// As [`Adam`], but its weight decay shrinks the parameter itself: `p −= learning_rate · weight_decay · p`, 0.01 unless
/// set.
///
/// # Reference
/// Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", algorithm 2, with the decay in units of the
/// rate as in PyTorch.
pub type AdamW = Descent<AdamRule<true>>;

/// The rule of [`Adam`] and [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamRule<const DECOUPLED: bool> {
    beta1: f64,
    beta2: f64,
    eps: f64,
}

impl<const DECOUPLED: bool> Descent<AdamRule<DECOUPLED>> {
    /// With this rate, β 0.9 and 0.999, eps 1e-8.
    pub fn new(learning_rate: f64) -> Self {
        let weight_decay = if DECOUPLED { 0.01 } else { 0.0 };
        Self::with_rule(AdamRule { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, learning_rate, weight_decay)
    }

    /// The decays of the means of gradients and of squared gradients.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.rule.beta1, self.rule.beta2) = (beta1, beta2);
        self
    }

    /// What is added to the root of the second mean.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }
}

impl<const DECOUPLED: bool> Rule for AdamRule<DECOUPLED> {
    const NAME: &'static str = if DECOUPLED { "adamw" } else { "adam" };

    fn memory(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn check(&self) -> Result<()> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            Error::unless((0.0..1.0).contains(&beta), Self::NAME, name, beta, "use a number from 0 to below 1")?;
        }
        let fine = self.eps.is_finite() && self.eps >= 0.0;
        Error::unless(fine, Self::NAME, "eps", self.eps, "use a finite number, 0 or more")
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let Self { beta1, beta2, eps } = *self;
        let Now { learning_rate, weight_decay, step } = now;
        let step = AdamStep { learning_rate, beta1, beta2, eps, weight_decay, decoupled: DECOUPLED, step };
        let [m, v] = memory else { unreachable!("memory() names two tensors") };
        param.adam_step(grad, m, v, &step)
    }
}
