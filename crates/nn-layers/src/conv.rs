//! [`Conv`]: the convolution over sequences, images and volumes. The transposed one is in `conv_transpose.rs`, the
//! separable one in `separable_conv.rs`.

use crate::freeze::{Graph, Value};
use crate::fusion::Part;
use crate::init::{self, Fan, Gain};
use crate::plan::{Draft, Plan, expect_spatial, weight_shape, window_label};
use crate::step::{Spec, Step, yes};
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Activation, PadMode, Rng, Shape, Sizes, Window, Window1d, Window2d, Window3d};
use serde::{Deserialize, Serialize};
use std::any::Any;

/// Slides `out_channels` small filters over `D` spatial axes and adds a bias to each channel.
///
/// `y[n, o, i, ..] = bias[o] + Σ x[n, c, i·stride + p·dilation − padding, ..] · weight[o, c, p, ..]` (no kernel flip,
/// as in every framework).
///
/// # Shapes
/// - input `[n, in_channels, ..size]`, output `[n, out_channels, ..]` with [`Window::output`]'s sizes
///
/// # Parameters
/// - `weight: [out_channels, in_channels / groups, ..kernel]` and `bias: [out_channels]`, both uniform in `±1/√fan_in`
///   with `fan_in = in_channels / groups · kernel places` (PyTorch's default)
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Conv2d, Module};
/// use maplet_tensor::{DType, Rng, Window2d};
///
/// let layer = Conv2d::new(1, 32, Window2d::new(3), &mut Rng::new(42))?;
/// let x = Var::from(Tensor::zeros([8, 1, 28, 28], DType::F32));
/// assert_eq!(layer.forward(&x)?.shape(), [8, 32, 26, 26].into());
/// assert_eq!(layer.same()?.forward(&x)?.shape(), [8, 32, 28, 28].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv<const D: usize> {
    /// `[out_channels, in_channels / groups, ..kernel]`
    pub weight: Param,
    /// `[out_channels]`
    pub bias: Option<Param>,
    edges: Edges<D>,
}
fields!([const D: usize] Conv<D>: weight, bias; edges);

/// Slides filters over a sequence.
///
/// PyTorch: `nn.Conv1d`; Keras: `Conv1D`.
pub type Conv1d = Conv<1>;
/// Slides filters over an image.
///
/// PyTorch: `nn.Conv2d`; Keras: `Conv2D`.
pub type Conv2d = Conv<2>;
/// Slides filters over a volume.
///
/// PyTorch: `nn.Conv3d`; Keras: `Conv3D`.
pub type Conv3d = Conv<3>;

impl<const D: usize> Conv<D> {
    const OP: &'static str = Window::<D>::name(["conv1d", "conv2d", "conv3d"]);

    /// A layer with random weights. A window without padding is what PyTorch and Keras call `"valid"`.
    ///
    /// # Errors
    /// A size of zero, groups that do not divide the channels, or more weights than a model can have.
    pub fn new(in_channels: usize, out_channels: usize, window: Window<D>, rng: &mut Rng) -> Result<Self> {
        let shape = Self::check(in_channels, out_channels, window)?;
        let (weight, bias) = weight_and_bias(shape, window.groups, out_channels, rng)?;
        Ok(Self { weight, bias: Some(bias), edges: Edges::new(window) })
    }

    /// A layer that filters each channel by itself, `multiplier` times: a convolution with as many groups as channels.
    ///
    /// PyTorch: –; Keras: `DepthwiseConv1D`, `DepthwiseConv2D`.
    ///
    /// # Errors
    /// A size of zero, groups in the window, or more weights than a model can have.
    pub fn depthwise(channels: usize, multiplier: usize, window: Window<D>, rng: &mut Rng) -> Result<Self> {
        let out_channels = channels.saturating_mul(multiplier);
        Self::new(channels, out_channels, depthwise(Self::OP, channels, window)?, rng)
    }

    /// The layer without its bias: what a batch norm behind it would cancel.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// Pads so that the output is as large as the input, whatever the window says (`padding="same"`). Where an odd
    /// number of places is to be added, one more comes behind than in front.
    ///
    /// # Errors
    /// A stride other than 1.
    pub fn same(mut self) -> Result<Self> {
        self.edges = self.edges.same(Self::OP)?;
        Ok(self)
    }

    /// What the padding is filled with: zeros, unless this says otherwise.
    pub fn padding_mode(mut self, mode: PadMode) -> Self {
        self.edges = self.edges.mode(mode);
        self
    }

    /// Kernel, stride, dilation and groups; and the padding, if it is zeros and the same in front and behind.
    pub fn window(&self) -> Window<D> {
        self.edges.window
    }

    pub(crate) fn check(in_channels: usize, out_channels: usize, window: Window<D>) -> Result<Shape> {
        let groups = window.groups;
        check_groups(Self::OP, [in_channels, out_channels], &window)?;
        let name = if groups == 1 { "in_channels" } else { "in_channels / groups" };
        kernel_shape(Self::OP, [("out_channels", out_channels), (name, in_channels / groups)], &window)
    }

    /// The layer, and what follows it, as one op.
    pub(crate) fn apply(&self, x: &Var, activation: Activation) -> Result<Var> {
        self.apply_with(x, &self.weight.on(x), activation)
    }

    /// As [`apply`](Self::apply), with another weight than the layer's own.
    pub(crate) fn apply_with(&self, x: &Var, weight: &Var, activation: Activation) -> Result<Var> {
        let bias = self.bias.as_ref().map(|bias| bias.on(x));
        Ok(self.padded(x)?.conv_bias(weight, bias.as_ref(), self.window(), activation)?)
    }

    /// The input with such padding as the window does not do itself.
    pub(crate) fn padded(&self, x: &Var) -> Result<Var> {
        let Edges { pads, mode, .. } = self.edges;
        if pads == [(0, 0); D] {
            return Ok(x.clone());
        }
        Ok(x.pad_with(&[&[(0, 0); 2], &pads[..]].concat(), mode)?)
    }
}

impl<const D: usize> Module for Conv<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.apply(x, Activation::Identity)
    }

    fn part(&self) -> Part<'_> {
        match (self as &dyn Any).downcast_ref() {
            Some(conv) => Part::Conv2d(conv),
            None => Part::Other,
        }
    }

    fn lower(&self, graph: &mut Graph, x: Value) -> Result<Option<Value>> {
        match self.edges.pads == [(0, 0); D] {
            true => graph.conv(x, self.weight.value(), self.bias.as_ref().map(Param::value), self.window()),
            false => Ok(None),
        }
    }
}

/// Padding, and the window that runs over what is padded: zeros on both sides are the window's own.
#[derive(Debug, Clone, Copy)]
struct Edges<const D: usize> {
    window: Window<D>,
    pads: [(usize, usize); D],
    mode: PadMode,
}

impl<const D: usize> Edges<D> {
    fn new(window: Window<D>) -> Self {
        Self { window, pads: [(0, 0); D], mode: PadMode::Zeros }
    }

    fn same(self, op: &'static str) -> Result<Self> {
        let window = self.window;
        if window.stride != [1; D] {
            let what = format!("same padding with stride {:?}", window.stride);
            return Err(Error::new(op, what, "use stride 1, or a padding in numbers"));
        }
        let pads = std::array::from_fn(|side| {
            let all = window.dilation[side] * (window.kernel[side] - 1);
            (all / 2, all - all / 2)
        });
        Ok(self.with(pads, self.mode))
    }

    fn mode(self, mode: PadMode) -> Self {
        let padding = self.window.padding;
        let pads = std::array::from_fn(|side| (self.pads[side].0 + padding[side], self.pads[side].1 + padding[side]));
        self.with(pads, mode)
    }

    fn with(self, pads: [(usize, usize); D], mode: PadMode) -> Self {
        if mode == PadMode::Zeros && pads.iter().all(|(before, after)| before == after) {
            return Self { mode, ..Self::new(self.window.padding(pads.map(|(before, _)| before))) };
        }
        Self { window: self.window.padding(0), pads, mode }
    }

    /// The spatial sizes of the output.
    fn output(&self, op: &'static str, input: [usize; D]) -> Result<[usize; D]> {
        let padded = self.mode.padded(op, &Shape::new(&input)?, &self.pads)?;
        Ok(self.window.output(op, std::array::from_fn(|side| padded[side]))?)
    }
}

/// A window over each of so many channels by itself.
pub(crate) fn depthwise<const D: usize>(op: &'static str, channels: usize, window: Window<D>) -> Result<Window<D>> {
    match window.groups {
        1 => Ok(window.groups(channels)),
        groups => Err(Error::new(op, format!("groups is {groups}"), "a depthwise window has one group: leave it 1")),
    }
}

/// An error if the window is impossible or its groups do not divide the channels.
pub(crate) fn check_groups<const D: usize>(op: &'static str, channels: [usize; 2], window: &Window<D>) -> Result<()> {
    window.check(op)?;
    let groups = window.groups;
    for (name, channels) in ["input", "output"].into_iter().zip(channels) {
        if channels % groups != 0 {
            let what = format!("{channels} {name} channels do not divide into {groups} groups");
            return Err(Error::new(op, what, "use a number of groups that divides both"));
        }
    }
    Ok(())
}

/// The shape of a weight: two named sizes, then the kernel.
pub(crate) fn kernel_shape<const D: usize>(
    op: &'static str,
    channels: [(&str, usize); 2],
    window: &Window<D>,
) -> Result<Shape> {
    let names: &[&str] = match D {
        1 => &["kernel length"],
        2 => &["kernel height", "kernel width"],
        _ => &["kernel depth", "kernel height", "kernel width"],
    };
    let kernel: Vec<_> = names.iter().copied().zip(window.kernel).collect();
    weight_shape(op, &[&channels[..], &kernel].concat())
}

/// Random weights and biases as PyTorch draws them: uniform in `±1/√fan_in`, where the fan-in is all but axis 0.
pub(crate) fn weight_and_bias(shape: Shape, groups: usize, out: usize, rng: &mut Rng) -> Result<(Param, Param)> {
    let weight = init::kaiming_uniform(shape, groups, Fan::In, Gain::LeakyRelu(5f64.sqrt()), rng)?;
    let fan_in: usize = shape[1..].iter().product();
    let bound = 1.0 / (fan_in as f64).sqrt();
    Ok((Param::new(weight), Param::new(init::uniform([out], -bound, bound, rng))))
}

/// `3 → 8`, or `? → 8` for samples without channels.
pub(crate) fn channels_label<const D: usize>(input: &Shape, out_channels: usize) -> String {
    let from = if input.rank() == D + 1 { input[0].to_string() } else { "?".into() };
    format!("{from} → {out_channels}")
}

/// A [`Conv`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
pub struct ConvConfig<const D: usize> {
    /// The channels of the output.
    pub out_channels: usize,
    /// Kernel, stride, padding, dilation and groups.
    pub window: Window<D>,
    /// Whether it adds a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether it pads so that the output is as large as the input, instead of by the window's padding.
    #[serde(default)]
    pub same: bool,
    /// What the padding is filled with.
    #[serde(default)]
    pub padding_mode: PadMode,
}

impl<const D: usize> ConvConfig<D> {
    /// With a bias, and the window's padding with zeros.
    pub fn new(out_channels: usize, window: Window<D>) -> Self {
        Self { out_channels, window, bias: true, same: false, padding_mode: PadMode::Zeros }
    }

    fn edges(&self) -> Result<Edges<D>> {
        let edges = Edges::new(self.window);
        Ok(if self.same { edges.same(Conv::<D>::OP)? } else { edges }.mode(self.padding_mode))
    }
}

impl<const D: usize> Spec for ConvConfig<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { out_channels, window, bias, same, padding_mode } = *self;
        let name = Window::<D>::name(["Conv1d", "Conv2d", "Conv3d"]);
        let channels = channels_label::<D>(input, out_channels);
        let mut label = format!("{name} {channels}, {}", window_label(&window, [1; D]));
        if same {
            label += ", same";
        }
        if padding_mode != PadMode::Zeros {
            label += &format!(", {padding_mode:?}").to_lowercase();
        }
        let config = self.clone();
        Plan::new(label, || {
            let (in_channels, sizes) = expect_spatial::<D>(Conv::<D>::OP, input)?;
            let weight = Conv::check(in_channels, out_channels, window)?;
            let sizes = config.edges()?.output(Conv::<D>::OP, sizes)?;
            let output = Shape::new(&[&[out_channels], &sizes[..]].concat())?;
            let parameters = weight.elements() as u64 + if bias { out_channels as u64 } else { 0 };
            let fan_in = weight[1..].iter().product::<usize>() as u64;
            let flops = output.elements() as u64 * (2 * fan_in + u64::from(bias));
            Ok(Draft::new(output, flops).trained(parameters, move |rng| {
                let layer = Conv::new(in_channels, out_channels, window, rng)?;
                let layer = Conv { edges: config.edges()?, ..layer };
                Ok(if bias { layer } else { layer.without_bias() })
            }))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.bias)
    }
}

impl Builder {
    /// [`Conv1d`] to so many channels: stride 1, no padding.
    pub fn conv1d(self, out_channels: usize, kernel: impl Into<Sizes<1>>) -> Self {
        self.conv(out_channels, Window1d::new(kernel))
    }

    /// [`Conv2d`] to so many channels: stride 1, no padding.
    pub fn conv2d(self, out_channels: usize, kernel: impl Into<Sizes<2>>) -> Self {
        self.conv(out_channels, Window2d::new(kernel))
    }

    /// [`Conv3d`] to so many channels: stride 1, no padding.
    pub fn conv3d(self, out_channels: usize, kernel: impl Into<Sizes<3>>) -> Self {
        self.conv(out_channels, Window3d::new(kernel))
    }

    /// [`Conv`] over one, two or three axes, with stride, padding, dilation and groups. For padding that is no number
    /// of zeros use [`step`](Self::step) with a [`ConvConfig`].
    pub fn conv<const D: usize>(self, out_channels: usize, window: Window<D>) -> Self
    where
        ConvConfig<D>: Into<Step>,
    {
        self.step(ConvConfig::new(out_channels, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
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
    fn sequences_and_volumes() {
        let mut layer = Conv1d::new(2, 3, Window1d::new(3).stride(2), &mut Rng::new(1)).unwrap();
        let expect = Expect {
            input: &[3, 2, 7],
            output: &[3, 3, 3],
            parameters: &[("weight", &[3, 2, 3]), ("bias", &[3])],
            refuses: &[(&[2, 7], "conv1d: input [2, 7] has 2 axes; help: it must be [n, channels, length]")],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
        let mut layer = Conv3d::depthwise(2, 2, Window3d::new([1, 2, 2]), &mut Rng::new(1)).unwrap();
        let parameters: &[(&str, &[usize])] = &[("weight", &[4, 1, 1, 2, 2]), ("bias", &[4])];
        let expect = Expect { input: &[2, 2, 2, 3, 4], output: &[2, 4, 2, 2, 3], parameters, ..Expect::default() };
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
    fn edges_are_filled_as_asked() {
        let layer = |window| {
            let mut layer = Conv1d::new(1, 1, window, &mut Rng::new(3)).unwrap().without_bias();
            let weight = (0..window.kernel[0]).map(|i| 10f32.powi(i as i32)).collect();
            layer.weight.set_value(Tensor::from_vec(weight, layer.weight.shape()).unwrap()).unwrap();
            layer
        };
        let x = Tensor::from([[[1.0f32, 2.0, 3.0, 4.0]]]);
        let run = |layer: Conv1d| layer.forward(&x.clone().into()).unwrap().value().to_vec::<f32>().unwrap();
        // Each output shows its window's digits, the last first.
        let padded = Window1d::new(3).padding(1);
        assert_eq!(run(layer(padded)), [210.0, 321.0, 432.0, 43.0]);
        assert_eq!(run(layer(padded).padding_mode(PadMode::Reflect)), [212.0, 321.0, 432.0, 343.0]);
        assert_eq!(run(layer(padded).padding_mode(PadMode::Replicate)), [211.0, 321.0, 432.0, 443.0]);
        assert_eq!(run(layer(padded).padding_mode(PadMode::Circular)), [214.0, 321.0, 432.0, 143.0]);
        assert_eq!(run(layer(Window1d::new(2)).same().unwrap()), [21.0, 32.0, 43.0, 4.0]);
        let mode = |layer: Conv1d| layer.padding_mode(PadMode::Circular);
        assert_eq!(run(mode(layer(Window1d::new(2)).same().unwrap())), [21.0, 32.0, 43.0, 14.0]);
        assert_eq!(run(mode(layer(Window1d::new(2))).same().unwrap()), [21.0, 32.0, 43.0, 14.0]);
        let same = layer(Window1d::new(3).dilation(2)).same().unwrap();
        assert_eq!(same.window().padding, [2], "equal sides are the window's own");
        assert_eq!(run(same), [310.0, 420.0, 31.0, 42.0]);
        let back = layer(padded).padding_mode(PadMode::Circular).padding_mode(PadMode::Zeros);
        assert_eq!(back.window(), padded);
        let mut circular = Conv2d::new(2, 2, Window2d::new([2, 3]), &mut Rng::new(5)).unwrap();
        circular = circular.same().unwrap().padding_mode(PadMode::Reflect);
        let parameters: &[(&str, &[usize])] = &[("weight", &[2, 2, 2, 3]), ("bias", &[2])];
        let expect = Expect { input: &[2, 2, 3, 4], output: &[2, 2, 3, 4], parameters, ..Expect::default() };
        check_module(&mut circular, &expect).unwrap();
    }

    #[test]
    fn steps_say_how_they_pad() {
        let same = ConvConfig { same: true, padding_mode: PadMode::Reflect, ..ConvConfig::new(4, Window1d::new(4)) };
        let model = Sequential::input([2, 8]).step(same.clone()).conv1d(3, 8).build(1).unwrap();
        assert_eq!(model.rows()[0].label, "Conv1d 2 → 4, 4, same, reflect");
        assert_eq!((model.rows()[0].output, model.rows()[0].parameters), (Shape::from([4, 8]), 36));
        let y = model.forward(&Tensor::zeros([5, 2, 8], DType::F32).into()).unwrap();
        assert_eq!(y.shape(), Shape::from([5, 3, 1]));
        let text = Sequential::input([2, 2]).step(same).build(1).err().unwrap().to_string();
        let expected = "layer 0 (Conv1d 2 → 4, 4, same, reflect): conv1d: axis 0 of [2] cannot be reflected by 2; \
                        help: pad it by at most 1";
        assert_eq!(text, expected);
        let text = Sequential::input([2, 5, 5, 5]).conv3d(2, [2, 6, 2]).build(1).err().unwrap().to_string();
        let expected = "layer 0 (Conv3d 2 → 2, 2×6×2): conv3d: the window spans 6 in height, the padded input has 5; \
                        help: use a smaller kernel or dilation, or more padding";
        assert_eq!(text, expected);
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
        assert_eq!(text(1, 1, Window2d::new(1).groups(0)), "conv2d: groups is 0; help: use 1 to 1048576");
        let strided = Conv2d::new(1, 1, Window2d::new(3).stride(2), &mut Rng::new(4)).unwrap().same();
        let expected = "conv2d: same padding with stride [2, 2]; help: use stride 1, or a padding in numbers";
        assert_eq!(strided.err().unwrap().to_string(), expected);
        let depthwise = Conv2d::depthwise(4, 1, three, &mut Rng::new(4)).err().unwrap().to_string();
        assert_eq!(depthwise, "conv2d: groups is 3; help: a depthwise window has one group: leave it 1");
    }
}
