//! [`RecurrentCell`]: one step, behind [`RnnCell`], [`LstmCell`] and [`GruCell`].

use super::kind::{
    Gated, Kind, LongShort, RecurrentState, Simple, check_sizes, random_weights, visit_weights, visit_weights_mut,
};
use crate::{Error, Module, Result};
use maplet_autograd::{Item, ItemMut, Param, Path, Var, Visit};
use maplet_tensor::{Recurrence, RecurrentWeights, Rng, Tensor};
use std::marker::PhantomData;

/// One step of an [`Rnn`](crate::Rnn).
///
/// PyTorch: `nn.RNNCell`; Keras: `SimpleRNNCell`.
pub type RnnCell = RecurrentCell<Simple>;

/// One step of an [`Lstm`](crate::Lstm).
///
/// PyTorch: `nn.LSTMCell`; Keras: `LSTMCell`.
pub type LstmCell = RecurrentCell<LongShort>;

/// One step of a [`Gru`](crate::Gru).
///
/// PyTorch: `nn.GRUCell`; Keras: `GRUCell`.
pub type GruCell = RecurrentCell<Gated>;

/// One step of a recurrent layer, for loops of your own: a decoder that feeds on its own words. The formulas are those
/// of [`Recurrent`](crate::Recurrent). Use it as [`RnnCell`], [`LstmCell`] or [`GruCell`].
///
/// # Shapes
/// - input `[n, input_size]`, state (and an LSTM's cell) `[n, hidden_size]`; or all without `n`
///
/// # Parameters
/// - `weight_ih: [g · hidden_size, input_size]`, `weight_hh: [g · hidden_size, hidden_size]`, `bias_ih` and
///   `bias_hh: [g · hidden_size]`, all uniform in `±1/√hidden_size`; `g` is 1 (RNN), 4 (LSTM) or 3 (GRU)
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::LstmCell;
/// use maplet_tensor::{DType, Rng};
///
/// let cell = LstmCell::new(10, 20, &mut Rng::new(42))?;
/// let x = Var::from(Tensor::zeros([3, 10], DType::F32));
/// let mut state = cell.forward_with(&x, None)?;
/// for _ in 0..5 {
///     state = cell.forward_with(&x, Some(&state))?;
/// }
/// assert_eq!(state.0.shape(), [3, 20].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RecurrentCell<K> {
    /// The weights, without a projection.
    pub weights: RecurrentWeights<Param>,
    relu: bool,
    kind: PhantomData<K>,
}

impl<K: Kind> RecurrentCell<K> {
    /// A cell with random weights.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn new(input_size: usize, hidden_size: usize, rng: &mut Rng) -> Result<Self> {
        check_sizes(K::CELL_NAME, K::cell(false), [input_size, hidden_size], 1)?;
        let weights = random_weights(K::cell(false), [input_size, hidden_size, 0], true, rng)?;
        Ok(Self { weights, relu: false, kind: PhantomData })
    }

    /// The cell without its biases.
    pub fn without_bias(mut self) -> Self {
        (self.weights.bias_ih, self.weights.bias_hh) = (None, None);
        self
    }

    /// The state after the step. Without one, the state before is zeros.
    ///
    /// # Errors
    /// An input or a state of the wrong shape.
    pub fn forward_with(&self, x: &Var, state: Option<&K::State>) -> Result<K::State> {
        if x.rank() == 1 {
            let state = state.map(|state| state.map(|part| part.unsqueeze(0))).transpose()?;
            return self.forward_with(&x.unsqueeze(0)?, state.as_ref())?.map(|part| part.squeeze(0));
        }
        let [batch, features] = x.dims(K::CELL_NAME)?;
        let (weight, width) = (self.weights.weight_ih.shape(), self.weights.weight_hh.shape()[1]);
        if features != weight[1] {
            let what = format!("input {} has {features} features, weight_ih {weight} expects {}", x.shape(), weight[1]);
            return Err(Error::new(K::CELL_NAME, what, format!("build the cell with input_size = {features}")));
        }
        let zeros = || x.constant(Tensor::zeros([batch, width], x.dtype()));
        let h0 = state.map_or_else(zeros, |state| state.h().clone());
        let recurrence = Recurrence { cell: K::cell(self.relu), reverse: false, lengths: None, by_sequence: false };
        let weights = self.weights.map(|weight| weight.on(x));
        let [_, h, c] = x.unsqueeze(0)?.recurrent(&h0, state.and_then(K::State::c), &weights, &recurrence)?;
        Ok(K::State::of(h, c))
    }
}

impl RnnCell {
    /// The cell with a ReLU in place of the hyperbolic tangent.
    pub fn relu(self) -> Self {
        Self { relu: true, ..self }
    }
}

/// The state after one step from zeros.
impl<K: Kind> Module for RecurrentCell<K> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(self.forward_with(x, None)?.h().clone())
    }
}

impl<K: Kind> Visit for RecurrentCell<K> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        visit_weights(&self.weights, "", path, show);
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        visit_weights_mut(&mut self.weights, "", path, show);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Recurrent, RecurrentOptions, check_module};
    use maplet_tensor::DType;

    /// Two steps on one input, so that the state's weights take part.
    struct Twice<K>(RecurrentCell<K>);

    impl<K: Kind> Visit for Twice<K> {
        fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
            self.0.visit(path, show);
        }

        fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
            self.0.visit_mut(path, show);
        }
    }

    impl<K: Kind> Module for Twice<K> {
        fn forward(&self, x: &Var) -> Result<Var> {
            let state = self.0.forward_with(x, None)?;
            Ok(self.0.forward_with(x, Some(&state))?.h().clone())
        }
    }

    fn behaves<K: Kind>(gates: usize, name: &str) {
        let mut cell = Twice(RecurrentCell::<K>::new(2, 3, &mut Rng::new(1)).unwrap());
        let width = 3 * gates;
        let [w_ih, w_hh, b] = [&[width, 2][..], &[width, 3], &[width]];
        let parameters = &[("weight_ih", w_ih), ("weight_hh", w_hh), ("bias_ih", b), ("bias_hh", b)];
        let features = format!(
            "{name}: input [2, 5] has 5 features, weight_ih [{width}, 2] expects 2; \
             help: build the cell with input_size = 5"
        );
        let refuses: &[(&[usize], &str)] = &[(&[2, 5], &features)];
        let expect = Expect { input: &[4, 2], output: &[4, 3], parameters, refuses, ..Expect::default() };
        check_module(&mut cell, &expect).unwrap();
        let mut cell = Twice(cell.0.without_bias());
        check_module(&mut cell, &Expect { parameters: &parameters[..2], refuses: &[], ..expect }).unwrap();
    }

    #[test]
    fn behave_as_modules() {
        behaves::<Simple>(1, "rnn_cell");
        behaves::<LongShort>(4, "lstm_cell");
        behaves::<Gated>(3, "gru_cell");
    }

    /// Step by step a cell does what a layer with its weights does.
    #[test]
    fn steps_are_a_layer() {
        let cell = RnnCell::new(2, 3, &mut Rng::new(1)).unwrap().relu();
        let mut layer = Recurrent::<Simple>::new(2, 3, RecurrentOptions::new().relu(), &mut Rng::new(2)).unwrap();
        layer.weights = vec![cell.weights.clone()];
        let x = Var::from(Tensor::normal([4, 5, 2], 0.0f32, 1.0, &mut Rng::new(3)));
        let (y, h_n) = layer.forward_with(&x, None, None).unwrap();
        let mut state = None;
        for step in x.split(1, 0).unwrap() {
            state = Some(cell.forward_with(&step.squeeze(0).unwrap(), state.as_ref()).unwrap());
        }
        let last = state.unwrap();
        assert!(last.value().sub(&h_n.value().squeeze(0).unwrap()).unwrap().squared_norm() < 1e-12);
        assert_eq!(y.value().slice(0, 3, 4).unwrap(), *h_n.value());
    }

    #[test]
    fn wrong_sizes_and_states_are_refused() {
        let text = LstmCell::new(2, 0, &mut Rng::new(1)).err().unwrap().to_string();
        assert_eq!(text, "lstm_cell: hidden_size is 0; help: use 1 or more");
        let cell = GruCell::new(2, 3, &mut Rng::new(1)).unwrap();
        let zeros = |shape: [usize; 2]| Var::from(Tensor::zeros(shape, DType::F32));
        let text = cell.forward_with(&zeros([4, 2]), Some(&zeros([5, 3]))).err().unwrap().to_string();
        assert_eq!(text, "gru: h0 is [5, 3]; help: it must be [4, 3]");
    }
}
