//! Schedules: the learning rate as a function of the step, nothing else.

use crate::{Error, Result};
use std::f64::consts::PI;

/// What to multiply the base rate with. Any function of the step is a schedule.
///
/// ```
/// use maplet_optim::{Adam, Cosine, Optimizer};
///
/// let adam = Adam::new(1e-3).schedule(|step| 0.5f64.powi(step as i32));
/// assert_eq!(adam.current_learning_rate(), 1e-3);
/// let warmed = Adam::new(1e-3).schedule(Cosine::new(1000).warm_up(9));
/// assert_eq!(warmed.current_learning_rate(), 1e-4); // a tenth of the way up
/// ```
pub trait Schedule: Send + Sync {
    /// The factor for the step after `step` steps: the first is 0.
    fn factor(&self, step: u64) -> f64;

    /// Whether the schedule's own numbers are possible.
    ///
    /// # Errors
    /// One that is not.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl<F: Fn(u64) -> f64 + Send + Sync> Schedule for F {
    fn factor(&self, step: u64) -> f64 {
        self(step)
    }
}

/// Always 1: a constant rate, for a warm-up alone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Constant {
    warm_up: u64,
}

/// `factor^⌊step / every⌋`: a fall every so many steps.
#[doc(alias = "StepLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDecay {
    every: u64,
    factor: f64,
    warm_up: u64,
}

/// `minimum + (1 − minimum) · (1 + cos(π · step / total)) / 2`: half a wave from 1 down to the minimum, where it stays.
///
/// # Reference
/// Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5, without restarts.
#[doc(alias = "CosineAnnealingLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    total: u64,
    minimum: f64,
    warm_up: u64,
}

/// What every schedule here can begin with.
macro_rules! warm_up {
    ($($schedule:ty),*) => {$(
        impl $schedule {
            /// Begins with so many steps of a straight rise, `(step + 1) / (steps + 1)`; the schedule then starts at 1.
            pub fn warm_up(mut self, steps: u64) -> Self {
                self.warm_up = steps;
                self
            }
        }
    )*};
}
warm_up!(Constant, StepDecay, Cosine);

impl Constant {
    /// A constant rate.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StepDecay {
    /// Multiplies the rate with `factor` every `every` steps.
    pub fn new(every: u64, factor: f64) -> Self {
        Self { every, factor, warm_up: 0 }
    }
}

impl Cosine {
    /// A wave that ends after `total` steps, warm-up included.
    pub fn new(total: u64) -> Self {
        Self { total, minimum: 0.0, warm_up: 0 }
    }

    /// The part of the base rate that is left at the end, 0.
    pub fn minimum(mut self, factor: f64) -> Self {
        self.minimum = factor;
        self
    }
}

impl Schedule for Constant {
    fn factor(&self, step: u64) -> f64 {
        rise(step, self.warm_up).unwrap_or(1.0)
    }
}

impl Schedule for StepDecay {
    fn factor(&self, step: u64) -> f64 {
        rise(step, self.warm_up).unwrap_or_else(|| {
            let falls = (step - self.warm_up).checked_div(self.every).unwrap_or(0);
            self.factor.powf(falls as f64)
        })
    }

    fn check(&self) -> Result<()> {
        Error::unless(self.every > 0, "step_decay", "every", self.every as f64, "use 1 step or more")?;
        let fine = self.factor.is_finite() && self.factor >= 0.0;
        Error::unless(fine, "step_decay", "factor", self.factor, "use a finite number, 0 or more")
    }
}

impl Schedule for Cosine {
    fn factor(&self, step: u64) -> f64 {
        rise(step, self.warm_up).unwrap_or_else(|| {
            let (step, total) = (step - self.warm_up, self.total.saturating_sub(self.warm_up));
            let done = if step < total { step as f64 / total as f64 } else { 1.0 };
            self.minimum + (1.0 - self.minimum) * (1.0 + (PI * done).cos()) / 2.0
        })
    }

    fn check(&self) -> Result<()> {
        let fine = (0.0..=1.0).contains(&self.minimum);
        Error::unless(fine, "cosine", "minimum", self.minimum, "use a part of the base rate, from 0 to 1")
    }
}

/// The factor on the way up; none after it.
fn rise(step: u64, warm_up: u64) -> Option<f64> {
    (step < warm_up).then(|| (step + 1) as f64 / (warm_up + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-15, "{found} {expected}");
    }

    #[test]
    fn cosine_is_half_a_wave() {
        let cosine = Cosine::new(100);
        for (step, expected) in [(0, 1.0), (50, 0.5), (100, 0.0), (1 << 60, 0.0)] {
            near(cosine.factor(step), expected);
        }
        near(cosine.factor(25), (1.0 + 0.5f64.sqrt()) / 2.0); // cos 45°
        near(cosine.minimum(0.2).factor(50), 0.6);
        near(cosine.minimum(0.2).factor(100), 0.2);
        near(Cosine::new(0).factor(0), 0.0);
    }

    #[test]
    fn decay_falls_every_so_often() {
        let decay = StepDecay::new(30, 0.1);
        for (step, expected) in [(0, 1.0), (29, 1.0), (30, 0.1), (59, 0.1), (60, 0.01)] {
            near(decay.factor(step), expected);
        }
    }

    #[test]
    fn warm_up_rises_and_hands_over_at_1() {
        let schedules: [&dyn Schedule; 3] =
            [&Constant::new().warm_up(4), &StepDecay::new(2, 0.5).warm_up(4), &Cosine::new(14).warm_up(4)];
        for schedule in schedules {
            for (step, expected) in [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 1.0)] {
                near(schedule.factor(step), expected);
            }
        }
        near(schedules[0].factor(1000), 1.0);
        near(schedules[1].factor(6), 0.5);
        near(schedules[2].factor(9), 0.5); // the total counts the warm-up
        near(schedules[2].factor(14), 0.0);
        near(Cosine::new(3).warm_up(5).factor(5), 0.0);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = |schedule: &dyn Schedule| schedule.check().unwrap_err().to_string();
        assert_eq!(text(&StepDecay::new(0, 0.1)), "step_decay: every is 0; help: use 1 step or more");
        let factor = "step_decay: factor is NaN; help: use a finite number, 0 or more";
        assert_eq!(text(&StepDecay::new(1, f64::NAN)), factor);
        let minimum = "cosine: minimum is 2; help: use a part of the base rate, from 0 to 1";
        assert_eq!(text(&Cosine::new(5).minimum(2.0)), minimum);
        assert!(StepDecay::new(0, 0.1).factor(7).is_finite() && (|_| 0.5).check().is_ok());
    }
}
