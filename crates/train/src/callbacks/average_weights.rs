//! Averages of the weights, taken along the way.

use super::{Callback, Context};
use crate::Result;
use maplet_optim::{Averaged, Averaging};

/// Keeps an [`Ema`](maplet_optim::Ema) or [`Swa`](maplet_optim::Swa) up to date, which stays with the caller.
///
/// The model trains on with its own weights. The averages are not part of a checkpoint: save their state to go on with
/// them.
///
/// PyTorch: –; Keras: `SwapEMAWeights`.
///
/// # Example
/// ```
/// use maplet_data::digits;
/// use maplet_nn_layers::{Sequential, cross_entropy};
/// use maplet_optim::{Adam, Ema};
/// use maplet_train::{AverageWeights, Compile, FitOptions, Progress};
///
/// let model = Sequential::input([1, 28, 28]).flatten().linear(10).build(42)?;
/// let (mut trainer, mut ema) = (model.compile(Adam::new(1e-2), cross_entropy, ()), Ema::new(0.9));
/// let options = FitOptions::new().callback(AverageWeights::every_step(&mut ema)).progress(Progress::none());
/// trainer.fit(&digits(100, 1), options)?;
/// ema.apply(trainer.model_mut())?; // now the model has the averages
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AverageWeights<'a, R> {
    averages: &'a mut Averaged<R>,
    every_step: bool,
    from: usize,
}

impl<'a, R: Averaging> AverageWeights<'a, R> {
    /// Updates the averages after each step.
    pub fn every_step(averages: &'a mut Averaged<R>) -> Self {
        Self { averages, every_step: true, from: 1 }
    }

    /// Updates the averages after each epoch.
    pub fn every_epoch(averages: &'a mut Averaged<R>) -> Self {
        Self { averages, every_step: false, from: 1 }
    }

    /// Begins in this epoch, counted from 1.
    #[must_use]
    pub fn from(mut self, epoch: usize) -> Self {
        self.from = epoch;
        self
    }

    fn update(&mut self, is_time: bool, context: &Context<'_>) -> Result<()> {
        if is_time && context.epoch >= self.from {
            self.averages.update(&*context.model)?;
        }
        Ok(())
    }
}

impl<R: Averaging> Callback for AverageWeights<'_, R> {
    fn on_batch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.update(self.every_step, context)
    }

    fn on_epoch_end(&mut self, context: &mut Context<'_>) -> Result<()> {
        self.update(!self.every_step, context)
    }
}
