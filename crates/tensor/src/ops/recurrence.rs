//! What a recurrent layer is: its cell, its weights, its way along the sequences, and whether their sizes fit.

use crate::{Error, Result, Tensor};
use std::sync::Arc;

/// What a recurrent layer computes at each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// `h = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh)`
    RnnTanh,
    /// `h = relu(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh)`
    RnnRelu,
    /// Long short-term memory, with gates in the order i, f, g, o.
    Lstm,
    /// Gated recurrent unit, with gates in the order r, z, n, and `b_hn` inside the product with r.
    Gru,
}

impl Cell {
    /// The number of gates: the weights have as many rows as gates times hidden units.
    pub fn gates(self) -> usize {
        match self {
            Self::RnnTanh | Self::RnnRelu => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// The name in errors.
    pub fn op(self) -> &'static str {
        match self {
            Self::RnnTanh | Self::RnnRelu => "rnn",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        }
    }
}

/// How a recurrent layer goes along its sequences.
#[derive(Debug, Clone)]
pub struct Recurrence {
    /// What it computes at each step.
    pub cell: Cell,
    /// From the last step to the first.
    pub reverse: bool,
    /// The number of steps of each sequence; those beyond are padding.
    pub lengths: Option<Arc<[usize]>>,
    /// The output and its gradient lie sequence by sequence, `[n, t, h]`, instead of step by step, `[t, n, h]`.
    pub by_sequence: bool,
}

impl Recurrence {
    /// The steps in the order in which they are taken.
    pub fn steps(&self, count: usize) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let reverse = self.reverse;
        (0..count).map(move |i| if reverse { count - 1 - i } else { i })
    }

    /// Whether this step of this sequence is not padding.
    pub fn is_live(&self, step: usize, sequence: usize) -> bool {
        self.lengths.as_ref().is_none_or(|lengths| step < lengths[sequence])
    }

    /// Which row of the output, of so many steps of so many sequences, is that of this step of this sequence.
    pub(super) fn output_row(&self, [steps, batch]: [usize; 2], step: usize, sequence: usize) -> usize {
        if self.by_sequence { sequence * steps + step } else { step * batch + sequence }
    }

    /// Where the states before and after a step lie among all states: the initial one is the first or, backwards, the
    /// last.
    pub(super) fn place(&self, step: usize) -> [usize; 2] {
        if self.reverse { [step + 1, step] } else { [step, step + 1] }
    }

    /// The places of the initial and the final state.
    pub(super) fn ends(&self, steps: usize) -> [usize; 2] {
        if self.reverse { [steps, 0] } else { [0, steps] }
    }
}

/// An error unless there is a possible length for each of `batch` sequences of so many steps.
///
/// # Errors
/// Another number of lengths than sequences, or one outside `1..=steps`.
pub fn check_lengths(op: &'static str, lengths: &[usize], batch: usize, steps: usize) -> Result<()> {
    if lengths.len() != batch {
        let what = format!("{} lengths for {batch} sequences", lengths.len());
        return Err(Error::shape(op, what, "give one for each"));
    }
    match lengths.iter().position(|length| !(1..=steps).contains(length)) {
        None => Ok(()),
        Some(i) => {
            let what = format!("length {} of sequence {i}, which has {steps} steps", lengths[i]);
            Err(Error::value(op, what, format!("use 1 to {steps}")))
        }
    }
}

/// The weights of one direction of one recurrent layer, in PyTorch's layout, with `g` gates.
#[derive(Debug, Clone)]
pub struct RecurrentWeights<W> {
    /// `[g · hidden, input]`
    pub weight_ih: W,
    /// `[g · hidden, hidden]`, or `[g · hidden, projection]`
    pub weight_hh: W,
    /// `[g · hidden]`
    pub bias_ih: Option<W>,
    /// `[g · hidden]`
    pub bias_hh: Option<W>,
    /// `[projection, hidden]`, of an LSTM whose state is a projection
    pub weight_hr: Option<W>,
}

impl<W> RecurrentWeights<W> {
    /// `f` of each weight.
    pub fn map<'a, V>(&'a self, f: impl Fn(&'a W) -> V) -> RecurrentWeights<V> {
        RecurrentWeights {
            weight_ih: f(&self.weight_ih),
            weight_hh: f(&self.weight_hh),
            bias_ih: self.bias_ih.as_ref().map(&f),
            bias_hh: self.bias_hh.as_ref().map(&f),
            weight_hr: self.weight_hr.as_ref().map(&f),
        }
    }

    /// Each weight with its name, in PyTorch's order.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &W)> {
        let Self { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = self;
        let always = [("weight_ih", weight_ih), ("weight_hh", weight_hh)];
        let maybe = [("bias_ih", bias_ih), ("bias_hh", bias_hh), ("weight_hr", weight_hr)];
        always.into_iter().chain(maybe.into_iter().filter_map(|(name, weight)| Some((name, weight.as_ref()?))))
    }

    /// Each weight with its name, to be changed.
    pub fn named_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut W)> {
        let Self { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = self;
        let always = [("weight_ih", weight_ih), ("weight_hh", weight_hh)];
        let maybe = [("bias_ih", bias_ih), ("bias_hh", bias_hh), ("weight_hr", weight_hr)];
        always.into_iter().chain(maybe.into_iter().filter_map(|(name, weight)| Some((name, weight.as_mut()?))))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) hidden: usize,
    /// Differs from `hidden` with a projection.
    pub(super) state: usize,
    /// Gates times hidden units.
    pub(super) width: usize,
    /// What a cell remembers beside its state: `hidden` numbers, or none.
    pub(super) memory: usize,
    /// `hidden` with a projection, else 0.
    pub(super) projected: usize,
}

impl Sizes {
    /// About the nanoseconds that so many sequences take.
    pub(super) fn cost(&self, sequences: usize) -> f64 {
        (self.steps * sequences * self.width) as f64 * (0.02 * self.state as f64 + 1.0)
    }
}

/// The sizes, if all that takes part fits.
pub(super) fn check(
    x: &Tensor,
    h0: &Tensor,
    c0: Option<&Tensor>,
    weights: &RecurrentWeights<&Tensor>,
    recurrence: &Recurrence,
) -> Result<Sizes> {
    let Recurrence { cell, .. } = *recurrence;
    let op = cell.op();
    let [steps, batch, features] = x.dims(op)?;
    let [width, input] = weights.weight_ih.dims(op)?;
    let [_, state] = weights.weight_hh.dims(op)?;
    if features != input {
        let what = format!(
            "input {} has {features} features, weight_ih {} expects {input}",
            x.shape(),
            weights.weight_ih.shape()
        );
        return Err(Error::shape(op, what, format!("build the layer with input_size = {features}")));
    }
    if steps == 0 {
        return Err(Error::shape(op, format!("input {} has no steps", x.shape()), "give at least one"));
    }
    let hidden = width / cell.gates();
    if width == 0 || width % cell.gates() != 0 {
        let what = format!("weight_ih {} does not divide into {} gates", weights.weight_ih.shape(), cell.gates());
        return Err(Error::shape(op, what, "its rows are gates times hidden units"));
    }
    let is_lstm = cell == Cell::Lstm;
    for (what, is_there) in [("a projection (weight_hr)", weights.weight_hr.is_some()), ("a cell (c0)", c0.is_some())] {
        if is_there && !is_lstm {
            return Err(Error::value(op, format!("{what} belongs to an LSTM"), "leave it out"));
        }
    }
    let state_size = if weights.weight_hr.is_some() { state } else { hidden };
    let expect = |name: &str, found: &Tensor, wanted: &[usize]| -> Result<()> {
        x.same_dtype(op, found)?;
        if found.shape().sizes() == wanted {
            return Ok(());
        }
        Err(Error::shape(op, format!("{name} is {}", found.shape()), format!("it must be {wanted:?}")))
    };
    expect("weight_ih", weights.weight_ih, &[width, input])?;
    expect("weight_hh", weights.weight_hh, &[width, state_size])?;
    for (name, bias) in [("bias_ih", weights.bias_ih), ("bias_hh", weights.bias_hh)] {
        bias.map_or(Ok(()), |bias| expect(name, bias, &[width]))?;
    }
    weights.weight_hr.map_or(Ok(()), |weight| expect("weight_hr", weight, &[state, hidden]))?;
    expect("h0", h0, &[batch, state_size])?;
    c0.map_or(Ok(()), |c0| expect("c0", c0, &[batch, hidden]))?;
    recurrence.lengths.as_ref().map_or(Ok(()), |lengths| check_lengths(op, lengths, batch, steps))?;
    let memory = if matches!(cell, Cell::Lstm | Cell::Gru) { hidden } else { 0 };
    let projected = if weights.weight_hr.is_some() { hidden } else { 0 };
    Ok(Sizes { steps, batch, input, hidden, state: state_size, width, memory, projected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Shape};

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(Shape::of(shape), DType::F32)
    }

    #[test]
    fn steps_beyond_a_length_are_padding() {
        let recurrence =
            Recurrence { cell: Cell::Lstm, reverse: true, lengths: Some([2, 1].into()), by_sequence: false };
        let live = |step| [recurrence.is_live(step, 0), recurrence.is_live(step, 1)];
        assert_eq!([live(0), live(1), live(2)], [[true, true], [true, false], [false, false]]);
        assert!(Recurrence { lengths: None, ..recurrence }.is_live(9, 1));
    }

    #[test]
    fn weights_have_pytorchs_names_in_its_order() {
        let mut weights =
            RecurrentWeights { weight_ih: 1, weight_hh: 2, bias_ih: Some(3), bias_hh: None, weight_hr: Some(4) };
        weights.named_mut().for_each(|(_, weight)| *weight *= 10);
        let named: Vec<_> = weights.named().map(|(name, weight)| (name, *weight)).collect();
        assert_eq!(named, [("weight_ih", 10), ("weight_hh", 20), ("bias_ih", 30), ("weight_hr", 40)]);
    }

    /// For 3 features and 4 hidden units.
    fn weights(cell: Cell) -> RecurrentWeights<Tensor> {
        let width = 4 * cell.gates();
        RecurrentWeights {
            weight_ih: zeros(&[width, 3]),
            weight_hh: zeros(&[width, 4]),
            bias_ih: Some(zeros(&[width])),
            bias_hh: Some(zeros(&[width])),
            weight_hr: None,
        }
    }

    #[test]
    fn misfits_are_explained() {
        let along = |cell, lengths: Option<&[usize]>| {
            let lengths = lengths.map(Into::into);
            Recurrence { cell, reverse: false, lengths, by_sequence: false }
        };
        let good = weights(Cell::Lstm);
        let text = |x: &[usize], h0: &[usize], c0: &[usize], weights: &RecurrentWeights<Tensor>, lengths| {
            let way = along(Cell::Lstm, lengths);
            zeros(x).recurrent(&zeros(h0), Some(&zeros(c0)), &weights.map(|w| w), &way).err().unwrap().to_string()
        };
        let found = text(&[5, 2, 7], &[2, 4], &[2, 4], &good, None);
        let features = "input [5, 2, 7] has 7 features, weight_ih [16, 3] expects 3";
        assert_eq!(found, format!("lstm: {features}; help: build the layer with input_size = 7"));
        let found = text(&[0, 2, 3], &[2, 4], &[2, 4], &good, None);
        assert_eq!(found, "lstm: input [0, 2, 3] has no steps; help: give at least one");
        let found = text(&[5, 2, 3], &[1, 4], &[2, 4], &good, None);
        assert_eq!(found, "lstm: h0 is [1, 4]; help: it must be [2, 4]");
        let found = text(&[5, 2, 3], &[2, 4], &[2, 5], &good, None);
        assert_eq!(found, "lstm: c0 is [2, 5]; help: it must be [2, 4]");
        let lengths = |lengths| text(&[5, 2, 3], &[2, 4], &[2, 4], &good, Some(lengths));
        assert_eq!(lengths(&[5]), "lstm: 1 lengths for 2 sequences; help: give one for each");
        assert_eq!(lengths(&[5, 0]), "lstm: length 0 of sequence 1, which has 5 steps; help: use 1 to 5");
        assert_eq!(lengths(&[6, 2]), "lstm: length 6 of sequence 0, which has 5 steps; help: use 1 to 5");
        let short = RecurrentWeights { bias_hh: Some(zeros(&[15])), ..good.clone() };
        assert_eq!(text(&[5, 2, 3], &[2, 4], &[2, 4], &short, None), "lstm: bias_hh is [15]; help: it must be [16]");
        let odd = RecurrentWeights { weight_ih: zeros(&[15, 3]), ..good.clone() };
        let found = text(&[5, 2, 3], &[2, 4], &[2, 4], &odd, None);
        let help = "help: its rows are gates times hidden units";
        assert_eq!(found, format!("lstm: weight_ih [15, 3] does not divide into 4 gates; {help}"));
        let (x, h0) = (zeros(&[5, 2, 3]), zeros(&[2, 4]));
        let weights = RecurrentWeights { weight_hr: Some(zeros(&[2, 4])), ..weights(Cell::Gru) };
        let found = x.recurrent(&h0, None, &weights.map(|w| w), &along(Cell::Gru, None)).err().unwrap();
        assert_eq!(found.to_string(), "gru: a projection (weight_hr) belongs to an LSTM; help: leave it out");
        let weights = RecurrentWeights { weight_hr: None, ..weights };
        let found = x.recurrent(&h0, Some(&h0), &weights.map(|w| w), &along(Cell::Gru, None)).err().unwrap();
        assert_eq!(found.to_string(), "gru: a cell (c0) belongs to an LSTM; help: leave it out");
    }
}
