//! [`ReduceOnPlateau`]: a lower rate when a number no longer gets better.

use crate::{Error, Optimizer, Result};

/// Multiplies the learning rate with a factor when a metric has not become better for more than `patience` looks at it.
///
/// A value is better if it is below `best · (1 − threshold)` (above `best · (1 + threshold)` if it should rise). After
/// a fall of the rate, `cooldown` looks do not count. `maplet_train`'s callback `ReduceLrOnPlateau` calls this after
/// each epoch.
///
/// PyTorch: `optim.lr_scheduler.ReduceLROnPlateau`; Keras: `ReduceLROnPlateau`.
///
/// ```
/// use maplet_optim::{Optimizer, ReduceOnPlateau, Sgd};
///
/// let mut sgd = Sgd::new(0.1);
/// let mut plateau = ReduceOnPlateau::lowest().factor(0.5).patience(1);
/// for val_loss in [3.0, 2.0, 2.0, 2.0] {
///     plateau.step(val_loss, &mut sgd)?;
/// }
/// assert_eq!(sgd.learning_rate(), 0.05);
/// # Ok::<(), maplet_optim::Error>(())
/// ```
#[doc(alias = "ReduceLROnPlateau")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReduceOnPlateau {
    highest: bool,
    factor: f64,
    patience: u64,
    threshold: f64,
    relative: bool,
    cooldown: u64,
    minimum: f64,
    state: PlateauState,
}

/// What a [`ReduceOnPlateau`] remembers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauState {
    /// The best value so far.
    pub best: f64,
    /// The looks since it got better.
    pub waited: u64,
    /// The looks that do not count yet.
    pub cooldown: u64,
}

/// A fall of the rate that is smaller than this is left out.
const LEAST_FALL: f64 = 1e-8;

impl ReduceOnPlateau {
    /// For a number that should fall; factor 0.1, patience 10, threshold 1e-4.
    pub fn lowest() -> Self {
        Self::new(false)
    }

    /// For a number that should rise.
    pub fn highest() -> Self {
        Self::new(true)
    }

    fn new(highest: bool) -> Self {
        let best = if highest { f64::NEG_INFINITY } else { f64::INFINITY };
        let (factor, patience, threshold, relative, cooldown, minimum) = (0.1, 10, 1e-4, true, 0, 0.0);
        let state = PlateauState { best, waited: 0, cooldown: 0 };
        Self { highest, factor, patience, threshold, relative, cooldown, minimum, state }
    }

    /// What the rate is multiplied with.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// How many looks in a row may bring nothing better.
    pub fn patience(mut self, looks: u64) -> Self {
        self.patience = looks;
        self
    }

    /// By how much of the best value a value must be better.
    pub fn threshold(mut self, threshold: f64) -> Self {
        (self.threshold, self.relative) = (threshold, true);
        self
    }

    /// By how much a value must be better.
    pub fn min_delta(mut self, delta: f64) -> Self {
        (self.threshold, self.relative) = (delta, false);
        self
    }

    /// How many looks after a fall do not count.
    pub fn cooldown(mut self, looks: u64) -> Self {
        self.cooldown = looks;
        self
    }

    /// The rate never falls below this.
    #[doc(alias = "min_lr")]
    pub fn minimum(mut self, learning_rate: f64) -> Self {
        self.minimum = learning_rate;
        self
    }

    /// Looks at the metric, and lowers the optimizer's rate if it is time; returns the new rate then.
    ///
    /// # Errors
    /// Impossible numbers, as [`check`](Self::check) finds them.
    pub fn step(&mut self, metric: f64, optimizer: &mut dyn Optimizer) -> Result<Option<f64>> {
        self.check()?;
        Ok(if self.is_time(metric) { self.lower(optimizer) } else { None })
    }

    /// Lowers the optimizer's rate, and returns the new one; nothing if the minimum is reached.
    pub fn lower(&self, optimizer: &mut dyn Optimizer) -> Option<f64> {
        let old = optimizer.learning_rate();
        let new = (old * self.factor).max(self.minimum);
        (old - new > LEAST_FALL).then(|| {
            optimizer.set_learning_rate(new);
            new
        })
    }

    /// Looks at the metric, and says whether the rate should fall now.
    pub fn is_time(&mut self, metric: f64) -> bool {
        let PlateauState { best, waited, cooldown } = &mut self.state;
        let (margin, sign) = (self.threshold, if self.highest { 1.0 } else { -1.0 });
        let bar = if self.relative { *best * (1.0 + sign * margin) } else { *best + sign * margin };
        if sign * metric > sign * bar {
            (*best, *waited) = (metric, 0);
        } else {
            *waited += 1;
        }
        if *cooldown > 0 {
            (*cooldown, *waited) = (*cooldown - 1, 0);
        }
        let time = *waited > self.patience;
        if time {
            (*cooldown, *waited) = (self.cooldown, 0);
        }
        time
    }

    /// Whether every number is possible.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<()> {
        const NAME: &str = "reduce_on_plateau";
        Error::unless_decay(NAME, "factor", self.factor)?;
        Error::unless_finite(NAME, "threshold", self.threshold)?;
        Error::unless_finite(NAME, "minimum", self.minimum)
    }

    /// What it remembers.
    pub fn state(&self) -> PlateauState {
        self.state
    }

    /// Goes on from what it remembered.
    pub fn load_state(&mut self, state: PlateauState) {
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sgd;

    /// The looks, counted from 0, at which the rate falls.
    fn falls(mut plateau: ReduceOnPlateau, metrics: &[f64]) -> Vec<usize> {
        let mut sgd = Sgd::new(1.0);
        let mut fell = |metric: &f64| plateau.step(*metric, &mut sgd).unwrap().is_some();
        (0..metrics.len()).filter(|&i| fell(&metrics[i])).collect()
    }

    #[test]
    fn the_rate_falls_after_more_than_patience_looks() {
        let lowest = ReduceOnPlateau::lowest().patience(2);
        assert_eq!(falls(lowest, &[1.0; 9]), [3, 6]); // the counting begins anew
        assert_eq!(falls(lowest, &[4.0, 3.0, 2.0, 1.0, 0.5, 0.4]), [0usize; 0]);
        assert_eq!(falls(lowest, &[f64::NAN; 4]), [2]);
        assert_eq!(falls(lowest.cooldown(2), &[1.0; 9]), [3, 8]);
        assert_eq!(falls(ReduceOnPlateau::highest().patience(0), &[1.0, 2.0, 3.0, 3.0]), [3]);
        // Better by less than the threshold does not count: 0.99995 > 1 · (1 − 1e-4).
        assert_eq!(falls(lowest, &[1.0, 0.99995, 0.99992, 0.99991]), [3]);
        assert_eq!(falls(lowest.min_delta(0.0), &[1.0, 0.99995, 0.99992, 0.99991]), [0usize; 0]);
        assert_eq!(falls(lowest.threshold(0.5), &[1.0, 0.6, 0.55, 0.51]), [3]);
    }

    #[test]
    fn the_rate_stops_at_its_minimum_and_the_state_can_be_kept() {
        let (mut sgd, mut plateau) = (Sgd::new(1.0), ReduceOnPlateau::lowest().patience(0).minimum(0.05));
        assert_eq!(plateau.step(1.0, &mut sgd).unwrap(), None);
        assert_eq!(plateau.step(1.0, &mut sgd).unwrap(), Some(0.1));
        let kept = plateau.state();
        assert_eq!(plateau.step(1.0, &mut sgd).unwrap(), Some(0.05));
        assert_eq!(plateau.step(1.0, &mut sgd).unwrap(), None);
        let mut again = ReduceOnPlateau::lowest().patience(0);
        again.load_state(kept);
        assert!(again.is_time(1.0));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = |plateau: ReduceOnPlateau| plateau.check().unwrap_err().to_string();
        let factor = "reduce_on_plateau: factor is 1; help: use a number from 0 to below 1";
        assert_eq!(text(ReduceOnPlateau::lowest().factor(1.0)), factor);
        let count = "help: use a finite number, 0 or more";
        assert_eq!(
            text(ReduceOnPlateau::lowest().threshold(-1.0)),
            format!("reduce_on_plateau: threshold is -1; {count}")
        );
        assert_eq!(
            text(ReduceOnPlateau::lowest().minimum(f64::NAN)),
            format!("reduce_on_plateau: minimum is NaN; {count}")
        );
    }
}
