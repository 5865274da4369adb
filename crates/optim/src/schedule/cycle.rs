//! Rates that rise and fall, with a momentum that does the opposite.

use super::{Schedule, check_part, check_steps};
use crate::{Error, Result};
use std::f64::consts::PI;

/// One rise from `1 / start_divisor` to 1 and one fall to nearly nothing, `1 / (start_divisor · end_divisor)`; the base
/// rate is the highest. The momentum (β₁) falls and rises with it, from 0.95 to 0.85 and back.
///
/// PyTorch: `optim.lr_scheduler.OneCycleLR`; Keras: –.
///
/// ```
/// use maplet_optim::{OneCycle, Optimizer, Schedule, Sgd};
///
/// let schedule = OneCycle::new(100);
/// assert_eq!((schedule.factor(29), schedule.momentum(29)), (1.0, Some(0.85)));
/// let sgd = Sgd::new(0.1).momentum(0.9).schedule(schedule);
/// assert!((sgd.current_learning_rate() - 0.1 / 25.0).abs() < 1e-12);
/// ```
///
/// # Reference
/// Smith & Topin (2019), "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", in
/// PyTorch's form.
#[doc(alias = "OneCycleLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    total: u64,
    rising: f64,
    linear: bool,
    three_phases: bool,
    start_divisor: f64,
    end_divisor: f64,
    momentum: Option<(f64, f64)>,
}

impl OneCycle {
    /// A cycle of so many steps, of which 30 % rise, along cosines; divisors 25 and 10⁴.
    pub fn new(total: u64) -> Self {
        let (rising, momentum) = (0.3, Some((0.85, 0.95)));
        let (linear, three_phases, start_divisor, end_divisor) = (false, false, 25.0, 1e4);
        Self { total, rising, linear, three_phases, start_divisor, end_divisor, momentum }
    }

    /// The part of the steps in which the rate rises.
    #[doc(alias = "pct_start")]
    pub fn rising(mut self, part: f64) -> Self {
        self.rising = part;
        self
    }

    /// Straight lines instead of cosines.
    pub fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// As long a fall back to where it began, and only then the fall to nearly nothing: the paper's form.
    pub fn three_phases(mut self) -> Self {
        self.three_phases = true;
        self
    }

    /// How far below the base rate the cycle begins, and how far below its beginning it ends.
    #[doc(alias("div_factor", "final_div_factor"))]
    pub fn divisors(mut self, start: f64, end: f64) -> Self {
        (self.start_divisor, self.end_divisor) = (start, end);
        self
    }

    /// The lowest and the highest momentum.
    pub fn momentum_between(mut self, low: f64, high: f64) -> Self {
        self.momentum = Some((low, high));
        self
    }

    /// Leaves the momentum as it is.
    pub fn without_momentum(mut self) -> Self {
        self.momentum = None;
        self
    }

    /// From one of three values to another, and how far: `[start, top, end]` are 0, 1 and 2.
    fn place(&self, step: u64) -> (usize, usize, f64) {
        let total = self.total as f64;
        let (step, top) = ((step as f64).min(total - 1.0), self.rising * total - 1.0);
        let mut phases = vec![(top, 0, 1)];
        match self.three_phases {
            true => phases.extend([(2.0 * self.rising * total - 2.0, 1, 0), (total - 1.0, 0, 2)]),
            false => phases.push((total - 1.0, 1, 2)),
        }
        let last = phases.len() - 1;
        let i = phases.iter().position(|(end, ..)| step <= *end).unwrap_or(last);
        let begin = if i == 0 { 0.0 } else { phases[i - 1].0 };
        let (end, from, to) = phases[i];
        // A phase without a length is over at once.
        (from, to, if end > begin { (step - begin) / (end - begin) } else { 1.0 })
    }

    fn between(&self, values: [f64; 3], step: u64) -> f64 {
        let (from, to, done) = self.place(step);
        let (from, to) = (values[from], values[to]);
        match self.linear {
            true => (to - from) * done + from,
            false => to + (from - to) / 2.0 * ((PI * done).cos() + 1.0),
        }
    }
}

impl Schedule for OneCycle {
    fn factor(&self, step: u64) -> f64 {
        let start = 1.0 / self.start_divisor;
        self.between([start, 1.0, start / self.end_divisor], step)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        self.momentum.map(|(low, high)| self.between([high, low, high], step))
    }

    fn check(&self) -> Result<()> {
        const NAME: &str = "one_cycle";
        check_steps(NAME, "total", self.total)?;
        Error::unless(
            (0.0..=1.0).contains(&self.rising),
            NAME,
            "rising",
            self.rising,
            "use a part of the steps, from 0 to 1",
        )?;
        for (name, divisor) in [("start_divisor", self.start_divisor), ("end_divisor", self.end_divisor)] {
            Error::unless(divisor.is_finite() && divisor > 0.0, NAME, name, divisor, "use a finite number above 0")?;
        }
        check_momentum(NAME, self.momentum)
    }
}

/// What becomes of the height of [`Cyclic`]'s triangles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cycle {
    /// They stay as high as the first.
    Triangular,
    /// Each is half as high as the one before.
    Triangular2,
    /// They shrink with the factor's power of the step.
    ExpRange(f64),
}

/// Triangles between `low` and 1; the base rate is the highest. The momentum falls while the rate rises, if it is
/// given.
///
/// PyTorch: `optim.lr_scheduler.CyclicLR`; Keras: –.
///
/// ```
/// use maplet_optim::{Cycle, Cyclic, Schedule};
///
/// let schedule = Cyclic::new(0.5, 4).mode(Cycle::Triangular2);
/// assert_eq!([0, 2, 4, 6, 8, 12].map(|step| schedule.factor(step)), [0.5, 0.75, 1.0, 0.75, 0.5, 0.75]);
/// ```
///
/// # Reference
/// Smith (2017), "Cyclical Learning Rates for Training Neural Networks".
#[doc(alias = "CyclicLR")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cyclic {
    low: f64,
    up: u64,
    down: u64,
    mode: Cycle,
    momentum: Option<(f64, f64)>,
}

impl Cyclic {
    /// Triangles with so many steps up (PyTorch's are 2000) and as many down.
    pub fn new(low: f64, steps: u64) -> Self {
        Self { low, up: steps, down: steps, mode: Cycle::Triangular, momentum: None }
    }

    /// Another number of steps down.
    pub fn down(mut self, steps: u64) -> Self {
        self.down = steps;
        self
    }

    /// What becomes of the triangles' height.
    pub fn mode(mut self, mode: Cycle) -> Self {
        self.mode = mode;
        self
    }

    /// The lowest and the highest momentum (PyTorch's are 0.8 and 0.9).
    pub fn momentum_between(mut self, low: f64, high: f64) -> Self {
        self.momentum = Some((low, high));
        self
    }

    /// The height above the lowest, from 0 to 1.
    fn height(&self, step: u64) -> f64 {
        let total = self.up.saturating_add(self.down).max(1) as f64;
        let cycle = (1.0 + step as f64 / total).floor();
        let (x, peak) = (1.0 + step as f64 / total - cycle, self.up as f64 / total);
        let height = if x < peak { x / peak } else { (x - 1.0) / (peak - 1.0) };
        height
            * match self.mode {
                Cycle::Triangular => 1.0,
                Cycle::Triangular2 => 0.5f64.powf(cycle - 1.0),
                Cycle::ExpRange(factor) => factor.powf(step as f64),
            }
    }
}

impl Schedule for Cyclic {
    fn factor(&self, step: u64) -> f64 {
        self.low + (1.0 - self.low) * self.height(step)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        self.momentum.map(|(low, high)| high - (high - low) * self.height(step))
    }

    fn check(&self) -> Result<()> {
        check_part("cyclic", "low", self.low)?;
        check_steps("cyclic", "up", self.up)?;
        check_steps("cyclic", "down", self.down)?;
        if let Cycle::ExpRange(factor) = self.mode {
            Error::unless_finite("cyclic", "the factor of ExpRange", factor)?;
        }
        check_momentum("cyclic", self.momentum)
    }
}

/// Without a momentum an optimizer remembers no velocity, so it must not vanish in between.
fn check_momentum(op: &'static str, momentum: Option<(f64, f64)>) -> Result<()> {
    let (low, high) = momentum.unwrap_or((0.5, 0.5));
    for (name, momentum) in [("the lowest momentum", low), ("the highest momentum", high)] {
        Error::unless(momentum > 0.0 && momentum < 1.0, op, name, momentum, "use a number between 0 and 1")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{follows, near, text};
    use super::*;

    #[test]
    fn one_cycle_rises_and_falls() {
        let straight = OneCycle::new(10).rising(0.5).linear().divisors(5.0, 10.0);
        follows(straight, &[(0, 0.2), (2, 0.6), (4, 1.0), (9, 0.02), (1000, 0.02)]);
        near(straight.factor(5), 1.0 - 0.98 / 5.0);
        follows(OneCycle::new(11).rising(0.4).three_phases().linear(), &[(0, 0.04), (10, 0.04 / 1e4)]);
        let waves = OneCycle::new(10).rising(0.5);
        follows(waves, &[(0, 0.04), (2, 0.52), (4, 1.0), (9, 0.04 / 1e4)]);
        for (step, expected) in [(0, 0.95), (2, 0.9), (4, 0.85), (9, 0.95)] {
            near(waves.momentum(step).unwrap(), expected);
        }
        assert_eq!(waves.without_momentum().momentum(3), None);
    }

    #[test]
    fn triangles_are_triangles() {
        follows(Cyclic::new(0.2, 4), &[(0, 0.2), (1, 0.4), (4, 1.0), (7, 0.4), (8, 0.2), (12, 1.0)]);
        follows(Cyclic::new(0.0, 2).down(6), &[(1, 0.5), (2, 1.0), (5, 0.5), (8, 0.0), (10, 1.0)]);
        follows(Cyclic::new(0.5, 2).mode(Cycle::Triangular2), &[(2, 1.0), (6, 0.75), (10, 0.625)]);
        follows(Cyclic::new(0.5, 2).mode(Cycle::ExpRange(0.5)), &[(1, 0.625), (2, 0.625)]);
        let cycled = Cyclic::new(0.2, 4).momentum_between(0.8, 0.9);
        near(cycled.momentum(0).unwrap(), 0.9);
        near(cycled.momentum(4).unwrap(), 0.8);
    }

    #[test]
    fn triangles_of_any_length_have_a_height() {
        follows(Cyclic::new(0.5, u64::MAX), &[(0, 0.5), (u64::MAX / 2, 0.75)]);
        follows(Cyclic::new(0.5, 4).down(0), &[(0, 0.5), (2, 0.75), (4, 0.5)]);
        follows(Cyclic::new(0.5, 0).down(4), &[(0, 1.0), (2, 0.75)]);
        assert!((0..3).all(|step| Cyclic::new(0.5, 0).factor(step).is_finite())); // `check` refuses it
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert_eq!(text(OneCycle::new(0)), "one_cycle: total is 0; help: use 1 step or more");
        let part = "one_cycle: rising is 2; help: use a part of the steps, from 0 to 1";
        assert_eq!(text(OneCycle::new(5).rising(2.0)), part);
        let divisor = "one_cycle: end_divisor is 0; help: use a finite number above 0";
        assert_eq!(text(OneCycle::new(5).divisors(2.0, 0.0)), divisor);
        let between = "help: use a number between 0 and 1";
        let momentum = text(OneCycle::new(5).momentum_between(0.5, 1.0));
        assert_eq!(momentum, format!("one_cycle: the highest momentum is 1; {between}"));
        let momentum = text(Cyclic::new(0.5, 5).momentum_between(0.0, 0.9));
        assert_eq!(momentum, format!("cyclic: the lowest momentum is 0; {between}"));
        let low = "cyclic: low is -1; help: use a part of the base rate, from 0 to 1";
        assert_eq!(text(Cyclic::new(-1.0, 5)), low);
        assert_eq!(text(Cyclic::new(0.5, 0)), "cyclic: up is 0; help: use 1 step or more");
        assert_eq!(text(Cyclic::new(0.5, 5).down(0)), "cyclic: down is 0; help: use 1 step or more");
        let factor = "cyclic: the factor of ExpRange is NaN; help: use a finite number, 0 or more";
        assert_eq!(text(Cyclic::new(0.5, 5).mode(Cycle::ExpRange(f64::NAN))), factor);
    }
}
