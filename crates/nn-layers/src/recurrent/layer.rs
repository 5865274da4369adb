//! [`Recurrent`]: the layer behind [`Rnn`], [`Lstm`] and [`Gru`].

use super::kind::{
    Gated, Kind, LongShort, RecurrentState, Simple, check_sizes, random_weights, visit_weights, visit_weights_mut,
};
use super::options::RecurrentOptions;
use crate::{Error, Module, Result};
use maplet_autograd::{Item, ItemMut, Param, Path, Var, Visit};
use maplet_tensor::{Cell, Recurrence, RecurrentWeights, Rng, Shape, Tensor};
use std::marker::PhantomData;
use std::sync::Arc;

/// A recurrent layer with tanh or, by [`RecurrentOptions::relu`], ReLU.
///
/// PyTorch: `nn.RNN`; Keras: `SimpleRNN`.
pub type Rnn = Recurrent<Simple>;

/// Long short-term memory, with a projection by [`RecurrentOptions::proj_size`].
///
/// PyTorch: `nn.LSTM`; Keras: `LSTM`.
pub type Lstm = Recurrent<LongShort>;

/// The gated recurrent unit, whose reset gate multiplies the state's product (Keras: `reset_after=True`).
///
/// PyTorch: `nn.GRU`; Keras: `GRU`.
pub type Gru = Recurrent<Gated>;

/// One or several recurrent layers, one upon the other, forwards or both ways, over sequences of equal or different
/// lengths. Use it as [`Rnn`], [`Lstm`] or [`Gru`].
///
/// At each step, from the input `x` and the state before, with `σ` for the sigmoid:
///
/// - [`Rnn`]: `h = tanh(W_ih x + b_ih + W_hh h + b_hh)`
/// - [`Lstm`]: `i, f, g, o` are the parts of `W_ih x + b_ih + W_hh h + b_hh`; `c = σ(f) c + σ(i) tanh(g)`;
///   `h = σ(o) tanh(c)`, times `W_hr` with a projection
/// - [`Gru`]: `r = σ(W_ir x + b_ir + W_hr h + b_hr)`, `z` likewise; `n = tanh(W_in x + b_in + r (W_hn h + b_hn))`;
///   `h = (1 − z) n + z h`
///
/// # Shapes
/// - input `[t, n, input_size]`, or `[n, t, input_size]` with [`RecurrentOptions::batch_first`] (PyTorch's default is
///   without, and so is ours)
/// - output `[t, n, d · h]`, or `[n, t, d · h]`: `d` is 2 for both ways, else 1; `h` is `hidden_size`, or the
///   projection's
/// - states `[num_layers · d, n, h]`, and an LSTM's cells `[num_layers · d, n, hidden_size]`
/// - or one sequence `[t, input_size]`, and all of these without `n`
///
/// # Parameters
/// - for layer `l`: `weight_ih_l{l}: [g · hidden_size, input_size or d · h]`, `weight_hh_l{l}: [g · hidden_size, h]`,
///   `bias_ih_l{l}` and `bias_hh_l{l}: [g · hidden_size]`, `weight_hr_l{l}: [h, hidden_size]` with a projection; and
///   the same with the suffix `_reverse` for the other way. `g` is 1 (RNN), 4 (LSTM: i, f, g, o) or 3 (GRU: r, z, n).
///   All are uniform in `±1/√hidden_size`.
///
/// # Reference
/// Elman (1990), "Finding Structure in Time"; Hochreiter & Schmidhuber (1997), "Long Short-Term Memory"; Sak, Senior &
/// Beaufays (2014), "Long Short-Term Memory Recurrent Neural Network Architectures"; Cho et al. (2014), "Learning
/// Phrase Representations using RNN Encoder-Decoder".
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Lstm, RecurrentOptions};
/// use maplet_tensor::{DType, Rng};
///
/// let layer = Lstm::new(28, 128, RecurrentOptions::new().batch_first().bidirectional(), &mut Rng::new(42))?;
/// let x = Var::from(Tensor::zeros([2, 10, 28], DType::F32));
/// let (y, (h_n, _)) = layer.forward_with(&x, None, Some(&[10, 7]))?; // the second sequence ends after 7 steps
/// assert_eq!((y.shape(), h_n.shape()), ([2, 10, 256].into(), [2, 2, 128].into()));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Recurrent<K> {
    /// Those of each layer, forwards and then, if it goes both ways, backwards.
    pub weights: Vec<RecurrentWeights<Param>>,
    hidden_size: usize,
    options: RecurrentOptions,
    kind: PhantomData<K>,
}

impl<K: Kind> Recurrent<K> {
    /// A layer with random weights.
    ///
    /// # Errors
    /// A size of zero, options that the kind does not have, dropout outside `[0, 1)`, a projection that is not smaller
    /// than the state, or more weights than a model can have.
    pub fn new(input_size: usize, hidden_size: usize, options: RecurrentOptions, rng: &mut Rng) -> Result<Self> {
        Self::check(input_size, hidden_size, &options)?;
        let (cell, directions) = (K::cell(options.relu), options.directions());
        let later = directions * options.output_size(hidden_size);
        let layer = |i: usize| {
            let input_size = if i < directions { input_size } else { later };
            random_weights(cell, [input_size, hidden_size, options.proj_size], options.bias, rng)
        };
        let weights = (0..options.num_layers * directions).map(layer).collect::<Result<_>>()?;
        Ok(Self { weights, hidden_size, options, kind: PhantomData })
    }

    /// An error unless there can be such a layer.
    pub(super) fn check(input_size: usize, hidden_size: usize, options: &RecurrentOptions) -> Result<()> {
        options.check(K::NAME, hidden_size)?;
        check_sizes(K::NAME, K::cell(options.relu), [input_size, hidden_size], options.num_layers)
    }

    /// The options it was made with.
    pub fn options(&self) -> &RecurrentOptions {
        &self.options
    }

    /// The output of every step of the last layer, and the state of every layer after the last step.
    ///
    /// `state` is where it begins, zeros without one. `lengths` are the numbers of steps of the sequences: what lies
    /// beyond is padding, whose outputs are zeros; the last state is that after a sequence's own last step, and
    /// backwards each sequence begins at its own end, as in PyTorch's packed sequences.
    ///
    /// # Errors
    /// An input or a state of the wrong shape, or lengths that are not one of `1..=t` for each sequence.
    pub fn forward_with(
        &self,
        x: &Var,
        state: Option<&K::State>,
        lengths: Option<&[usize]>,
    ) -> Result<(Var, K::State)> {
        if x.rank() == 2 {
            // One sequence: an axis for the batch is put in, and taken out again.
            let axis = if self.options.batch_first { 0 } else { 1 };
            let state = state.map(|state| state.map(|part| part.unsqueeze(1))).transpose()?;
            let (y, state) = self.forward_with(&x.unsqueeze(axis)?, state.as_ref(), lengths)?;
            return Ok((y.squeeze(axis)?, state.map(|part| part.squeeze(1))?));
        }
        let directions = self.options.directions();
        let [first, second, _] = x.dims(K::NAME)?;
        let (mut y, batch) = if self.options.batch_first { (x.transpose(0, 1)?, first) } else { (x.clone(), second) };
        let state_size = self.options.output_size(self.hidden_size);
        let h0 = self.initial(x, "h0", state.map(K::State::h), [batch, state_size])?;
        let c0 = self.initial(x, "c0", state.and_then(K::State::c), [batch, self.hidden_size])?;
        let mut recurrence = Recurrence {
            cell: K::cell(self.options.relu),
            reverse: false,
            lengths: lengths.map(Arc::from),
            by_sequence: false,
        };
        let has_cell = recurrence.cell == Cell::Lstm;
        let (mut h_n, mut c_n) = (Vec::new(), Vec::new());
        for (layer, weights) in self.weights.chunks(directions).enumerate() {
            if layer > 0 && self.options.dropout > 0.0 {
                y = y.dropout(self.options.dropout)?;
            }
            // Between layers steps lie together.
            recurrence.by_sequence = self.options.batch_first && layer + 1 == self.weights.len() / directions;
            let mut outputs = Vec::with_capacity(directions);
            for (direction, weights) in weights.iter().enumerate() {
                let i = layer * directions + direction;
                recurrence.reverse = direction == 1;
                let weights = weights.map(|weight| weight.on(x));
                let [output, h, c] = y.recurrent(&h0[i], has_cell.then(|| &c0[i]), &weights, &recurrence)?;
                outputs.push(output);
                h_n.push(h);
                c_n.push(c);
            }
            y = joined(outputs, |outputs| Var::concat(outputs, 2))?;
        }
        let [h_n, c_n] = [h_n, c_n].map(|states| Var::stack(&states.iter().collect::<Vec<_>>(), 0));
        Ok((y, K::State::of(h_n?, c_n?)))
    }

    /// The initial state of each layer and direction: parts of `given`, or zeros.
    fn initial(&self, x: &Var, name: &str, given: Option<&Var>, [batch, size]: [usize; 2]) -> Result<Vec<Var>> {
        let count = self.weights.len();
        let Some(given) = given else {
            return Ok(vec![x.constant(Tensor::zeros([batch, size], x.dtype())); count]);
        };
        let expected = Shape::from([count, batch, size]);
        if given.shape() != expected {
            let what = format!("{name} is {}", given.shape());
            return Err(Error::new(K::NAME, what, format!("it must be {expected}")));
        }
        given.split(1, 0)?.iter().map(|state| Ok(state.squeeze(0)?)).collect()
    }

    /// `_l0`, `_l0_reverse`, `_l1`, …
    fn suffix(directions: usize, i: usize) -> String {
        format!("_l{}{}", i / directions, if i % directions == 1 { "_reverse" } else { "" })
    }
}

/// The only value, or all of them joined.
fn joined(mut values: Vec<Var>, join: impl Fn(&[&Var]) -> maplet_autograd::Result<Var>) -> Result<Var> {
    match values.len() {
        1 => Ok(values.remove(0)),
        _ => Ok(join(&values.iter().collect::<Vec<_>>())?),
    }
}

/// The outputs from a state of zeros.
impl<K: Kind> Module for Recurrent<K> {
    fn forward(&self, x: &Var) -> Result<Var> {
        Ok(self.forward_with(x, None, None)?.0)
    }
}

/// Parameters have PyTorch's names: `weight_ih_l0`, `weight_hh_l0`, …, `weight_ih_l0_reverse`, ….
impl<K: Kind> Visit for Recurrent<K> {
    fn visit<'a>(&'a self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, Item<'a>)) {
        let directions = self.options.directions();
        for (i, weights) in self.weights.iter().enumerate() {
            visit_weights(weights, &Self::suffix(directions, i), path, show);
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>)) {
        let directions = self.options.directions();
        for (i, weights) in self.weights.iter_mut().enumerate() {
            visit_weights_mut(weights, &Self::suffix(directions, i), path, show);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Named, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::DType;

    fn options() -> RecurrentOptions {
        RecurrentOptions::new()
    }

    fn make<K: Kind>(input_size: usize, hidden_size: usize, options: RecurrentOptions) -> Recurrent<K> {
        Recurrent::new(input_size, hidden_size, options, &mut Rng::new(7)).unwrap()
    }

    fn normal(shape: [usize; 3]) -> Tensor {
        Tensor::normal(shape, 0.0f32, 1.0, &mut Rng::new(3))
    }

    #[test]
    fn behave_as_modules() {
        let parameters: Named<'_> =
            &[("weight_ih_l0", &[3, 2]), ("weight_hh_l0", &[3, 3]), ("bias_ih_l0", &[3]), ("bias_hh_l0", &[3])];
        let features = "rnn: input [4, 2, 5] has 5 features, weight_ih [3, 2] expects 2; \
                        help: build the layer with input_size = 5";
        let axes = "rnn: expects 3 axes, got [2] with 1; help: reshape or unsqueeze the input";
        let refuses: &[(&[usize], &str)] = &[(&[2, 4, 5], features), (&[2], axes)];
        let expect = Expect { input: &[2, 4, 2], output: &[2, 4, 3], parameters, refuses, ..Expect::default() };
        check_module(&mut make::<Simple>(2, 3, options().batch_first()), &expect).unwrap();

        let parameters: Named<'_> = &[
            ("weight_ih_l0", &[9, 2]),
            ("weight_hh_l0", &[9, 3]),
            ("weight_ih_l0_reverse", &[9, 2]),
            ("weight_hh_l0_reverse", &[9, 3]),
            ("weight_ih_l1", &[9, 6]),
            ("weight_hh_l1", &[9, 3]),
            ("weight_ih_l1_reverse", &[9, 6]),
            ("weight_hh_l1_reverse", &[9, 3]),
        ];
        let expect = Expect { output: &[2, 4, 6], parameters, refuses: &[], ..expect };
        let both = options().batch_first().bidirectional().num_layers(2).dropout(0.4).without_bias();
        check_module(&mut make::<Gated>(2, 3, both), &expect).unwrap();

        let parameters: Named<'_> = &[
            ("weight_ih_l0", &[12, 2]),
            ("weight_hh_l0", &[12, 2]),
            ("bias_ih_l0", &[12]),
            ("bias_hh_l0", &[12]),
            ("weight_hr_l0", &[2, 3]),
        ];
        let expect = Expect { output: &[2, 4, 2], parameters, ..expect };
        check_module(&mut make::<LongShort>(2, 3, options().batch_first().proj_size(2)), &expect).unwrap();
    }

    /// Two calls on parts of a sequence, the state handed over, are one call on all of it.
    #[test]
    fn the_state_carries_on() {
        let layer: Lstm = make(3, 4, options().num_layers(2));
        let x = Var::from(normal([6, 2, 3]));
        let (whole, (h, c)) = layer.forward_with(&x, None, None).unwrap();
        let (first, state) = layer.forward_with(&x.slice(0, 0, 2).unwrap(), None, None).unwrap();
        let (second, (h_2, c_2)) = layer.forward_with(&x.slice(0, 2, 6).unwrap(), Some(&state), None).unwrap();
        let parts = Var::concat(&[&first, &second], 0).unwrap();
        for (a, b) in [(&whole, &parts), (&h, &h_2), (&c, &c_2)] {
            assert!(a.value().sub(b.value()).unwrap().squared_norm() < 1e-12);
        }
    }

    #[test]
    fn dropout_is_between_layers_and_in_training_only() {
        let (one, two) =
            (make::<Simple>(3, 4, options().dropout(0.5)), make::<Simple>(3, 4, options().dropout(0.5).num_layers(2)));
        let x = normal([5, 2, 3]);
        let run = |layer: &Rnn, pass: Pass| layer.forward(&pass.input(&x)).unwrap().into_value();
        assert_eq!(run(&one, Pass::train(1)), run(&one, Pass::record()));
        assert_ne!(run(&two, Pass::train(1)), run(&two, Pass::record()));
        assert_eq!(run(&two, Pass::train(1)), run(&two, Pass::train(1)));
    }

    #[test]
    fn weights_begin_as_in_pytorch() {
        let layer: Gru = make(3, 64, options());
        let bound = 1.0 / 8.0;
        for (_, weight) in layer.weights[0].named() {
            let most = weight.value().abs().max(.., false).unwrap().item::<f32>().unwrap();
            assert!(most <= bound && most > 0.9 * bound, "{most}");
        }
    }

    #[test]
    fn impossible_options_are_refused() {
        fn text<K: Kind>(input_size: usize, hidden_size: usize, options: RecurrentOptions) -> String {
            Recurrent::<K>::new(input_size, hidden_size, options, &mut Rng::new(1)).err().unwrap().to_string()
        }
        assert_eq!(text::<LongShort>(2, 0, options()), "lstm: hidden_size is 0; help: use 1 or more");
        assert_eq!(text::<Gated>(0, 2, options()), "gru: input_size is 0; help: use 1 or more");
        assert_eq!(text::<Simple>(2, 2, options().num_layers(0)), "rnn: num_layers is 0; help: use 1 or more");
        for dropout in [1.0, -0.1, f64::NAN] {
            let want = format!("rnn: dropout is {dropout}; help: use a probability from 0 to below 1");
            assert_eq!(text::<Simple>(2, 2, options().dropout(dropout)), want);
        }
        let found = text::<LongShort>(2, 4, options().proj_size(4));
        let help = "help: use a smaller projection, or none";
        assert_eq!(found, format!("lstm: proj_size 4 is not below hidden_size 4; {help}"));
        let found = text::<Gated>(2, 4, options().proj_size(2));
        assert_eq!(found, "gru: proj_size is 2; help: only an Lstm projects its state");
        let found = text::<LongShort>(2, 4, options().relu());
        assert_eq!(found, "lstm: relu() is set; help: only an Rnn has another nonlinearity");
        let found = text::<Gated>(2, 4, options().num_layers(usize::MAX));
        let many = "num_layers 18446744073709551615 × gates 3 × hidden_size 4 × hidden_size 4";
        let help = "is more weights than a model can have; help: stay below 4294967296";
        assert_eq!(found, format!("gru: {many} {help}"));
        let found = text::<LongShort>(1 << 40, 4, options());
        let many = "gates 4 × hidden_size 4 × input_size 1099511627776 is more weights than a model can have";
        assert_eq!(found, format!("lstm: {many}; help: stay below 4294967296"));
    }

    #[test]
    fn wrong_lengths_and_states_are_refused() {
        let layer: Lstm = make(3, 4, options().num_layers(2));
        let x = Var::from(normal([5, 2, 3]));
        let zeros = |shape: [usize; 3]| Var::from(Tensor::zeros(shape, DType::F32));
        let text = |state: Option<&(Var, Var)>, lengths: Option<&[usize]>| {
            layer.forward_with(&x, state, lengths).err().unwrap().to_string()
        };
        assert_eq!(text(None, Some(&[5])), "lstm: 1 lengths for 2 sequences; help: give one for each");
        let found = text(None, Some(&[5, 6]));
        assert_eq!(found, "lstm: length 6 of sequence 1, which has 5 steps; help: use 1 to 5");
        let found = text(None, Some(&[0, 5]));
        assert_eq!(found, "lstm: length 0 of sequence 0, which has 5 steps; help: use 1 to 5");
        let found = text(Some(&(zeros([1, 2, 4]), zeros([2, 2, 4]))), None);
        assert_eq!(found, "lstm: h0 is [1, 2, 4]; help: it must be [2, 2, 4]");
        let found = text(Some(&(zeros([2, 2, 4]), zeros([2, 2, 3]))), None);
        assert_eq!(found, "lstm: c0 is [2, 2, 3]; help: it must be [2, 2, 4]");
    }
}
