//! Rates that only fall.

use super::{Schedule, check_part, check_steps, done};
use crate::{Error, Result};

/// `factor^⌊step / every⌋`: a fall every so many steps.
///
/// PyTorch: `optim.lr_scheduler.StepLR`; Keras: –.
#[doc(alias = "StepLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDecay {
    every: u64,
    factor: f64,
}

impl StepDecay {
    /// Multiplies the rate with `factor` every `every` steps.
    pub fn new(every: u64, factor: f64) -> Self {
        Self { every, factor }
    }
}

impl Schedule for StepDecay {
    fn factor(&self, step: u64) -> f64 {
        self.factor.powf(step.checked_div(self.every).unwrap_or(0) as f64)
    }

    fn check(&self) -> Result<()> {
        check_steps("step_decay", "every", self.every)?;
        Error::unless_finite("step_decay", "factor", self.factor)
    }
}

/// `factor^n`, where `n` milestones have been reached.
///
/// PyTorch: `optim.lr_scheduler.MultiStepLR`; Keras: `PiecewiseConstantDecay`.
///
/// ```
/// use maplet_optim::{MultiStepDecay, Schedule};
///
/// let schedule = MultiStepDecay::new([30, 80], 0.1);
/// assert_eq!([29, 30, 80].map(|step| schedule.factor(step)), [1.0, 0.1, 0.1 * 0.1]);
/// ```
#[doc(alias = "MultiStepLR")]
#[derive(Debug, Clone, PartialEq)]
pub struct MultiStepDecay {
    milestones: Vec<u64>,
    factor: f64,
}

impl MultiStepDecay {
    /// Multiplies the rate with `factor` at each of these steps.
    pub fn new(milestones: impl Into<Vec<u64>>, factor: f64) -> Self {
        Self { milestones: milestones.into(), factor }
    }
}

impl Schedule for MultiStepDecay {
    fn factor(&self, step: u64) -> f64 {
        let reached = self.milestones.iter().filter(|milestone| **milestone <= step).count();
        self.factor.powi(reached as i32)
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite("multi_step_decay", "factor", self.factor)
    }
}

/// `factor^step`
///
/// PyTorch: `optim.lr_scheduler.ExponentialLR`; Keras: `ExponentialDecay`.
#[doc(alias = "ExponentialLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExponentialDecay {
    factor: f64,
}

impl ExponentialDecay {
    /// Multiplies the rate with `factor` at each step.
    pub fn new(factor: f64) -> Self {
        Self { factor }
    }
}

impl Schedule for ExponentialDecay {
    fn factor(&self, step: u64) -> f64 {
        self.factor.powf(step as f64)
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite("exponential_decay", "factor", self.factor)
    }
}

/// `minimum + (1 − minimum) · (1 − step / total)^power`, from 1 down to the minimum, where it stays.
///
/// PyTorch: `optim.lr_scheduler.PolynomialLR`; Keras: `PolynomialDecay`.
#[doc(alias = "PolynomialLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolynomialDecay {
    total: u64,
    power: f64,
    minimum: f64,
}

impl PolynomialDecay {
    /// A fall that ends after `total` steps; power 1 is a straight line.
    pub fn new(total: u64, power: f64) -> Self {
        Self { total, power, minimum: 0.0 }
    }

    /// The part of the base rate that is left at the end, 0.
    pub fn minimum(mut self, factor: f64) -> Self {
        self.minimum = factor;
        self
    }
}

impl Schedule for PolynomialDecay {
    fn factor(&self, step: u64) -> f64 {
        self.minimum + (1.0 - self.minimum) * (1.0 - done(step, self.total)).powf(self.power)
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite("polynomial_decay", "power", self.power)?;
        check_part("polynomial_decay", "minimum", self.minimum)
    }
}

/// `features^−½ · min(n^−½, n · warm_up^−1½)` with `n = step + 1`: a straight rise, then a fall with the root of the
/// step. The base rate is a factor here, 1 in the paper.
///
/// PyTorch: –; Keras: –.
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need", eq. 3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noam {
    features: usize,
    warm_up: u64,
}

impl Noam {
    /// For a model of so many features, with so many steps of rise (512 and 4000 in the paper).
    pub fn new(features: usize, warm_up: u64) -> Self {
        Self { features, warm_up }
    }
}

impl Schedule for Noam {
    fn factor(&self, step: u64) -> f64 {
        let n = step as f64 + 1.0;
        (self.features as f64).powf(-0.5) * n.powf(-0.5).min(n * (self.warm_up as f64).powf(-1.5))
    }

    fn check(&self) -> Result<()> {
        Error::unless(
            self.features > 0,
            "noam",
            "features",
            self.features as f64,
            "use the size of the model, 1 or more",
        )?;
        check_steps("noam", "warm_up", self.warm_up)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{follows, text};
    use super::*;

    #[test]
    fn falls_are_their_formulas() {
        follows(StepDecay::new(30, 0.1), &[(0, 1.0), (29, 1.0), (30, 0.1), (59, 0.1), (60, 0.01)]);
        follows(MultiStepDecay::new([3, 3, 5], 0.5), &[(2, 1.0), (3, 0.25), (4, 0.25), (5, 0.125), (1000, 0.125)]);
        follows(ExponentialDecay::new(0.5), &[(0, 1.0), (1, 0.5), (10, 0.0009765625)]);
        follows(PolynomialDecay::new(4, 2.0), &[(0, 1.0), (1, 0.5625), (2, 0.25), (4, 0.0), (9, 0.0)]);
        follows(PolynomialDecay::new(4, 1.0).minimum(0.2), &[(0, 1.0), (2, 0.6), (4, 0.2), (1 << 60, 0.2)]);
        // The rise and the fall meet at `warm_up`: 1 / √(16 · 4).
        follows(Noam::new(16, 4), &[(0, 0.03125), (1, 0.0625), (3, 0.125), (15, 0.0625)]);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let count = "help: use a finite number, 0 or more";
        assert_eq!(text(StepDecay::new(0, 0.1)), "step_decay: every is 0; help: use 1 step or more");
        assert!(StepDecay::new(0, 0.1).factor(7).is_finite());
        assert_eq!(text(StepDecay::new(1, f64::NAN)), format!("step_decay: factor is NaN; {count}"));
        assert_eq!(text(MultiStepDecay::new([1], -1.0)), format!("multi_step_decay: factor is -1; {count}"));
        assert_eq!(text(ExponentialDecay::new(-0.5)), format!("exponential_decay: factor is -0.5; {count}"));
        assert_eq!(text(PolynomialDecay::new(5, -1.0)), format!("polynomial_decay: power is -1; {count}"));
        let part = "help: use a part of the base rate, from 0 to 1";
        assert_eq!(text(PolynomialDecay::new(5, 1.0).minimum(2.0)), format!("polynomial_decay: minimum is 2; {part}"));
        assert_eq!(text(Noam::new(0, 1)), "noam: features is 0; help: use the size of the model, 1 or more");
        assert_eq!(text(Noam::new(1, 0)), "noam: warm_up is 0; help: use 1 step or more");
    }
}
