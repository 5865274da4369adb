//! Half waves.

use super::{Schedule, check_part, check_steps, done};
use crate::{Error, Result};
use std::f64::consts::PI;

/// `minimum + (1 − minimum) · (1 + cos(π · step / total)) / 2`: half a wave from 1 down to the minimum, where it stays.
/// (PyTorch's climbs again after `total` steps.)
///
/// PyTorch: `optim.lr_scheduler.CosineAnnealingLR`; Keras: `CosineDecay`.
///
/// # Reference
/// Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5, without restarts.
#[doc(alias = "CosineAnnealingLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    total: u64,
    minimum: f64,
}

impl Cosine {
    /// A wave that ends after `total` steps.
    pub fn new(total: u64) -> Self {
        Self { total, minimum: 0.0 }
    }

    /// The part of the base rate that is left at the end, 0.
    pub fn minimum(mut self, factor: f64) -> Self {
        self.minimum = factor;
        self
    }
}

impl Schedule for Cosine {
    fn factor(&self, step: u64) -> f64 {
        wave(self.minimum, done(step, self.total))
    }

    fn check(&self) -> Result<()> {
        check_part("cosine", "minimum", self.minimum)
    }
}

/// As [`Cosine`], but the wave begins anew after `first` steps, and is `multiplier` times as long each time.
///
/// PyTorch: `optim.lr_scheduler.CosineAnnealingWarmRestarts`; Keras: `CosineDecayRestarts`.
///
/// ```
/// use maplet_optim::{CosineRestarts, Schedule};
///
/// let schedule = CosineRestarts::new(10).multiplier(2);
/// assert_eq!([0, 5, 10, 20, 30].map(|step| schedule.factor(step)), [1.0, 0.5, 1.0, 0.5, 1.0]);
/// ```
///
/// # Reference
/// Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5.
#[doc(alias = "CosineAnnealingWarmRestarts")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineRestarts {
    first: u64,
    multiplier: u64,
    minimum: f64,
}

impl CosineRestarts {
    /// Waves of so many steps.
    pub fn new(first: u64) -> Self {
        Self { first, multiplier: 1, minimum: 0.0 }
    }

    /// How many times as long as the wave before each wave is, 1.
    pub fn multiplier(mut self, multiplier: u64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// The part of the base rate that is left at the end of a wave, 0.
    pub fn minimum(mut self, factor: f64) -> Self {
        self.minimum = factor;
        self
    }
}

impl Schedule for CosineRestarts {
    fn factor(&self, step: u64) -> f64 {
        let (mut step, mut length) = (step, self.first.max(1));
        if self.multiplier < 2 {
            step %= length;
        }
        while step >= length {
            step -= length;
            length = length.saturating_mul(self.multiplier);
        }
        wave(self.minimum, done(step, length))
    }

    fn check(&self) -> Result<()> {
        check_steps("cosine_restarts", "first", self.first)?;
        let multiplier = self.multiplier as f64;
        Error::unless(self.multiplier > 0, "cosine_restarts", "multiplier", multiplier, "use 1 or more")?;
        check_part("cosine_restarts", "minimum", self.minimum)
    }
}

/// Half a wave from 1 to the minimum.
fn wave(minimum: f64, done: f64) -> f64 {
    minimum + (1.0 - minimum) * (1.0 + (PI * done).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::testing::{follows, near, text};
    use super::*;

    #[test]
    fn cosine_is_half_a_wave() {
        let cosine = Cosine::new(100);
        follows(cosine, &[(0, 1.0), (50, 0.5), (100, 0.0), (1 << 60, 0.0)]);
        near(cosine.factor(25), (1.0 + 0.5f64.sqrt()) / 2.0); // cos 45°
        follows(cosine.minimum(0.2), &[(50, 0.6), (100, 0.2)]);
        follows(Cosine::new(0), &[(0, 0.0)]);
    }

    #[test]
    fn restarts_come_when_a_wave_is_over() {
        let eighth = (1.0 + 0.5f64.sqrt()) / 2.0; // cos 45°
        follows(CosineRestarts::new(4), &[(0, 1.0), (1, eighth), (2, 0.5), (4, 1.0), (5, eighth), (4_000_002, 0.5)]);
        let longer = CosineRestarts::new(2).multiplier(3).minimum(0.5);
        follows(longer, &[(1, 0.75), (2, 1.0), (5, 0.75), (8, 1.0), (17, 0.75), (26, 1.0)]);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let part = "help: use a part of the base rate, from 0 to 1";
        assert_eq!(text(Cosine::new(5).minimum(2.0)), format!("cosine: minimum is 2; {part}"));
        assert_eq!(text(CosineRestarts::new(0)), "cosine_restarts: first is 0; help: use 1 step or more");
        let multiplier = "cosine_restarts: multiplier is 0; help: use 1 or more";
        assert_eq!(text(CosineRestarts::new(1).multiplier(0)), multiplier);
        assert!(CosineRestarts::new(0).multiplier(0).factor(9).is_finite());
    }
}
