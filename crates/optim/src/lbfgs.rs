//! [`Lbfgs`]: Newton's method with a curvature learned from the last steps.

use crate::objective::{self, needs_loss, number};
use crate::wolfe::{Point, strong_wolfe};
use crate::{Error, Objective, Optimizer, OptimizerState, Result, step_closure, wrapper};
use maplet_autograd::{Grads, Tensor, Var, Visit, params, params_mut};
use std::collections::VecDeque;

/// How [`Lbfgs`] finds the length of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineSearch {
    /// The learning rate is the length.
    Fixed,
    /// The loss is evaluated along the direction until the strong Wolfe conditions hold.
    StrongWolfe,
}

/// Steps along `−H·g`, where `H` approximates the inverse of the Hessian by the last changes of weights and gradients.
/// For whole batches and few parameters: the memory is `2 · history + 4` times the parameters.
///
/// A step is up to `max_iterations` iterations and needs the loss many times, so it takes a closure; a trainer has one.
/// All parameters are one long vector: there are no groups, no clipping and no weight decay. Running statistics are
/// those of a step's first evaluation.
///
/// PyTorch: `optim.LBFGS`; Keras: –.
///
/// # Reference
/// Nocedal (1980), "Updating Quasi-Newton Matrices with Limited Storage"; Nocedal & Wright (2006), "Numerical
/// Optimization", algorithms 7.4 and 3.5, in PyTorch's form and with its constants.
///
/// # Example
/// ```
/// use maplet_autograd::{Param, Pass, Tensor};
/// use maplet_optim::{Lbfgs, LineSearch, Result};
///
/// // Rosenbrock's valley, lowest at (1, 1).
/// let mut model = (Param::new(Tensor::from([-1.5f64])), Param::new(Tensor::from([2.0f64])));
/// let mut lbfgs = Lbfgs::new(1.0).line_search(LineSearch::StrongWolfe);
/// for _ in 0..5 {
///     lbfgs.step(&mut model, |model| -> Result<_> {
///         let one = Pass::train(0).input(Tensor::from([1.0f64]));
///         let (x, y) = (model.0.on(&one), model.1.on(&one));
///         let valley = y.sub(&x.square())?.square().mul_scalar(100.0);
///         Ok(one.sub(&x)?.square().add(&valley)?.sum(.., false)?)
///     })?;
/// }
/// assert!((model.0.value().item::<f64>()? - 1.0).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lbfgs {
    learning_rate: f64,
    max_iterations: usize,
    max_evaluations: Option<usize>,
    tolerance_grad: f64,
    tolerance_change: f64,
    history: usize,
    line_search: LineSearch,
    maximize: bool,
    steps: u64,
    evaluations: u64,
    iterations: u64,
    last: Option<Last>,
    /// The changes of the weights and of the gradients, oldest first.
    pairs: VecDeque<Pair>,
}

/// Of the last iteration.
#[derive(Clone)]
struct Last {
    direction: Tensor,
    length: f64,
    grad: Tensor,
    /// What the Hessian is taken to be without any pairs: a multiple of the identity.
    diagonal: f64,
}

#[derive(Clone)]
struct Pair {
    weights: Tensor,
    grads: Tensor,
    /// `1 / (weights · grads)`
    rho: f64,
}

const NAME: &str = "lbfgs";

impl Lbfgs {
    /// With this rate (PyTorch's is 1), 20 iterations and 25 evaluations a step, a history of 100, tolerances 1e-7 and
    /// 1e-9, no line search.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            max_iterations: 20,
            max_evaluations: None,
            tolerance_grad: 1e-7,
            tolerance_change: 1e-9,
            history: 100,
            line_search: LineSearch::Fixed,
            maximize: false,
            steps: 0,
            evaluations: 0,
            iterations: 0,
            last: None,
            pairs: VecDeque::new(),
        }
    }

    /// The most iterations of one step.
    #[doc(alias = "max_iter")]
    pub fn max_iterations(mut self, iterations: usize) -> Self {
        self.max_iterations = iterations;
        self
    }

    /// The most evaluations of one step, 5/4 of the iterations unless set.
    #[doc(alias = "max_eval")]
    pub fn max_evaluations(mut self, evaluations: usize) -> Self {
        self.max_evaluations = Some(evaluations);
        self
    }

    /// A step ends when no gradient is larger than `grad`, or neither the loss nor any weight changes by `change`.
    pub fn tolerances(mut self, grad: f64, change: f64) -> Self {
        (self.tolerance_grad, self.tolerance_change) = (grad, change);
        self
    }

    /// How many of the last changes are remembered.
    #[doc(alias = "history_size")]
    pub fn history(mut self, pairs: usize) -> Self {
        self.history = pairs;
        self
    }

    /// How the length of a step is found.
    pub fn line_search(mut self, line_search: LineSearch) -> Self {
        self.line_search = line_search;
        self
    }

    /// Goes up instead of down.
    pub fn maximize(mut self) -> Self {
        self.maximize = true;
        self
    }

    /// How often the loss was evaluated, over all steps.
    pub fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// One step of several iterations; the closure gives the loss of the model as it is at that moment. Returns the
    /// first loss.
    ///
    /// # Errors
    /// The closure's, and numbers that are impossible. An error between two iterations leaves the weights of the last.
    pub fn step<M: Visit, E: From<Error>>(
        &mut self,
        model: &mut M,
        loss: impl FnMut(&M) -> Result<Var, E>,
    ) -> Result<f64, E> {
        step_closure(self, model, objective::differentiated(loss))
    }

    /// Begins an iteration: the direction, and the length to try first.
    fn aim(&mut self, grad: &Tensor) -> Result<(Tensor, f64)> {
        let mut length = self.learning_rate;
        match &self.last {
            None => length *= (1.0 / number(&grad.abs().sum(.., false)?)?).min(1.0),
            Some(last) if last.grad.len() != grad.len() => {
                let what = format!("the model has {} trained numbers, the state is of {}", grad.len(), last.grad.len());
                return Err(Error::new(NAME, what, "step the model that it began with"));
            }
            Some(_) => {}
        }
        let direction = direction(&mut self.pairs, self.last.as_mut(), self.history, grad)?;
        let diagonal = self.last.as_ref().map_or(1.0, |last| last.diagonal);
        self.iterations += 1;
        self.last = Some(Last { direction: direction.clone(), length, grad: grad.clone(), diagonal });
        Ok((direction, length))
    }
}

impl Optimizer for Lbfgs {
    fn step(&mut self, _: &mut dyn Visit, _: &Grads) -> Result<()> {
        Err(needs_loss(NAME))
    }

    fn step_with(&mut self, objective: &mut dyn Objective) -> Result<f64> {
        self.check()?;
        let most = self.max_evaluations.unwrap_or(self.max_iterations.saturating_add(self.max_iterations / 4));
        let (maximize, mut evaluations) = (self.maximize, 0);
        let evaluate = |objective: &mut dyn Objective| -> Result<(f64, Tensor, Grads)> {
            let (loss, grads) = objective.evaluate()?;
            let grad = flat_grad(objective.model(), &grads)?;
            Ok(if maximize { (-loss, grad.neg(), grads) } else { (loss, grad, grads) })
        };
        let (first, mut grad, grads) = evaluate(objective)?;
        grads.apply_states(objective.model())?;
        evaluations += 1;
        let mut now = first;
        for iteration in 1..=self.max_iterations {
            if largest(&grad)? <= self.tolerance_grad {
                break;
            }
            let (direction, mut length) = self.aim(&grad)?;
            let (before, slope) = (now, dot(&grad, &direction)?);
            if slope > -self.tolerance_change {
                break;
            }
            if self.line_search == LineSearch::StrongWolfe {
                let (base, start) = (values(objective.model()), Point { t: 0.0, loss: now, grad, slope });
                let at = |t: f64| -> Result<Point> {
                    walk(objective.model(), &direction, t)?;
                    let found = evaluate(objective);
                    restore(objective.model(), &base)?;
                    let (loss, grad, _) = found?;
                    Ok(Point { t, loss, slope: dot(&grad, &direction)?, grad })
                };
                let (longest, left) = (largest(&direction)?, most.saturating_sub(evaluations));
                let (found, count) = strong_wolfe(at, &start, length, longest, self.tolerance_change, left)?;
                (now, grad, length) = (found.loss, found.grad, found.t);
                evaluations += count;
                walk(objective.model(), &direction, length)?;
            } else {
                walk(objective.model(), &direction, length)?;
                if iteration == self.max_iterations {
                    break; // the next step evaluates here
                }
                (now, grad, _) = evaluate(objective)?;
                evaluations += 1;
            }
            if let Some(last) = &mut self.last {
                last.length = length;
            }
            let still = largest(&direction)? * length.abs() <= self.tolerance_change;
            if evaluations >= most || still || (now - before).abs() < self.tolerance_change {
                break;
            }
        }
        self.evaluations += evaluations as u64;
        self.steps += 1;
        Ok(if maximize { -first } else { first })
    }

    fn check(&self) -> Result<()> {
        Error::unless_finite(NAME, "learning_rate", self.learning_rate)?;
        Error::unless_finite(NAME, "tolerance_grad", self.tolerance_grad)?;
        Error::unless_finite(NAME, "tolerance_change", self.tolerance_change)?;
        Error::unless(self.history > 0, NAME, "history", self.history as f64, "remember 1 pair or more")
    }

    fn check_step(&self, _: &mut dyn Visit, _: &Grads) -> Result<()> {
        Err(needs_loss(NAME))
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn current_learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn state(&self) -> OptimizerState {
        let mut numbers = vec![("learning_rate".into(), self.learning_rate)];
        let mut tensors = Vec::new();
        numbers.extend([("func_evals".into(), self.evaluations as f64), ("n_iter".into(), self.iterations as f64)]);
        if let Some(last) = &self.last {
            numbers.extend([("t".into(), last.length), ("H_diag".into(), last.diagonal)]);
            tensors.extend([("d".into(), last.direction.clone()), ("prev_flat_grad".into(), last.grad.clone())]);
        }
        for (i, pair) in self.pairs.iter().enumerate() {
            numbers.push((format!("ro.{i}"), pair.rho));
            tensors.push((format!("old_stps.{i}"), pair.weights.clone()));
            tensors.push((format!("old_dirs.{i}"), pair.grads.clone()));
        }
        OptimizerState { optimizer: NAME.into(), step: self.steps, numbers, tensors }
    }

    fn load_state(&mut self, state: OptimizerState) -> Result<()> {
        if state.optimizer != NAME {
            return Err(wrapper::another(NAME, &state.optimizer));
        }
        let lacks = |name: &str| Error::new(NAME, format!("the state lacks `{name}`"), "it is damaged");
        let number = |name: &str| {
            let found = state.numbers.iter().find(|(other, _)| other == name);
            found.map(|(_, number)| *number).ok_or_else(|| lacks(name))
        };
        let tensor = |name: &str| {
            let found = state.tensors.iter().find(|(other, _)| other == name);
            found.map(|(_, tensor)| tensor.clone()).ok_or_else(|| lacks(name))
        };
        let (rate, evaluations) = (number("learning_rate")?, number("func_evals")? as u64);
        let (iterations, mut last) = (number("n_iter")? as u64, None);
        if iterations > 0 {
            let (direction, grad) = (tensor("d")?, tensor("prev_flat_grad")?);
            last = Some(Last { direction, length: number("t")?, grad, diagonal: number("H_diag")? });
        }
        let count = state.numbers.iter().filter(|(name, _)| name.starts_with("ro.")).count();
        let pair = |i: usize| {
            let (weights, grads) = (tensor(&format!("old_stps.{i}"))?, tensor(&format!("old_dirs.{i}"))?);
            Ok(Pair { weights, grads, rho: number(&format!("ro.{i}"))? })
        };
        let pairs = (0..count).map(pair).collect::<Result<_>>()?;
        (self.learning_rate, self.steps, self.last, self.pairs) = (rate, state.step, last, pairs);
        (self.evaluations, self.iterations) = (evaluations, iterations);
        Ok(())
    }
}

/// `−H·grad`, after the pairs have learned from the last step.
fn direction(pairs: &mut VecDeque<Pair>, last: Option<&mut Last>, history: usize, grad: &Tensor) -> Result<Tensor> {
    let Some(last) = last else { return Ok(grad.neg()) };
    let change = grad.sub(&last.grad)?;
    let weights = last.direction.mul_scalar(last.length);
    let curvature = dot(&change, &weights)?;
    if curvature > 1e-10 {
        if pairs.len() >= history {
            pairs.pop_front();
        }
        last.diagonal = curvature / dot(&change, &change)?;
        pairs.push_back(Pair { weights, grads: change, rho: 1.0 / curvature });
    }
    let mut q = grad.neg();
    let mut shares = Vec::new();
    for pair in pairs.iter().rev() {
        let share = dot(&pair.weights, &q)? * pair.rho;
        q.blend(1.0, &pair.grads, -share)?;
        shares.push(share);
    }
    let mut r = q.mul_scalar(last.diagonal);
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let back = dot(&pair.grads, &r)? * pair.rho;
        r.blend(1.0, &pair.weights, share - back)?;
    }
    Ok(r)
}

/// The gradients of all trained parameters as one vector; zeros where there are none.
fn flat_grad(model: &dyn Visit, grads: &Grads) -> Result<Tensor> {
    let mut parts = Vec::new();
    for (_, param) in params(model).into_iter().filter(|(_, param)| param.is_trainable()) {
        let grad = grads.of(param).cloned().unwrap_or_else(|| param.value().zeros_like());
        parts.push(grad.reshape([grad.len()])?);
    }
    if parts.is_empty() {
        return Err(Error::new(NAME, "the model has no trained parameters", "set some free with set_trainable(true)"));
    }
    Ok(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?)
}

/// Moves all trained parameters by `t · direction`.
fn walk(model: &mut dyn Visit, direction: &Tensor, t: f64) -> Result<()> {
    let mut start = 0;
    for (_, param) in params_mut(model).into_iter().filter(|(_, param)| param.is_trainable()) {
        let (shape, len) = (param.shape(), param.value().len());
        let part = direction.slice(0, start, start + len)?.reshape(shape)?;
        param.value_mut().blend(1.0, &part, t)?;
        start += len;
    }
    Ok(())
}

fn values(model: &dyn Visit) -> Vec<Tensor> {
    params(model).into_iter().map(|(_, param)| param.value().clone()).collect()
}

fn restore(model: &mut dyn Visit, values: &[Tensor]) -> Result<()> {
    for ((_, param), value) in params_mut(model).into_iter().zip(values) {
        param.set_value(value.clone())?;
    }
    Ok(())
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    number(&a.mul(b)?.sum(.., false)?)
}

fn largest(x: &Tensor) -> Result<f64> {
    number(&x.abs().max(.., false)?)
}
