//! The loop of `fit`: epochs of steps, callbacks at every moment, and what is kept in case something goes wrong.

use crate::checkpoint::{self, Position};
use crate::{Callback, Context, EpochLog, Error, ErrorKind, FitOptions, History, Progress, Result, Trainer};
use maplet_autograd::container;
use maplet_data::{Dataset, Loader};
use maplet_nn_layers::Module;
use maplet_optim::OptimizerState;
use maplet_tensor::{DType, Tensor, par};
use std::time::Instant;

const UNOPTIMIZED: &str = "warning: this build is not optimized, training is many times slower; help: use --release";

/// A training under way.
pub(crate) struct Run<'r, 'o, M> {
    trainer: &'r mut Trainer<M>,
    loader: &'r Loader,
    validation: Option<&'r dyn Dataset>,
    options: FitOptions<'o>,
    history: History,
    at: Position,
    /// When this epoch, or what is left of it, was begun.
    started: Instant,
    /// Why the training is to end before its last epoch.
    stop: Option<String>,
    last_good: Snapshot,
}

impl<'r, 'o, M: Module> Run<'r, 'o, M> {
    pub(crate) fn fit(
        trainer: &'r mut Trainer<M>,
        loader: &'r Loader,
        validation: Option<&'r dyn Dataset>,
        mut options: FitOptions<'o>,
    ) -> Result<History> {
        if loader.is_empty() {
            let what = format!("a batch needs {} samples, there are {}", loader.batch_size(), loader.dataset().len());
            return Err(Error::new("fit", what, "use a smaller batch size, or keep the last batch"));
        }
        let progress = options.progress.take().unwrap_or_else(|| Box::new(Progress::auto()));
        options.callbacks.push(progress);
        (trainer.seed, trainer.watch) = (options.seed, options.detect_anomaly);
        let (history, at, started) = (History::default(), Position::before(1), Instant::now());
        let last_good = Snapshot::of(trainer, "from before the training");
        let threads = options.threads;
        let run = Self { trainer, loader, validation, options, history, at, started, stop: None, last_good };
        in_pool(threads, || run.train())?
    }

    fn train(mut self) -> Result<History> {
        if cfg!(debug_assertions) {
            self.note(UNOPTIMIZED);
        }
        self.find_checkpoint()?;
        self.tell(|callback, context| callback.on_train_begin(context))?;
        self.save()?; // a folder that cannot be written is better known now than after an epoch
        while !self.is_stopped() && self.at.epoch <= self.options.epochs {
            self.epoch()?;
        }
        if let Some(why) = self.stop.clone() {
            self.note(&why);
        }
        self.tell(|callback, context| callback.on_train_end(context))?;
        Ok(History { stopped: self.stop, ..self.history })
    }

    /// One epoch, or what is left of it.
    fn epoch(&mut self) -> Result<()> {
        self.started = Instant::now();
        if self.at.step == 0 {
            self.trainer.metrics.iter_mut().for_each(|metric| metric.reset());
        }
        self.tell(|callback, context| callback.on_epoch_begin(context))?;
        // The order of an epoch's samples follows from its number alone: a resumed epoch skips what it has seen.
        for batch in self.loader.epoch(self.at.epoch as u64 - 1).skip(self.at.step) {
            self.at.step += 1;
            self.tell(|callback, context| callback.on_batch_begin(context))?;
            let step = batch.map_err(Error::from).and_then(|batch| self.trainer.step(&batch));
            let report = step.map_err(|error| self.failed(error))?;
            self.at.add(report);
            self.tell(|callback, context| callback.on_batch_end(context))?;
            if self.is_stopped() {
                self.at.seconds += self.started.elapsed().as_secs_f64();
                return self.save();
            }
        }
        self.end_epoch()
    }

    /// Validates, and writes the epoch down.
    fn end_epoch(&mut self) -> Result<()> {
        let Position { epoch, step: steps, .. } = self.at;
        let seconds = |run: &Self| run.at.seconds + run.started.elapsed().as_secs_f64();
        let step_seconds = seconds(self) / steps as f64;
        let metrics = self.trainer.measured();
        let validation = self.validation.map(|data| self.trainer.evaluate(data)).transpose();
        let log = EpochLog {
            epoch,
            steps,
            loss: self.at.mean_loss(),
            metrics,
            validation: validation.map_err(|error| error.at(format_args!("epoch {epoch}, validation")))?,
            seconds: seconds(self),
            step_seconds,
            learning_rate: self.trainer.optimizer.current_learning_rate(),
        };
        self.history.epochs.push(log);
        self.tell(|callback, context| callback.on_epoch_end(context))?;
        self.at = Position::before(epoch + 1);
        let now = Snapshot::of(self.trainer, format!("of the end of epoch {epoch}"));
        if now.is_finite() {
            self.last_good = now;
        }
        self.save()
    }

    /// Calls every callback at one moment, and shows all of them the notes that it takes.
    fn tell(&mut self, moment: impl Fn(&mut (dyn Callback + 'o), &mut Context<'_>) -> Result<()>) -> Result<()> {
        let mut notes = Vec::new();
        let mut context = Context {
            model: &mut self.trainer.model,
            optimizer: &mut *self.trainer.optimizer,
            history: &self.history,
            epoch: self.at.epoch,
            epochs: self.options.epochs,
            step: self.at.step,
            steps: self.loader.len(),
            loss: self.at.mean_loss(),
            metrics: &self.trainer.metrics,
            seconds_before: self.at.seconds,
            started: self.started,
            stop: &mut self.stop,
            notes: &mut notes,
        };
        for i in 0..self.options.callbacks.len() {
            moment(&mut *self.options.callbacks[i], &mut context)?;
            for text in context.notes.drain(..) {
                self.options.callbacks.iter_mut().for_each(|callback| callback.on_note(&text));
            }
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.options.callbacks.iter_mut().for_each(|callback| callback.on_note(text));
    }

    /// Where the error happened; if the loss is not finite, the last good weights are put back.
    fn failed(&mut self, error: Error) -> Error {
        let error = match error.kind() {
            ErrorKind::NotFinite { loss, .. } => self.last_good.put_back(self.trainer, *loss),
            _ => error,
        };
        error.at(format_args!("epoch {}, step {}", self.at.epoch, self.at.step))
    }

    /// Whether a callback or the signal asks for the end.
    fn is_stopped(&mut self) -> bool {
        if self.options.stop_signal.is_requested() {
            let Position { epoch, step, .. } = self.at;
            self.stop.get_or_insert_with(|| match step {
                0 => format!("stopped before epoch {epoch}"),
                _ => format!("stopped in epoch {epoch}, after step {step}"),
            });
        }
        self.stop.is_some()
    }

    fn save(&mut self) -> Result<()> {
        let Some(path) = &self.options.checkpoint else { return Ok(()) };
        checkpoint::save(path, self.trainer, self.loader, &self.at, &self.history)
    }

    /// Goes on from the checkpoint file if it is there, and if that is what was asked for.
    fn find_checkpoint(&mut self) -> Result<()> {
        let (path, resume) = (self.options.checkpoint.clone(), self.options.resume);
        match path {
            None if resume => {
                let help = "name its file with checkpoint(path)";
                Err(Error::new("fit", "there is no checkpoint to resume from", help))
            }
            Some(path) if resume && path.exists() => {
                (self.at, self.history) = checkpoint::load(&path, self.trainer, self.loader)?;
                self.last_good = Snapshot::of(self.trainer, "of the checkpoint");
                let Position { epoch, step, .. } = self.at;
                self.note(&format!("resumed from {}: epoch {epoch}, step {}", path.display(), step + 1));
                Ok(())
            }
            Some(path) if path.exists() => {
                let what = format!("the checkpoint {} is there already", path.display());
                Err(Error::new("fit", what, "go on from it with resume(), or remove it to begin anew"))
            }
            _ => Ok(()),
        }
    }
}

/// All that a step changes, as it was at one time. Tensors share their memory until one is written, so taking a
/// snapshot is free, and the step after it pays with one copy.
struct Snapshot {
    /// Of when: `of the end of epoch 2`.
    when: String,
    weights: Vec<(String, Tensor)>,
    optimizer: OptimizerState,
    steps: u64,
}

impl Snapshot {
    fn of<M: Module>(trainer: &Trainer<M>, when: impl Into<String>) -> Self {
        let (weights, optimizer) = (container::snapshot(&trainer.model), trainer.optimizer.state());
        Self { when: when.into(), weights, optimizer, steps: trainer.steps }
    }

    fn is_finite(&self) -> bool {
        let finite = |tensor: &Tensor| match tensor.dtype() {
            DType::F32 => tensor.as_slice::<f32>().is_ok_and(|x| x.iter().all(|x| x.is_finite())),
            DType::F64 => tensor.as_slice::<f64>().is_ok_and(|x| x.iter().all(|x| x.is_finite())),
            _ => true,
        };
        self.weights.iter().all(|(_, tensor)| finite(tensor))
    }

    /// Puts everything back after a loss that was not finite, and gives the error that says so.
    fn put_back<M: Module>(&self, trainer: &mut Trainer<M>, loss: f64) -> Error {
        let weights = container::restore(&mut trainer.model, &self.weights).map_err(Error::from);
        let all = weights.and_then(|()| Ok(trainer.optimizer.load_state(self.optimizer.clone())?));
        trainer.steps = self.steps;
        match all {
            Ok(()) => ErrorKind::NotFinite { loss, weights: self.when.clone() }.into(),
            Err(error) => error,
        }
    }
}

/// Runs the whole training inside a thread pool: rayon's own, or one with as many threads as were asked for.
fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R> {
    if threads == 0 {
        return Ok(par::enter(work));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::new("fit", format!("{threads} threads: {error}"), "ask for fewer"))?;
    Ok(pool.install(work))
}
