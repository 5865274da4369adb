//! [`Conv2d`]: the convolution over images.

use crate::fusion::Part;
use crate::init::{self, Fan, Gain};
use crate::plan::{Draft, Plan, expect_spatial, weight_shape, window_label};
use crate::step::{Spec, yes};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Activation, Rng, Shape, Sizes, Window2d};
use serde::{Deserialize, Serialize};

/// Slides `out_channels` small filters over an image and adds a bias to each channel.
///
/// `y[n, o, i, j] = bias[o] + Σ x[n, c, i·stride + u·dilation − padding, …] · weight[o, c, u, v]` (no kernel flip, as
/// in every framework).
///
/// # Shapes
/// - input `[n, in_channels, h, w]`, output `[n, out_channels, h′, w′]` with [`Window2d::output`]'s `h′, w′`
///
/// # Parameters
/// - `weight: [out_channels, in_channels / groups, kh, kw]` and `bias: [out_channels]`, both uniform in `±1/√fan_in`
///   with `fan_in = in_channels / groups · kh · kw` (PyTorch's default)
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Conv2d, Module};
/// use maplet_tensor::{DType, Rng, Window2d};
///
/// let layer = Conv2d::new(1, 32, Window2d::new(3), &mut Rng::new(42))?;
/// let y = layer.forward(&Var::from(Tensor::zeros([8, 1, 28, 28], DType::F32)))?;
/// assert_eq!(y.shape(), [8, 32, 26, 26].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[out_channels, in_channels / groups, kh, kw]`
    pub weight: Param,
    /// `[out_channels]`
    pub bias: Option<Param>,
    window: Window2d,
}
fields!(Conv2d: weight, bias; window);

impl Conv2d {
    /// A layer with random weights.
    ///
    /// # Errors
    /// A size of zero, groups that do not divide the channels, or more weights than a model can have.
    pub fn new(in_channels: usize, out_channels: usize, window: Window2d, rng: &mut Rng) -> Result<Self> {
        let shape = Self::check(in_channels, out_channels, window)?;
        let weight = init::kaiming_uniform(shape, window.groups, Fan::In, Gain::LeakyRelu(5f64.sqrt()), rng)?;
        let fan_in: usize = shape[1..].iter().product();
        let bound = 1.0 / (fan_in as f64).sqrt();
        let bias = init::uniform([out_channels], -bound, bound, rng);
        Ok(Self { weight: Param::new(weight), bias: Some(Param::new(bias)), window })
    }

    /// The layer without its bias: what a batch norm behind it would cancel.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// Kernel, stride, padding, dilation and groups.
    pub fn window(&self) -> Window2d {
        self.window
    }

    fn check(in_channels: usize, out_channels: usize, window: Window2d) -> Result<Shape> {
        window.check("conv2d")?;
        let groups = window.groups;
        for (name, channels) in [("input", in_channels), ("output", out_channels)] {
            if channels % groups != 0 {
                let what = format!("{channels} {name} channels do not divide into {groups} groups");
                return Err(Error::new("conv2d", what, "use a number of groups that divides both"));
            }
        }
        let [height, width] = window.kernel;
        let sizes = [
            ("out_channels", out_channels),
            (if groups == 1 { "in_channels" } else { "in_channels / groups" }, in_channels / groups),
            ("kernel height", height),
            ("kernel width", width),
        ];
        weight_shape("conv2d", &sizes)
    }

    /// The layer, and what follows it, as one op.
    pub(crate) fn apply(&self, x: &Var, activation: Activation) -> Result<Var> {
        self.apply_with(x, &self.weight.on(x), activation)
    }

    /// As [`apply`](Self::apply), with another weight than the layer's own.
    pub(crate) fn apply_with(&self, x: &Var, weight: &Var, activation: Activation) -> Result<Var> {
        let bias = self.bias.as_ref().map(|bias| bias.on(x));
        Ok(x.conv_bias(weight, bias.as_ref(), self.window, activation)?)
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.apply(x, Activation::Identity)
    }

    fn part(&self) -> Part<'_> {
        Part::Conv2d(self)
    }
}

/// A [`Conv2d`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2dConfig {
    /// The channels of the output.
    pub out_channels: usize,
    /// Kernel, stride, padding, dilation and groups.
    pub window: Window2d,
    /// Whether it adds a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

impl Spec for Conv2dConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { out_channels, window, bias } = *self;
        let from = if input.rank() == 3 { input[0].to_string() } else { "?".into() };
        let label = format!("Conv2d {from} → {out_channels}, {}", window_label(&window, [1, 1]));
        Plan::new(label, || {
            let (in_channels, [height, width]) = expect_spatial("conv2d", input)?;
            let weight = Conv2d::check(in_channels, out_channels, window)?;
            let [height, width] = window.output("conv2d", [height, width])?;
            let output = Shape::new(&[out_channels, height, width])?;
            let parameters = weight.elements() as u64 + if bias { out_channels as u64 } else { 0 };
            let fan_in = weight[1..].iter().product::<usize>() as u64;
            let flops = output.elements() as u64 * (2 * fan_in + u64::from(bias));
            Ok(Draft::new(output, flops).trained(parameters, move |rng| {
                let layer = Conv2d::new(in_channels, out_channels, window, rng)?;
                Ok(if bias { layer } else { layer.without_bias() })
            }))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.bias)
    }
}

impl Builder {
    /// [`Conv2d`] to so many channels: stride 1, no padding.
    pub fn conv2d(self, out_channels: usize, kernel: impl Into<Sizes<2>>) -> Self {
        self.conv2d_with(out_channels, Window2d::new(kernel))
    }

    /// [`Conv2d`] with stride, padding, dilation and groups.
    pub fn conv2d_with(self, out_channels: usize, window: Window2d) -> Self {
        self.step(Conv2dConfig { out_channels, window, bias: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn behaves_as_a_module() {
        let mut layer = Conv2d::new(2, 3, Window2d::new([3, 2]).padding([1, 0]), &mut Rng::new(1)).unwrap();
        let expect = Expect {
            input: &[3, 2, 5, 4],
            output: &[3, 3, 5, 3],
            parameters: &[("weight", &[3, 2, 3, 2]), ("bias", &[3])],
            refuses: &[(
                &[3, 1, 5, 4],
                "conv2d: input [3, 1, 5, 4] has 1 channel, weight [3, 2, 3, 2] expects 2; help: build the layer with in_channels = 1",
            )],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
    }

    #[test]
    fn groups_strides_and_no_bias() {
        let window = Window2d::new(2).stride(2).groups(2);
        let mut layer = Conv2d::new(4, 6, window, &mut Rng::new(2)).unwrap().without_bias();
        let parameters: &[(&str, &[usize])] = &[("weight", &[6, 2, 2, 2])];
        let expect = Expect { input: &[2, 4, 6, 4], output: &[2, 6, 3, 2], parameters, ..Expect::default() };
        check_module(&mut layer, &expect).unwrap();
        assert_eq!(layer.window(), window);
    }

    #[test]
    fn a_filter_of_ones_sums_the_window() {
        let mut layer = Conv2d::new(1, 1, Window2d::new(2), &mut Rng::new(3)).unwrap();
        layer.weight.set_value(Tensor::ones([1, 1, 2, 2], DType::F32)).unwrap();
        layer.bias.as_mut().unwrap().set_value(Tensor::from([0.5f32])).unwrap();
        let x = Tensor::from([[[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]]]);
        let y = layer.forward(&x.into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[[[12.5f32, 16.5]]]])); // 1 + 2 + 4 + 5 and 2 + 3 + 5 + 6
    }

    #[test]
    fn refuses_groups_that_do_not_divide() {
        let text = |i, o, window| Conv2d::new(i, o, window, &mut Rng::new(4)).err().unwrap().to_string();
        let three = Window2d::new(3).groups(3);
        let help = "groups; help: use a number of groups that divides both";
        assert_eq!(text(4, 6, three), format!("conv2d: 4 input channels do not divide into 3 {help}"));
        assert_eq!(text(6, 4, three), format!("conv2d: 4 output channels do not divide into 3 {help}"));
        assert_eq!(text(1, 0, Window2d::new(3)), "conv2d: out_channels is 0; help: use 1 or more");
        assert_eq!(text(1, 1, Window2d::new(0)), "conv2d: kernel is 0; help: use 1 to 1048576");
    }
}
