//! [`Trainer`]: a model together with what trains it. One step is here; the loop around it is in `fit`.

use crate::fit::Run;
use crate::{Error, ErrorKind, Evaluation, FitOptions, History, Metric, Metrics, Result};
use maplet_autograd::{Grads, Pass, Var};
use maplet_data::{Batch, Dataset, Loader};
use maplet_nn_layers::{Loss, Module};
use maplet_optim::{Optimizer, step_closure};
use maplet_tensor::{DType, Rng, Tensor, par};

/// Adds `compile` to every module.
pub trait Compile: Module + Sized {
    /// Joins the model with an optimizer, a loss, and metrics: none `()`, one, a tuple, or a vector of boxes.
    fn compile(
        self,
        optimizer: impl Optimizer + 'static,
        loss: impl Loss + 'static,
        metrics: impl Into<Metrics>,
    ) -> Trainer<Self> {
        Trainer::new(self, Box::new(optimizer), Box::new(loss), metrics.into())
    }
}

impl<M: Module> Compile for M {}

/// A model with its optimizer, its loss and its metrics: fits, evaluates, predicts.
///
/// # Example
/// ```
/// use maplet_data::digits;
/// use maplet_nn_layers::{Sequential, cross_entropy};
/// use maplet_optim::Adam;
/// use maplet_train::{Accuracy, Compile, FitOptions, Progress};
///
/// let model = Sequential::input([1, 28, 28]).flatten().linear(10).build(42)?;
/// let mut trainer = model.compile(Adam::new(1e-2), cross_entropy, Accuracy::new());
/// let history = trainer.fit(&digits(500, 1), FitOptions::new().epochs(3).progress(Progress::none()))?;
/// assert!(history.epochs[2].loss < history.epochs[0].loss);
///
/// let test = trainer.evaluate(&digits(100, 2))?;
/// assert!(test.get("accuracy").is_some_and(|accuracy| accuracy > 0.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<M> {
    pub(crate) model: M,
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) loss: Box<dyn Loss>,
    pub(crate) metrics: Vec<Box<dyn Metric>>,
    /// The random numbers of step `k` come from `(seed, k)` alone: so a step can be replayed, and a training resumed.
    pub(crate) seed: u64,
    /// Steps taken so far.
    pub(crate) steps: u64,
    /// Whether the next step is to be audited.
    audit: bool,
    /// Whether each op is watched for the first NaN.
    pub(crate) watch: bool,
    evaluation_batch_size: usize,
}

/// What one step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The loss before the weights changed.
    pub loss: f64,
    /// The number of samples in the batch.
    pub samples: usize,
}

impl<M: Module> Trainer<M> {
    fn new(model: M, optimizer: Box<dyn Optimizer>, loss: Box<dyn Loss>, Metrics(metrics): Metrics) -> Self {
        let (seed, steps, audit, watch, evaluation_batch_size) = (0, 0, true, false, 32);
        Self { model, optimizer, loss, metrics, seed, steps, audit, watch, evaluation_batch_size }
    }

    /// Trains on a dataset, and says how it went.
    ///
    /// The dataset is cloned once; datasets share their memory, and one of your own can be wrapped in an `Arc`. See
    /// [`FitOptions`] for batches, validation, progress, callbacks, and how to stop and go on.
    ///
    /// # Errors
    /// Options that make no sense, whatever keeps a sample from being read, and everything that a [`step`](Self::step)
    /// refuses, with the epoch and the step. After a loss that is not finite the model holds the weights of the last
    /// good epoch again.
    pub fn fit<D: Dataset + Clone + 'static>(&mut self, data: &D, options: FitOptions<'_>) -> Result<History> {
        let (loader, validation) = options.load(data)?;
        let validation = validation.as_ref().map(|data| data as &dyn Dataset).or(options.validation);
        Run::fit(self, &loader, validation, options)
    }

    /// As [`fit`](Self::fit), on batches of the caller's own making. The options for batch size, shuffling and
    /// prefetching are the loader's business and are not looked at.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn fit_loader(&mut self, loader: &Loader, options: FitOptions<'_>) -> Result<History> {
        if options.validation_split.is_some() {
            let what = "a validation split needs the dataset itself";
            let help = "split it with train_validation_split before making the loader";
            return Err(Error::new("fit_loader", what, help));
        }
        let validation = options.validation;
        Run::fit(self, loader, validation, options)
    }

    /// One step: forward, loss, backward, update. `fit` calls this for each batch, and so may you. An optimizer that
    /// needs the loss more than once a step ([`Lbfgs`](maplet_optim::Lbfgs), [`Sam`](maplet_optim::Sam)) gets it, each
    /// time with the same random numbers.
    ///
    /// The metrics count the batch's outputs. The first step is audited: every trainable parameter must get a gradient.
    ///
    /// # Errors
    /// Shapes that do not fit, in the words of the layer or the loss; a loss that is infinite or NaN; in the first step
    /// a parameter without a gradient. Nothing is changed then, but by an optimizer that takes several steps in one.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let seed = Rng::new(self.seed).fork(self.steps).next_u64();
        let Self { optimizer, model, loss, metrics, audit, watch, .. } = self;
        let mut is_first = true;
        let loss = step_closure(&mut **optimizer, model, |model| {
            let pass = Pass::train(seed); // the same each time: one step has one loss
            let pass = if *audit { pass.audited() } else { pass };
            let pass = if *watch { pass.detect_anomaly() } else { pass };

            let outputs = model.forward(&pass.input(batch.inputs.clone()))?;
            let loss = loss.loss(&outputs, &batch.targets)?;
            pass.anomaly()?;
            let value = number(&loss)?;
            if std::mem::take(&mut is_first) {
                if !value.is_finite() {
                    return Err(ErrorKind::NotFinite { loss: value, weights: "of the step before".into() }.into());
                }
                for metric in &mut *metrics {
                    metric.update(outputs.value(), &batch.targets)?;
                }
            }
            if *audit && !loss.is_recorded() {
                require_gradients(model, &Grads::default())?;
            }
            let grads = loss.backward()?;
            if *audit {
                require_gradients(model, &grads)?;
                *audit = false;
            }
            Ok::<_, Error>((value, grads))
        })?;
        self.steps += 1;
        Ok(StepReport { loss, samples: batch.len() })
    }

    /// Loss and metrics over a whole dataset, with fixed weights.
    ///
    /// # Errors
    /// An empty dataset, whatever keeps a sample from being read, and shapes that do not fit.
    pub fn evaluate(&mut self, data: &dyn Dataset) -> Result<Evaluation> {
        self.evaluate_with(data, &mut [])
    }

    /// As [`evaluate`](Self::evaluate), with more metrics in the same sweep: a confusion matrix, for instance. They
    /// start from zero, and are left to the caller.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_with(&mut self, data: &dyn Dataset, more: &mut [&mut dyn Metric]) -> Result<Evaluation> {
        if data.is_empty() {
            return Err(Error::new("evaluate", "the dataset is empty", ""));
        }
        let mut metrics: Vec<&mut dyn Metric> = Vec::new();
        self.metrics.iter_mut().for_each(|metric| metrics.push(&mut **metric));
        more.iter_mut().for_each(|metric| metrics.push(&mut **metric));
        metrics.iter_mut().for_each(|metric| metric.reset());
        let (model, loss, batch_size) = (&self.model, &*self.loss, self.evaluation_batch_size);
        let loss = par::enter(|| sweep(model, loss, &mut metrics, data, batch_size))?;
        Ok(Evaluation { loss, metrics: self.measured() })
    }

    /// The model's outputs for many inputs, computed in batches.
    ///
    /// # Shapes
    /// - input: `[n, ..]`, output: `[n, ..]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn predict(&self, inputs: &Tensor) -> Result<Tensor> {
        let samples = inputs.size(0)?;
        let (model, batch_size) = (&self.model, self.evaluation_batch_size);
        par::enter(|| {
            let mut outputs = Vec::new();
            for start in (0..samples.max(1)).step_by(batch_size) {
                let batch = inputs.slice(0, start, samples.min(start + batch_size))?;
                outputs.push(model.forward(&Var::from(batch))?.into_value());
            }
            Ok(Tensor::concat(&outputs.iter().collect::<Vec<_>>(), 0)?)
        })
    }

    /// Samples in a batch of `evaluate`, `predict` and validation. Default 32, and at least 1.
    #[must_use]
    pub fn evaluation_batch_size(mut self, batch_size: usize) -> Self {
        self.evaluation_batch_size = batch_size.max(1);
        self
    }

    /// The seed of dropout and whatever else is random in a [`step`](Self::step). `fit` takes it from its options.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Leaves out the audit of the first step: for models that use some parameters only for some inputs.
    #[must_use]
    pub fn without_audit(mut self) -> Self {
        self.audit = false;
        self
    }
}

impl<M> Trainer<M> {
    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, to be changed.
    pub fn model_mut(&mut self) -> &mut M {
        &mut self.model
    }

    /// The model, moved out.
    pub fn into_model(self) -> M {
        self.model
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &dyn Optimizer {
        &*self.optimizer
    }

    /// The optimizer, to be changed.
    pub fn optimizer_mut(&mut self) -> &mut dyn Optimizer {
        &mut *self.optimizer
    }

    /// The metrics; after `step` they hold what was counted since they were last reset.
    pub fn metrics_mut(&mut self) -> &mut [Box<dyn Metric>] {
        &mut self.metrics
    }

    /// The metrics' present values, by name.
    pub(crate) fn measured(&self) -> Vec<(String, f64)> {
        self.metrics.iter().map(|metric| (metric.name().to_string(), metric.result())).collect()
    }

    /// How many steps were taken, by `fit` and by `step`.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// Shows every batch of the data to the metrics, and returns the mean loss of the samples.
fn sweep(
    model: &impl Module,
    loss: &dyn Loss,
    metrics: &mut [&mut dyn Metric],
    data: &dyn Dataset,
    batch_size: usize,
) -> Result<f64> {
    let mut sum = 0.0;
    for start in (0..data.len()).step_by(batch_size) {
        let indices: Vec<usize> = (start..data.len().min(start + batch_size)).collect();
        let batch = data.batch(&indices)?;
        let place = |error: Error| error.at(format_args!("samples {start} to {}", start + indices.len() - 1));
        let outputs = model.forward(&Var::from(&batch.inputs)).map_err(|error| place(error.into()))?;
        let loss = loss.loss(&outputs, &batch.targets).map_err(|error| place(error.into()))?;
        sum += number(&loss)? * indices.len() as f64;
        for metric in &mut *metrics {
            metric.update(outputs.value(), &batch.targets).map_err(place)?;
        }
    }
    Ok(sum / data.len() as f64)
}

/// The one number in a loss.
fn number(loss: &Var) -> Result<f64> {
    Ok(loss.value().to_dtype(DType::F64).item::<f64>()?)
}

/// An error that names every trainable parameter without a gradient.
fn require_gradients(model: &dyn Module, grads: &Grads) -> Result<()> {
    let missing: Vec<String> = grads.missing(model).iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        "audit",
        missing.join(", "),
        "use it on the way to the loss, or freeze it with set_trainable(false)",
    ))
}
