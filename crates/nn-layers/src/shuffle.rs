//! [`PixelShuffle`], [`PixelUnshuffle`] and [`ChannelShuffle`]: channels to places, places to channels, channels among
//! each other. No number changes.

use crate::plan::{Draft, Plan, expect_spatial};
use crate::reshape::{batch, with_batch};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Makes an image larger out of its channels: `r²` channels become the `r × r` pixels in the place of one.
///
/// PyTorch: `nn.PixelShuffle`; Keras: `ops.nn.depth_to_space`.
///
/// # Shapes
/// - input `[n, c·r², h, w]`, output `[n, c, h·r, w·r]`
///
/// # Reference
/// Shi et al. (2016), "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
/// Neural Network", eq. 4.
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::{Module, PixelShuffle};
///
/// let x = Tensor::from([[[[1.0f32]], [[2.0]], [[3.0]], [[4.0]]]]).into();
/// let y = PixelShuffle::new(2)?.forward(&x)?;
/// assert_eq!(y.value(), &Tensor::from([[[[1.0f32, 2.0], [3.0, 4.0]]]]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelShuffle {
    upscale_factor: usize,
}
fields!(PixelShuffle: ; upscale_factor);

/// Makes an image smaller and keeps everything: `r × r` pixels become `r²` channels. The inverse of [`PixelShuffle`].
///
/// PyTorch: `nn.PixelUnshuffle`; Keras: `ops.nn.space_to_depth`.
///
/// # Shapes
/// - input `[n, c, h·r, w·r]`, output `[n, c·r², h, w]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelUnshuffle {
    downscale_factor: usize,
}
fields!(PixelUnshuffle: ; downscale_factor);

/// Deals the channels of each group to all groups, so that grouped convolutions see each other's results.
///
/// PyTorch: `nn.ChannelShuffle`; Keras: –.
///
/// # Shapes
/// - input `[n, c, ..]`, output the same
///
/// # Reference
/// Zhang, Zhou, Lin & Sun (2018), "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
/// §3.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelShuffle {
    groups: usize,
}
fields!(ChannelShuffle: ; groups);

impl PixelShuffle {
    /// How many times larger each side becomes.
    ///
    /// # Errors
    /// A factor of 0.
    pub fn new(upscale_factor: usize) -> Result<Self> {
        positive("pixel_shuffle", "upscale_factor", upscale_factor)?;
        Ok(Self { upscale_factor })
    }

    fn output(&self, sample: &Shape) -> Result<Shape> {
        let (channels, [h, w]) = expect_spatial::<2>("pixel_shuffle", sample)?;
        let factor = self.upscale_factor;
        let places = factor.saturating_mul(factor);
        divides("pixel_shuffle", "channels", channels, places)?;
        Ok(Shape::new(&[channels / places, h.saturating_mul(factor), w.saturating_mul(factor)])?)
    }
}

impl Module for PixelShuffle {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, sample) = batch("pixel_shuffle", x)?;
        let output = self.output(&sample)?;
        let (r, [c, h, w]) = (self.upscale_factor, [output[0], sample[1], sample[2]]);
        let y = x.reshape([n, c, r, r, h, w])?.permute(&[0, 1, 4, 2, 5, 3])?;
        Ok(y.reshape(with_batch(n, &output)?)?)
    }
}

impl Spec for PixelShuffle {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("PixelShuffle {}", self.upscale_factor), || {
            let layer = Self::new(self.upscale_factor)?;
            Ok(Draft::new(layer.output(input)?, 0).fixed(layer))
        })
    }
}

impl PixelUnshuffle {
    /// How many times smaller each side becomes.
    ///
    /// # Errors
    /// A factor of 0.
    pub fn new(downscale_factor: usize) -> Result<Self> {
        positive("pixel_unshuffle", "downscale_factor", downscale_factor)?;
        Ok(Self { downscale_factor })
    }

    fn output(&self, sample: &Shape) -> Result<Shape> {
        let (channels, [h, w]) = expect_spatial::<2>("pixel_unshuffle", sample)?;
        let factor = self.downscale_factor;
        divides("pixel_unshuffle", "rows", h, factor)?;
        divides("pixel_unshuffle", "columns", w, factor)?;
        let channels = channels.saturating_mul(factor).saturating_mul(factor);
        Ok(Shape::new(&[channels, h / factor, w / factor])?)
    }
}

impl Module for PixelUnshuffle {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, sample) = batch("pixel_unshuffle", x)?;
        let output = self.output(&sample)?;
        let (r, [c, h, w]) = (self.downscale_factor, [sample[0], output[1], output[2]]);
        let y = x.reshape([n, c, h, r, w, r])?.permute(&[0, 1, 3, 5, 2, 4])?;
        Ok(y.reshape(with_batch(n, &output)?)?)
    }
}

impl Spec for PixelUnshuffle {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("PixelUnshuffle {}", self.downscale_factor), || {
            let layer = Self::new(self.downscale_factor)?;
            Ok(Draft::new(layer.output(input)?, 0).fixed(layer))
        })
    }
}

impl ChannelShuffle {
    /// The number of groups.
    ///
    /// # Errors
    /// No groups.
    pub fn new(groups: usize) -> Result<Self> {
        positive("channel_shuffle", "groups", groups)?;
        Ok(Self { groups })
    }

    /// Channels in a group.
    fn per_group(&self, sample: &Shape) -> Result<usize> {
        let Some(&channels) = sample.first() else {
            return Err(Error::new("channel_shuffle", "expects [n, c, ..], got [n]", "put reshape([1]) before it"));
        };
        divides("channel_shuffle", "channels", channels, self.groups)?;
        Ok(channels / self.groups)
    }
}

impl Module for ChannelShuffle {
    fn forward(&self, x: &Var) -> Result<Var> {
        let (n, sample) = batch("channel_shuffle", x)?;
        let per_group = self.per_group(&sample)?;
        let inner = sample[1..].iter().product();
        let y = x.reshape([n, self.groups, per_group, inner])?.transpose(1, 2)?;
        Ok(y.reshape(x.shape())?)
    }
}

impl Spec for ChannelShuffle {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new(format!("ChannelShuffle {}", self.groups), || {
            let layer = Self::new(self.groups)?;
            layer.per_group(input)?;
            Ok(Draft::new(*input, 0).fixed(layer))
        })
    }
}

impl Builder {
    /// [`PixelShuffle`]: images so many times larger, out of their channels.
    pub fn pixel_shuffle(self, upscale_factor: usize) -> Self {
        self.step(PixelShuffle { upscale_factor })
    }

    /// [`PixelUnshuffle`]: images so many times smaller, with more channels.
    pub fn pixel_unshuffle(self, downscale_factor: usize) -> Self {
        self.step(PixelUnshuffle { downscale_factor })
    }

    /// [`ChannelShuffle`]: the channels of each group dealt to all groups.
    pub fn channel_shuffle(self, groups: usize) -> Self {
        self.step(ChannelShuffle { groups })
    }
}

fn positive(op: &'static str, name: &str, value: usize) -> Result<()> {
    match value {
        0 => Err(Error::new(op, format!("{name} is 0"), "use 1 or more")),
        _ => Ok(()),
    }
}

fn divides(op: &'static str, name: &str, size: usize, by: usize) -> Result<()> {
    match size % by {
        0 => Ok(()),
        _ => Err(Error::new(op, format!("{size} {name} do not divide by {by}"), format!("use a multiple of {by}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behave_as_modules() {
        let expect = Expect { input: &[2, 18, 2, 1], output: &[2, 2, 6, 3], ..Expect::default() };
        check_module(&mut PixelShuffle::new(3).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 2, 6, 3], output: &[2, 18, 2, 1], ..expect };
        check_module(&mut PixelUnshuffle::new(3).unwrap(), &expect).unwrap();
        let expect = Expect { input: &[2, 6, 2], output: &[2, 6, 2], ..expect };
        check_module(&mut ChannelShuffle::new(3).unwrap(), &expect).unwrap();
    }

    #[test]
    fn channels_are_dealt() {
        let x = Tensor::arange(0.0f32, 6.0, 1.0).unwrap().reshape([1, 6]).unwrap();
        let y = ChannelShuffle::new(2).unwrap().forward(&x.into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0]])); // the paper's figure 1, for 2 groups of 3
    }

    #[test]
    fn are_steps_and_undo_each_other() {
        let model =
            Sequential::input([8, 2, 3]).pixel_shuffle(2).pixel_unshuffle(2).channel_shuffle(2).channel_shuffle(4);
        let model = model.build(1).unwrap();
        let rows: Vec<_> = model.rows().iter().map(|row| (&*row.label, row.output)).collect();
        assert_eq!(rows[0], ("PixelShuffle 2", Shape::from([2, 4, 6])));
        assert_eq!(rows[1], ("PixelUnshuffle 2", Shape::from([8, 2, 3])));
        assert_eq!(rows[2].0, "ChannelShuffle 2");
        let x = Tensor::arange(0.0f32, 48.0, 1.0).unwrap().reshape([1, 8, 2, 3]).unwrap();
        assert_eq!(model.forward(&x.clone().into()).unwrap().value(), &x);
    }

    #[test]
    fn misfits_are_explained() {
        let x = Var::from(Tensor::zeros([1, 6, 4, 4], DType::F32));
        let text = |layer: &dyn Module| layer.forward(&x).unwrap_err().to_string();
        let expected = "pixel_shuffle: 6 channels do not divide by 4; help: use a multiple of 4";
        assert_eq!(text(&PixelShuffle::new(2).unwrap()), expected);
        let expected = "pixel_unshuffle: 4 rows do not divide by 3; help: use a multiple of 3";
        assert_eq!(text(&PixelUnshuffle::new(3).unwrap()), expected);
        let expected = "channel_shuffle: 6 channels do not divide by 4; help: use a multiple of 4";
        assert_eq!(text(&ChannelShuffle::new(4).unwrap()), expected);
        let refused = Sequential::input([0; 0]).channel_shuffle(2).build(1).err().unwrap().to_string();
        let expected = "channel_shuffle: expects [n, c, ..], got [n]; help: put reshape([1]) before it";
        assert!(refused.ends_with(expected), "{refused}");
        let text = ChannelShuffle::new(0).err().unwrap().to_string();
        assert_eq!(text, "channel_shuffle: groups is 0; help: use 1 or more");
        let text = PixelShuffle::new(0).err().unwrap().to_string();
        assert_eq!(text, "pixel_shuffle: upscale_factor is 0; help: use 1 or more");
    }
}
