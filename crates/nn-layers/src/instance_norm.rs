//! [`InstanceNorm1d`], [`InstanceNorm2d`] and [`InstanceNorm3d`]: normalization of each channel of each sample.

use crate::norm::{
    bias_on, check_eps, check_momentum, eps, expect_channels, follow, layout, ones, unbiased, weight_on, zeros,
};
use crate::plan::{Draft, Plan, expect_spatial, weight_shape};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result, init};
use maplet_autograd::{Param, State, Var, fields};
use maplet_tensor::{Activation, Shape};
use serde::{Deserialize, Serialize};

/// Normalizes each channel of each sample to mean 0 and variance 1. `D` is the number of axes after the channels: see
/// [`InstanceNorm1d`], [`InstanceNorm2d`], [`InstanceNorm3d`].
///
/// `y = (x − mean) / √(var + eps) · weight + bias`, with the mean and the biased variance over the inner axes. With
/// running statistics, training moves them towards the mean of the samples' (unbiased) statistics, and evaluation uses
/// them, as in batch norm.
///
/// # Shapes
/// - input and output: `[n, channels, ..]` with `D` axes at the end
///
/// # Parameters
/// - none at first; [`affine`](Self::affine) adds `weight: [channels]`, ones, and `bias: [channels]`, zeros
/// - [`running_stats`](Self::running_stats) adds the states `running_mean: [channels]`, zeros, and
///   `running_var: [channels]`, ones
///
/// # Reference
/// Ulyanov, Vedaldi & Lempitsky (2016), "Instance Normalization: The Missing Ingredient for Fast Stylization", eq. 3.
///
/// # Example
/// ```
/// use maplet_nn_layers::{InstanceNorm1d, Module};
/// use maplet_tensor::Tensor;
///
/// let layer = InstanceNorm1d::new(2)?.eps(0.0)?;
/// let y = layer.forward(&Tensor::from([[[1.0f32, 3.0], [20.0, 10.0]]]).into())?;
/// assert_eq!(y.value(), &Tensor::from([[[-1.0f32, 1.0], [1.0, -1.0]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InstanceNorm<const D: usize> {
    /// `[channels]`
    pub weight: Option<Param>,
    /// `[channels]`
    pub bias: Option<Param>,
    /// `[channels]`
    pub running_mean: Option<State>,
    /// `[channels]`
    pub running_var: Option<State>,
    channels: usize,
    momentum: f64,
    eps: f64,
}
fields!([const D: usize] InstanceNorm<D>: weight, bias, running_mean, running_var; channels, momentum, eps);

/// Normalizes each channel of each sequence of `[n, c, l]`.
///
/// PyTorch: `nn.InstanceNorm1d`; Keras: –.
pub type InstanceNorm1d = InstanceNorm<1>;
/// Normalizes each channel of each image of `[n, c, h, w]`.
///
/// PyTorch: `nn.InstanceNorm2d`; Keras: –.
pub type InstanceNorm2d = InstanceNorm<2>;
/// Normalizes each channel of each volume of `[n, c, d, h, w]`.
///
/// PyTorch: `nn.InstanceNorm3d`; Keras: –.
pub type InstanceNorm3d = InstanceNorm<3>;

impl<const D: usize> InstanceNorm<D> {
    /// The default of `momentum`, PyTorch's.
    pub const MOMENTUM: f64 = 0.1;
    const OP: &'static str = ["instance_norm", "instance_norm1d", "instance_norm2d", "instance_norm3d"][D];

    /// A layer for so many channels, with PyTorch's defaults: `eps` 1e-5, no parameters, no running statistics.
    ///
    /// # Errors
    /// No channels, or more than a model can have.
    pub fn new(channels: usize) -> Result<Self> {
        weight_shape(Self::OP, &[("channels", channels)])?;
        Ok(Self {
            weight: None,
            bias: None,
            running_mean: None,
            running_var: None,
            channels,
            momentum: Self::MOMENTUM,
            eps: init::NORM_EPS,
        })
    }

    /// Adds weight and bias: PyTorch's `affine=True`.
    pub fn affine(mut self) -> Self {
        (self.weight, self.bias) = (ones(Shape::from(self.channels)), zeros(Shape::from(self.channels)));
        self
    }

    /// Adds running statistics: PyTorch's `track_running_stats=True`.
    pub fn running_stats(mut self) -> Self {
        self.running_mean = Some(State::new(init::zeros(self.channels)));
        self.running_var = Some(State::new(init::ones(self.channels)));
        self
    }

    /// How far the running statistics move at each step.
    ///
    /// # Errors
    /// A number outside `[0, 1]`.
    pub fn momentum(mut self, momentum: f64) -> Result<Self> {
        check_momentum(Self::OP, momentum)?;
        self.momentum = momentum;
        Ok(self)
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
}

impl<const D: usize> Module for InstanceNorm<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_channels(Self::OP, x, &layout(D), D + 2..=D + 2, self.channels)?;
        let (weight, bias) = (weight_on(&self.weight, x, self.channels)?, bias_on(&self.bias, x, self.channels)?);
        let running = self.running_mean.as_ref().zip(self.running_var.as_ref());
        if let (Some((mean, var)), false) = (running, x.is_training()) {
            return Ok(x.batch_norm_with(&mean.on(x), &var.on(x), &weight, &bias, self.eps, Activation::Identity)?);
        }
        let (shape, n) = (x.shape(), x.shape()[0]);
        if n == 0 {
            return Ok(x.group_norm(self.channels, &weight, &bias, self.eps)?); // empty, with gradients of zero
        }
        let plane = shape[2..].iter().product::<usize>();
        if plane < 2 {
            let what = format!("input {shape} has {plane} elements in a channel");
            return Err(Error::new(Self::OP, what, "a variance needs at least 2"));
        }
        // The batch norm of one sample with n · c channels.
        let channels = n * self.channels;
        let each = |vector: &Var| vector.broadcast_to([n, self.channels])?.reshape(channels);
        let (y, mean, var) = x.reshape([1, channels, plane])?.batch_norm(
            &each(&weight)?,
            &each(&bias)?,
            self.eps,
            Activation::Identity,
        )?;
        if let Some((running_mean, running_var)) = running {
            let mean_of = |x: maplet_tensor::Tensor| x.reshape([n, self.channels])?.mean(0, false);
            follow(running_mean, x, &mean_of(mean)?, self.momentum)?;
            follow(running_var, x, &mean_of(unbiased(&var, plane))?, self.momentum)?;
        }
        Ok(y.reshape(shape)?)
    }
}

/// An [`InstanceNorm`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceNormConfig<const D: usize> {
    /// How far the running statistics move at each step.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Keeps the root away from zero.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Whether there are weight and bias.
    #[serde(default)]
    pub affine: bool,
    /// Whether there are running statistics.
    #[serde(default)]
    pub track_running_stats: bool,
}

impl<const D: usize> Default for InstanceNormConfig<D> {
    fn default() -> Self {
        Self { momentum: momentum(), eps: eps(), affine: false, track_running_stats: false }
    }
}

fn momentum() -> f64 {
    InstanceNorm2d::MOMENTUM
}

impl<const D: usize> InstanceNormConfig<D> {
    fn build(&self, channels: usize) -> Result<InstanceNorm<D>> {
        let layer = InstanceNorm::new(channels)?.eps(self.eps)?.momentum(self.momentum)?;
        let layer = if self.affine { layer.affine() } else { layer };
        Ok(if self.track_running_stats { layer.running_stats() } else { layer })
    }
}

impl<const D: usize> Spec for InstanceNormConfig<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let (op, config) = (InstanceNorm::<D>::OP, self.clone());
        let channels = input.first().map_or("?".into(), usize::to_string);
        Plan::new(format!("InstanceNorm{D}d {channels}"), move || {
            let (channels, _) = expect_spatial::<D>(op, input)?;
            config.build(1)?;
            let channels = weight_shape(op, &[("channels", channels)])?[0];
            let flops = 7 * input.elements() as u64; // as LayerNorm
            let parameters = if config.affine { 2 * channels as u64 } else { 0 };
            Ok(Draft::new(*input, flops).trained(parameters, move |_| config.build(channels)))
        })
    }
}

impl Builder {
    /// [`InstanceNorm1d`] over sequences, without parameters.
    pub fn instance_norm1d(self) -> Self {
        self.step(InstanceNormConfig::<1>::default())
    }

    /// [`InstanceNorm2d`] over images, without parameters.
    pub fn instance_norm2d(self) -> Self {
        self.step(InstanceNormConfig::<2>::default())
    }

    /// [`InstanceNorm3d`] over volumes, without parameters.
    pub fn instance_norm3d(self) -> Self {
        self.step(InstanceNormConfig::<3>::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};

    #[test]
    fn behaves_as_a_module() {
        let rank = "instance_norm2d: expects [n, c, h, w], got [3, 2]; help: reshape or unsqueeze the input";
        let one = "instance_norm2d: input [3, 2, 1, 1] has 1 elements in a channel; help: a variance needs at least 2";
        let channels = "instance_norm2d: input [3, 4, 2, 2] has 4 channels, the layer 2; \
                        help: build the layer for 4 channels";
        let expect = Expect {
            input: &[3, 2, 2, 3],
            output: &[3, 2, 2, 3],
            refuses: &[(&[3, 2], rank), (&[3, 2, 1, 1], one), (&[3, 4, 2, 2], channels)],
            ..Expect::default()
        };
        check_module(&mut InstanceNorm2d::new(2).unwrap(), &expect).unwrap();
        let affine = Expect { parameters: &[("weight", &[2]), ("bias", &[2])], refuses: &[], ..expect };
        check_module(&mut InstanceNorm2d::new(2).unwrap().affine(), &affine).unwrap();
        let running = Expect { states: &[("running_mean", &[2]), ("running_var", &[2])], ..affine };
        check_module(&mut InstanceNorm2d::new(2).unwrap().affine().running_stats(), &running).unwrap();
        let sequences = Expect { input: &[2, 2, 4], output: &[2, 2, 4], ..affine };
        check_module(&mut InstanceNorm1d::new(2).unwrap().affine(), &sequences).unwrap();
        let volumes = Expect { input: &[2, 2, 2, 1, 2], output: &[2, 2, 2, 1, 2], ..affine };
        check_module(&mut InstanceNorm3d::new(2).unwrap().affine(), &volumes).unwrap();
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = |layer: Result<InstanceNorm1d>| layer.err().unwrap().to_string();
        let layer = || InstanceNorm1d::new(1).unwrap();
        assert_eq!(text(InstanceNorm1d::new(0)), "instance_norm1d: channels is 0; help: use 1 or more");
        assert_eq!(text(layer().eps(f64::NAN)), "instance_norm1d: eps is NaN; help: use a small positive number");
        assert_eq!(text(layer().momentum(-0.1)), "instance_norm1d: momentum is -0.1; help: use a number from 0 to 1");
    }
}
