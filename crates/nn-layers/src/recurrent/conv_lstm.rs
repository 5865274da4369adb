//! [`ConvLstm`]: an LSTM whose products are convolutions, behind [`ConvLstm1d`], [`ConvLstm2d`] and [`ConvLstm3d`].

use crate::init::{self, Fan, Gain};
use crate::plan::weight_shape;
use crate::{Error, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Activation, Rng, Shape, Tensor, Window};

/// An LSTM over sequences of sequences.
///
/// PyTorch: –; Keras: `ConvLSTM1D`.
pub type ConvLstm1d = ConvLstm<1>;

/// An LSTM over sequences of images.
///
/// PyTorch: –; Keras: `ConvLSTM2D`.
pub type ConvLstm2d = ConvLstm<2>;

/// An LSTM over sequences of volumes.
///
/// PyTorch: –; Keras: `ConvLSTM3D`.
pub type ConvLstm3d = ConvLstm<3>;

/// An LSTM whose products are convolutions, so that its state is an image: what comes next in a film or on a radar. Use
/// it as [`ConvLstm1d`], [`ConvLstm2d`] or [`ConvLstm3d`].
///
/// At each step `i, f, g, o` are the channels of `W_ih ∗ x + W_hh ∗ h + bias`; `c = σ(f) c + σ(i) tanh(g)`;
/// `h = σ(o) tanh(c)`. As in Keras there are no peepholes, and the state's convolution keeps its size: zeros are put
/// around it, the odd one behind.
///
/// # Shapes
/// - input `[n, t, in_channels, ..spatial]`, output `[n, t, out_channels, ..spatial′]` with [`Window::output`]'s sizes
/// - state and cell `[n, out_channels, ..spatial′]`
///
/// # Parameters
/// - `weight_ih: [4 · out_channels, in_channels, ..kernel]`, `weight_hh: [4 · out_channels, out_channels, ..kernel]`,
///   both uniform in `±1/√fan_in`, as in a convolution; `bias: [4 · out_channels]`, ones for `f`, else zeros (Keras)
///
/// # Numerics
/// Saves the gates and states of all steps: `O(t)` memory.
///
/// # Reference
/// Shi et al. (2015), "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting", eq. 3,
/// without the terms `W_c ∘ C`.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{ConvLstm2d, Module};
/// use maplet_tensor::{DType, Rng, Window2d};
///
/// let layer = ConvLstm2d::new(1, 4, Window2d::new(3).padding(1), &mut Rng::new(42))?;
/// let film = Var::from(Tensor::zeros([2, 5, 1, 8, 8], DType::F32));
/// assert_eq!(layer.forward(&film)?.shape(), [2, 5, 4, 8, 8].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvLstm<const D: usize> {
    /// `[4 · out_channels, in_channels, ..kernel]`
    pub weight_ih: Param,
    /// `[4 · out_channels, out_channels, ..kernel]`
    pub weight_hh: Param,
    /// `[4 · out_channels]`
    pub bias: Option<Param>,
    window: Window<D>,
}
fields!([const D: usize] ConvLstm<D>: weight_ih, weight_hh, bias; window);

impl<const D: usize> ConvLstm<D> {
    const OP: &'static str = ["conv_lstm1d", "conv_lstm2d", "conv_lstm3d"][D - 1];

    /// A layer with random weights; `window` is that of the input's convolution.
    ///
    /// # Errors
    /// A size of zero, groups, or more weights than a model can have.
    pub fn new(in_channels: usize, out_channels: usize, window: Window<D>, rng: &mut Rng) -> Result<Self> {
        window.check(Self::OP)?;
        if window.groups != 1 {
            return Err(Error::new(Self::OP, format!("groups is {}", window.groups), "use 1"));
        }
        let mut draw = |name, channels| -> Result<Param> {
            let kernel = window.kernel.map(|size| ("kernel size", size));
            let gates = [("gates", 4), ("out_channels", out_channels), (name, channels)];
            weight_shape(Self::OP, &[&gates[..], &kernel].concat())?;
            let shape = Shape::new(&[&[4 * out_channels, channels][..], &window.kernel].concat())?;
            Ok(Param::new(init::kaiming_uniform(shape, 1, Fan::In, Gain::LeakyRelu(5f64.sqrt()), rng)?))
        };
        let (weight_ih, weight_hh) = (draw("in_channels", in_channels)?, draw("out_channels", out_channels)?);
        let [zeros, ones] = [init::zeros([out_channels]), init::ones([out_channels])];
        let bias = Tensor::concat(&[&zeros, &ones, &zeros, &zeros], 0)?;
        Ok(Self { weight_ih, weight_hh, bias: Some(Param::new(bias)), window })
    }

    /// The layer without its bias.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// The state of every step, and state and cell after the last one. Without a `state` it begins with zeros.
    ///
    /// # Errors
    /// An input or a state of the wrong shape, or no steps.
    pub fn forward_with(&self, x: &Var, state: Option<&(Var, Var)>) -> Result<(Var, (Var, Var))> {
        let shape = x.shape();
        let (&[batch, steps, ref image @ ..], true) = (shape.sizes(), shape.rank() == D + 3) else {
            let what = format!("expects {} axes, got {shape} with {}", D + 3, shape.rank());
            return Err(Error::new(Self::OP, what, "the input is [n, t, channels, ..spatial]"));
        };
        if steps == 0 {
            return Err(Error::new(Self::OP, format!("input {shape} has no steps"), "give at least one"));
        }
        let (weight, bias) = (self.weight_hh.on(x), self.bias.as_ref().map(|bias| bias.on(x)));
        let images = x.reshape(Shape::new(&[&[batch * steps], image].concat())?)?;
        let gates = images.conv_bias(&self.weight_ih.on(x), bias.as_ref(), self.window, Activation::Identity)?;
        let channels = self.weight_hh.shape()[1];
        let places = gates.shape()[2..].to_vec();
        let gates = gates.reshape(Shape::new(&[&[batch, steps, 4 * channels][..], &places].concat())?)?;

        let expected = Shape::new(&[&[batch, channels][..], &places].concat())?;
        let initial = |name: &str, given: Option<&Var>| match given {
            Some(given) if given.shape() == expected => Ok(given.clone()),
            Some(given) => {
                Err(Error::new(Self::OP, format!("{name} is {}", given.shape()), format!("it must be {expected}")))
            }
            None => Ok(x.constant(Tensor::zeros(expected, x.dtype()))),
        };
        let mut h = initial("h0", state.map(|state| &state.0))?;
        let mut c = initial("c0", state.map(|state| &state.1))?;
        let mut outputs = Vec::with_capacity(steps);
        for gates in gates.split(1, 1)? {
            let gates = gates.squeeze(1)?.add(&self.same_conv(&h, &weight)?)?.split(channels, 1)?;
            let [i, f, o] = [0, 1, 3].map(|gate: usize| gates[gate].sigmoid());
            c = f.mul(&c)?.add(&i.mul(&gates[2].tanh())?)?;
            h = o.mul(&c.tanh())?;
            outputs.push(h.clone());
        }
        Ok((Var::stack(&outputs.iter().collect::<Vec<_>>(), 1)?, (h, c)))
    }

    /// The convolution that keeps the size of `h`.
    fn same_conv(&self, h: &Var, weight: &Var) -> Result<Var> {
        let around = self.window.kernel.map(|size| ((size - 1) / 2, size / 2));
        let window = Window::new(self.window.kernel);
        if around.iter().all(|(before, after)| before == after) {
            return Ok(h.conv(weight, window.padding(around.map(|(before, _)| before)))?);
        }
        Ok(h.pad(&[&[(0, 0); 2][..], &around].concat(), 0.0)?.conv(weight, window)?)
    }
}

/// The states of all steps, from zeros.
impl<const D: usize> Module for ConvLstm<D> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(self.forward_with(x, None)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Lstm, RecurrentOptions, check_module};
    use maplet_tensor::{DType, Window1d, Window2d};

    #[test]
    fn behave_as_modules() {
        let window = Window2d::new([3, 2]).padding([1, 0]);
        let mut layer = ConvLstm2d::new(1, 2, window, &mut Rng::new(1)).unwrap();
        let axes = "conv_lstm2d: expects 5 axes, got [2, 3, 3] with 3; help: the input is [n, t, channels, ..spatial]";
        let expect = Expect {
            input: &[2, 3, 1, 2, 3],
            output: &[2, 3, 2, 2, 2],
            parameters: &[("weight_ih", &[8, 1, 3, 2]), ("weight_hh", &[8, 2, 3, 2]), ("bias", &[8])],
            refuses: &[
                (&[2, 3, 3], axes),
                (&[2, 0, 1, 2, 3], "conv_lstm2d: input [2, 0, 1, 2, 3] has no steps; help: give at least one"),
            ],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
        let mut layer = ConvLstm1d::new(2, 2, Window1d::new(1), &mut Rng::new(1)).unwrap().without_bias();
        let parameters: &[(&str, &[usize])] = &[("weight_ih", &[8, 2, 1]), ("weight_hh", &[8, 2, 1])];
        let expect = Expect { input: &[2, 2, 2, 3], output: &[2, 2, 2, 3], parameters, ..Expect::default() };
        check_module(&mut layer, &expect).unwrap();
    }

    /// On images of one pixel with a kernel of one, it is an LSTM.
    #[test]
    fn one_pixel_is_an_lstm() {
        let layer = ConvLstm2d::new(3, 4, Window2d::new(1), &mut Rng::new(1)).unwrap();
        let options = RecurrentOptions::new().batch_first();
        let mut lstm = Lstm::new(3, 4, options, &mut Rng::new(2)).unwrap();
        let weights = &mut lstm.weights[0];
        weights.weight_ih.set_value(layer.weight_ih.value().reshape([16, 3]).unwrap()).unwrap();
        weights.weight_hh.set_value(layer.weight_hh.value().reshape([16, 4]).unwrap()).unwrap();
        weights.bias_ih = layer.bias.clone();
        weights.bias_hh = None;
        let x = Tensor::normal([2, 5, 3], 0.0f32, 1.0, &mut Rng::new(3));
        let want = lstm.forward(&Var::from(&x)).unwrap().into_value();
        let found = layer.forward(&x.reshape([2, 5, 3, 1, 1]).unwrap().into()).unwrap().into_value();
        assert!(found.reshape([2, 5, 4]).unwrap().sub(&want).unwrap().squared_norm() < 1e-12);
    }

    #[test]
    fn impossible_sizes_and_states_are_refused() {
        let text = |i, o, window| ConvLstm2d::new(i, o, window, &mut Rng::new(1)).err().unwrap().to_string();
        assert_eq!(text(1, 0, Window2d::new(3)), "conv_lstm2d: out_channels is 0; help: use 1 or more");
        assert_eq!(text(0, 1, Window2d::new(3)), "conv_lstm2d: in_channels is 0; help: use 1 or more");
        assert_eq!(text(1, 1, Window2d::new(0)), "conv_lstm2d: kernel is 0; help: use 1 to 1048576");
        assert_eq!(text(2, 2, Window2d::new(3).groups(2)), "conv_lstm2d: groups is 2; help: use 1");
        let layer = ConvLstm2d::new(1, 2, Window2d::new(1), &mut Rng::new(1)).unwrap();
        let zeros = |shape: [usize; 4]| Var::from(Tensor::zeros(shape, DType::F32));
        let x = Var::from(Tensor::zeros([2, 3, 1, 2, 2], DType::F32));
        let state = (zeros([2, 2, 2, 2]), zeros([2, 1, 2, 2]));
        let text = layer.forward_with(&x, Some(&state)).err().unwrap().to_string();
        assert_eq!(text, "conv_lstm2d: c0 is [2, 1, 2, 2]; help: it must be [2, 2, 2, 2]");
    }
}
