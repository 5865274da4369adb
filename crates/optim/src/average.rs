//! [`Ema`] and [`Swa`]: averages of a model's weights over its training.

use crate::{Error, OptimizerState, Result};
use maplet_autograd::{Tensor, Visit, container, params};
use std::collections::{BTreeMap, BTreeSet};

/// How much a new value counts in an average: what tells [`Ema`] from [`Swa`].
pub trait Averaging: Copy + Send {
    /// `ema`
    const NAME: &'static str;

    /// The weight of a value that follows `count` others.
    fn weight(&self, count: u64) -> f64;

    /// Whether its own numbers are possible.
    ///
    /// # Errors
    /// One that is not.
    fn check(&self) -> Result<()>;
}

/// Averaged weights beside a model: call [`update`](Self::update) after each step (or epoch), and
/// [`apply`](Self::apply) before the model is used.
///
/// Use it by the names [`Ema`] and [`Swa`].
#[derive(Clone)]
pub struct Averaged<R> {
    rule: R,
    with_states: bool,
    count: u64,
    /// By path; those of states are copies unless `with_states`.
    averages: BTreeMap<String, Tensor>,
}

/// The exponential moving average of the weights: `average = decay · average + (1 − decay) · p`, from the first `p`.
///
/// PyTorch: `optim.swa_utils.get_ema_avg_fn`; Keras: `use_ema`.
///
/// # Reference
/// Polyak & Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Tensor, container};
/// use maplet_optim::Ema;
///
/// let (mut model, mut ema) = ((Param::new(Tensor::from([0.0f32])),), Ema::new(0.75));
/// for x in [0.0f32, 4.0] {
///     model.0.set_value(Tensor::from([x]))?; // a training step
///     ema.update(&model)?;
/// }
/// let own = ema.apply(&mut model)?;
/// assert_eq!(model.0.value(), &Tensor::from([1.0f32]));
/// container::restore(&mut model, &own)?; // and back
/// assert_eq!(model.0.value(), &Tensor::from([4.0f32]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Ema = Averaged<EmaRule>;

/// The mean of the weights at all updates: `average += (p − average) / n`. Update it once an epoch, late in the
/// training, at a high rate.
///
/// PyTorch: `optim.swa_utils.AveragedModel`; Keras: –.
///
/// # Reference
/// Izmailov et al. (2018), "Averaging Weights Leads to Wider Optima and Better Generalization", algorithm 1.
pub type Swa = Averaged<SwaRule>;

/// The rule of [`Ema`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmaRule {
    decay: f64,
}

/// The rule of [`Swa`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwaRule;

impl Averaging for EmaRule {
    const NAME: &'static str = "ema";

    fn weight(&self, _: u64) -> f64 {
        1.0 - self.decay
    }

    fn check(&self) -> Result<()> {
        let fine = (0.0..=1.0).contains(&self.decay);
        Error::unless(fine, Self::NAME, "decay", self.decay, "use a number from 0 to 1")
    }
}

impl Averaging for SwaRule {
    const NAME: &'static str = "swa";

    fn weight(&self, count: u64) -> f64 {
        1.0 / (count + 1) as f64
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Ema {
    /// How much of the average stays, usually 0.999.
    pub fn new(decay: f64) -> Self {
        Self::with_rule(EmaRule { decay })
    }
}

impl Swa {
    /// Averages nothing yet.
    pub fn new() -> Self {
        Self::with_rule(SwaRule)
    }
}

impl Default for Swa {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Averaging> Averaged<R> {
    /// Averages of this rule, which may be your own.
    pub fn with_rule(rule: R) -> Self {
        Self { rule, with_states: false, count: 0, averages: BTreeMap::new() }
    }

    /// Averages running statistics too; otherwise they are the model's last. Then batch norm's no longer fit the
    /// averaged weights, and should be found anew by running data through the model in training mode.
    #[doc(alias = "use_buffers")]
    pub fn with_states(mut self) -> Self {
        self.with_states = true;
        self
    }

    /// How often it was updated.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the model's present weights into the averages; the first time it copies them.
    ///
    /// # Errors
    /// An impossible decay, and a model of another structure than before; nothing is changed then.
    pub fn update<M: Visit + ?Sized>(&mut self, model: &M) -> Result<()> {
        self.rule.check()?;
        let now = container::snapshot(model);
        if self.count == 0 {
            self.averages = now.into_iter().collect();
        } else {
            self.check_model(&now)?;
            let trained: BTreeSet<String> = params(model).into_iter().map(|(path, _)| path).collect();
            let weight = self.rule.weight(self.count);
            for (path, value) in now {
                let Some(average) = self.averages.get_mut(&path) else { continue };
                if value.dtype().is_float() && (self.with_states || trained.contains(&path)) {
                    average.blend(1.0 - weight, &value, weight)?;
                } else {
                    *average = value;
                }
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Gives the model the averages, and returns its own values: [`container::restore`] brings them back.
    ///
    /// # Errors
    /// No averages yet, and a model of another structure; nothing is changed then.
    pub fn apply<M: Visit + ?Sized>(&self, model: &mut M) -> Result<Vec<(String, Tensor)>> {
        if self.count == 0 {
            return Err(Error::new(R::NAME, "there are no averages yet", "call update first"));
        }
        let (own, averages) = (container::snapshot(model), self.averages.clone());
        container::restore(model, &averages.into_iter().collect::<Vec<_>>())?;
        Ok(own)
    }

    /// Everything that changes from update to update.
    pub fn state(&self) -> OptimizerState {
        let tensors = self.averages.clone().into_iter().collect();
        OptimizerState { optimizer: R::NAME.into(), step: self.count, numbers: Vec::new(), tensors }
    }

    /// Goes on from a state, bit for bit.
    ///
    /// # Errors
    /// A state of another kind; nothing is changed then.
    pub fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        if state.optimizer != R::NAME {
            let what = format!("the state is one of `{}`", state.optimizer);
            return Err(Error::new(R::NAME, what, "load the state that was saved"));
        }
        (self.count, self.averages) = (state.step, state.tensors.into_iter().collect());
        Ok(())
    }

    fn check_model(&self, now: &[(String, Tensor)]) -> Result<()> {
        let same = |(path, value): &(String, Tensor)| {
            let before = self.averages.get(path);
            before.is_some_and(|old| (old.shape(), old.dtype()) == (value.shape(), value.dtype()))
        };
        let Some((path, value)) = now.iter().find(|named| !same(named)) else { return Ok(()) };
        let there = self.averages.get(path).map_or("missing".into(), |old| format!("{} {}", old.dtype(), old.shape()));
        let what = format!("`{path}` is {} {}, its average {there}", value.dtype(), value.shape());
        Err(Error::new(R::NAME, what, "update with one model, or begin anew"))
    }
}
