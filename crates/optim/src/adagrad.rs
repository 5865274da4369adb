//! [`Adagrad`]: rates that fall with what was seen.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{AdagradRule, Now};

/// Steps that shrink with all the gradients that were ever seen, for each weight on its own.
///
/// `g = gradient + weight_decay · p`; `s += g²`;
/// `p −= learning_rate / (1 + (t − 1)·lr_decay) · g / (√s + eps)`, where `t` counts the updates of the parameter.
///
/// PyTorch: `optim.Adagrad`; Keras: `Adagrad`.
///
/// # Reference
/// Duchi, Hazan & Singer (2011), "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization".
///
/// # Example
/// ```
/// use maplet_optim::{Adagrad, Optimizer};
///
/// let optimizer = Adagrad::new(1e-2).lr_decay(1e-4);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Adagrad = Descent<AdagradRule>;

impl Adagrad {
    /// With this rate (PyTorch's is 1e-2), eps 1e-10, sums that begin with zero.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(AdagradRule { lr_decay: 0.0, initial_accumulator: 0.0, eps: 1e-10 }, learning_rate, 0.0)
    }

    /// How fast the rate falls.
    pub fn lr_decay(mut self, lr_decay: f64) -> Self {
        self.rule.lr_decay = lr_decay;
        self
    }

    /// What the sums of squares begin with.
    pub fn initial_accumulator(mut self, value: f64) -> Self {
        self.rule.initial_accumulator = value;
        self
    }

    /// What is added to the root.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }
}

impl Rule for AdagradRule {
    const NAME: &'static str = "adagrad";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["sum"]
    }

    fn memory_start(&self, _: &str, _: Now) -> f64 {
        self.initial_accumulator
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite(Self::NAME, "lr_decay", self.lr_decay)?;
        Error::unless_finite(Self::NAME, "initial_accumulator", self.initial_accumulator)?;
        Error::unless_finite(Self::NAME, "eps", self.eps)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        param.update(grad, parts::<1>(memory), *self, now)
    }
}
