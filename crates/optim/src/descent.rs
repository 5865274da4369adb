//! [`Descent`]: what all optimizers share. Groups, clipping, schedule, memory by path, saving; a [`Rule`] does the
//! rest.

use crate::{Error, Group, Optimizer, OptimizerState, Result, Schedule};
use maplet_autograd::{Grads, Param, Tensor, Visit, params_mut};
use maplet_tensor::Shape;
use maplet_tensor::optim::Now;
use std::collections::BTreeMap;

/// How one parameter is updated: what makes an optimizer this one.
///
/// A rule that looks at one element at a time is a [`OnePass`](maplet_tensor::optim::OnePass) besides, and its
/// [`update`](Self::update) one call of [`Tensor::update`].
///
/// ```
/// use maplet_autograd::{Grads, Param, Tensor};
/// use maplet_optim::{Descent, Now, OnePass, Optimizer, Result, Rule};
/// use maplet_tensor::Float;
///
/// /// Moves by the rate, against the sign of the gradient.
/// #[derive(Clone, Copy)]
/// struct SignSgd;
///
/// impl OnePass<0, 1> for SignSgd {
///     const NAME: &'static str = "sign_sgd";
///     fn numbers(&self, now: Now) -> [f64; 1] {
///         [now.learning_rate]
///     }
///     fn each<T: Float>(self, [rate]: [T; 1], p: T, g: T, []: [T; 0]) -> (T, [T; 0]) {
///         (p - rate * g.signum(), [])
///     }
/// }
///
/// impl Rule for SignSgd {
///     const NAME: &'static str = "sign_sgd";
///     fn memory(&self, _: usize) -> &'static [&'static str] {
///         &[]
///     }
///     fn check(&self) -> Result<()> {
///         Ok(())
///     }
///     fn update(&self, p: &mut Tensor, g: &Tensor, _: &mut [Tensor], now: Now) -> maplet_tensor::Result<()> {
///         p.update(g, [], *self, now)
///     }
/// }
///
/// // Groups, clipping, schedules and saving come with it.
/// let mut sign_sgd = Descent::with_rule(SignSgd, 0.5, 0.0).schedule(|step| 0.5f64.powi(step as i32));
/// let (mut model, mut grads) = ((Param::new(Tensor::from([1.0f32])),), Grads::default());
/// grads.set(&model.0, Tensor::from([-7.0f32]));
/// sign_sgd.step(&mut model, &grads)?;
/// sign_sgd.step(&mut model, &grads)?;
/// assert_eq!(model.0.value(), &Tensor::from([1.75f32]));
/// # Ok::<(), maplet_optim::Error>(())
/// ```
pub trait Rule: Copy + Send {
    /// `adam`
    const NAME: &'static str;

    /// What it remembers of a parameter with so many axes, by PyTorch's names. Parameters with two axes and with more
    /// are the same to it.
    fn memory(&self, rank: usize) -> &'static [&'static str];

    /// The shape of one of these tensors: the parameter's own, unless this says otherwise.
    fn memory_shape(&self, name: &str, param: Shape) -> Shape {
        let _ = name;
        param
    }

    /// What the elements of one of these tensors are before the first update: zeros, unless this says otherwise.
    fn memory_start(&self, name: &str, now: Now) -> f64 {
        let _ = (name, now);
        0.0
    }

    /// Its momentum or β₁, for schedules that change it.
    fn momentum_mut(&mut self) -> Option<&mut f64> {
        None
    }

    /// Whether its own numbers are possible.
    ///
    /// # Errors
    /// One that is not.
    fn check(&self) -> Result<()>;

    /// Whether it can update a parameter of this shape.
    ///
    /// # Errors
    /// What it needs.
    fn check_shape(&self, shape: Shape) -> Result<(), &'static str> {
        let _ = shape;
        Ok(())
    }

    /// Updates one parameter, and its memory in the order of [`memory`](Self::memory), in place.
    ///
    /// # Errors
    /// Shapes or types that differ.
    fn update(&self, param: &mut Tensor, grad: &Tensor, memory: &mut [Tensor], now: Now) -> maplet_tensor::Result<()>;
}

/// The tensors of a parameter's memory, one by one.
pub(crate) fn parts<const N: usize>(memory: &mut [Tensor]) -> [&mut Tensor; N] {
    let memory: &mut [Tensor; N] = memory.try_into().expect("as many tensors as Rule::memory names");
    memory.each_mut()
}

/// An optimizer: a [`Rule`], and everything around it.
///
/// Use it by the names of its rules: [`Sgd`](crate::Sgd), [`Adam`](crate::Adam), [`AdamW`](crate::AdamW) and so on.
///
/// Numbers are not checked when they are set but by [`Optimizer::check`], which every step calls.
pub struct Descent<R> {
    pub(crate) rule: R,
    learning_rate: f64,
    weight_decay: f64,
    groups: Vec<(Predicate, Group)>,
    maximize: bool,
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
    names: &'static [&'static str],
    tensors: Vec<Tensor>,
}

impl<R: Rule> Descent<R> {
    /// An optimizer of this rule, which may be your own.
    pub fn with_rule(rule: R, learning_rate: f64, weight_decay: f64) -> Self {
        Self {
            rule,
            learning_rate,
            weight_decay,
            groups: Vec::new(),
            maximize: false,
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

    /// Goes up instead of down: for a number that should grow.
    pub fn maximize(mut self) -> Self {
        self.maximize = true;
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

    /// Multiplies the rate with a function of the step. A schedule that has a momentum sets that too.
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.schedule = Some(Box::new(schedule));
        self.follow_momentum();
        self
    }

    /// Takes over the schedule's momentum for the next step, if it has one.
    fn follow_momentum(&mut self) {
        let momentum = self.schedule.as_ref().and_then(|schedule| schedule.momentum(self.steps));
        if let (Some(momentum), Some(place)) = (momentum, self.rule.momentum_mut()) {
            *place = momentum;
        }
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

    /// An error unless the rule can update every parameter, and what it remembers fits.
    fn check_params(&self, params: &[(String, &mut Param)]) -> Result<()> {
        for (path, param) in params {
            let (shape, dtype) = (param.shape(), param.dtype());
            if param.is_trainable() {
                self.rule
                    .check_shape(shape)
                    .map_err(|help| Error::new(R::NAME, format!("`{path}` is {shape}"), help))?;
            }
            let Some(memory) = self.memory.get(path) else { continue };
            let names = self.rule.memory(shape.rank());
            if memory.names != names {
                let what = format!("`{path}` is {shape}, its state has {}, not {}", list(memory.names), list(names));
                return Err(Error::new(R::NAME, what, SIZES));
            }
            for (name, tensor) in names.iter().zip(&memory.tensors) {
                let expected = (self.rule.memory_shape(name, shape), dtype);
                if (tensor.shape(), tensor.dtype()) != expected {
                    let there = format!("{} {}", tensor.dtype(), tensor.shape());
                    let what = format!("`{path}` is {dtype} {shape}, its {name} {there}");
                    return Err(Error::new(R::NAME, what, SIZES));
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

    /// The memory of a parameter before its first update.
    fn fresh(rule: &R, param: &Tensor, now: Now) -> Memory {
        let names = rule.memory(param.rank());
        let tensor = |name: &&str| {
            let tensor = Tensor::full(rule.memory_shape(name, param.shape()), rule.memory_start(name, now));
            tensor.to_dtype(param.dtype())
        };
        Memory { steps: 0, names, tensors: names.iter().map(tensor).collect() }
    }

    /// The gradients to use, one for each parameter that is to be updated.
    fn clipped(&self, params: &[(String, &mut Param)], grads: &Grads) -> Result<Vec<Option<Tensor>>> {
        let of = |param: &Param| grads.of(param).filter(|_| param.is_trainable()).cloned();
        let mut clipped: Vec<Option<Tensor>> = params.iter().map(|(_, param)| of(param)).collect();
        if self.maximize {
            clipped.iter_mut().flatten().for_each(|grad| *grad = grad.neg());
        }
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
        self.follow_momentum();
        let rate = self.current_learning_rate();
        let mut params = params_mut(model);
        self.check_params(&params)?;
        let clipped = self.clipped(&params, grads)?;
        if grads.has_states() {
            grads.apply_states(model)?; // before the update: a pass may have replaced parameters too
            params = params_mut(model);
        }
        for ((path, param), grad) in params.into_iter().zip(clipped) {
            let Some(grad) = grad else { continue };
            let (learning_rate, weight_decay) = self.numbers(&path, rate);
            let param = param.value_mut();
            let first = Now { learning_rate, weight_decay, step: 1 };
            let memory = self.memory.entry(path.clone()).or_insert_with(|| Self::fresh(&self.rule, param, first));
            memory.steps += 1;
            let now = Now { step: memory.steps, ..first };
            let result = self.rule.update(param, &grad, &mut memory.tensors, now);
            result.map_err(|error| Error::new(R::NAME, format!("parameter `{path}`: {error}"), ""))?;
        }
        self.steps += 1;
        self.loaded = false;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let check = |name: &str, value: f64| Error::unless_finite(R::NAME, name, value);
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
        let momentum = self.schedule.as_ref().and_then(|schedule| schedule.momentum(self.steps));
        if momentum.is_some() && { self.rule }.momentum_mut().is_none() {
            let what = "the schedule sets a momentum, which this optimizer does not have";
            return Err(Error::new(R::NAME, what, "leave the schedule's momentum out"));
        }
        self.rule.check()
    }

    fn check_step(&self, model: &mut dyn Visit, grads: &Grads) -> Result<()> {
        self.check()?;
        let params = params_mut(model);
        self.check_params(&params)?;
        if self.clip_norm.is_some() { self.clipped(&params, grads).map(drop) } else { Ok(()) }
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
            for (name, tensor) in memory.names.iter().zip(&memory.tensors) {
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
        // What is remembered may depend on the number of axes, which a state does not tell.
        let layouts = [0, 1, 2].map(|rank| self.rule.memory(rank));
        let (memory, rate) = read(&state, &layouts)
            .map_err(|what| Error::new(R::NAME, what, "the state was saved with other options, or is damaged"))?;
        (self.memory, self.learning_rate, self.steps, self.loaded) = (memory, rate, state.step, true);
        Ok(())
    }
}

const SIZES: &str = "load the state of a model of the same sizes";

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// The memory of each parameter, and the base rate; or what is wrong.
fn read(
    state: &OptimizerState,
    layouts: &[&'static [&'static str]],
) -> Result<(BTreeMap<String, Memory>, f64), String> {
    let mut found: BTreeMap<&str, BTreeMap<&str, &Tensor>> = BTreeMap::new();
    for (name, tensor) in &state.tensors {
        let (path, part) = name.rsplit_once('.').unwrap_or(("", name));
        if part != "step" && !layouts.iter().any(|names| names.contains(&part)) {
            return Err(format!("the state has `{name}`, which this optimizer does not keep"));
        }
        if found.entry(path).or_default().insert(part, tensor).is_some() {
            return Err(format!("the state has `{name}` twice"));
        }
    }
    let mut memory = BTreeMap::new();
    for (path, mut parts) in found {
        let steps = parts.remove("step").ok_or_else(|| format!("the state lacks `{path}.step`"))?;
        let steps = steps.item::<i64>().ok().and_then(|count| u64::try_from(count).ok());
        let steps = steps.ok_or_else(|| format!("`{path}.step` is no number of steps"))?;
        let fits = |names: &&&[&str]| names.len() == parts.len() && names.iter().all(|name| parts.contains_key(name));
        let Some(names) = layouts.iter().find(fits) else {
            let near = layouts.iter().find(|names| names.iter().any(|name| parts.contains_key(name)));
            let missing = near.unwrap_or(&layouts[0]).iter().find(|name| !parts.contains_key(*name));
            return Err(missing.map_or_else(
                || format!("the state of `{path}` is of two kinds: {}", list(&parts.into_keys().collect::<Vec<_>>())),
                |name| format!("the state lacks `{path}.{name}`"),
            ));
        };
        let tensors = names.iter().map(|name| parts[name].clone()).collect();
        memory.insert(path.to_string(), Memory { steps, names, tensors });
    }
    let rate = state.numbers.iter().find(|(name, _)| name == "learning_rate").map(|(_, rate)| *rate);
    Ok((memory, rate.ok_or("the state lacks the number `learning_rate`")?))
}
