//! [`BatchNorm2d`]: normalization over a batch of images.

use crate::plan::{Draft, Plan, expect_spatial, norm_check};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result, init};
use maplet_autograd::{Param, State, Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Normalizes each channel to mean 0 and variance 1, then scales and shifts it.
///
/// `y = (x − mean) / √(var + eps) · weight + bias`. In training `mean` and (biased) `var` are those of the batch, over
/// all its samples and pixels, and the running statistics take a step towards them:
/// `running = (1 − momentum) · running + momentum · batch`, with the unbiased variance. In evaluation the running
/// statistics stand in for the batch's. New running statistics travel with the pass: the optimizer's step applies them.
///
/// # Shapes
/// - input and output `[n, channels, h, w]`
///
/// # Parameters
/// - `weight: [channels]`, ones; `bias: [channels]`, zeros
/// - states, not trained: `running_mean: [channels]`, zeros; `running_var: [channels]`, ones. PyTorch's third buffer,
///   `num_batches_tracked`, only serves `momentum=None` and is not kept.
///
/// # Reference
/// Ioffe & Szegedy (2015), "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
/// Shift", algorithms 1 and 2; `momentum` is PyTorch's, one minus the paper's and Keras's.
#[derive(Debug, Clone)]
pub struct BatchNorm2d {
    /// `[channels]`
    pub weight: Param,
    /// `[channels]`
    pub bias: Param,
    /// `[channels]`
    pub running_mean: State,
    /// `[channels]`
    pub running_var: State,
    /// How far the running statistics move at each step, 0.1.
    pub momentum: f64,
    /// Keeps the root away from zero, 1e-5.
    pub eps: f64,
}
fields!(BatchNorm2d: weight, bias, running_mean, running_var; momentum, eps);

impl BatchNorm2d {
    /// Its default, PyTorch's.
    pub const MOMENTUM: f64 = 0.1;

    /// A layer for images of so many channels.
    ///
    /// # Errors
    /// No channels, or more than a model can have.
    pub fn new(channels: usize) -> Result<Self> {
        let shape = norm_check("batch_norm2d", "channels", channels, init::NORM_EPS)?;
        Ok(Self {
            weight: Param::new(init::ones(shape)),
            bias: Param::new(init::zeros(shape)),
            running_mean: State::new(init::zeros(shape)),
            running_var: State::new(init::ones(shape)),
            momentum: Self::MOMENTUM,
            eps: init::NORM_EPS,
        })
    }
}

impl Module for BatchNorm2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let [n, _, h, w] = x.dims("batch_norm2d")?;
        let (weight, bias) = (self.weight.on(x), self.bias.on(x));
        if !x.is_training() {
            let (mean, var) = (self.running_mean.on(x), self.running_var.on(x));
            return Ok(x.batch_norm_with(&mean, &var, &weight, &bias, self.eps)?);
        }
        let (y, mean, var) = x.batch_norm(&weight, &bias, self.eps)?;
        let count = n * h * w;
        let unbiased = var.mul_scalar(count as f64 / (count - 1) as f64);
        for (state, batch) in [(&self.running_mean, mean), (&self.running_var, unbiased)] {
            let kept = state.on(x).mul_scalar(1.0 - self.momentum);
            state.update(x, kept.add(&batch.mul_scalar(self.momentum))?)?;
        }
        Ok(y)
    }
}

/// A [`BatchNorm2d`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchNorm2dConfig {
    /// How far the running statistics move at each step.
    pub momentum: f64,
    /// Keeps the root away from zero.
    pub eps: f64,
}

impl Default for BatchNorm2dConfig {
    fn default() -> Self {
        Self { momentum: BatchNorm2d::MOMENTUM, eps: init::NORM_EPS }
    }
}

impl Spec for BatchNorm2dConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { momentum, eps } = *self;
        let channels = if input.rank() == 3 { input[0].to_string() } else { "?".into() };
        Plan::new(format!("BatchNorm2d {channels}"), || {
            let (channels, _) = expect_spatial::<2>("batch_norm2d", input)?;
            norm_check("batch_norm2d", "channels", channels, eps)?;
            if !(0.0..=1.0).contains(&momentum) {
                return Err(Error::new("batch_norm2d", format!("momentum is {momentum}"), "use a number from 0 to 1"));
            }
            let flops = 2 * input.elements() as u64; // in evaluation: one scale, one shift
            Ok(Draft::new(*input, flops).trained(2 * channels as u64, move |_| {
                Ok(BatchNorm2d { momentum, eps, ..BatchNorm2d::new(channels)? })
            }))
        })
    }
}

impl Builder {
    /// [`BatchNorm2d`] over the channels of images.
    pub fn batch_norm2d(self) -> Self {
        self.step(BatchNorm2dConfig::default())
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
        let channels = "batch_norm: the input [3, 4, 2, 2] has 4 features, a parameter is [2]; \
                        help: every parameter must be [4]";
        let rank = "batch_norm2d: expects 4 axes, got [3, 2] with 2; help: reshape or unsqueeze the input";
        let expect = Expect {
            input: &[3, 2, 2, 3],
            output: &[3, 2, 2, 3],
            parameters: &[("weight", &[2]), ("bias", &[2])],
            states: &[("running_mean", &[2]), ("running_var", &[2])],
            refuses: &[(&[3, 4, 2, 2], channels), (&[3, 2], rank)],
        };
        check_module(&mut layer, &expect).unwrap();
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
        assert_eq!(layer.running_mean.value().item::<f32>().unwrap(), 0.0); // a forward pass changes nothing

        let grads = y.sum(.., false).unwrap().backward().unwrap();
        grads.apply_states(&mut layer).unwrap();
        let near = |x: f32, y: f64| assert!((f64::from(x) - y).abs() < 1e-6, "{x} {y}");
        near(layer.running_mean.value().item().unwrap(), 0.1 * 3.0);
        near(layer.running_var.value().item().unwrap(), 0.9 + 0.1 * 14.0 / 3.0);

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
