//! [`Sgd`]: stochastic gradient descent, with momentum.

use crate::descent::{Descent, Now, Rule};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::SgdStep;

/// Stochastic gradient descent.
///
/// `g = gradient + weight_decay · p`; `u = momentum · u + (1 − dampening) · g`, the first time `u = g`; then
/// `p −= learning_rate · u`, or with Nesterov `p −= learning_rate · (g + momentum · u)`. PyTorch's formulas: the rate
/// stands outside the velocity.
///
/// # Reference
/// Polyak (1964), "Some methods of speeding up the convergence of iteration methods"; Sutskever, Martens, Dahl & Hinton
/// (2013), "On the importance of initialization and momentum in deep learning".
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{Optimizer, Sgd};
///
/// let mut model = (Param::new(Tensor::from([3.0f32])),);
/// let mut sgd = Sgd::new(0.1).momentum(0.9);
/// for step in 0..200 {
///     let x = Pass::train(step).input(Tensor::from([1.0f32]));
///     let loss = model.0.on(&x).square().sum(.., false)?; // smallest at 0
///     sgd.step(&mut model, &loss.backward()?)?;
/// }
/// assert!(model.0.value().item::<f32>()?.abs() < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Sgd = Descent<SgdRule>;

/// The rule of [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdRule {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

impl Sgd {
    /// With this rate, without momentum or decay.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(SgdRule { momentum: 0.0, dampening: 0.0, nesterov: false }, learning_rate, 0.0)
    }

    /// How much of the velocity stays, usually 0.9.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.rule.momentum = momentum;
        self
    }

    /// How much of the gradient is kept out of the velocity.
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.rule.dampening = dampening;
        self
    }

    /// Looks ahead along the velocity.
    pub fn nesterov(mut self) -> Self {
        self.rule.nesterov = true;
        self
    }
}

impl Rule for SgdRule {
    const NAME: &'static str = "sgd";

    fn memory(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [("momentum", self.momentum), ("dampening", self.dampening)] {
            let fine = value.is_finite() && value >= 0.0;
            Error::unless(fine, Self::NAME, name, value, "use a finite number, 0 or more")?;
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let what = format!("nesterov with momentum {} and dampening {}", self.momentum, self.dampening);
            return Err(Error::new(Self::NAME, what, "it needs a momentum above 0 and no dampening"));
        }
        Ok(())
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let Self { momentum, dampening, nesterov } = *self;
        let Now { learning_rate, weight_decay, step } = now;
        let step = SgdStep { learning_rate, momentum, dampening, nesterov, weight_decay, first: step == 1 };
        param.sgd_step(grad, memory.first_mut(), &step)
    }
}
