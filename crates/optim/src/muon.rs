//! [`Muon`]: momentum made orthogonal, for matrices.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::Now;
use maplet_tensor::{Shape, Trans};

/// Steps along the nearest orthogonal matrix of the momentum, so that all its directions count the same. For the
/// matrices inside a network; give vectors, embeddings and the last layer to another optimizer with
/// [`Partition`](crate::Partition).
///
/// `m = momentum·m + (1 − momentum)·g`; `u = momentum·m + (1 − momentum)·g` again with Nesterov, else `m`;
/// `p −= learning_rate · weight_decay · p`; `p −= learning_rate · scale · orthogonal(u)`. Some steps of
/// `x = a·x + (b·y + c·y²)·x` with `y = x·xᵀ`, from `x = u / ‖u‖`, bring all singular values near 1. A parameter with
/// more than two axes counts as the matrix `[size 0, all others]`, as in the author's code for convolutions.
///
/// PyTorch: `optim.Muon`; Keras: `Muon`.
///
/// # Numerics
/// The iteration runs in the parameter's own type (PyTorch runs it in `bfloat16`, with errors near 1 %).
///
/// # Reference
/// Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"; Liu et al. (2025), "Muon is
/// Scalable for LLM Training".
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{AdamW, Muon, Optimizer, Partition};
///
/// let mut model = (Param::new(Tensor::full([4, 3], 0.5f32)), Param::new(Tensor::full([4], 0.5f32)));
/// let mut optimizer = Partition::new(|_, param| param.shape().rank() > 1, Muon::new(0.02), AdamW::new(1e-3));
/// let x = Pass::train(0).input(Tensor::full([2, 3], 1.0f32));
/// let y = x.matmul(&model.0.on(&x).transpose(0, 1)?)?.add(&model.1.on(&x))?;
/// optimizer.step(&mut model, &y.square().sum(.., false)?.backward()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Muon = Descent<MuonRule>;

/// How long Muon's step is, for a matrix `[rows, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MuonScale {
    /// `√max(1, rows / columns)`, the author's.
    Original,
    /// `0.2 · √max(rows, columns)`: as long as AdamW's, so that its rates can be kept.
    MatchRmsAdamW,
    /// `√(rows / columns)`
    SpectralUnclamped,
}

/// The rule of [`Muon`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonRule {
    momentum: f64,
    nesterov: bool,
    coefficients: [f64; 3],
    eps: f64,
    iterations: usize,
    scale: MuonScale,
}

impl Muon {
    /// With this rate (PyTorch's is 1e-3), Nesterov momentum 0.95, weight decay 0.1.
    pub fn new(learning_rate: f64) -> Self {
        let (coefficients, scale) = ([3.4445, -4.7750, 2.0315], MuonScale::Original);
        let rule = MuonRule { momentum: 0.95, nesterov: true, coefficients, eps: 1e-7, iterations: 5, scale };
        Self::with_rule(rule, learning_rate, 0.1)
    }

    /// How much of the momentum stays.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.rule.momentum = momentum;
        self
    }

    /// Whether the step looks ahead along the momentum.
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.rule.nesterov = nesterov;
        self
    }

    /// The coefficients a, b, c of the iteration, and how often it runs.
    pub fn newton_schulz(mut self, coefficients: [f64; 3], iterations: usize) -> Self {
        (self.rule.coefficients, self.rule.iterations) = (coefficients, iterations);
        self
    }

    /// The smallest norm that the momentum is divided by.
    pub fn eps(mut self, eps: f64) -> Self {
        self.rule.eps = eps;
        self
    }

    /// How long the step is for a matrix of some shape.
    #[doc(alias = "adjust_lr_fn")]
    pub fn scale(mut self, scale: MuonScale) -> Self {
        self.rule.scale = scale;
        self
    }
}

impl Rule for MuonRule {
    const NAME: &'static str = "muon";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["momentum_buffer"]
    }

    fn momentum_mut(&mut self) -> Option<&mut f64> {
        Some(&mut self.momentum)
    }

    fn check(&self) -> Result<()> {
        Error::unless_decay(Self::NAME, "momentum", self.momentum)?;
        Error::unless_finite(Self::NAME, "eps", self.eps)?;
        let few = self.iterations < 100;
        Error::unless(few, Self::NAME, "iterations", self.iterations as f64, "use fewer than 100, usually 5")
    }

    fn check_shape(&self, shape: Shape) -> Result<(), &'static str> {
        if shape.rank() < 2 {
            Err("it needs two axes; give this one to another optimizer, with Partition")
        } else {
            Ok(())
        }
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let [mean] = parts(memory);
        mean.blend(self.momentum, grad, 1.0 - self.momentum)?;
        let mut direction = mean.clone();
        if self.nesterov {
            direction.blend(self.momentum, grad, 1.0 - self.momentum)?;
        }
        let rows = param.shape()[0];
        let columns = param.len().checked_div(rows).unwrap_or(0);
        let direction = self.orthogonal(&direction.reshape([rows, columns])?)?.reshape(param.shape())?;
        let (rows, columns) = (rows as f64, columns as f64);
        let scale = match self.scale {
            MuonScale::Original => (rows / columns).max(1.0).sqrt(),
            MuonScale::MatchRmsAdamW => 0.2 * rows.max(columns).sqrt(),
            MuonScale::SpectralUnclamped => (rows / columns).sqrt(),
        };
        param.blend(1.0 - now.learning_rate * now.weight_decay, &direction, -now.learning_rate * scale)
    }
}

impl MuonRule {
    /// A matrix near the orthogonal one nearest to `u`.
    fn orthogonal(&self, u: &Tensor) -> maplet_tensor::Result<Tensor> {
        let tall = u.shape()[0] > u.shape()[1];
        let mut x = if tall { u.transpose(0, 1)? } else { u.clone() };
        x = x.mul_scalar(x.squared_norm().sqrt().max(self.eps).recip());
        let [a, b, c] = self.coefficients;
        for _ in 0..self.iterations {
            let y = x.matmul_with(&x, Trans { a: false, b: true })?;
            let mut by = y.matmul(&y)?;
            by.blend(c, &y, b)?;
            let step = by.matmul(&x)?;
            x.blend(a, &step, 1.0)?;
        }
        if tall { x.transpose(0, 1) } else { Ok(x) }
    }
}
