//! [`FitOptions`]: how a training is to run.

use crate::{Callback, Error, Result, StopSignal};
use maplet_data::{Dataset, Loader, Subset, train_validation_split};
use std::path::PathBuf;

/// How [`Trainer::fit`](crate::Trainer::fit) runs. Defaults are Keras's: one epoch, batches of 32, shuffled, progress
/// shown.
///
/// # Example
/// ```
/// use maplet_data::digits;
/// use maplet_train::{FitOptions, Progress, StopSignal};
///
/// let test = digits(100, 2);
/// let stop = StopSignal::new();
/// let options = FitOptions::new()
///     .epochs(5)
///     .batch_size(64)
///     .seed(42)
///     .validation(&test)
///     .stop_signal(stop.clone())
///     .progress(Progress::none());
/// # let _ = options;
/// ```
pub struct FitOptions<'a> {
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) shuffle: bool,
    pub(crate) drop_last: bool,
    pub(crate) prefetch: usize,
    pub(crate) validation: Option<&'a dyn Dataset>,
    pub(crate) validation_split: Option<f64>,
    pub(crate) callbacks: Vec<Box<dyn Callback + 'a>>,
    /// `None` stands for `Progress::auto()`.
    pub(crate) progress: Option<Box<dyn Callback + 'a>>,
    pub(crate) threads: usize,
    pub(crate) stop_signal: StopSignal,
    pub(crate) checkpoint: Option<PathBuf>,
    pub(crate) resume: bool,
    pub(crate) detect_anomaly: bool,
}

impl Default for FitOptions<'_> {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 32,
            seed: 0,
            shuffle: true,
            drop_last: false,
            prefetch: 0,
            validation: None,
            validation_split: None,
            callbacks: Vec::new(),
            progress: None,
            threads: 0,
            stop_signal: StopSignal::new(),
            checkpoint: None,
            resume: false,
            detect_anomaly: false,
        }
    }
}

impl<'a> FitOptions<'a> {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often to go through the data. Default 1.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Samples in a step. Default 32.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Determines everything random: the order of the samples, the validation split, dropout. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether each epoch has a random order of its own. Default true.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = shuffle;
        self
    }

    /// Leaves out an epoch's last batch if it is smaller than the others. It is kept by default.
    #[must_use]
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// Reads so many batches ahead in a background thread: for data that must be read or decoded. Default 0, no thread.
    #[must_use]
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = batches;
        self
    }

    /// Measures loss and metrics on this data after each epoch.
    #[must_use]
    pub fn validation(mut self, data: &'a dyn Dataset) -> Self {
        self.validation = Some(data);
        self
    }

    /// Keeps this fraction of the training data, chosen by the seed, for validation. (Keras takes the last samples,
    /// which are all of one class in sorted data.)
    #[must_use]
    pub fn validation_split(mut self, fraction: f64) -> Self {
        self.validation_split = Some(fraction);
        self
    }

    /// Adds a callback, after those that are there already. `&mut callback` keeps it with the caller.
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Shows progress this way. Default [`Progress::auto`](crate::Progress::auto). It is called after all callbacks.
    #[must_use]
    pub fn progress(mut self, progress: impl Callback + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Runs on this many threads. Default 0: on all of rayon's, one for each core. The results do not depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Stops after the current step when this signal is raised.
    #[must_use]
    pub fn stop_signal(mut self, signal: StopSignal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Writes everything that is needed to go on to this file: before the first step, after each epoch, and when the
    /// training is stopped. A crash leaves the last one whole. A file that is there already is not overwritten: that is
    /// an error, unless the training is to [`resume`](Self::resume).
    #[must_use]
    pub fn checkpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(path.into());
        self
    }

    /// Goes on from the checkpoint file if it is there, to the same bits that a training without a break gives. If it
    /// is not there, the training begins anew.
    #[must_use]
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// Watches every op of every step: a training that comes upon a NaN or an infinity ends with the layer and the op
    /// that made the first one, instead of a loss that is NaN. Slower: see [`Pass::detect_anomaly`].
    ///
    /// [`Pass::detect_anomaly`]: maplet_autograd::Pass::detect_anomaly
    #[must_use]
    pub fn detect_anomaly(mut self) -> Self {
        self.detect_anomaly = true;
        self
    }

    /// The batches to train on, and what the split kept for validation.
    pub(crate) fn load<D: Dataset + Clone + 'static>(&self, data: &D) -> Result<(Loader, Option<Subset>)> {
        let loader = |loader: Loader| {
            let loader = if self.shuffle { loader.shuffle(self.seed) } else { loader };
            let loader = if self.drop_last { loader.drop_last() } else { loader };
            loader.prefetch(self.prefetch)
        };
        let Some(fraction) = self.validation_split else {
            return Ok((loader(Loader::new(data.clone(), self.batch_size)?), None));
        };
        if self.validation.is_some() {
            return Err(Error::new("fit", "both validation data and a validation split are given", "give one of them"));
        }
        let (train, validation) = train_validation_split(data.clone(), fraction, self.seed)?;
        Ok((loader(Loader::new(train, self.batch_size)?), Some(validation)))
    }
}
