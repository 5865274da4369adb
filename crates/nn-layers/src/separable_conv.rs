//! [`SeparableConv`]: a convolution in two, over space and over channels.

use crate::conv::{channels_label, depthwise};
use crate::plan::{Draft, Plan, expect_spatial, window_label};
use crate::step::{Spec, Step, yes};
use crate::{Builder, Conv, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Rng, Shape, Window};
use serde::{Deserialize, Serialize};

/// Filters each channel by itself, then mixes the channels at each place: nearly what a convolution does, for about as
/// many times less work as the kernel has places.
///
/// `y = pointwise(depthwise(x))`; the bias is `pointwise`'s.
///
/// # Shapes
/// - input `[n, in_channels, ..size]`, output `[n, out_channels, ..]` with [`Window::output`]'s sizes
///
/// # Parameters
/// - `depthwise.weight: [in_channels · multiplier, 1, ..kernel]`
/// - `pointwise.weight: [out_channels, in_channels · multiplier, 1, ..]`, `pointwise.bias: [out_channels]`; all drawn
///   as [`Conv`]'s are
///
/// # Reference
/// Chollet (2017), "Xception: Deep Learning with Depthwise Separable Convolutions".
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var, params};
/// use maplet_nn_layers::{Module, SeparableConv2d};
/// use maplet_tensor::{DType, Rng, Window2d};
///
/// let layer = SeparableConv2d::new(16, 32, Window2d::new(3).padding(1), &mut Rng::new(42))?;
/// let y = layer.forward(&Var::from(Tensor::zeros([4, 16, 7, 7], DType::F32)))?;
/// assert_eq!(y.shape(), [4, 32, 7, 7].into());
/// assert_eq!(params(&layer)[0].0, "depthwise.weight");
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SeparableConv<const D: usize> {
    /// One filter, or some, for each channel.
    pub depthwise: Conv<D>,
    /// Mixes the channels.
    pub pointwise: Conv<D>,
}
fields!([const D: usize] SeparableConv<D>: depthwise, pointwise);

/// A separable convolution over sequences.
///
/// PyTorch: –; Keras: `SeparableConv1D`.
pub type SeparableConv1d = SeparableConv<1>;
/// A separable convolution over images.
///
/// PyTorch: –; Keras: `SeparableConv2D`.
pub type SeparableConv2d = SeparableConv<2>;
/// A separable convolution over volumes.
///
/// PyTorch: –; Keras: –.
pub type SeparableConv3d = SeparableConv<3>;

impl<const D: usize> SeparableConv<D> {
    const OP: &'static str = Window::<D>::name(["separable_conv1d", "separable_conv2d", "separable_conv3d"]);

    /// A layer with random weights and one filter for each channel.
    ///
    /// # Errors
    /// A size of zero, groups in the window, or more weights than a model can have.
    pub fn new(in_channels: usize, out_channels: usize, window: Window<D>, rng: &mut Rng) -> Result<Self> {
        Self::with_multiplier(in_channels, out_channels, 1, window, rng)
    }

    /// A layer with random weights and `multiplier` filters for each channel.
    ///
    /// # Errors
    /// A size of zero, groups in the window, or more weights than a model can have.
    pub fn with_multiplier(
        in_channels: usize,
        out_channels: usize,
        multiplier: usize,
        window: Window<D>,
        rng: &mut Rng,
    ) -> Result<Self> {
        depthwise(Self::OP, in_channels, window)?;
        let depthwise = Conv::depthwise(in_channels, multiplier, window, rng)?.without_bias();
        let pointwise = Conv::new(in_channels.saturating_mul(multiplier), out_channels, Window::new(1), rng)?;
        Ok(Self { depthwise, pointwise })
    }

    /// The layer without its bias: what a batch norm behind it would cancel.
    pub fn without_bias(mut self) -> Self {
        self.pointwise = self.pointwise.without_bias();
        self
    }
}

impl<const D: usize> Module for SeparableConv<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.pointwise.forward(&self.depthwise.forward(x)?)
    }
}

/// A [`SeparableConv`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
pub struct SeparableConvConfig<const D: usize> {
    /// The channels of the output.
    pub out_channels: usize,
    /// Filters for each channel of the input.
    pub multiplier: usize,
    /// Kernel, stride, padding and dilation.
    pub window: Window<D>,
    /// Whether it adds a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

impl<const D: usize> Spec for SeparableConvConfig<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { out_channels, multiplier, window, bias } = *self;
        let name = Window::<D>::name(["SeparableConv1d", "SeparableConv2d", "SeparableConv3d"]);
        let channels = channels_label::<D>(input, out_channels);
        let mut label = format!("{name} {channels}, {}", window_label(&window, [1; D]));
        if multiplier != 1 {
            label += &format!(", multiplier {multiplier}");
        }
        Plan::new(label, || {
            let op = SeparableConv::<D>::OP;
            let (in_channels, sizes) = expect_spatial::<D>(op, input)?;
            let grouped = depthwise(op, in_channels, window)?;
            let filtered = in_channels.saturating_mul(multiplier);
            let first = Conv::check(in_channels, filtered, grouped)?.elements() as u64;
            let second = Conv::<D>::check(filtered, out_channels, Window::new(1))?.elements() as u64;
            let sizes = window.output(op, sizes)?;
            let output = Shape::new(&[&[out_channels], &sizes[..]].concat())?;
            let biases = if bias { out_channels as u64 } else { 0 };
            let places = sizes.iter().product::<usize>() as u64;
            let flops = places.saturating_mul(2 * (first + second) + biases);
            Ok(Draft::new(output, flops).trained(first + second + biases, move |rng| {
                let layer = SeparableConv::with_multiplier(in_channels, out_channels, multiplier, window, rng)?;
                Ok(if bias { layer } else { layer.without_bias() })
            }))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.bias)
    }
}

impl Builder {
    /// [`SeparableConv`] over one, two or three axes to so many channels.
    pub fn separable_conv<const D: usize>(self, out_channels: usize, window: Window<D>) -> Self
    where
        SeparableConvConfig<D>: Into<Step>,
    {
        self.step(SeparableConvConfig { out_channels, multiplier: 1, window, bias: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::{DType, Tensor, Window1d, Window2d, Window3d};

    #[test]
    fn behaves_as_a_module() {
        let window = Window2d::new([3, 2]).stride([1, 2]);
        let mut layer = SeparableConv2d::with_multiplier(2, 3, 2, window, &mut Rng::new(1)).unwrap();
        let expect = Expect {
            input: &[2, 2, 4, 5],
            output: &[2, 3, 2, 2],
            parameters: &[
                ("depthwise.weight", &[4, 1, 3, 2]),
                ("pointwise.weight", &[3, 4, 1, 1]),
                ("pointwise.bias", &[3]),
            ],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
        let mut layer = SeparableConv3d::new(2, 3, Window3d::new(2), &mut Rng::new(1)).unwrap().without_bias();
        let parameters: &[(&str, &[usize])] =
            &[("depthwise.weight", &[2, 1, 2, 2, 2]), ("pointwise.weight", &[3, 2, 1, 1, 1])];
        let expect = Expect { input: &[2, 2, 3, 2, 3], output: &[2, 3, 2, 1, 2], parameters, ..Expect::default() };
        check_module(&mut layer, &expect).unwrap();
    }

    /// With the outer product of both weights as one convolution's weight.
    #[test]
    fn is_a_convolution_whose_weight_is_a_product() {
        let layer = SeparableConv1d::new(3, 4, Window1d::new(2), &mut Rng::new(2)).unwrap();
        let depthwise = layer.depthwise.weight.value().reshape([1, 3, 2]).unwrap();
        let weight = layer.pointwise.weight.value().mul(&depthwise).unwrap();
        let x = Tensor::normal([2, 3, 7], 0.0f32, 1.0, &mut Rng::new(3));
        let bias = layer.pointwise.bias.as_ref().unwrap().value().reshape([4, 1]).unwrap();
        let one = x.conv(&weight, Window1d::new(2)).unwrap().add(&bias).unwrap();
        let two = layer.forward(&x.into()).unwrap();
        let pairs = one.as_slice::<f32>().unwrap().iter().zip(two.value().as_slice::<f32>().unwrap());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5)); // 6 products of numbers below 4, in another order
    }

    #[test]
    fn is_a_step() {
        let three = SeparableConvConfig { out_channels: 5, multiplier: 3, window: Window1d::new(2), bias: true };
        let model =
            Sequential::input([2, 8]).separable_conv(4, Window1d::new(3)).no_bias().step(three).build(1).unwrap();
        let rows = model.rows();
        assert_eq!(rows[1].label, "SeparableConv1d 4 → 5, 2, multiplier 3");
        assert_eq!((rows[0].parameters, rows[1].parameters), (2 * 3 + 2 * 4, 4 * 3 * 2 + 4 * 3 * 5 + 5));
        let y = model.forward(&Tensor::zeros([3, 2, 8], DType::F32).into()).unwrap();
        assert_eq!((y.shape(), rows[1].output), (Shape::from([3, 5, 5]), Shape::from([5, 5])));
    }

    #[test]
    fn refuses_groups() {
        let text = SeparableConv2d::new(4, 4, Window2d::new(3).groups(2), &mut Rng::new(4)).err().unwrap().to_string();
        assert_eq!(text, "separable_conv2d: groups is 2; help: a depthwise window has one group: leave it 1");
    }
}
