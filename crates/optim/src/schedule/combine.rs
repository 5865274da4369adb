//! Schedules made of schedules.

use super::Schedule;
use crate::{Error, Result};

/// A straight rise before another schedule: see [`Schedule::warm_up`].
///
/// PyTorch: –; Keras: –.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmUp<S> {
    schedule: S,
    steps: u64,
}

impl<S: Schedule> WarmUp<S> {
    /// So many steps of rise.
    pub fn new(schedule: S, steps: u64) -> Self {
        Self { schedule, steps }
    }
}

impl<S: Schedule> Schedule for WarmUp<S> {
    fn factor(&self, step: u64) -> f64 {
        match step.checked_sub(self.steps) {
            Some(step) => self.schedule.factor(step),
            None => (step as f64 + 1.0) / (self.steps as f64 + 1.0),
        }
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        self.schedule.momentum(step.saturating_sub(self.steps))
    }

    fn check(&self) -> Result<()> {
        self.schedule.check()
    }
}

/// One schedule after another, each from its own start.
///
/// PyTorch: `optim.lr_scheduler.SequentialLR`; Keras: –.
///
/// ```
/// use maplet_optim::{Constant, ExponentialDecay, Schedule, Sequence};
///
/// let schedule = Sequence::new(Constant::first(0.25, 10)).then(10, ExponentialDecay::new(0.5));
/// assert_eq!([0, 10, 11].map(|step| schedule.factor(step)), [0.25, 1.0, 0.5]);
/// ```
#[doc(alias = "SequentialLR")]
pub struct Sequence {
    /// Each with the step at which it begins.
    schedules: Vec<(u64, Box<dyn Schedule>)>,
}

impl Sequence {
    /// Begins with this schedule.
    pub fn new(first: impl Schedule + 'static) -> Self {
        Self { schedules: vec![(0, Box::new(first))] }
    }

    /// Goes on with another at the step `start`.
    pub fn then(mut self, start: u64, schedule: impl Schedule + 'static) -> Self {
        self.schedules.push((start, Box::new(schedule)));
        self
    }

    /// The schedule for a step, and how many of its own steps are done.
    fn at(&self, step: u64) -> (&dyn Schedule, u64) {
        let begun = self.schedules.iter().rev().find(|(start, _)| *start <= step);
        let (start, schedule) = begun.unwrap_or(&self.schedules[0]);
        (&**schedule, step - start)
    }
}

impl Schedule for Sequence {
    fn factor(&self, step: u64) -> f64 {
        let (schedule, step) = self.at(step);
        schedule.factor(step)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        let (schedule, step) = self.at(step);
        schedule.momentum(step)
    }

    fn check(&self) -> Result<()> {
        for pair in self.schedules.windows(2) {
            if pair[0].0 >= pair[1].0 {
                let what = format!("a schedule begins at step {}, the next at step {}", pair[0].0, pair[1].0);
                return Err(Error::new("sequence", what, "let each begin after the one before"));
            }
        }
        self.schedules.iter().try_for_each(|(_, schedule)| schedule.check())
    }
}

/// Several schedules at once: the product of their factors. The momentum is that of the last that has one.
///
/// PyTorch: `optim.lr_scheduler.ChainedScheduler`; Keras: –.
#[doc(alias = "ChainedScheduler")]
pub struct Chained {
    schedules: Vec<Box<dyn Schedule>>,
}

impl Chained {
    /// Begins with this schedule.
    pub fn new(first: impl Schedule + 'static) -> Self {
        Self { schedules: vec![Box::new(first)] }
    }

    /// Multiplies with another.
    pub fn with(mut self, schedule: impl Schedule + 'static) -> Self {
        self.schedules.push(Box::new(schedule));
        self
    }
}

impl Schedule for Chained {
    fn factor(&self, step: u64) -> f64 {
        self.schedules.iter().map(|schedule| schedule.factor(step)).product()
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        self.schedules.iter().rev().find_map(|schedule| schedule.momentum(step))
    }

    fn check(&self) -> Result<()> {
        self.schedules.iter().try_for_each(|schedule| schedule.check())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{follows, text};
    use super::super::{Constant, Cosine, ExponentialDecay, OneCycle, StepDecay};
    use super::*;

    #[test]
    fn warm_up_rises_and_hands_over_at_the_start() {
        let rise = [(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (4, 1.0)];
        follows(Constant::new().warm_up(4), &rise);
        follows(StepDecay::new(2, 0.5).warm_up(4), &rise);
        follows(Cosine::new(10).warm_up(4), &rise);
        follows(Cosine::new(10).warm_up(4), &[(9, 0.5), (14, 0.0)]);
        follows((|step: u64| step as f64).warm_up(1), &[(0, 0.5), (1, 0.0), (5, 4.0)]);
        assert_eq!(Constant::new().warm_up(u64::MAX).factor(u64::MAX / 2), 0.5);
        assert_eq!(OneCycle::new(10).warm_up(5).momentum(3), OneCycle::new(10).momentum(0));
    }

    #[test]
    fn a_sequence_starts_each_schedule_anew() {
        let sequence = Sequence::new(ExponentialDecay::new(0.5)).then(3, Cosine::new(4)).then(9, Constant::new());
        follows(sequence, &[(0, 1.0), (2, 0.25), (3, 1.0), (5, 0.5), (7, 0.0), (8, 0.0), (9, 1.0), (99, 1.0)]);
    }

    #[test]
    fn a_chain_multiplies() {
        let chain = Chained::new(ExponentialDecay::new(0.5)).with(Constant::first(0.1, 2)).with(OneCycle::new(10));
        let cycle = OneCycle::new(10);
        follows(
            Chained::new(ExponentialDecay::new(0.5)).with(Constant::first(0.1, 2)),
            &[(0, 0.1), (1, 0.05), (2, 0.25)],
        );
        assert_eq!(chain.momentum(4), cycle.momentum(4));
    }

    #[test]
    fn the_parts_are_checked() {
        let every = "step_decay: every is 0; help: use 1 step or more";
        let wrong = || StepDecay::new(0, 0.1);
        assert_eq!(text(wrong().warm_up(3)), every);
        assert_eq!(text(Sequence::new(Constant::new()).then(1, wrong())), every);
        assert_eq!(text(Chained::new(Constant::new()).with(wrong())), every);
        let order =
            "sequence: a schedule begins at step 5, the next at step 5; help: let each begin after the one before";
        assert_eq!(text(Sequence::new(Constant::new()).then(5, Constant::new()).then(5, Constant::new())), order);
    }
}
