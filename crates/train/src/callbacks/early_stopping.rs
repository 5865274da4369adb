//! Stopping when a number no longer gets better.

use super::monitor::Monitor;
use super::{Callback, Context};
use crate::Result;
use crate::history::Short;
use maplet_autograd::container;
use maplet_tensor::Tensor;

/// Ends the training when a number of the log has not become better for `patience` epochs in a row.
///
/// Everything is read off the history, so a resumed training counts on where the first part ended.
///
/// # Example
/// ```
/// use maplet_train::{EarlyStopping, FitOptions};
///
/// let stop = EarlyStopping::lowest("val_loss").patience(3).restore_best();
/// let options = FitOptions::new().epochs(100).validation_split(0.1).callback(stop);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    restore: bool,
    /// The best epoch seen, with its weights.
    best: Option<(usize, Vec<(String, Tensor)>)>,
}

impl EarlyStopping {
    /// Follows a number that should fall: `"val_loss"`.
    pub fn lowest(name: impl Into<String>) -> Self {
        Self { monitor: Monitor::new(name, false), patience: 1, restore: false, best: None }
    }

    /// Follows a number that should rise: `"val_accuracy"`.
    pub fn highest(name: impl Into<String>) -> Self {
        Self { monitor: Monitor::new(name, true), ..Self::lowest("") }
    }

    /// After how many epochs in a row that bring nothing better the training ends. Default 1; 0 means 1.
    #[must_use]
    pub fn patience(mut self, epochs: usize) -> Self {
        self.patience = epochs;
        self
    }

    /// By how much the number must get better to count. Default 0: by anything.
    #[must_use]
    pub fn min_delta(mut self, min_delta: f64) -> Self {
        self.monitor.min_delta = min_delta;
        self
    }

    /// Gives the model the weights of its best epoch when the training ends, stopped or not.
    #[must_use]
    pub fn restore_best(mut self) -> Self {
        self.restore = true;
        self
    }

    fn check(&self, context: &mut Context<'_>) -> Result<()> {
        let Some((best, value)) = self.monitor.best("early_stopping", context.history)? else { return Ok(()) };
        let last = context.history.epochs.len();
        if last.saturating_sub(best) >= self.patience.max(1) {
            let name = &self.monitor.name;
            context.stop(format!("early stopping: {name} was best in epoch {best} ({})", Short(value)));
        }
        Ok(())
    }
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.best = None;
        self.check(context)
    }

    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        let best = self.monitor.best("early_stopping", context.history)?;
        if self.restore && best.is_some_and(|(epoch, _)| epoch == context.epoch) {
            self.best = Some((context.epoch, container::snapshot(context.model)));
        }
        self.check(context)
    }

    fn on_train_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        let Some((best, _)) = self.monitor.best("early_stopping", context.history)? else { return Ok(()) };
        match self.best.take() {
            Some((epoch, weights)) if epoch == best => {
                container::restore(context.model, &weights)?;
                context.note(format!("early stopping: the model holds the weights of epoch {epoch}"));
            }
            _ if self.restore => context.note(format!(
                "early stopping: the best weights, of epoch {best}, went with the run that was resumed; \
                 the model holds the last"
            )),
            _ => {}
        }
        Ok(())
    }
}
