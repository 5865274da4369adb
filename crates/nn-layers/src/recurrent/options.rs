//! [`RecurrentOptions`]: how many layers, and which way.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a recurrent layer is built: everything but its sizes. The defaults are PyTorch's: one layer, forwards, with
/// biases, without dropout, and with time as the first axis.
///
/// ```
/// use maplet_nn_layers::{Lstm, RecurrentOptions};
/// use maplet_tensor::Rng;
///
/// let options = RecurrentOptions::new().num_layers(2).bidirectional().batch_first().dropout(0.3);
/// let encoder = Lstm::new(28, 128, options, &mut Rng::new(42))?;
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecurrentOptions {
    pub(super) num_layers: usize,
    pub(super) bias: bool,
    pub(super) batch_first: bool,
    pub(super) dropout: f64,
    pub(super) bidirectional: bool,
    pub(super) proj_size: usize,
    pub(super) relu: bool,
}

impl Default for RecurrentOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RecurrentOptions {
    /// PyTorch's defaults.
    pub fn new() -> Self {
        Self {
            num_layers: 1,
            bias: true,
            batch_first: false,
            dropout: 0.0,
            bidirectional: false,
            proj_size: 0,
            relu: false,
        }
    }

    /// So many layers, each on the outputs of the one before.
    pub fn num_layers(self, num_layers: usize) -> Self {
        Self { num_layers, ..self }
    }

    /// Without biases.
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// Input and output are `[n, t, ..]`, not `[t, n, ..]`; states are as without.
    pub fn batch_first(self) -> Self {
        Self { batch_first: true, ..self }
    }

    /// In training, drops each number between two layers with this probability.
    pub fn dropout(self, dropout: f64) -> Self {
        Self { dropout, ..self }
    }

    /// Each layer goes backwards as well, with weights of its own; its output is both, one after the other.
    pub fn bidirectional(self) -> Self {
        Self { bidirectional: true, ..self }
    }

    /// An LSTM's state, and its output, is a projection of `o · tanh(c)` to so many numbers.
    pub fn proj_size(self, proj_size: usize) -> Self {
        Self { proj_size, ..self }
    }

    /// An [`Rnn`](crate::Rnn) has a ReLU in place of the hyperbolic tangent.
    pub fn relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// 1, or 2 if it is bidirectional.
    pub(super) fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// The size of one direction's output and state.
    pub(super) fn output_size(&self, hidden_size: usize) -> usize {
        if self.proj_size > 0 { self.proj_size } else { hidden_size }
    }

    pub(super) fn check(&self, op: &'static str, hidden_size: usize) -> Result<()> {
        let error = |what: String, help: &str| Err(Error::new(op, what, help));
        let Self { num_layers, dropout, proj_size, relu, .. } = *self;
        if num_layers == 0 {
            return error("num_layers is 0".into(), "use 1 or more");
        }
        if !(0.0..1.0).contains(&dropout) {
            return error(format!("dropout is {dropout}"), "use a probability from 0 to below 1");
        }
        if proj_size > 0 && op != "lstm" {
            return error(format!("proj_size is {proj_size}"), "only an Lstm projects its state");
        }
        if proj_size >= hidden_size && proj_size > 0 {
            let what = format!("proj_size {proj_size} is not below hidden_size {hidden_size}");
            return error(what, "use a smaller projection, or none");
        }
        if relu && op != "rnn" {
            return error("relu() is set".into(), "only an Rnn has another nonlinearity");
        }
        Ok(())
    }
}
