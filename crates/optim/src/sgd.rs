//! [`Sgd`]: stochastic gradient descent, with momentum.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{Now, SgdRule};

/// Stochastic gradient descent.
///
/// `g = gradient + weight_decay · p`; `u = momentum · u + (1 − dampening) · g`, the first time `u = g`; then
/// `p −= learning_rate · u`, or with Nesterov `p −= learning_rate · (g + momentum · u)`. PyTorch's formulas: the rate
/// stands outside the velocity.
///
/// PyTorch: `optim.SGD`; Keras: `SGD`.
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

    fn memory(&self, _: usize) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite(Self::NAME, "momentum", self.momentum)?;
        Error::unless_finite(Self::NAME, "dampening", self.dampening)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let what = format!("nesterov with momentum {} and dampening {}", self.momentum, self.dampening);
            return Err(Error::new(Self::NAME, what, "it needs a momentum above 0 and no dampening"));
        }
        Ok(())
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        match memory.is_empty() {
            true => param.update(grad, [], *self, now),
            false => param.update(grad, parts::<1>(memory), *self, now),
        }
    }
}
