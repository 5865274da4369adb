//! [`Builder`]: the steps of a [`Sequential`], one method each.

use crate::fusion::Fused;
use crate::plan::{Body, Make, Plan};
use crate::reshape::with_batch;
use crate::step::Planner;
use crate::{BatchNorm2d, Error, Module, Result, Sequential, SequentialConfig, Step, init};
use maplet_autograd::{Var, params};
use maplet_tensor::{DType, Rng, Shape, Sizes, Tensor, Window2d};

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
    Code(String, Box<dyn Module>),
}

impl Builder {
    pub(crate) fn new(input: Shape) -> Self {
        Self { input, steps: Vec::new(), fused: true, error: None }
    }

    pub(crate) fn step(mut self, step: Step) -> Self {
        self.steps.push(NewStep::Data(step));
        self
    }

    /// [`Linear`](crate::Linear) to so many features, on the last axis.
    pub fn linear(self, out_features: usize) -> Self {
        self.step(Step::Linear { out_features, bias: true })
    }

    /// [`Conv2d`](crate::Conv2d) to so many channels: stride 1, no padding.
    pub fn conv2d(self, out_channels: usize, kernel: impl Into<Sizes<2>>) -> Self {
        self.conv2d_with(out_channels, Window2d::new(kernel))
    }

    /// [`Conv2d`](crate::Conv2d) with stride, padding, dilation and groups.
    pub fn conv2d_with(self, out_channels: usize, window: Window2d) -> Self {
        self.step(Step::Conv2d { out_channels, window, bias: true })
    }

    /// Takes the bias from the linear layer or the convolution just before.
    pub fn no_bias(mut self) -> Self {
        match self.steps.last_mut() {
            Some(NewStep::Data(Step::Linear { bias, .. } | Step::Conv2d { bias, .. })) => *bias = false,
            _ => {
                let what = format!("step {} has no bias to leave out", self.steps.len().saturating_sub(1));
                self.error.get_or_insert(Error::new("no_bias", what, "call it right after linear or conv2d"));
            }
        }
        self
    }

    /// [`MaxPool2d`](crate::MaxPool2d) over windows that do not overlap.
    pub fn max_pool2d(self, kernel: impl Into<Sizes<2>>) -> Self {
        self.max_pool2d_with(Window2d::pool(kernel))
    }

    /// [`MaxPool2d`](crate::MaxPool2d) with stride, padding and dilation.
    pub fn max_pool2d_with(self, window: Window2d) -> Self {
        self.step(Step::MaxPool2d { window })
    }

    /// [`AvgPool2d`](crate::AvgPool2d) over windows that do not overlap.
    pub fn avg_pool2d(self, kernel: impl Into<Sizes<2>>) -> Self {
        self.avg_pool2d_with(Window2d::pool(kernel))
    }

    /// [`AvgPool2d`](crate::AvgPool2d) with stride and padding.
    pub fn avg_pool2d_with(self, window: Window2d) -> Self {
        self.step(Step::AvgPool2d { window })
    }

    /// [`Flatten`](crate::Flatten): each sample as one vector.
    pub fn flatten(self) -> Self {
        self.step(Step::Flatten)
    }

    /// [`Reshape`](crate::Reshape): each sample under another shape.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Self {
        self.step(Step::Reshape { shape: shape.into() })
    }

    /// [`Dropout`](crate::Dropout): in training, drops each element with probability `p`.
    pub fn dropout(self, p: f64) -> Self {
        self.step(Step::Dropout { p })
    }

    /// [`BatchNorm2d`](crate::BatchNorm2d) over the channels of images.
    pub fn batch_norm2d(self) -> Self {
        self.step(Step::BatchNorm2d { momentum: BatchNorm2d::MOMENTUM, eps: init::NORM_EPS })
    }

    /// [`LayerNorm`](crate::LayerNorm) over the last axis.
    pub fn layer_norm(self) -> Self {
        self.step(Step::LayerNorm { eps: init::NORM_EPS })
    }

    /// [`Relu`](crate::Relu)
    pub fn relu(self) -> Self {
        self.step(Step::Relu)
    }

    /// [`LeakyRelu`](crate::LeakyRelu)
    pub fn leaky_relu(self, slope: f64) -> Self {
        self.step(Step::LeakyRelu { slope })
    }

    /// [`Sigmoid`](crate::Sigmoid)
    pub fn sigmoid(self) -> Self {
        self.step(Step::Sigmoid)
    }

    /// [`Tanh`](crate::Tanh)
    pub fn tanh(self) -> Self {
        self.step(Step::Tanh)
    }

    /// [`Gelu`](crate::Gelu)
    pub fn gelu(self) -> Self {
        self.step(Step::Gelu)
    }

    /// [`Silu`](crate::Silu)
    pub fn silu(self) -> Self {
        self.step(Step::Silu)
    }

    /// [`Softmax`](crate::Softmax) along an axis of the batch, usually −1. Losses take logits: leave it out for them.
    pub fn softmax(self, axis: isize) -> Self {
        self.step(Step::Softmax { axis })
    }

    /// Anything of your own. Its output's shape is found by running it on one sample of zeros. Such a model's weights
    /// can be saved; its architecture is code.
    #[allow(clippy::should_implement_trait)] // nobody adds models with +
    pub fn add<M: Module + 'static>(mut self, module: M) -> Self {
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
                    steps.push(Step::Custom { name });
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
fn dry_run(module: Box<dyn Module>, input: &Shape) -> Result<Body> {
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
pub(crate) fn fused_runs(layers: &[Box<dyn Module>]) -> Vec<usize> {
    let mut runs = Vec::new();
    let mut start = 0;
    while start < layers.len() {
        let run = Fused::of(&layers[start..]).map_or(1, |fused| fused.len());
        runs.push(run);
        start += run;
    }
    runs
}
