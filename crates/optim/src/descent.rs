//! [`Descent`]: what all optimizers share. Groups, clipping, schedule, memory by path, saving; a [`Rule`] does the
//! rest.

use crate::{Error, Group, Optimizer, OptimizerState, Result, Schedule};
use maplet_autograd::{Grads, Param, Tensor, Visit, params_mut};
use std::collections::BTreeMap;

/// How one parameter is updated: what makes an optimizer this one.
pub trait Rule: Send {
    /// `adam`
    const NAME: &'static str;

    /// What it remembers of each parameter: tensors of the parameter's shape, zeros at first, by PyTorch's names.
    fn memory(&self) -> &'static [&'static str];

    /// Whether its own numbers are possible.
    ///
    /// # Errors
    /// One that is not.
    fn check(&self) -> Result<()>;

    /// Updates one parameter, and its memory in the order of [`memory`](Self::memory), in place.
    ///
    /// # Errors
    /// Shapes or types that differ.
    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()>;
}

/// The numbers of one update of one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// After schedule and group.
    pub learning_rate: f64,
    /// The group's.
    pub weight_decay: f64,
    /// The number of this update of this parameter, from 1.
    pub step: u64,
}

/// An optimizer: a [`Rule`], and everything around it.
///
/// Use it by the names of its rules: [`Sgd`](crate::Sgd), [`Adam`](crate::Adam), [`AdamW`](crate::AdamW).
///
/// Numbers are not checked when they are set but by [`Optimizer::check`], which every step calls.
pub struct Descent<R> {
    pub(crate) rule: R,
    learning_rate: f64,
    weight_decay: f64,
    groups: Vec<(Predicate, Group)>,
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    schedule: Option<Box<dyn Schedule>>,
    steps: u64,
    /// By the parameters' paths.
    memory: BTreeMap<String, Memory>,
    /// Whether the memory was loaded, and has not met the model yet.
    loaded: bool,
}

type Predicate = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What is remembered of one parameter.
#[derive(Clone)]
struct Memory {
    /// The updates it had.
    steps: u64,
    tensors: Vec<Tensor>,
}

impl<R: Rule> Descent<R> {
    pub(crate) fn with_rule(rule: R, learning_rate: f64, weight_decay: f64) -> Self {
        Self {
            rule,
            learning_rate,
            weight_decay,
            groups: Vec::new(),
            clip_norm: None,
            clip_value: None,
            schedule: None,
            steps: 0,
            memory: BTreeMap::new(),
            loaded: false,
        }
    }

    /// How strongly parameters are drawn towards zero.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Other numbers for the parameters whose path (`0.weight`) the predicate picks. The first group that picks one
    /// counts.
    ///
    /// ```
    /// use maplet_optim::{AdamW, Group};
    ///
    /// let no_decay = Group::new().weight_decay(0.0);
    /// let adamw = AdamW::new(1e-3).group(|path: &str| path.ends_with("bias"), no_decay);
    /// ```
    pub fn group(mut self, picks: impl Fn(&str) -> bool + Send + Sync + 'static, group: Group) -> Self {
        self.groups.push((Box::new(picks), group));
        self
    }

    /// Scales all gradients down together, so that their Euclidean norm is at most `max`.
    ///
    /// A gradient that is not finite is then an error that names the parameter, before anything is changed.
    ///
    /// # Reference
    /// Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks", algorithm 1.
    pub fn clip_norm(mut self, max: f64) -> Self {
        self.clip_norm = Some(max);
        self
    }

    /// Brings each element of each gradient into `[−max, max]`; before [`clip_norm`](Self::clip_norm), if both are set.
    pub fn clip_value(mut self, max: f64) -> Self {
        self.clip_value = Some(max);
        self
    }

    /// Multiplies the rate with a function of the step.
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.schedule = Some(Box::new(schedule));
        self
    }

    fn factor(&self) -> f64 {
        self.schedule.as_ref().map_or(1.0, |schedule| schedule.factor(self.steps))
    }

    /// Rate and decay for the parameter at `path`.
    fn numbers(&self, path: &str, current_rate: f64) -> (f64, f64) {
        match self.groups.iter().find(|(picks, _)| picks(path)) {
            Some((_, group)) => {
                (current_rate * group.learning_rate_factor, group.weight_decay.unwrap_or(self.weight_decay))
            }
            None => (current_rate, self.weight_decay),
        }
    }

    /// An error unless every remembered tensor is of its parameter's shape and type.
    fn check_memory(&self, params: &[(String, &mut Param)]) -> Result<()> {
        for (path, param) in params {
            let Some(memory) = self.memory.get(path) else { continue };
            for (name, tensor) in self.rule.memory().iter().zip(&memory.tensors) {
                let (there, here) = ((tensor.shape(), tensor.dtype()), (param.shape(), param.dtype()));
                if there != here {
                    let what = format!("`{path}` is {} {}, its {name} {} {}", here.1, here.0, there.1, there.0);
                    return Err(Error::new(R::NAME, what, "load the state of a model of the same sizes"));
                }
            }
        }
        if self.loaded {
            let strange = self.memory.keys().find(|path| !params.iter().any(|(name, _)| name == *path));
            if let Some(path) = strange {
                let what = format!("the loaded state has `{path}`, the model has no such parameter");
                return Err(Error::new(R::NAME, what, "load the state of a model of the same structure"));
            }
        }
        Ok(())
    }

    /// The gradients to use, one for each parameter that is to be updated.
    fn clipped(&self, params: &[(String, &mut Param)], grads: &Grads) -> Result<Vec<Option<Tensor>>> {
        let of = |param: &Param| grads.of(param).filter(|_| param.is_trainable()).cloned();
        let mut clipped: Vec<Option<Tensor>> = params.iter().map(|(_, param)| of(param)).collect();
        if let Some(max) = self.clip_value {
            clipped.iter_mut().flatten().for_each(|grad| *grad = grad.clamp(-max, max));
        }
        if let Some(max) = self.clip_norm {
            let mut squares = 0.0;
            for ((path, _), grad) in params.iter().zip(&clipped) {
                let square = grad.as_ref().map_or(0.0, Tensor::squared_norm);
                if !square.is_finite() {
                    let what = format!("the gradient of `{path}` is not finite");
                    return Err(Error::new(R::NAME, what, "lower the learning rate, or look for the NaN in the data"));
                }
                squares += square;
            }
            let norm = squares.sqrt();
            if norm > max {
                clipped.iter_mut().flatten().for_each(|grad| *grad = grad.mul_scalar(max / norm));
            }
        }
        Ok(clipped)
    }
}

impl<R: Rule> Optimizer for Descent<R> {
    fn step(&mut self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        let rate = self.current_learning_rate();
        let mut params = params_mut(model);
        self.check_memory(&params)?;
        let clipped = self.clipped(&params, grads)?;
        if grads.has_states() {
            grads.apply_states(model)?; // before the update: a pass may have replaced parameters too
            params = params_mut(model);
        }
        for ((path, param), grad) in params.into_iter().zip(clipped) {
            let Some(grad) = grad else { continue };
            let (learning_rate, weight_decay) = self.numbers(&path, rate);
            let param = param.value_mut();
            let fresh =
                || Memory { steps: 0, tensors: self.rule.memory().iter().map(|_| param.zeros_like()).collect() };
            let memory = self.memory.entry(path.clone()).or_insert_with(fresh);
            memory.steps += 1;
            let now = Now { learning_rate, weight_decay, step: memory.steps };
            let result = self.rule.update(param, &grad, &mut memory.tensors, now);
            result.map_err(|error| Error::new(R::NAME, format!("parameter `{path}`: {error}"), ""))?;
        }
        self.steps += 1;
        self.loaded = false;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        const COUNT: &str = "use a finite number, 0 or more";
        let counts = |x: f64| x.is_finite() && x >= 0.0;
        let check = |name: &str, value: f64| Error::unless(counts(value), R::NAME, name, value, COUNT);
        check("learning_rate", self.learning_rate)?;
        check("weight_decay", self.weight_decay)?;
        for (_, group) in &self.groups {
            check("a group's learning_rate_factor", group.learning_rate_factor)?;
            check("a group's weight_decay", group.weight_decay.unwrap_or(0.0))?;
        }
        for (name, max) in [("clip_norm", self.clip_norm), ("clip_value", self.clip_value)] {
            let max = max.unwrap_or(1.0);
            Error::unless(max.is_finite() && max > 0.0, R::NAME, name, max, "use a finite number above 0")?;
        }
        self.schedule.as_ref().map_or(Ok(()), |schedule| schedule.check())?;
        check(&format!("the schedule's factor for step {}", self.steps), self.factor())?;
        self.rule.check()
    }

    fn name(&self) -> &'static str {
        R::NAME
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn current_learning_rate(&self) -> f64 {
        self.learning_rate * self.factor()
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn state(&self) -> OptimizerState {
        let mut tensors = Vec::new();
        for (path, memory) in &self.memory {
            tensors.push((format!("{path}.step"), Tensor::scalar(memory.steps as i64)));
            for (name, tensor) in self.rule.memory().iter().zip(&memory.tensors) {
                tensors.push((format!("{path}.{name}"), tensor.clone()));
            }
        }
        let numbers = vec![("learning_rate".into(), self.learning_rate)];
        OptimizerState { optimizer: R::NAME.into(), step: self.steps, numbers, tensors }
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        if state.optimizer != R::NAME {
            let what = format!("the state is one of `{}`", state.optimizer);
            return Err(Error::new(R::NAME, what, "build the optimizer that was saved"));
        }
        let (memory, rate) = read(&state, self.rule.memory())
            .map_err(|what| Error::new(R::NAME, what, "the state was saved with other options, or is damaged"))?;
        (self.memory, self.learning_rate, self.steps, self.loaded) = (memory, rate, state.step, true);
        Ok(())
    }
}

/// The memory of each parameter, and the base rate; or what is wrong.
fn read(state: &OptimizerState, names: &[&str]) -> Result<(BTreeMap<String, Memory>, f64), String> {
    let mut found: BTreeMap<&str, (Option<u64>, Vec<Option<Tensor>>)> = BTreeMap::new();
    for (name, tensor) in &state.tensors {
        let (path, part) = name.rsplit_once('.').unwrap_or(("", name));
        let (steps, tensors) = found.entry(path).or_insert_with(|| (None, vec![None; names.len()]));
        let twice = match (part, names.iter().position(|name| *name == part)) {
            ("step", _) => {
                let count = tensor.item::<i64>().ok().and_then(|count| u64::try_from(count).ok());
                steps.replace(count.ok_or_else(|| format!("`{name}` is no number of steps"))?).is_some()
            }
            (_, Some(i)) => tensors[i].replace(tensor.clone()).is_some(),
            _ => return Err(format!("the state has `{name}`, which this optimizer does not keep")),
        };
        if twice {
            return Err(format!("the state has `{name}` twice"));
        }
    }
    let mut memory = BTreeMap::new();
    for (path, (steps, tensors)) in found {
        let steps = steps.ok_or_else(|| format!("the state lacks `{path}.step`"))?;
        let parts = names.iter().zip(tensors);
        let parts = parts.map(|(part, tensor)| tensor.ok_or_else(|| format!("the state lacks `{path}.{part}`")));
        memory.insert(path.to_string(), Memory { steps, tensors: parts.collect::<Result<_, _>>()? });
    }
    let rate = state.numbers.iter().find(|(name, _)| name == "learning_rate").map(|(_, rate)| *rate);
    Ok((memory, rate.ok_or("the state lacks the number `learning_rate`")?))
}
