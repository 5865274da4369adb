//! [`Builder`]: a [`Sequential`] that is being put together. The method for a layer stands in the layer's file.

use crate::fusion::Fused;
use crate::module::Layer;
use crate::plan::{Body, Make, Plan};
use crate::reshape::with_batch;
use crate::step::Planner;
use crate::{Custom, Error, Module, Result, Sequential, SequentialConfig, Step};
use maplet_autograd::{Var, params};
use maplet_tensor::{DType, Rng, Shape, Tensor};

/// A [`Sequential`] that is being put together: see [`Sequential::input`].
///
/// No method fails: whatever does not fit is said by [`build`](Self::build).
#[must_use = "nothing is built before build()"]
pub struct Builder {
    input: Shape,
    steps: Vec<NewStep>,
    fused: bool,
    error: Option<Error>,
}

enum NewStep {
    Data(Step),
    Code(String, Box<dyn Layer>),
}

impl Builder {
    pub(crate) fn new(input: Shape) -> Self {
        Self { input, steps: Vec::new(), fused: true, error: None }
    }

    /// Adds a layer by what is written down of it; the builder's methods are shorter.
    pub fn step(mut self, step: impl Into<Step>) -> Self {
        self.steps.push(NewStep::Data(step.into()));
        self
    }

    /// Remembers the first thing that is wrong, for [`build`](Self::build) to say.
    pub(crate) fn fail(mut self, error: Error) -> Self {
        self.error.get_or_insert(error);
        self
    }

    /// Leaves out the bias of the layer just before.
    pub fn no_bias(mut self) -> Self {
        let dropped = match self.steps.last_mut() {
            Some(NewStep::Data(step)) => step.drop_bias(),
            _ => false,
        };
        if dropped {
            return self;
        }
        let what = format!("step {} has no bias to leave out", self.steps.len().saturating_sub(1));
        self.fail(Error::new("no_bias", what, "call it right after a layer that has one"))
    }

    /// Anything of your own. Its output's shape is found by running it on one sample of zeros. Such a model's weights
    /// can be saved; its architecture is code. The module is `Clone`, so that the model is.
    #[allow(clippy::should_implement_trait)] // nobody adds models with +
    pub fn add<M: Module + Clone + 'static>(mut self, module: M) -> Self {
        let name = std::any::type_name::<M>();
        let name = name.split('<').next().and_then(|name| name.rsplit("::").next()).unwrap_or(name);
        self.steps.push(NewStep::Code(name.into(), Box::new(module)));
        self
    }

    /// Runs every layer by itself, never two as one op: what tests compare the fused run with.
    pub fn unfused(mut self) -> Self {
        self.fused = false;
        self
    }

    /// Checks every step, then makes the layers with random weights: the same for the same seed, and those of layer `i`
    /// the same whatever the other layers draw.
    ///
    /// # Errors
    /// The first step that does not fit: `layer 5 (Linear 1600 → 10): …`. No memory is taken before all of them fit.
    pub fn build(self, seed: u64) -> Result<Sequential> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut planner = Planner::new(self.input)?;
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut makes = Vec::<Make>::with_capacity(self.steps.len());
        for step in self.steps {
            match step {
                NewStep::Data(step) => {
                    makes.push(planner.plan(&step)?);
                    steps.push(step);
                }
                NewStep::Code(name, module) => {
                    let plan = Plan { label: name.clone(), body: dry_run(module, &planner.shape()) };
                    makes.push(planner.accept(plan)?);
                    steps.push(Custom { name }.into());
                }
            }
        }
        let rng = Rng::new(seed);
        let make = |(i, make): (usize, Make)| make(&mut rng.fork(i as u64));
        let layers = makes.into_iter().enumerate().map(make).collect::<Result<Vec<_>>>()?;
        let config = SequentialConfig { input_shape: self.input.to_vec(), steps };
        let model = Sequential::assemble(self.input, config, planner.rows, layers);
        Ok(if self.fused { model } else { model.unfused() })
    }
}

/// The output shape of the user's own module, found on one sample of zeros.
fn dry_run(module: Box<dyn Layer>, input: &Shape) -> Result<Body> {
    let zeros = Tensor::zeros(with_batch(1, input)?, DType::F32);
    let shape = module.forward(&Var::from(zeros))?.shape();
    let Some((1, sample)) = shape.split_first() else {
        let what = format!("one sample went in, {shape} came out");
        return Err(Error::new("sequential", what, "keep the batch as axis 0"));
    };
    let parameters = params(&*module).iter().map(|(_, param)| param.value().len() as u64).sum();
    let output = Shape::new(sample)?;
    Ok(Body { output, parameters, flops: None, is_view: false, make: Box::new(move |_| Ok(module)) })
}

/// For each layer that begins a run: how many layers it takes.
pub(crate) fn fused_runs(layers: &[Box<dyn Layer>]) -> Vec<usize> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < layers.len() {
        let run = Fused::of(&layers[start..]).map_or(1, |fused| fused.len());
        runs.push(run);
        start += run;
    }
    runs
}
