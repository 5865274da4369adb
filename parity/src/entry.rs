//! [`Entry`]: how a thing of the catalogue is built and called here, for a case of its reference file.

use crate::{Case, Error, Result};
use maplet_autograd::container::{restore, snapshot};
use maplet_autograd::{Param, Pass, Var, Visit, params, states};
use maplet_nn_layers::{Module, cast};
use maplet_optim::{Optimizer, Schedule};
use maplet_tensor::{DType, Tensor};
use std::rc::Rc;

/// Results by the names of the reference file: `out.0`, `din.0`, `dparam.weight`, `after.running_mean`.
pub(crate) type Found = Vec<(String, Tensor)>;

type Run = Box<dyn Fn(&Case, DType) -> Result<Found>>;
type Export = Box<dyn Fn(&Case) -> Result<Found>>;
type Build = Rc<dyn Fn(&Case) -> Result<Box<dyn Layer>>>;

/// A thing of the catalogue, and how to run its cases.
pub struct Entry {
    /// As the catalogue calls it.
    pub name: &'static str,
    /// What a reader of the table should know: where we differ, and why.
    pub note: &'static str,
    /// Of F32, relative to the largest element.
    pub(crate) tolerance: f64,
    /// The types it is run in.
    pub(crate) dtypes: &'static [DType],
    pub(crate) run: Run,
    export: Option<Export>,
}

impl Entry {
    fn new(name: &'static str, run: impl Fn(&Case, DType) -> Result<Found> + 'static) -> Self {
        let dtypes = &[DType::F64, DType::F32];
        Self { name, note: "", tolerance: 1e-5, dtypes, run: Box::new(run), export: None }
    }

    /// A layer that maps one tensor to one.
    pub fn layer<M: Module + 'static>(name: &'static str, build: impl Fn(&Case) -> Result<M> + 'static) -> Self {
        Self::layer_with(name, build, |layer: &M, _, x| Ok(vec![layer.forward(&x[0])?]))
    }

    /// Any other layer: `forward(layer, case, inputs)`.
    pub fn layer_with<M: Visit + 'static>(
        name: &'static str,
        build: impl Fn(&Case) -> Result<M> + 'static,
        forward: impl Fn(&M, &Case, &[Var]) -> Result<Vec<Var>> + Clone + 'static,
    ) -> Self {
        Self::any_layer(
            name,
            Rc::new(
                move |case| Ok(Box::new(Built { model: build(case)?, forward: forward.clone() }) as Box<dyn Layer>),
            ),
        )
    }

    /// [`layer_with`](Self::layer_with), compiled once for all layers.
    fn any_layer(name: &'static str, build: Build) -> Self {
        let build_here = build.clone();
        let run = move |case: &Case, dtype| {
            let mut layer = build_here(case)?;
            cast(layer.model_mut(), dtype)?;
            let weights = [case.all("param.", dtype), case.all("state.", dtype)].concat();
            restore(layer.model_mut(), &weights)?;
            let training = case.get_or("training", false)?;
            for _ in 1..case.get_or("steps", 1)? {
                let pass = Pass::train(0);
                let x: Vec<Var> = case.inputs(dtype).into_iter().map(|x| pass.leaf(x)).collect();
                let total = total(case, &layer.forward(case, &x)?)?;
                let total = total.ok_or("a training step has no output with a gradient")?;
                total.backward()?.apply_states(layer.model_mut())?;
            }
            let pass = if training { Pass::train(0) } else { Pass::record() };
            let x = inputs(case, dtype, &pass);
            let y = layer.forward(case, &x)?;
            let mut found = outputs(&y);
            if let Some(total) = total(case, &y)? {
                let grads = total.backward()?;
                found.extend(input_gradients(case, &x, |x| grads.of(x).cloned()));
                for (name, param) in params(layer.model()) {
                    if case.tensor(&format!("dparam.{name}"), dtype).is_some() {
                        let none = || param.value().zeros_like();
                        found.push((format!("dparam.{name}"), grads.of(param).cloned().unwrap_or_else(none)));
                    }
                }
                if training {
                    grads.apply_states(layer.model_mut())?;
                    let states = states(layer.model()).into_iter();
                    found.extend(states.map(|(name, state)| (format!("after.{name}"), state.value().clone())));
                }
            }
            Ok(found)
        };
        let export = move |case: &Case| {
            let layer = build(case)?;
            if params(layer.model()).is_empty() || case.get_or("training", false)? {
                return Ok(Vec::new());
            }
            let x: Vec<Var> = case.inputs(DType::F32).into_iter().map(Var::from).collect();
            let mut found = outputs(&layer.forward(case, &x)?);
            let state = snapshot(layer.model()).into_iter();
            found.extend(state.map(|(name, tensor)| (format!("state.{name}"), tensor)));
            Ok(found)
        };
        Self { export: Some(Box::new(export)), ..Self::new(name, run) }
    }

    /// A function of tensors.
    pub fn function(name: &'static str, function: impl Fn(&Case, &[Var]) -> Result<Vec<Var>> + 'static) -> Self {
        Self::new(name, move |case, dtype| {
            let pass = Pass::record();
            let x = inputs(case, dtype, &pass);
            let y = function(case, &x)?;
            let mut found = outputs(&y);
            if let Some(total) = total(case, &y)? {
                let grads = total.backward()?;
                found.extend(input_gradients(case, &x, |x| grads.of(x).cloned()));
            }
            Ok(found)
        })
    }

    /// An optimizer, which takes the case's steps with the case's gradients.
    pub fn optimizer(name: &'static str, build: impl Fn(&Case) -> Result<Box<dyn Optimizer>> + 'static) -> Self {
        Self::new(name, move |case, dtype| {
            let mut optimizer = build(case)?;
            let mut model: Vec<Param> = Vec::new();
            while let Some(value) = case.tensor(&format!("param.{}", model.len()), dtype) {
                model.push(Param::new(value));
            }
            let mut found = Vec::new();
            for step in 0..case.get("steps")? {
                // The gradient of Σ p · g is g.
                let x = Pass::train(0).input(Tensor::zeros([1], dtype));
                let mut loss = x.sum(.., false)?;
                for (i, param) in model.iter().enumerate() {
                    let grad = case.tensor(&format!("grad.{step}.{i}"), dtype).ok_or("a gradient is missing")?;
                    loss = loss.add(&param.on(&x).mul(&x.constant(grad))?.sum(.., false)?)?;
                }
                optimizer.step(&mut model, &loss.backward()?)?;
                let now = model.iter().enumerate();
                found.extend(now.map(|(i, param)| (format!("out.{step}.{i}"), param.value().clone())));
            }
            Ok(found)
        })
    }

    /// A schedule: the case has `lr` and `out.rates`, the learning rate of each step from 0.
    pub fn schedule(name: &'static str, build: impl Fn(&Case) -> Result<Box<dyn Schedule>> + 'static) -> Self {
        let run = move |case: &Case, _| {
            let schedule = build(case)?;
            schedule.check()?;
            let rate: f64 = case.get("lr")?;
            let steps = case.tensor("out.rates", DType::F64).ok_or("the case has no out.rates")?.len();
            let rates: Vec<f64> = (0..steps as u64).map(|step| rate * schedule.factor(step)).collect();
            Ok(vec![("out.rates".into(), Tensor::from_vec(rates, [steps])?)])
        };
        Self { dtypes: &[DType::F64], ..Self::new(name, run) }
    }

    /// Anything else: results by the names of the reference file.
    pub fn values(name: &'static str, run: impl Fn(&Case, DType) -> Result<Vec<(String, Tensor)>> + 'static) -> Self {
        Self::new(name, run)
    }

    /// A state dict of our own, `state.NAME`, and the outputs with it, `out.0`; nothing for cases in training and for
    /// what has no weights.
    ///
    /// # Errors
    /// The layer cannot be built or called.
    pub fn export(&self, case: &Case) -> Result<Vec<(String, Tensor)>> {
        self.export.as_ref().map_or(Ok(Vec::new()), |export| export(case))
    }

    /// Whether PyTorch can load what we save for this case.
    pub fn saves_weights(&self, case: &Case) -> bool {
        self.export(case).is_ok_and(|found| !found.is_empty())
    }

    /// The tolerance of long recurrences, 1e-4 in F32.
    pub fn long(self) -> Self {
        Self { tolerance: 1e-4, ..self }
    }

    /// Runs in these types only.
    pub fn only(self, dtypes: &'static [DType]) -> Self {
        Self { dtypes, ..self }
    }

    /// What a reader of the table should know.
    pub fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// A layer, and how it is called.
trait Layer {
    fn model(&self) -> &dyn Visit;
    fn model_mut(&mut self) -> &mut dyn Visit;
    fn forward(&self, case: &Case, x: &[Var]) -> Result<Vec<Var>>;
}

struct Built<M, F> {
    model: M,
    forward: F,
}

impl<M: Visit, F: Fn(&M, &Case, &[Var]) -> Result<Vec<Var>>> Layer for Built<M, F> {
    fn model(&self) -> &dyn Visit {
        &self.model
    }

    fn model_mut(&mut self) -> &mut dyn Visit {
        &mut self.model
    }

    fn forward(&self, case: &Case, x: &[Var]) -> Result<Vec<Var>> {
        (self.forward)(&self.model, case, x)
    }
}

/// The case's inputs in a pass; those with a gradient are leaves.
fn inputs(case: &Case, dtype: DType, pass: &Pass) -> Vec<Var> {
    let wanted = |i| case.tensor(&format!("din.{i}"), dtype).is_some();
    let inputs = case.inputs(dtype).into_iter().enumerate();
    inputs.map(|(i, x)| if wanted(i) { pass.leaf(x) } else { pass.input(x) }).collect()
}

fn outputs(y: &[Var]) -> Found {
    y.iter().enumerate().map(|(i, y)| (format!("out.{i}"), y.value().clone())).collect()
}

/// `Σ y · dy` over the outputs that a gradient is sent into.
fn total(case: &Case, y: &[Var]) -> Result<Option<Var>> {
    let mut total: Option<Var> = None;
    for (i, y) in y.iter().enumerate() {
        let Some(dy) = case.tensor(&format!("dy.{i}"), y.dtype()) else { continue };
        let part = y.mul(&y.constant(dy))?.sum(.., false)?;
        total = Some(match total {
            Some(total) => total.add(&part)?,
            None => part,
        });
    }
    Ok::<_, Error>(total)
}

fn input_gradients(case: &Case, x: &[Var], gradient: impl Fn(&Var) -> Option<Tensor>) -> Found {
    let wanted = x.iter().enumerate().filter(|(i, x)| case.tensor(&format!("din.{i}"), x.dtype()).is_some());
    wanted.map(|(i, x)| (format!("din.{i}"), gradient(x).unwrap_or_else(|| x.value().zeros_like()))).collect()
}
