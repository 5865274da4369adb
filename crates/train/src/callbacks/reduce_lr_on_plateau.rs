//! A lower learning rate when a number no longer gets better.

use super::monitor::Monitor;
use super::{Callback, Context};
use crate::Result;
use crate::history::Short;
use maplet_optim::ReduceOnPlateau;

/// Lowers the optimizer's rate when a number of the log has not become better for a while; how, its
/// [`ReduceOnPlateau`] says.
///
/// Everything is read off the history, so a resumed training counts on where the first part ended.
///
/// PyTorch: `optim.lr_scheduler.ReduceLROnPlateau`; Keras: `ReduceLROnPlateau`.
///
/// # Example
/// ```
/// use maplet_optim::ReduceOnPlateau;
/// use maplet_train::{FitOptions, ReduceLrOnPlateau};
///
/// let plateau = ReduceOnPlateau::lowest().factor(0.5).patience(3);
/// let callback = ReduceLrOnPlateau::new("val_loss", plateau);
/// let options = FitOptions::new().epochs(100).validation_split(0.1).callback(callback);
/// # let _ = options;
/// ```
#[doc(alias = "ReduceLROnPlateau")]
#[derive(Clone)]
pub struct ReduceLrOnPlateau {
    monitor: Monitor,
    plateau: ReduceOnPlateau,
}

impl ReduceLrOnPlateau {
    /// Follows this number of the log: `"val_loss"`.
    pub fn new(name: impl Into<String>, plateau: ReduceOnPlateau) -> Self {
        // Which way is better, the plateau knows.
        Self { monitor: Monitor::new(name, false), plateau }
    }
}

impl Callback for ReduceLrOnPlateau {
    fn on_train_begin(&mut self, _: &mut Context<'_>) -> Result<()> {
        Ok(self.plateau.check()?)
    }

    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        let (mut plateau, mut is_time) = (self.plateau, false);
        for log in &context.history.epochs {
            is_time = plateau.is_time(self.monitor.value("reduce_lr_on_plateau", log)?);
        }
        if let Some(rate) = is_time.then(|| plateau.lower(context.optimizer)).flatten() {
            let name = &self.monitor.name;
            context.note(format!("plateau: {name} does not get better, the learning rate is {} now", Short(rate)));
        }
        Ok(())
    }
}
