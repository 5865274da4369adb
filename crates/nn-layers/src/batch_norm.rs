//! [`BatchNorm1d`], [`BatchNorm2d`] and [`BatchNorm3d`]: normalization over a batch.

use crate::freeze::{Graph, Value};
use crate::fusion::{Activates, Part};
use crate::norm::{
    bias_on, check_eps, check_momentum, eps, expect_channels, follow, layout, ones, unbiased, weight_on, zeros,
};
use crate::plan::{Draft, Plan, expect_spatial, weight_shape};
use crate::step::{Spec, yes};
use crate::{Builder, Module, Result, init};
use maplet_autograd::{Param, State, Var, fields};
use maplet_tensor::{Activation, DType, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Normalizes each channel to mean 0 and variance 1, then scales and shifts it. `D` is the number of axes after the
/// channels: see [`BatchNorm1d`], [`BatchNorm2d`], [`BatchNorm3d`].
///
/// `y = (x − mean) / √(var + eps) · weight + bias`. In training `mean` and (biased) `var` are those of the batch, over
/// all its samples and pixels, and the running statistics take a step towards them:
/// `running = (1 − momentum) · running + momentum · batch`, with the unbiased variance. In evaluation the running
/// statistics stand in for the batch's. New running statistics travel with the pass: the optimizer's step applies them.
///
/// # Shapes
/// - input and output: `[n, channels, ..]` with `D` axes at the end; for `D = 1` also `[n, channels]`
///
/// # Parameters
/// - `weight: [channels]`, ones; `bias: [channels]`, zeros; [`without_affine`](Self::without_affine) leaves them out
/// - states, not trained: `running_mean: [channels]`, zeros; `running_var: [channels]`, ones;
///   [`without_running_stats`](Self::without_running_stats) leaves them out
/// - `num_batches_tracked`, a count, only of a [`cumulative`](Self::cumulative) average, which alone needs it. PyTorch
///   writes it always: what is read from its files is passed over where nothing needs it, and PyTorch loads a file
///   without it.
///
/// # Reference
/// Ioffe & Szegedy (2015), "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
/// Shift", algorithms 1 and 2; `momentum` is PyTorch's, one minus the paper's and Keras's.
///
/// # Example
/// ```
/// use maplet_autograd::Pass;
/// use maplet_nn_layers::{BatchNorm1d, Module};
/// use maplet_tensor::Tensor;
///
/// let layer = BatchNorm1d::new(2)?.eps(0.0)?.without_affine();
/// let y = layer.forward(&Pass::train(0).input(Tensor::from([[1.0f32, 5.0], [3.0, 5.5]])))?;
/// assert_eq!(y.value(), &Tensor::from([[-1.0f32, -1.0], [1.0, 1.0]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchNorm<const D: usize> {
    /// `[channels]`
    pub weight: Option<Param>,
    /// `[channels]`
    pub bias: Option<Param>,
    /// `[channels]`
    pub running_mean: Option<State>,
    /// `[channels]`
    pub running_var: Option<State>,
    /// The training passes so far, if the running statistics are the mean of all of them.
    pub num_batches_tracked: Option<State>,
    channels: usize,
    momentum: f64,
    eps: f64,
}
fields!([const D: usize] BatchNorm<D>:
    weight, bias, running_mean, running_var, num_batches_tracked; channels, momentum, eps);

/// Normalizes each feature of vectors `[n, c]`, or each channel of sequences `[n, c, l]`, over the batch.
///
/// PyTorch: `nn.BatchNorm1d`; Keras: `BatchNormalization`.
pub type BatchNorm1d = BatchNorm<1>;
/// Normalizes each channel of images `[n, c, h, w]` over the batch.
///
/// PyTorch: `nn.BatchNorm2d`; Keras: `BatchNormalization`.
pub type BatchNorm2d = BatchNorm<2>;
/// Normalizes each channel of volumes `[n, c, d, h, w]` over the batch.
///
/// PyTorch: `nn.BatchNorm3d`; Keras: `BatchNormalization`.
pub type BatchNorm3d = BatchNorm<3>;

impl<const D: usize> BatchNorm<D> {
    /// The default of `momentum`, PyTorch's.
    pub const MOMENTUM: f64 = 0.1;
    const OP: &'static str = ["batch_norm", "batch_norm1d", "batch_norm2d", "batch_norm3d"][D];
    /// Whether there need not be any axis after the channels.
    const TAKES_VECTORS: bool = D == 1;

    /// A layer for so many channels, with PyTorch's defaults: `momentum` 0.1, `eps` 1e-5.
    ///
    /// # Errors
    /// No channels, or more than a model can have.
    pub fn new(channels: usize) -> Result<Self> {
        let shape = weight_shape(Self::OP, &[("channels", channels)])?;
        Ok(Self {
            weight: ones(shape),
            bias: zeros(shape),
            running_mean: Some(State::new(init::zeros(shape))),
            running_var: Some(State::new(init::ones(shape))),
            num_batches_tracked: None,
            channels,
            momentum: Self::MOMENTUM,
            eps: init::NORM_EPS,
        })
    }

    /// How far the running statistics move at each step.
    ///
    /// # Errors
    /// A number outside `[0, 1]`.
    pub fn momentum(mut self, momentum: f64) -> Result<Self> {
        check_momentum(Self::OP, momentum)?;
        (self.momentum, self.num_batches_tracked) = (momentum, None);
        Ok(self)
    }

    /// Makes the running statistics the mean of all training batches: PyTorch's `momentum=None`.
    pub fn cumulative(mut self) -> Self {
        self.num_batches_tracked = Some(State::new(Tensor::scalar(0i64)));
        self
    }

    /// What keeps the root away from zero.
    ///
    /// # Errors
    /// A negative number.
    pub fn eps(mut self, eps: f64) -> Result<Self> {
        check_eps(Self::OP, eps)?;
        self.eps = eps;
        Ok(self)
    }

    /// Leaves weight and bias out: PyTorch's `affine=False`.
    pub fn without_affine(mut self) -> Self {
        (self.weight, self.bias) = (None, None);
        self
    }

    /// Uses the batch's own statistics in evaluation too: PyTorch's `track_running_stats=False`.
    pub fn without_running_stats(mut self) -> Self {
        (self.running_mean, self.running_var, self.num_batches_tracked) = (None, None, None);
        self
    }

    /// The part of the next step of the running statistics; counts that step.
    fn next_momentum(&self, x: &Var) -> Result<f64> {
        let Some(state) = &self.num_batches_tracked else { return Ok(self.momentum) };
        let count = state.on(x).add_scalar(1.0);
        let momentum = 1.0 / count.item::<i64>()? as f64;
        state.update(x, count)?;
        Ok(momentum)
    }
}

impl<const D: usize> Module for BatchNorm<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.forward_with(x, Activation::Identity)
    }

    fn part(&self) -> Part<'_> {
        Part::BatchNorm(self)
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        let axes = graph.shape(x).rank();
        let (Some(mean), Some(var)) = (&self.running_mean, &self.running_var) else { return Ok(None) };
        if axes != D + 1 && !(Self::TAKES_VECTORS && axes == 1) {
            return Ok(None);
        }
        let double = |param: &Option<Param>| param.as_ref().map(|param| param.value().to_dtype(DType::F64));
        let root = var.value().to_dtype(DType::F64).add_scalar(self.eps).sqrt();
        let scale = double(&self.weight).unwrap_or_else(|| Tensor::ones(root.shape(), DType::F64)).div(&root)?;
        let center = mean.value().to_dtype(DType::F64).mul(&scale)?;
        let shift = double(&self.bias).unwrap_or_else(|| center.zeros_like()).sub(&center)?;
        Ok(graph.scale(x, scale, shift))
    }
}

impl<const D: usize> Activates for BatchNorm<D> {
    fn activated(&self, x: &Var, activation: Activation) -> Result<Var> {
        self.forward_with(x, activation)
    }
}

impl<const D: usize> BatchNorm<D> {
    /// [`forward`](Module::forward), then an activation, in one op.
    ///
    /// # Errors
    /// As `forward`.
    pub fn forward_with(&self, x: &Var, activation: Activation) -> Result<Var> {
        let (least, layout) = if Self::TAKES_VECTORS { (2, "[n, c] or [n, c, l]".into()) } else { (D + 2, layout(D)) };
        expect_channels(Self::OP, x, &layout, least..=D + 2, self.channels)?;
        let (weight, bias) = (weight_on(&self.weight, x, self.channels)?, bias_on(&self.bias, x, self.channels)?);
        let running = self.running_mean.as_ref().zip(self.running_var.as_ref());
        let fixed = match running {
            _ if x.is_empty() => {
                Some([Tensor::zeros, Tensor::ones].map(|of| of(Shape::from(self.channels), x.dtype())))
            }
            Some((mean, var)) if !x.is_training() => Some([mean.on(x), var.on(x)]),
            _ => None,
        };
        if let Some([mean, var]) = fixed {
            return Ok(x.batch_norm_with(&mean, &var, &weight, &bias, self.eps, activation)?);
        }
        let (y, mean, var) = x.batch_norm(&weight, &bias, self.eps, activation)?;
        if let (Some((running_mean, running_var)), true) = (running, x.is_training()) {
            let momentum = self.next_momentum(x)?;
            follow(running_mean, x, &mean, momentum)?;
            follow(running_var, x, &unbiased(&var, x.len() / self.channels), momentum)?;
        }
        Ok(y)
    }
}

/// A [`BatchNorm`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormConfig<const D: usize> {
    /// How far the running statistics move at each step; none for the mean of all training batches.
    #[serde(default = "momentum")]
    pub momentum: Option<f64>,
    /// Keeps the root away from zero.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Whether there are weight and bias.
    #[serde(default = "yes")]
    pub affine: bool,
    /// Whether there are running statistics.
    #[serde(default = "yes")]
    pub track_running_stats: bool,
}

impl<const D: usize> Default for BatchNormConfig<D> {
    fn default() -> Self {
        Self { momentum: momentum(), eps: eps(), affine: true, track_running_stats: true }
    }
}

fn momentum() -> Option<f64> {
    Some(BatchNorm2d::MOMENTUM)
}

impl<const D: usize> BatchNormConfig<D> {
    fn build(&self, channels: usize) -> Result<BatchNorm<D>> {
        let layer = BatchNorm::new(channels)?.eps(self.eps)?;
        let layer = match self.momentum {
            Some(momentum) => layer.momentum(momentum)?,
            None => layer.cumulative(),
        };
        let layer = if self.affine { layer } else { layer.without_affine() };
        Ok(if self.track_running_stats { layer } else { layer.without_running_stats() })
    }
}

impl<const D: usize> Spec for BatchNormConfig<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let (op, config) = (BatchNorm::<D>::OP, self.clone());
        let channels = input.first().map_or("?".into(), usize::to_string);
        Plan::new(format!("BatchNorm{D}d {channels}"), move || {
            let channels = match *input.sizes() {
                [features] if BatchNorm::<D>::TAKES_VECTORS => features,
                _ => expect_spatial::<D>(op, input)?.0,
            };
            config.build(1)?; // every number but the channels
            let channels = weight_shape(op, &[("channels", channels)])?[0];
            let flops = 2 * input.elements() as u64; // in evaluation: one scale, one shift
            let parameters = if config.affine { 2 * channels as u64 } else { 0 };
            Ok(Draft::new(*input, flops).trained(parameters, move |_| config.build(channels)))
        })
    }
}

impl Builder {
    /// [`BatchNorm1d`] over features or the channels of sequences.
    pub fn batch_norm1d(self) -> Self {
        self.step(BatchNormConfig::<1>::default())
    }

    /// [`BatchNorm2d`] over the channels of images.
    pub fn batch_norm2d(self) -> Self {
        self.step(BatchNormConfig::<2>::default())
    }

    /// [`BatchNorm3d`] over the channels of volumes.
    pub fn batch_norm3d(self) -> Self {
        self.step(BatchNormConfig::<3>::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::Tensor;

    #[test]
    fn behaves_as_a_module() {
        let mut layer = BatchNorm2d::new(2).unwrap();
        let channels = "batch_norm2d: input [3, 4, 2, 2] has 4 channels, the layer 2; \
                        help: build the layer for 4 channels";
        let rank = "batch_norm2d: expects [n, c, h, w], got [3, 2]; help: reshape or unsqueeze the input";
        let expect = Expect {
            input: &[3, 2, 2, 3],
            output: &[3, 2, 2, 3],
            parameters: &[("weight", &[2]), ("bias", &[2])],
            states: &[("running_mean", &[2]), ("running_var", &[2])],
            refuses: &[(&[3, 4, 2, 2], channels), (&[3, 2], rank)],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
    }

    #[test]
    fn behaves_as_a_module_with_every_option_and_number_of_axes() {
        let rank = "batch_norm1d: expects [n, c] or [n, c, l], got [3]; help: reshape or unsqueeze the input";
        let refuses: &[(&[usize], &str)] = &[(&[3], rank)];
        let affine: crate::Named<'_> = &[("weight", &[2]), ("bias", &[2])];
        let states: crate::Named<'_> = &[("running_mean", &[2]), ("running_var", &[2])];
        let expect =
            Expect { input: &[3, 2], output: &[3, 2], parameters: affine, states, refuses, ..Expect::default() };
        check_module(&mut BatchNorm1d::new(2).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[3, 2, 5], output: &[3, 2, 5], ..expect };
        let counted: crate::Named<'_> = &[("running_mean", &[2]), ("running_var", &[2]), ("num_batches_tracked", &[])];
        check_module(&mut BatchNorm1d::new(2).unwrap().cumulative(), &Expect { states: counted, ..expect }).unwrap();
        let bare = Expect { parameters: &[], refuses: &[], ..expect };
        check_module(&mut BatchNorm1d::new(2).unwrap().without_affine(), &bare).unwrap();

        let volumes = Expect { input: &[2, 2, 2, 1, 3], output: &[2, 2, 2, 1, 3], refuses: &[], ..expect };
        check_module(&mut BatchNorm3d::new(2).unwrap(), &volumes).unwrap();
        let coupled = Expect { states: &[], coupled: true, ..volumes };
        check_module(&mut BatchNorm3d::new(2).unwrap().without_running_stats(), &coupled).unwrap();
    }

    fn running(state: &Option<State>) -> &Tensor {
        state.as_ref().unwrap().value()
    }

    /// The mean of the means 1 and 5, and of the unbiased variances 2 and 8.
    #[test]
    fn a_cumulative_average_is_the_mean_of_all_batches() {
        let mut layer = BatchNorm1d::new(1).unwrap().cumulative();
        for batch in [[[0.0f32], [2.0]], [[3.0], [7.0]]] {
            let y = layer.forward(&Pass::train(0).leaf(Tensor::from(batch))).unwrap();
            y.sum(.., false).unwrap().backward().unwrap().apply_states(&mut layer).unwrap();
        }
        assert_eq!(running(&layer.running_mean), &Tensor::from([3.0f32]));
        assert_eq!(running(&layer.running_var), &Tensor::from([5.0f32]));
        assert_eq!(running(&layer.num_batches_tracked), &Tensor::scalar(2i64));
    }

    #[test]
    fn an_empty_batch_teaches_nothing() {
        let mut layer = BatchNorm2d::new(3).unwrap();
        let y = layer.forward(&Pass::train(0).leaf(init::zeros([0, 3, 2, 2]))).unwrap();
        assert_eq!(y.shape(), [0, 3, 2, 2].into());
        let grads = y.sum(.., false).unwrap().backward().unwrap();
        grads.apply_states(&mut layer).unwrap();
        assert_eq!(grads.of(layer.weight.as_ref().unwrap()), Some(&init::zeros([3])));
        assert_eq!(running(&layer.running_var), &init::ones([3]));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let layer = || BatchNorm3d::new(1).unwrap();
        let text = |layer: Result<BatchNorm3d>| layer.err().unwrap().to_string();
        let momentum = "batch_norm3d: momentum is 1.5; help: use a number from 0 to 1";
        assert_eq!(text(layer().momentum(1.5)), momentum);
        assert_eq!(text(layer().eps(-1.0)), "batch_norm3d: eps is -1; help: use a small positive number");
        assert_eq!(text(BatchNorm3d::new(0)), "batch_norm3d: channels is 0; help: use 1 or more");
    }

    /// One channel with the values 1, 2, 3, 6: mean 3, biased variance (4 + 1 + 0 + 9) / 4 = 3.5, unbiased 14/3.
    #[test]
    fn normalizes_and_follows_the_batch_as_the_paper_says() {
        let mut layer = BatchNorm2d::new(1).unwrap();
        let x = Tensor::from([[[[1.0f32, 2.0], [3.0, 6.0]]]]);
        let y = layer.forward(&Pass::train(0).leaf(x.clone())).unwrap();
        let normal = |x: f64| ((x - 3.0) / (3.5f64 + 1e-5).sqrt()) as f32;
        for (y, x) in y.value().as_slice::<f32>().unwrap().iter().zip([1.0, 2.0, 3.0, 6.0]) {
            assert!((y - normal(x)).abs() < 4.0 * f32::EPSILON, "{y}"); // a few roundings of numbers near 1
        }
        assert_eq!(running(&layer.running_mean).item::<f32>().unwrap(), 0.0); // a forward pass changes nothing

        let grads = y.sum(.., false).unwrap().backward().unwrap();
        grads.apply_states(&mut layer).unwrap();
        let near = |x: f32, y: f64| assert!((f64::from(x) - y).abs() < 1e-6, "{x} {y}");
        near(running(&layer.running_mean).item().unwrap(), 0.1 * 3.0);
        near(running(&layer.running_var).item().unwrap(), 0.9 + 0.1 * 14.0 / 3.0);

        let y = layer.forward(&x.into()).unwrap(); // evaluation: the running statistics
        let first = (1.0 - 0.3) / (0.9f64 + 1.4 / 3.0 + 1e-5).sqrt();
        near(y.value().as_slice::<f32>().unwrap()[0], first);
    }

    #[test]
    fn one_value_per_channel_has_no_variance() {
        let layer = BatchNorm2d::new(3).unwrap();
        let x = init::zeros([1, 3, 1, 1]);
        let text = layer.forward(&Pass::train(0).input(x.clone())).unwrap_err().to_string();
        let expected = "batch_norm: [1, 3, 1, 1] has 1 elements in a channel; help: train with batches of at least 2";
        assert_eq!(text, expected);
        assert!(layer.forward(&x.into()).is_ok());
        assert_eq!(BatchNorm2d::new(0).err().unwrap().to_string(), "batch_norm2d: channels is 0; help: use 1 or more");
    }
}
