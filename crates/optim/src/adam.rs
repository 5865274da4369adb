//! [`Adam`] and [`AdamW`]: steps of a size of their own for every weight.

use crate::descent::{Descent, Rule, parts};
use crate::{Moments, Result, moments};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{AdamRule, Now};

/// Adaptive moment estimation; its weight decay joins the gradient (L2).
///
/// `g = gradient + weight_decay · p`; `m = β₁·m + (1 − β₁)·g`; `v = β₂·v + (1 − β₂)·g²`;
/// `p −= learning_rate · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)`, where `t` counts the updates of the parameter.
///
/// PyTorch: `optim.Adam`; Keras: `Adam`.
///
/// # Numerics
/// Means below the smallest normal number count as zero: those of weights that get no gradient any more would otherwise
/// decay into subnormal numbers, which are a hundred times slower. So for all optimizers.
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
/// PyTorch: `optim.AdamW`; Keras: `AdamW`.
///
/// # Reference
/// Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", algorithm 2, with the decay in units of the
/// rate as in PyTorch.
pub type AdamW = Descent<AdamRule<true>>;

impl<const DECOUPLED: bool> Descent<AdamRule<DECOUPLED>> {
    /// With this rate, β 0.9 and 0.999, eps 1e-8.
    pub fn new(learning_rate: f64) -> Self {
        let weight_decay = if DECOUPLED { 0.01 } else { 0.0 };
        let rule = AdamRule { beta1: 0.9, beta2: 0.999, eps: 1e-8, amsgrad: false };
        Self::with_rule(rule, learning_rate, weight_decay)
    }

    /// Divides by the largest second mean so far instead of the present one.
    ///
    /// # Reference
    /// Reddi, Kale & Kumar (2018), "On the Convergence of Adam and Beyond", algorithm 2.
    pub fn amsgrad(mut self) -> Self {
        self.rule.amsgrad = true;
        self
    }
}

impl<const DECOUPLED: bool> Moments for AdamRule<DECOUPLED> {
    fn moments_mut(&mut self) -> [&mut f64; 3] {
        [&mut self.beta1, &mut self.beta2, &mut self.eps]
    }
}

impl<const DECOUPLED: bool> Rule for AdamRule<DECOUPLED> {
    const NAME: &'static str = if DECOUPLED { "adamw" } else { "adam" };

    fn memory(&self, _: usize) -> &'static [&'static str] {
        if self.amsgrad { &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] } else { &["exp_avg", "exp_avg_sq"] }
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.beta1)
    }

    fn check(&self) -> Result<()> {
        moments::check(*self)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        match self.amsgrad {
            true => param.update(grad, parts::<3>(memory), *self, now),
            false => param.update(grad, parts::<2>(memory), *self, now),
        }
    }
}
