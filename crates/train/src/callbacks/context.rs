//! [`Context`]: what a callback sees, and what it may change.

use crate::{EpochLog, History, Metric};
use maplet_nn_layers::Module;
use maplet_optim::Optimizer;
use std::time::Instant;

/// The training at one moment, lent to a callback.
#[non_exhaustive]
pub struct Context<'a> {
    /// The model that is trained.
    pub model: &'a mut dyn Module,
    /// Its optimizer, whose learning rate can be changed.
    pub optimizer: &'a mut dyn Optimizer,
    /// The finished epochs.
    pub history: &'a History,
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The number of epochs asked for.
    pub epochs: usize,
    /// The step within the epoch, counted from 1; 0 before the first.
    pub step: usize,
    /// The number of steps in an epoch.
    pub steps: usize,
    /// The mean of the loss over the epoch's samples so far.
    pub loss: f64,
    pub(crate) metrics: &'a [Box<dyn Metric>],
    /// Seconds spent on this epoch before the training was resumed.
    pub(crate) seconds_before: f64,
    pub(crate) started: Instant,
    pub(crate) stop: &'a mut Option<String>,
    pub(crate) notes: &'a mut Vec<String>,
}

impl Context<'_> {
    /// The metrics over the epoch's samples so far, by name.
    pub fn metrics(&self) -> Vec<(String, f64)> {
        self.metrics.iter().map(|metric| (metric.name().to_string(), metric.result())).collect()
    }

    /// The epoch that just ended.
    pub fn log(&self) -> Option<&EpochLog> {
        self.history.last()
    }

    /// Seconds since the epoch began.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Ends the training after this step or epoch; the reason goes into [`History::stopped`].
    pub fn stop(&mut self, why: impl Into<String>) {
        self.stop.get_or_insert(why.into());
    }

    /// Tells every callback's [`on_note`](crate::Callback::on_note), and so the progress display.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}
