//! The number that a callback follows over the epochs.

use crate::{EpochLog, Error, History, Result};

/// A number of the log, and which way is better.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub(super) name: String,
    pub(super) highest: bool,
    /// By how much a value must be better to count.
    pub(super) min_delta: f64,
}

impl Monitor {
    pub(super) fn new(name: impl Into<String>, highest: bool) -> Self {
        Self { name: name.into(), highest, min_delta: 0.0 }
    }

    /// The number's value in an epoch.
    pub(super) fn value(&self, op: &'static str, log: &EpochLog) -> Result<f64> {
        log.get(&self.name).ok_or_else(|| {
            let names: Vec<String> = log.numbers().into_iter().map(|(name, _)| name).collect();
            let what = format!("the log has no `{}`, it has {}", self.name, names.join(", "));
            Error::new(op, what, "name one of these; those with val_ need validation data")
        })
    }

    /// The best epoch, and its value: one is better than all before it by more than `min_delta`. NaN is never better.
    pub(super) fn best(&self, op: &'static str, history: &History) -> Result<Option<(usize, f64)>> {
        let mut best: Option<(usize, f64)> = None;
        for log in &history.epochs {
            let value = self.value(op, log)?;
            let gain = |old: f64| if self.highest { value - old } else { old - value };
            if best.map_or(!value.is_nan(), |(_, old)| gain(old) > self.min_delta) {
                best = Some((log.epoch, value));
            }
        }
        Ok(best)
    }
}
