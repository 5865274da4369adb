//! [`Rprop`]: steps by the sign alone.

use crate::descent::{Descent, Rule, parts};
use crate::{Error, Result};
use maplet_autograd::Tensor;
use maplet_tensor::optim::{Now, RpropRule};

/// Steps that look at nothing but the gradient's sign: they grow while it stays, and shrink when it turns. For whole
/// batches, as the sign must not be chance.
///
/// Where the gradient keeps its sign the element's step is multiplied with `plus`, where it turns with `minus`, within
/// bounds; where it turns the gradient counts as zero, this time and the next. Then `p −= sign(g) · step`. Every step
/// begins as the rate; later changes of the rate change nothing.
///
/// PyTorch: `optim.Rprop`; Keras: –.
///
/// # Reference
/// Riedmiller & Braun (1993), "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", in
/// PyTorch's form, without backtracking.
///
/// # Example
/// ```
/// use maplet_optim::{Rprop, Optimizer};
///
/// let optimizer = Rprop::new(1e-2).step_sizes(1e-6, 1.0);
/// optimizer.check()?;
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub type Rprop = Descent<RpropRule>;

impl Rprop {
    /// With first steps of this size (PyTorch's are 1e-2), factors 0.5 and 1.2, steps from 1e-6 to 50.
    pub fn new(learning_rate: f64) -> Self {
        Self::with_rule(RpropRule { minus: 0.5, plus: 1.2, smallest: 1e-6, largest: 50.0 }, learning_rate, 0.0)
    }

    /// What a step is multiplied with when the gradient turns, and when it does not.
    pub fn etas(mut self, minus: f64, plus: f64) -> Self {
        (self.rule.minus, self.rule.plus) = (minus, plus);
        self
    }

    /// The smallest and the largest step.
    pub fn step_sizes(mut self, smallest: f64, largest: f64) -> Self {
        (self.rule.smallest, self.rule.largest) = (smallest, largest);
        self
    }
}

impl Rule for RpropRule {
    const NAME: &'static str = "rprop";

    fn memory(&self, _: usize) -> &'static [&'static str] {
        &["prev", "step_size"]
    }

    fn memory_start(&self, name: &str, now: Now) -> f64 {
        if name == "step_size" { now.learning_rate } else { 0.0 }
    }

    fn check(&self) -> Result<()> {
        let fine = self.minus > 0.0 && self.minus < 1.0;
        Error::unless(fine, Self::NAME, "minus", self.minus, "use a number between 0 and 1")?;
        let fine = self.plus.is_finite() && self.plus > 1.0;
        Error::unless(fine, Self::NAME, "plus", self.plus, "use a finite number above 1")?;
        Error::unless_finite(Self::NAME, "smallest", self.smallest)?;
        let fine = self.largest.is_finite() && self.largest >= self.smallest;
        Error::unless(fine, Self::NAME, "largest", self.largest, "use a finite number, not below the smallest step")
    }

    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
        param.update(grad, parts::<2>(memory), *self, now)
    }
}
