//! [`Asgd`]: averaged gradient descent.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{AsgdStep, Now};
use maplet_tensor::{DType, Shape};

/// Gradient descent that also keeps the average of the weights it passed, which is steadier than the last.
///
/// `g = gradient + weight_decay · p`; `p = (1 − lambda·η)·p − η·g`, where `η` is the rate at first and
/// `learning_rate / (1 + lambda · learning_rate · t)^alpha` after `t` updates; the average `ax` begins after `t0`
/// updates. It is part of the [`state`](crate::Optimizer::state), as `0.weight.ax`.
///
/// PyTorch: `optim.ASGD`; Keras: –.
///
/// # Reference
/// Polyak & Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging", in PyTorch's form.
///
/// # Example
/// ```
/// use maplet_optim::{Asgd, Optimizer};
///
/// let optimizer = Asgd::new(1e-2).t0(1000.0);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Asgd = Descent<AsgdRule>;

/// The rule of [`Asgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AsgdRule {
    lambda: f64,
    alpha: f64,
    t0: f64,
}

impl Asgd {
    /// With this rate (PyTorch's is 1e-2), lambda 1e-4, alpha 0.75, averages after 1e6 updates.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(AsgdRule { lambda: 1e-4, alpha: 0.75, t0: 1e6 }, learning_rate, 0.0)
    }

    /// The decay of the weights.
    pub fn lambda(mut self, lambda: f64) -> Self {
        self.rule.lambda = lambda;
        self
    }

    /// The power with which the rate falls.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.rule.alpha = alpha;
        self
    }

    /// After how many updates averaging begins; until then the average is the last value.
    pub fn t0(mut self, updates: f64) -> Self {
        self.rule.t0 = updates;
        self
    }
}

impl Rule for AsgdRule {
    const NAME: &'static str = "asgd";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["ax", "eta"]
    }

    fn memory_shape(&self, name: &str, param: Shape) -> Shape {
        if name == "eta" { Shape::from([]) } else { param }
    }

    fn memory_start(&self, name: &str, now: Now) -> f64 {
        if name == "eta" { now.learning_rate } else { 0.0 }
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite(Self::NAME, "lambda", self.lambda)?;
        Error::unless_finite(Self::NAME, "alpha", self.alpha)?;
        Error::unless_finite(Self::NAME, "t0", self.t0)
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let Self { lambda, alpha, t0 } = *self;
        let [average, next] = parts(memory);
        let (t, rate) = (now.step as f64, now.learning_rate);
        let step = AsgdStep { lambda, eta: next.to_dtype(DType::F64).item()?, mu: 1.0 / (t - 1.0 - t0).max(1.0) };
        param.update(grad, [average], step, now)?;
        *next = Tensor::scalar(rate / (1.0 + lambda * rate * t).powf(alpha)).to_dtype(next.dtype());
        Ok(())
    }
}
