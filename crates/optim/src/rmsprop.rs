//! [`Rmsprop`]: steps by the gradient's recent size.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{Now, RmspropRule};

/// Steps in units of the gradient's recent size.
///
/// `g = gradient + weight_decay · p`; `v = α·v + (1 − α)·g²`; `p −= learning_rate · g / (√v + eps)`. Centered, `√v` is
/// `√(v − a²)`, where `a` is the mean of gradients; with momentum the step is `b = momentum·b + g / (√v + eps)`.
///
/// PyTorch: `optim.RMSprop`; Keras: `RMSprop`.
///
/// # Reference
/// Tieleman & Hinton (2012), "Lecture 6.5: RMSProp"; centered: Graves (2013), "Generating Sequences With Recurrent
/// Neural Networks", eqs. 38 to 45. PyTorch's formulas: `eps` stands outside the root.
///
/// # Example
/// ```
/// use maplet_optim::{Rmsprop, Optimizer};
///
/// let optimizer = Rmsprop::new(1e-2).momentum(0.9).centered();
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Rmsprop = Descent<RmspropRule>;

impl Rmsprop {
    /// With this rate (PyTorch's is 1e-2), α 0.99, eps 1e-8, without momentum.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(RmspropRule { alpha: 0.99, eps: 1e-8, momentum: 0.0, centered: false }, learning_rate, 0.0)
    }

    /// The decay of the means.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.rule.alpha = alpha;
        self
    }

    /// What is added to the root.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }

    /// How much of the velocity stays.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.rule.momentum = momentum;
        self
    }

    /// Divides by the deviation from the mean instead of the distance from zero.
    pub fn centered(mut self) -> Self {
        self.rule.centered = true;
        self
    }
}

impl Rule for RmspropRule {
    const NAME: &'static str = "rmsprop";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        match (self.centered, self.momentum != 0.0) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "grad_avg"],
            (false, true) => &["square_avg", "momentum_buffer"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        }
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn check(&self) -> Result<()> {
        Error::unless_decay(Self::NAME, "alpha", self.alpha)?;
        Error::unless_finite(Self::NAME, "eps", self.eps)?;
        Error::unless_finite(Self::NAME, "momentum", self.momentum)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        match memory.len() {
            1 => param.update(grad, parts::<1>(memory), *self, now),
            2 => param.update(grad, parts::<2>(memory), *self, now),
            _ => param.update(grad, parts::<3>(memory), *self, now),
        }
    }
}
