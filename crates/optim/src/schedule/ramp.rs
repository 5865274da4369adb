//! Straight lines.

use super::{Schedule, done};
use crate::{Error, Result};

/// A constant rate: for a warm-up alone, or another factor for the first steps.
///
/// PyTorch: `optim.lr_scheduler.ConstantLR`; Keras: –.
#[doc(alias = "ConstantLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    factor: f64,
    steps: u64,
}

impl Default for Constant {
    fn default() -> Self {
        Self { factor: 1.0, steps: 0 }
    }
}

impl Constant {
    /// Always 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another factor for so many first steps (1/3 and 5 in PyTorch), then 1.
    pub fn first(factor: f64, steps: u64) -> Self {
        Self { factor, steps }
    }
}

impl Schedule for Constant {
    fn factor(&self, step: u64) -> f64 {
        if step < self.steps { self.factor } else { 1.0 }
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite("constant", "factor", self.factor)
    }
}

/// `start + (end − start) · step / total`, and `end` after that.
///
/// PyTorch: `optim.lr_scheduler.LinearLR`; Keras: –.
///
/// ```
/// use maplet_optim::{LinearRamp, Schedule};
///
/// let schedule = LinearRamp::new(0.5, 1.0, 4);
/// assert_eq!([0, 2, 4, 100].map(|step| schedule.factor(step)), [0.5, 0.75, 1.0, 1.0]);
/// ```
#[doc(alias = "LinearLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearRamp {
    start: f64,
    end: f64,
    total: u64,
}

impl LinearRamp {
    /// From one factor to another (1/3 and 1 in PyTorch) in so many steps.
    pub fn new(start: f64, end: f64, total: u64) -> Self {
        Self { start, end, total }
    }
}

impl Schedule for LinearRamp {
    fn factor(&self, step: u64) -> f64 {
        self.start + (self.end - self.start) * done(step, self.total)
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite("linear_ramp", "start", self.start)?;
        Error::unless_finite("linear_ramp", "end", self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{follows, text};
    use super::*;

    #[test]
    fn lines_are_straight() {
        follows(Constant::new(), &[(0, 1.0), (1000, 1.0)]);
        follows(Constant::first(0.25, 3), &[(0, 0.25), (2, 0.25), (3, 1.0)]);
        follows(LinearRamp::new(1.0, 0.0, 8), &[(0, 1.0), (2, 0.75), (8, 0.0), (9, 0.0)]);
        follows(LinearRamp::new(0.2, 0.7, 0), &[(0, 0.7)]);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let count = "help: use a finite number, 0 or more";
        assert_eq!(text(Constant::first(-1.0, 3)), format!("constant: factor is -1; {count}"));
        assert_eq!(text(LinearRamp::new(f64::NAN, 1.0, 3)), format!("linear_ramp: start is NaN; {count}"));
        assert_eq!(text(LinearRamp::new(1.0, -0.5, 3)), format!("linear_ramp: end is -0.5; {count}"));
    }
}
