//! compile, fit, evaluate, predict: training with metrics, callbacks and checkpoints.
//!
//! [`Compile`] joins any model with an optimizer, a loss and metrics; the [`Trainer`] it gives does the rest, and the
//! public [`Trainer::step`] is all that `fit` repeats.
//!
//! ```
//! use maplet_data::digits;
//! use maplet_nn_layers::{Sequential, cross_entropy};
//! use maplet_optim::Adam;
//! use maplet_train::{Accuracy, Compile, ConfusionMatrix, EarlyStopping, FitOptions, Progress, TopK};
//!
//! let (train, test) = (digits(600, 1), digits(100, 2));
//! let model = Sequential::input([1, 28, 28]).flatten().linear(32).relu().linear(10).build(42)?;
//! let mut trainer = model.compile(Adam::new(1e-3), cross_entropy, (Accuracy::new(), TopK::new(3)));
//!
//! let options = FitOptions::new()
//!     .epochs(5)
//!     .seed(42)
//!     .validation_split(0.1)
//!     .callback(EarlyStopping::lowest("val_loss").patience(2).restore_best())
//!     .progress(Progress::none()); // the default shows a bar on a terminal, and a line an epoch elsewhere
//! let history = trainer.fit(&train, options)?;
//! assert!(history.get("loss").len() <= 5);
//!
//! let mut matrix = ConfusionMatrix::new();
//! let result = trainer.evaluate_with(&test, &mut [&mut matrix])?;
//! println!("{result}\n{matrix}"); // loss: … - accuracy: … - top_3_accuracy: …
//! # assert!(result.get("accuracy").is_some_and(|accuracy| accuracy > 0.3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A training is a pure function of the model, the data and the seed: the same bits with any number of threads, and
//! with any number of breaks, since a checkpoint ([`FitOptions::checkpoint`]) holds everything that is needed to go on,
//! in the middle of an epoch too. [`StopSignal::on_ctrl_c`] makes such a break out of Ctrl-C. A loss that is not finite
//! ends `fit` with an error that names the step, and the weights of the last good epoch.
//!
//! This crate knows nothing of architectures and file formats of models.

#![forbid(unsafe_code)]

mod trainer;
mod fit;
mod options;
mod history;
mod checkpoint;
mod stop;
mod callbacks;
mod progress;
mod metrics;
mod error;

pub use callbacks::{AverageWeights, Callback, Context, EarlyStopping, ModelCheckpoint, ReduceLrOnPlateau};
pub use error::{Error, ErrorKind, Result};
pub use history::{EpochLog, Evaluation, History};
pub use metrics::{Accuracy, Average, ConfusionMatrix, F1, Metric, Metrics, Precision, Recall, TopK};
pub use options::FitOptions;
pub use progress::Progress;
pub use stop::StopSignal;
pub use trainer::{Compile, StepReport, Trainer};
