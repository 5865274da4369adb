//! [`ConvTranspose`]: the way back of a convolution, as a layer.

use crate::conv::{channels_label, check_groups, kernel_shape, weight_and_bias};
use crate::plan::{Draft, Plan, expect_spatial, sizes_label, window_label};
use crate::step::{Spec, Step, yes};
use crate::{Builder, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Rng, Shape, Sizes, Window};
use serde::{Deserialize, Serialize};

/// Spreads each input over a window of the output: the adjoint of a convolution, plus a bias for each channel.
///
/// `y[n, o, i·stride + p·dilation − padding, ..] = bias[o] + Σ x[n, c, i, ..] · weight[c, o, p, ..]`, over all `i, p`
/// that lead to the same place. With a stride it makes images larger; it is also called deconvolution, which it is not.
///
/// # Shapes
/// - input `[n, in_channels, ..size]`, output `[n, out_channels, ..]` with [`Window::transposed_output`]'s sizes
///
/// # Parameters
/// - `weight: [in_channels, out_channels / groups, ..kernel]` and `bias: [out_channels]`, both uniform in `±1/√fan`
///   with `fan = out_channels / groups · kernel places` (PyTorch's default)
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{ConvTranspose2d, Module};
/// use maplet_tensor::{DType, Rng, Window2d};
///
/// let window = Window2d::new(3).stride(2).padding(1);
/// let layer = ConvTranspose2d::new(16, 8, window, &mut Rng::new(42))?.output_padding(1)?;
/// let y = layer.forward(&Var::from(Tensor::zeros([4, 16, 7, 7], DType::F32)))?;
/// assert_eq!(y.shape(), [4, 8, 14, 14].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvTranspose<const D: usize> {
    /// `[in_channels, out_channels / groups, ..kernel]`
    pub weight: Param,
    /// `[out_channels]`
    pub bias: Option<Param>,
    window: Window<D>,
    output_padding: [usize; D],
}
fields!([const D: usize] ConvTranspose<D>: weight, bias; window, output_padding);

/// Spreads each step of a sequence over a window.
///
/// PyTorch: `nn.ConvTranspose1d`; Keras: `Conv1DTranspose`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// Spreads each pixel of an image over a window.
///
/// PyTorch: `nn.ConvTranspose2d`; Keras: `Conv2DTranspose`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// Spreads each voxel of a volume over a window.
///
/// PyTorch: `nn.ConvTranspose3d`; Keras: `Conv3DTranspose`.
pub type ConvTranspose3d = ConvTranspose<3>;

impl<const D: usize> ConvTranspose<D> {
    const OP: &'static str = Window::<D>::name(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]);

    /// A layer with random weights.
    ///
    /// # Errors
    /// A size of zero, groups that do not divide the channels, or more weights than a model can have.
    pub fn new(in_channels: usize, out_channels: usize, window: Window<D>, rng: &mut Rng) -> Result<Self> {
        let shape = Self::check(in_channels, out_channels, window)?;
        let (weight, bias) = weight_and_bias(shape, window.groups, out_channels, rng)?;
        Ok(Self { weight, bias: Some(bias), window, output_padding: [0; D] })
    }

    /// The layer without its bias: what a batch norm behind it would cancel.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// So many more places behind the output, which with a stride could have several sizes; 0 unless this says
    /// otherwise.
    ///
    /// # Errors
    /// A number that is neither below the stride nor below the dilation.
    pub fn output_padding(mut self, output_padding: impl Into<Sizes<D>>) -> Result<Self> {
        self.output_padding = output_padding.into().0;
        self.window.check_output_padding(Self::OP, self.output_padding)?;
        Ok(self)
    }

    /// Kernel, stride, padding, dilation and groups.
    pub fn window(&self) -> Window<D> {
        self.window
    }

    fn check(in_channels: usize, out_channels: usize, window: Window<D>) -> Result<Shape> {
        let groups = window.groups;
        check_groups(Self::OP, [in_channels, out_channels], &window)?;
        let name = if groups == 1 { "out_channels" } else { "out_channels / groups" };
        kernel_shape(Self::OP, [("in_channels", in_channels), (name, out_channels / groups)], &window)
    }

    /// The layer with another weight than its own.
    pub(crate) fn apply_with(&self, x: &Var, weight: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(|bias| bias.on(x));
        Ok(x.conv_transpose(weight, bias.as_ref(), self.window, self.output_padding)?)
    }
}

impl<const D: usize> Module for ConvTranspose<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.apply_with(x, &self.weight.on(x))
    }
}

/// A [`ConvTranspose`] layer in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "[usize; D]: Serialize", deserialize = "[usize; D]: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
pub struct ConvTransposeConfig<const D: usize> {
    /// The channels of the output.
    pub out_channels: usize,
    /// Kernel, stride, padding, dilation and groups.
    pub window: Window<D>,
    /// More places behind the output.
    pub output_padding: [usize; D],
    /// Whether it adds a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

impl<const D: usize> ConvTransposeConfig<D> {
    /// With a bias, and no output padding.
    pub fn new(out_channels: usize, window: Window<D>) -> Self {
        Self { out_channels, window, output_padding: [0; D], bias: true }
    }
}

impl<const D: usize> Spec for ConvTransposeConfig<D> {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { out_channels, window, output_padding, bias } = *self;
        let name = Window::<D>::name(["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]);
        let channels = channels_label::<D>(input, out_channels);
        let mut label = format!("{name} {channels}, {}", window_label(&window, [1; D]));
        if output_padding != [0; D] {
            label += &format!(", output padding {}", sizes_label(&output_padding));
        }
        Plan::new(label, || {
            let (in_channels, sizes) = expect_spatial::<D>(ConvTranspose::<D>::OP, input)?;
            let weight = ConvTranspose::check(in_channels, out_channels, window)?;
            let inputs = sizes.iter().product::<usize>() as u64;
            let sizes = window.transposed_output(ConvTranspose::<D>::OP, sizes, output_padding)?;
            let output = Shape::new(&[&[out_channels], &sizes[..]].concat())?;
            let parameters = weight.elements() as u64 + if bias { out_channels as u64 } else { 0 };
            let added = if bias { output.elements() as u64 } else { 0 };
            let flops = (2 * inputs).saturating_mul(weight.elements() as u64).saturating_add(added);
            Ok(Draft::new(output, flops).trained(parameters, move |rng| {
                let layer =
                    ConvTranspose::new(in_channels, out_channels, window, rng)?.output_padding(output_padding)?;
                Ok(if bias { layer } else { layer.without_bias() })
            }))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.bias)
    }
}

impl Builder {
    /// [`ConvTranspose`] over one, two or three axes to so many channels. For an output padding use
    /// [`step`](Self::step) with a [`ConvTransposeConfig`].
    pub fn conv_transpose<const D: usize>(self, out_channels: usize, window: Window<D>) -> Self
    where
        ConvTransposeConfig<D>: Into<Step>,
    {
        self.step(ConvTransposeConfig::new(out_channels, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_tensor::{DType, Tensor, Window1d, Window2d, Window3d};

    #[test]
    fn behaves_as_a_module() {
        let window = Window2d::new([3, 2]).stride(2).padding([1, 0]).groups(2);
        let mut layer = ConvTranspose2d::new(4, 6, window, &mut Rng::new(1)).unwrap().output_padding([1, 0]).unwrap();
        let expect = Expect {
            input: &[2, 4, 3, 2],
            output: &[2, 6, 6, 4],
            parameters: &[("weight", &[4, 3, 3, 2]), ("bias", &[6])],
            refuses: &[(
                &[2, 1, 3, 2],
                "conv_transpose2d: input [2, 1, 3, 2] has 1 channel, weight [4, 3, 3, 2] expects 4; help: build the layer with in_channels = 1",
            )],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
        assert_eq!(layer.window(), window);
        let mut layer = ConvTranspose1d::new(2, 3, Window1d::new(3).dilation(2), &mut Rng::new(1)).unwrap();
        let parameters: &[(&str, &[usize])] = &[("weight", &[2, 3, 3]), ("bias", &[3])];
        let expect = Expect { input: &[3, 2, 4], output: &[3, 3, 8], parameters, ..Expect::default() };
        check_module(&mut layer, &expect).unwrap();
        let mut layer = ConvTranspose3d::new(2, 1, Window3d::new(2), &mut Rng::new(1)).unwrap().without_bias();
        let parameters: &[(&str, &[usize])] = &[("weight", &[2, 1, 2, 2, 2])];
        let expect = Expect { input: &[2, 2, 1, 2, 3], output: &[2, 1, 2, 3, 4], parameters, ..Expect::default() };
        check_module(&mut layer, &expect).unwrap();
    }

    #[test]
    fn each_input_is_spread_over_a_window() {
        let mut layer = ConvTranspose1d::new(1, 1, Window1d::new(3).stride(2), &mut Rng::new(3)).unwrap();
        layer.weight.set_value(Tensor::from([[[1.0f32, 2.0, 3.0]]])).unwrap();
        layer.bias.as_mut().unwrap().set_value(Tensor::from([0.5f32])).unwrap();
        let y = layer.output_padding(1).unwrap().forward(&Tensor::from([[[10.0f32, 100.0]]]).into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[[10.5f32, 20.5, 130.5, 200.5, 300.5, 0.5]]]));
    }

    #[test]
    fn is_a_step() {
        let window = Window2d::new(2).stride(2);
        let halves = ConvTransposeConfig { output_padding: [1, 0], ..ConvTransposeConfig::new(3, window) };
        let model = Sequential::input([2, 3, 3]).conv_transpose(4, window).step(halves).no_bias().build(1).unwrap();
        let labels: Vec<&str> = model.rows().iter().map(|row| &*row.label).collect();
        assert_eq!(labels[0], "ConvTranspose2d 2 → 4, 2×2, stride 2");
        assert_eq!(labels[1], "ConvTranspose2d 4 → 3, 2×2, stride 2, output padding 1×0");
        let y = model.forward(&Tensor::zeros([5, 2, 3, 3], DType::F32).into()).unwrap();
        assert_eq!(y.shape(), Shape::from([5, 3, 13, 12]));
        assert_eq!(model.rows()[1].output, Shape::from([3, 13, 12]));
        assert_eq!(model.rows()[0].flops, Some(2 * 9 * 2 * 4 * 4 + 4 * 36)); // a product each input and place, a sum each output
    }

    #[test]
    fn refuses_what_has_no_output() {
        let text = |i, o, window| ConvTranspose2d::new(i, o, window, &mut Rng::new(4)).err().unwrap().to_string();
        let help = "groups; help: use a number of groups that divides both";
        let three = Window2d::new(3).groups(3);
        assert_eq!(text(4, 6, three), format!("conv_transpose2d: 4 input channels do not divide into 3 {help}"));
        assert_eq!(text(6, 4, three), format!("conv_transpose2d: 4 output channels do not divide into 3 {help}"));
        assert_eq!(text(0, 1, Window2d::new(1)), "conv_transpose2d: in_channels is 0; help: use 1 or more");
        let layer = |window| ConvTranspose2d::new(1, 1, window, &mut Rng::new(4)).unwrap();
        let padded = layer(Window2d::new(3).stride(2)).output_padding(2).err().unwrap().to_string();
        let expected = "conv_transpose2d: output_padding 2 in height with stride 2 and dilation 1; \
                        help: it must be smaller than the stride or the dilation";
        assert_eq!(padded, expected);
        let x = Tensor::zeros([1, 1, 1, 1], DType::F32);
        let cut = layer(Window2d::new(3).padding(2)).forward(&x.into()).unwrap_err().to_string();
        assert_eq!(cut, "conv_transpose2d: padding 2 cuts all of the 3 in height; help: use less padding");
    }
}
