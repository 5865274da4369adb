//! [`Kind`]: what tells recurrent layers apart; and what all have in common below their own types.

use crate::plan::weight_shape;
use crate::{Result, init};
use maplet_autograd::{Item, ItemMut, Param, Path, Var, Visit};
use maplet_tensor::{Cell, RecurrentWeights, Rng, Shape};
use std::fmt::Debug;

mod sealed {
    pub trait Sealed {}
}

/// The kind of a recurrent layer: [`Simple`], [`LongShort`] or [`Gated`].
pub trait Kind: sealed::Sealed + Debug + Clone + PartialEq + Send + Sync + 'static {
    /// What a layer carries from step to step.
    type State: RecurrentState;
    /// The layer's name in tables.
    const LABEL: &'static str;
    /// The layer's name in errors.
    const NAME: &'static str;
    /// The cell's name in errors.
    const CELL_NAME: &'static str;

    /// What is computed at each step.
    fn cell(relu: bool) -> Cell;
}

/// `h = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or a ReLU of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simple {}

/// Long short-term memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongShort {}

/// Gated recurrent unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gated {}

impl Kind for Simple {
    type State = Var;
    const LABEL: &'static str = "Rnn";
    const NAME: &'static str = "rnn";
    const CELL_NAME: &'static str = "rnn_cell";

    fn cell(relu: bool) -> Cell {
        if relu { Cell::RnnRelu } else { Cell::RnnTanh }
    }
}

impl Kind for LongShort {
    type State = (Var, Var);
    const LABEL: &'static str = "Lstm";
    const NAME: &'static str = "lstm";
    const CELL_NAME: &'static str = "lstm_cell";

    fn cell(_: bool) -> Cell {
        Cell::Lstm
    }
}

impl Kind for Gated {
    type State = Var;
    const LABEL: &'static str = "Gru";
    const NAME: &'static str = "gru";
    const CELL_NAME: &'static str = "gru_cell";

    fn cell(_: bool) -> Cell {
        Cell::Gru
    }
}

impl sealed::Sealed for Simple {}
impl sealed::Sealed for LongShort {}
impl sealed::Sealed for Gated {}

/// What a recurrent layer carries from step to step: the state, and for an LSTM the cell, `(h, c)`.
pub trait RecurrentState: sealed::Sealed + Clone {
    /// Of both; the cell is dropped if there is no place for it.
    fn of(h: Var, c: Var) -> Self;

    /// The state.
    fn h(&self) -> &Var;

    /// The cell.
    fn c(&self) -> Option<&Var>;

    /// `f` of both.
    fn map(&self, f: impl Fn(&Var) -> maplet_autograd::Result<Var>) -> Result<Self>;
}

impl RecurrentState for Var {
    fn of(h: Var, _: Var) -> Self {
        h
    }

    fn h(&self) -> &Var {
        self
    }

    fn c(&self) -> Option<&Var> {
        None
    }

    fn map(&self, f: impl Fn(&Var) -> maplet_autograd::Result<Var>) -> Result<Self> {
        Ok(f(self)?)
    }
}

impl RecurrentState for (Var, Var) {
    fn of(h: Var, c: Var) -> Self {
        (h, c)
    }

    fn h(&self) -> &Var {
        &self.0
    }

    fn c(&self) -> Option<&Var> {
        Some(&self.1)
    }

    fn map(&self, f: impl Fn(&Var) -> maplet_autograd::Result<Var>) -> Result<Self> {
        Ok((f(&self.0)?, f(&self.1)?))
    }
}

impl sealed::Sealed for Var {}
impl sealed::Sealed for (Var, Var) {}

/// An error if a layer would have no weights, or more than a model can have.
pub(super) fn check_sizes(
    op: &'static str,
    cell: Cell,
    [input_size, hidden_size]: [usize; 2],
    num_layers: usize,
) -> Result<()> {
    let (gates, hidden) = (("gates", cell.gates()), ("hidden_size", hidden_size));
    weight_shape(op, &[gates, hidden, ("input_size", input_size)])?;
    weight_shape(op, &[("num_layers", num_layers), gates, hidden, hidden])?;
    Ok(())
}

/// Weights that are all uniform in `±1/√hidden_size`: PyTorch's default. `proj_size` 0 means no projection.
pub(super) fn random_weights(
    cell: Cell,
    [input_size, hidden_size, proj_size]: [usize; 3],
    bias: bool,
    rng: &mut Rng,
) -> Result<RecurrentWeights<Param>> {
    let bound = 1.0 / (hidden_size as f64).sqrt();
    let mut draw =
        |shape: &[usize]| -> Result<Param> { Ok(Param::new(init::uniform(Shape::new(shape)?, -bound, bound, rng))) };
    let (width, state) = (cell.gates() * hidden_size, if proj_size > 0 { proj_size } else { hidden_size });
    Ok(RecurrentWeights {
        weight_ih: draw(&[width, input_size])?,
        weight_hh: draw(&[width, state])?,
        bias_ih: bias.then(|| draw(&[width])).transpose()?,
        bias_hh: bias.then(|| draw(&[width])).transpose()?,
        weight_hr: (proj_size > 0).then(|| draw(&[proj_size, hidden_size])).transpose()?,
    })
}

/// Shows the weights of one direction of one layer: `weight_ih` and so on, with a suffix.
pub(super) fn visit_weights<'a>(
    weights: &'a RecurrentWeights<Param>,
    suffix: &str,
    path: &Path<'_>,
    show: &mut dyn FnMut(&Path<'_>, Item<'a>),
) {
    weights.named().for_each(|(name, weight)| weight.visit(&path.field(&format!("{name}{suffix}")), show));
}

/// Shows the weights of one direction of one layer, to be changed.
pub(super) fn visit_weights_mut<'a>(
    weights: &'a mut RecurrentWeights<Param>,
    suffix: &str,
    path: &Path<'_>,
    show: &mut dyn FnMut(&Path<'_>, ItemMut<'a>),
) {
    weights.named_mut().for_each(|(name, weight)| weight.visit_mut(&path.field(&format!("{name}{suffix}")), show));
}
