//! Checkpoints: all that a training needs to go on, to the same bits, in one file.

use crate::{Error, History, Result, StepReport, Trainer};
use maplet_autograd::container::{self, Container, codec};
use maplet_data::Loader;
use maplet_nn_layers::Module;
use maplet_optim::OptimizerState;
use maplet_tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::path::Path;

const KIND: &str = "checkpoint";
/// The part of the file that holds a [`Saved`]; the number rises when its fields change.
const PART: &str = "run.v1";

/// How far a training is: so many steps of this epoch are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Counted from 1.
    pub(crate) epoch: usize,
    pub(crate) step: usize,
    /// Sum of the losses of the epoch's samples so far.
    loss: f64,
    samples: usize,
    /// Seconds spent on the epoch so far, when the training was stopped.
    pub(crate) seconds: f64,
}

impl Position {
    /// Before the first step of an epoch.
    pub(crate) fn before(epoch: usize) -> Self {
        Self { epoch, step: 0, loss: 0.0, samples: 0, seconds: 0.0 }
    }

    pub(crate) fn add(&mut self, report: StepReport) {
        self.loss += report.loss * report.samples as f64;
        self.samples += report.samples;
    }

    /// The mean loss of the epoch's samples so far.
    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.samples.max(1) as f64
    }
}

/// What a checkpoint holds beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    data: Data,
    at: Position,
    history: History,
    /// Steps of the trainer.
    steps: u64,
    /// The counts of each metric in the epoch so far.
    metrics: Vec<(String, Vec<u64>)>,
    optimizer: String,
    optimizer_step: u64,
    optimizer_numbers: Vec<(String, f64)>,
}

/// What must be the same when a training goes on.
#[derive(PartialEq, Serialize, Deserialize)]
struct Data {
    samples: usize,
    batch_size: usize,
    seed: u64,
}

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} samples in batches of {} with seed {}", self.samples, self.batch_size, self.seed)
    }
}

impl Data {
    fn of<M>(trainer: &Trainer<M>, loader: &Loader) -> Self {
        Self { samples: loader.samples(), batch_size: loader.batch_size(), seed: trainer.seed }
    }
}

/// Writes everything to the file, or leaves the old one whole.
pub(crate) fn save<M: Module>(
    path: &Path,
    trainer: &Trainer<M>,
    loader: &Loader,
    at: &Position,
    history: &History,
) -> Result<()> {
    let state = trainer.optimizer.state();
    let saved = Saved {
        data: Data::of(trainer, loader),
        at: at.clone(),
        history: history.clone(),
        steps: trainer.steps,
        metrics: trainer.metrics.iter().map(|metric| (metric.name().to_string(), metric.counts())).collect(),
        optimizer: state.optimizer,
        optimizer_step: state.step,
        optimizer_numbers: state.numbers,
    };
    let mut file = Container::new(KIND);
    let saved = codec::encode(&saved).map_err(|what| Error::new("checkpoint", what, ""))?;
    file.meta.insert(PART.into(), saved);
    let named = |part: &str, tensors: Vec<(String, Tensor)>| {
        tensors.into_iter().map(|(name, tensor)| (format!("{part}{name}"), tensor)).collect::<Vec<_>>()
    };
    file.tensors = named("model.", container::snapshot(&trainer.model));
    file.tensors.extend(named("optimizer.", state.tensors));
    Ok(file.save(path)?)
}

/// Brings the trainer to where the file was written, and says where that was.
pub(crate) fn load<M: Module>(path: &Path, trainer: &mut Trainer<M>, loader: &Loader) -> Result<(Position, History)> {
    let file = Container::load(path)?.expect_kind(KIND)?;
    let malformed =
        |what: String| Error::new("resume", format!("{}: {what}", path.display()), "remove it to begin anew");
    let saved: Saved = codec::decode(file.blob(PART)?).map_err(malformed)?;
    if saved.at.epoch != saved.history.epochs.len() + 1 {
        return Err(malformed(format!("epoch {} follows {} epochs", saved.at.epoch, saved.history.epochs.len())));
    }
    let here = Data::of(trainer, loader);
    if saved.data != here {
        let what = format!("{} was written on {}, this training has {here}", path.display(), saved.data);
        return Err(Error::new("resume", what, "use the same data and options, or another checkpoint file"));
    }
    let part = |part: &str| {
        let tensors =
            file.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(part)?.into(), tensor.clone())));
        tensors.collect::<Vec<(String, Tensor)>>()
    };
    let optimizer = OptimizerState {
        optimizer: saved.optimizer,
        step: saved.optimizer_step,
        numbers: saved.optimizer_numbers,
        tensors: part("optimizer."),
    };
    container::restore(&mut trainer.model, &part("model.")).map_err(|error| Error::from(error).at(path.display()))?;
    trainer.optimizer.load_state(optimizer).map_err(|error| Error::from(error).at(path.display()))?;
    for metric in &mut trainer.metrics {
        if let Some((_, counts)) = saved.metrics.iter().find(|(name, _)| name == metric.name()) {
            metric.set_counts(counts);
        }
    }
    trainer.steps = saved.steps;
    Ok((saved.at, saved.history))
}
