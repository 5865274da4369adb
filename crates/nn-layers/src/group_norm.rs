//! [`GroupNorm`]: normalization of groups of channels.

use crate::norm::{bias_on, check_eps, eps, expect_channels, ones, weight_on, zeros};
use crate::plan::{Draft, Plan, batched, weight_shape};
use crate::step::{Spec, yes};
use crate::{Builder, Error, Module, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Normalizes each group of neighboring channels of each sample to mean 0 and variance 1, then scales and shifts each
/// channel.
///
/// `y = (x − mean) / √(var + eps) · weight + bias`, with the mean and the biased variance over the `channels / groups`
/// channels of a group and all axes after them. One group is layer norm over all of a sample, `channels` groups are
/// instance norm.
///
/// PyTorch: `nn.GroupNorm`; Keras: `GroupNormalization`.
///
/// # Shapes
/// - input and output: `[n, channels, ..]`
///
/// # Parameters
/// - `weight: [channels]`, ones; `bias: [channels]`, zeros; [`without_affine`](Self::without_affine) leaves them out
///
/// # Reference
/// Wu & He (2018), "Group Normalization", eqs. 1–7.
///
/// # Example
/// ```
/// use maplet_nn_layers::{GroupNorm, Module};
/// use maplet_tensor::Tensor;
///
/// let layer = GroupNorm::new(2, 4)?.eps(0.0)?;
/// let y = layer.forward(&Tensor::from([[1.0f32, 3.0, 20.0, 10.0]]).into())?;
/// assert_eq!(y.value(), &Tensor::from([[-1.0f32, 1.0, 1.0, -1.0]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// `[channels]`
    pub weight: Option<Param>,
    /// `[channels]`
    pub bias: Option<Param>,
    groups: usize,
    channels: usize,
    eps: f64,
}
fields!(GroupNorm: weight, bias; groups, channels, eps);

const OP: &str = "group_norm";

impl GroupNorm {
    /// A layer that cuts so many channels into so many groups, with PyTorch's `eps` of 1e-5 (Keras's is 1e-3).
    ///
    /// # Errors
    /// Groups that do not divide the channels, no channels, or more than a model can have.
    pub fn new(groups: usize, channels: usize) -> Result<Self> {
        let shape = weight_shape(OP, &[("channels", channels)])?;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let what = format!("{channels} channels do not divide into {groups} groups");
            return Err(Error::new(OP, what, "use a number of groups that divides the channels"));
        }
        Ok(Self { weight: ones(shape), bias: zeros(shape), groups, channels, eps: init::NORM_EPS })
    }

    /// What keeps the root away from zero.
    ///
    /// # Errors
    /// A negative number.
    pub fn eps(mut self, eps: f64) -> Result<Self> {
        check_eps(OP, eps)?;
        self.eps = eps;
        Ok(self)
    }

    /// Leaves weight and bias out: PyTorch's `affine=False`.
    pub fn without_affine(mut self) -> Self {
        (self.weight, self.bias) = (None, None);
        self
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Var) -> Result<Var> {
        expect_channels(OP, x, "[n, c, ..]", 2..=usize::MAX, self.channels)?;
        let (weight, bias) = (weight_on(&self.weight, x, self.channels)?, bias_on(&self.bias, x, self.channels)?);
        Ok(x.group_norm(self.groups, &weight, &bias, self.eps)?)
    }
}

/// A [`GroupNorm`] in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNormConfig {
    /// How many groups the channels are cut into.
    pub groups: usize,
    /// Keeps the root away from zero.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Whether there are weight and bias.
    #[serde(default = "yes")]
    pub affine: bool,
}

impl GroupNormConfig {
    fn build(&self, channels: usize) -> Result<GroupNorm> {
        let layer = GroupNorm::new(self.groups, channels)?.eps(self.eps)?;
        Ok(if self.affine { layer } else { layer.without_affine() })
    }
}

impl Spec for GroupNormConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let config = self.clone();
        let channels = input.first().map_or("?".into(), usize::to_string);
        Plan::new(format!("GroupNorm {channels}, groups {}", config.groups), move || {
            let Some(&channels) = input.first() else {
                let what = format!("expects [n, c, ..], got {}", batched(input));
                return Err(Error::new(OP, what, "put reshape([1]) before it"));
            };
            config.build(channels)?;
            let flops = 7 * input.elements() as u64; // as LayerNorm
            let parameters = if config.affine { 2 * channels as u64 } else { 0 };
            Ok(Draft::new(*input, flops).trained(parameters, move |_| config.build(channels)))
        })
    }
}

impl Builder {
    /// [`GroupNorm`] with so many groups of the channels.
    pub fn group_norm(self, groups: usize) -> Self {
        self.step(GroupNormConfig { groups, eps: init::NORM_EPS, affine: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};

    #[test]
    fn behaves_as_a_module() {
        let rank = "group_norm: expects [n, c, ..], got [3]; help: reshape or unsqueeze the input";
        let channels = "group_norm: input [3, 5, 2] has 5 channels, the layer 4; help: build the layer for 5 channels";
        let expect = Expect {
            input: &[3, 4, 2, 2],
            output: &[3, 4, 2, 2],
            parameters: &[("weight", &[4]), ("bias", &[4])],
            refuses: &[(&[3], rank), (&[3, 5, 2], channels)],
            ..Expect::default()
        };
        check_module(&mut GroupNorm::new(2, 4).unwrap(), &expect).unwrap();
        let vectors = Expect { input: &[2, 4], output: &[2, 4], parameters: &[], ..expect };
        check_module(&mut GroupNorm::new(1, 4).unwrap().without_affine(), &vectors).unwrap();
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = |groups, channels| GroupNorm::new(groups, channels).err().unwrap().to_string();
        let divide = "group_norm: 4 channels do not divide into 3 groups; \
                      help: use a number of groups that divides the channels";
        assert_eq!(text(3, 4), divide);
        assert_eq!(text(0, 4), divide.replace("3 groups", "0 groups"));
        assert_eq!(text(1, 0), "group_norm: channels is 0; help: use 1 or more");
        let eps = GroupNorm::new(1, 4).unwrap().eps(f64::INFINITY).err().unwrap().to_string();
        assert_eq!(eps, "group_norm: eps is inf; help: use a small positive number");
        let step = Sequential::input([4, 2]).group_norm(3).build(1).err().unwrap().to_string();
        assert_eq!(step, format!("layer 0 (GroupNorm 4, groups 3): {divide}"));
    }
}
