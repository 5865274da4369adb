//! Saving the model whenever it is better than before.

use super::monitor::Monitor;
use super::{Callback, Context};
use crate::{EpochLog, Error, Result};
use maplet_nn_layers::Module;

type SaveError = Box<dyn std::error::Error + Send + Sync>;
type Save<'a> = dyn FnMut(&dyn Module, &EpochLog) -> Result<(), SaveError> + Send + 'a;

/// Saves the model after each epoch that is the best so far; how is the caller's closure.
///
/// To go on with a training later, use [`FitOptions::checkpoint`](crate::FitOptions::checkpoint) instead: it holds the
/// optimizer, too.
///
/// # Example
/// ```
/// use maplet_autograd::container::{self, Container};
/// use maplet_train::{FitOptions, ModelCheckpoint};
///
/// let keep_best = ModelCheckpoint::highest("val_accuracy", |model, log| {
///     let mut file = Container::new("weights");
///     file.tensors = container::snapshot(model);
///     Ok(file.save(format!("epoch-{}.maplet", log.epoch))?)
/// });
/// let options = FitOptions::new().validation_split(0.1).callback(keep_best);
/// # let _ = options;
/// ```
pub struct ModelCheckpoint<'a> {
    /// `None` saves every epoch.
    monitor: Option<Monitor>,
    save: Box<Save<'a>>,
}

impl<'a> ModelCheckpoint<'a> {
    /// Saves when a number that should fall is lower than ever: `"val_loss"`.
    pub fn lowest<F>(name: impl Into<String>, save: F) -> Self
    where
        F: FnMut(&dyn Module, &EpochLog) -> Result<(), SaveError> + Send + 'a,
    {
        Self { monitor: Some(Monitor::new(name, false)), save: Box::new(save) }
    }

    /// Saves when a number that should rise is higher than ever: `"val_accuracy"`.
    pub fn highest<F>(name: impl Into<String>, save: F) -> Self
    where
        F: FnMut(&dyn Module, &EpochLog) -> Result<(), SaveError> + Send + 'a,
    {
        Self { monitor: Some(Monitor::new(name, true)), save: Box::new(save) }
    }

    /// Saves after every epoch.
    pub fn every_epoch<F>(save: F) -> Self
    where
        F: FnMut(&dyn Module, &EpochLog) -> Result<(), SaveError> + Send + 'a,
    {
        Self { monitor: None, save: Box::new(save) }
    }
}

impl Callback for ModelCheckpoint<'_> {
    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        if let Some(monitor) = &self.monitor {
            let best = monitor.best("model_checkpoint", context.history)?;
            if best.is_none_or(|(epoch, _)| epoch != context.epoch) {
                return Ok(());
            }
        }
        let Some(log) = context.history.last() else { return Ok(()) };
        (self.save)(context.model, log).map_err(|error| Error::new("model_checkpoint", error.to_string(), ""))
    }
}
