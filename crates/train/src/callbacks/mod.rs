//! Callbacks: code of the caller's at the moments of a training.

mod context;
mod early_stopping;
mod reduce_lr_on_plateau;
mod average_weights;
mod model_checkpoint;
mod monitor;

pub use average_weights::AverageWeights;
pub use context::Context;
pub use early_stopping::EarlyStopping;
pub use model_checkpoint::ModelCheckpoint;
pub use reduce_lr_on_plateau::ReduceLrOnPlateau;

use crate::Result;

/// Called at the moments of a training, in Keras's words; every method does nothing unless it is written.
///
/// Callbacks are called in the order in which they were given, on a thread of the pool that trains. An error ends the
/// training and comes out of `fit`.
///
/// # Example
/// ```
/// use maplet_train::{Callback, Context, Result};
///
/// /// Halves the learning rate after every tenth epoch.
/// struct Halve;
///
/// impl Callback for Halve {
///     fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
///         if context.epoch % 10 == 0 {
///             let learning_rate = context.optimizer.learning_rate();
///             context.optimizer.set_learning_rate(0.5 * learning_rate);
///         }
///         Ok(())
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait Callback: Send {
    /// Before the first epoch; the history holds the epochs of a training that is resumed.
    ///
    /// # Errors
    /// Whatever should end the training; so for every moment.
    fn on_train_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Before the first step of an epoch.
    fn on_epoch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Before a step.
    fn on_batch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// After a step, with the new weights; `loss` and `metrics()` are means over the epoch so far.
    fn on_batch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// After the last step of an epoch and its validation; the history's last entry is this epoch's. Not called for an
    /// epoch that is stopped in the middle.
    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// After the last epoch, or when the training was stopped; not after an error.
    fn on_train_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Something that people should know: a warning, what a callback did, why the training ends early. Progress
    /// displays show it.
    fn on_note(&mut self, text: &str) {}
}

/// So that the caller can keep a callback and look at it after `fit`.
impl<C: Callback + ?Sized> Callback for &mut C {
    fn on_train_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        (**self).on_train_begin(context)
    }
    fn on_epoch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        (**self).on_epoch_begin(context)
    }
    fn on_batch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        (**self).on_batch_begin(context)
    }
    fn on_batch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        (**self).on_batch_end(context)
    }
    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        (**self).on_epoch_end(context)
    }
    fn on_train_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        (**self).on_train_end(context)
    }
    fn on_note(&mut self, text: &str) {
        (**self).on_note(text);
    }
}
