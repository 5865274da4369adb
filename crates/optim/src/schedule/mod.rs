//! Schedules: the learning rate as a function of the step, nothing else.
//!
//! PyTorch's schedulers are called once an epoch or once a step, as one pleases; these count the optimizer's steps.
//! Give lengths in steps: `epochs * steps_per_epoch`. A rate that follows a metric is
//! [`ReduceOnPlateau`](crate::ReduceOnPlateau).

mod decay;
mod ramp;
mod cosine;
mod cycle;
mod combine;

pub use combine::{Chained, Sequence, WarmUp};
pub use cosine::{Cosine, CosineRestarts};
pub use cycle::{Cycle, Cyclic, OneCycle};
pub use decay::{ExponentialDecay, MultiStepDecay, Noam, PolynomialDecay, StepDecay};
pub use ramp::{Constant, LinearRamp};

use crate::{Error, Result};

/// What to multiply the base rate with. Any function of the step is a schedule.
///
/// PyTorch: `optim.lr_scheduler.LambdaLR`; Keras: `LearningRateScheduler`.
///
/// ```
/// use maplet_optim::{Adam, Cosine, Optimizer, Schedule};
///
/// let adam = Adam::new(1e-3).schedule(|step| 0.5f64.powi(step as i32));
/// assert_eq!(adam.current_learning_rate(), 1e-3);
/// let warmed = Adam::new(1e-3).schedule(Cosine::new(1000).warm_up(9));
/// assert_eq!(warmed.current_learning_rate(), 1e-4); // a tenth of the way up
/// ```
#[doc(alias = "LambdaLR")]
pub trait Schedule: Send + Sync {
    /// The factor for the step after `step` steps: the first is 0.
    fn factor(&self, step: u64) -> f64;

    /// The momentum (β₁) for that step, of schedules that change it.
    fn momentum(&self, step: u64) -> Option<f64> {
        let _ = step;
        None
    }

    /// Whether the schedule's own numbers are possible.
    ///
    /// # Errors
    /// One that is not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Begins with so many steps of a straight rise, `(step + 1) / (steps + 1)`; then the schedule runs from its start.
    fn warm_up(self, steps: u64) -> WarmUp<Self>
    where
        Self: Sized,
    {
        WarmUp::new(self, steps)
    }
}

impl<F: Fn(u64) -> f64 + Send + Sync> Schedule for F {
    fn factor(&self, step: u64) -> f64 {
        self(step)
    }
}

/// For schedules that are chosen at run time.
impl Schedule for Box<dyn Schedule> {
    fn factor(&self, step: u64) -> f64 {
        (**self).factor(step)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        (**self).momentum(step)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }
}

/// How much of `total` steps is done, from 0 to 1; all of it if there are none.
fn done(step: u64, total: u64) -> f64 {
    if step < total { step as f64 / total as f64 } else { 1.0 }
}

/// An error unless there is at least one step.
fn check_steps(op: &'static str, name: &str, steps: u64) -> Result<()> {
    Error::unless(steps > 0, op, name, steps as f64, "use 1 step or more")
}

/// An error unless it is a part of the base rate.
fn check_part(op: &'static str, name: &str, part: f64) -> Result<()> {
    Error::unless((0.0..=1.0).contains(&part), op, name, part, "use a part of the base rate, from 0 to 1")
}

#[cfg(test)]
mod testing {
    use super::*;

    pub(super) fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-15, "{found} {expected}");
    }

    /// The factor at each of these steps.
    pub(super) fn follows(schedule: impl Schedule, expected: &[(u64, f64)]) {
        expected.iter().for_each(|&(step, factor)| near(schedule.factor(step), factor));
    }

    pub(super) fn text(schedule: impl Schedule) -> String {
        schedule.check().unwrap_err().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::follows;
    use super::*;

    #[test]
    fn functions_and_boxes_are_schedules() {
        let boxed: Box<dyn Schedule> = Box::new(OneCycle::new(10));
        assert!(boxed.momentum(0).is_some() && boxed.check().is_ok());
        assert!((|_| 0.5).check().is_ok());
        follows(boxed.warm_up(1), &[(0, 0.5), (1, 0.04)]);
        follows(|step: u64| 1.0 / (step + 1) as f64, &[(3, 0.25)]);
    }
}
