//! [`Adafactor`]: Adam's second moment in the memory of a row and a column.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::Now;
use maplet_tensor::{DType, Shape};

/// Steps in units of the gradient's recent size, whose squares are kept as one row and one column for each matrix:
/// `n + m` numbers of memory for `n × m` weights.
///
/// With `d = t^beta2_decay` the means `R = (1 − d)·R + d·mean(g²)` over rows and `C` over columns give
/// `v = R·C / mean(R)`, for parameters with fewer than two axes `v = (1 − d)·v + d·g²`; `u = g / √v`;
/// `p −= max(eps2, rms(p)) · min(learning_rate, 1/√t) · u / max(1, rms(u) / clip)`. Weight decay shrinks the parameter
/// itself. Parameters with more than two axes are stacks of matrices.
///
/// PyTorch: `optim.Adafactor`; Keras: `Adafactor`.
///
/// # Numerics
/// `mean(R)` is at least `eps1` and `v` at least `eps1²`; `eps1` is the `ε` of the parameter's type unless set.
///
/// # Reference
/// Shazeer & Stern (2018), "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", algorithms 4 and 5, in
/// PyTorch's form.
///
/// # Example
/// ```
/// use maplet_optim::{Adafactor, Optimizer};
///
/// let optimizer = Adafactor::new(1e-2).weight_decay(0.01);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Adafactor = Descent<AdafactorRule>;

/// The rule of [`Adafactor`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdafactorRule {
    beta2_decay: f64,
    eps1: Option<f64>,
    eps2: f64,
    clip: f64,
}

impl Adafactor {
    /// With this rate (PyTorch's is 1e-2) at most, β₂ decay −0.8, eps2 1e-3, steps clipped at 1.
    pub fn new(learning_rate: f64) -> Self {
        let rule = AdafactorRule { beta2_decay: -0.8, eps1: None, eps2: 1e-3, clip: 1.0 };
        Self::with_rule(rule, learning_rate, 0.0)
    }

    /// The power of `t` by which new squares enter the means, 0 or less.
    pub fn beta2_decay(mut self, beta2_decay: f64) -> Self {
        self.rule.beta2_decay = beta2_decay;
        self
    }

    /// The root of the smallest square, and the smallest size that a parameter counts with.
    pub fn eps(mut self, eps1: f64, eps2: f64) -> Self {
        (self.rule.eps1, self.rule.eps2) = (Some(eps1), eps2);
        self
    }

    /// How large a step may be, as the root of its mean square, before it is scaled down; 1 or more.
    pub fn clip(mut self, clip: f64) -> Self {
        self.rule.clip = clip;
        self
    }
}

impl Rule for AdafactorRule {
    const NAME: &'static str = "adafactor";

    fn memory(&self, rank: usize) -> &'static [&'static str] {
        if rank < 2 { &["variance"] } else { &["row_var", "col_var"] }
    }

    fn memory_shape(&self, name: &str, param: Shape) -> Shape {
        match name {
            "row_var" => param.with_size(param.rank() - 1, 1),
            "col_var" => param.with_size(param.rank() - 2, 1),
            _ => param,
        }
    }

    fn check(&self) -> Result<()> {
        let fine = self.beta2_decay.is_finite() && self.beta2_decay <= 0.0;
        Error::unless(fine, Self::NAME, "beta2_decay", self.beta2_decay, "use a finite number, 0 or less")?;
        Error::unless_finite(Self::NAME, "eps1", self.eps1.unwrap_or(0.0))?;
        Error::unless_finite(Self::NAME, "eps2", self.eps2)?;
        let fine = self.clip.is_finite() && self.clip >= 1.0;
        Error::unless(fine, Self::NAME, "clip", self.clip, "use a finite number, 1 or more")
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        let epsilon = if param.dtype() == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        let (eps1, t, rate) = (self.eps1.unwrap_or(epsilon), now.step as f64, now.learning_rate);
        let new = t.powf(self.beta2_decay);
        let size = rms(param).max(self.eps2) * rate.min(t.sqrt().recip());

        let squares = grad.square();
        let square = match param.rank() {
            0 | 1 => {
                let [variance] = parts(memory);
                variance.blend(1.0 - new, &squares, new)?;
                variance.clone()
            }
            _ => {
                let [rows, columns] = parts(memory);
                rows.blend(1.0 - new, &squares.mean(-1, true)?, new)?;
                columns.blend(1.0 - new, &squares.mean(-2, true)?, new)?;
                rows.mul(columns)?.div(&rows.mean(-2, true)?.clamp(eps1, f64::INFINITY))?
            }
        };
        let step = grad.div(&square.clamp(eps1 * eps1, f64::INFINITY).sqrt())?;
        let clip = (rms(&step) / self.clip).max(1.0);
        param.blend(1.0 - rate * now.weight_decay, &step, -size / clip)
    }
}

/// The root of the mean square.
fn rms(x: &Tensor) -> f64 {
    (x.squared_norm() / x.len().max(1) as f64).sqrt()
}
