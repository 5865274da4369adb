//! Recurrent layers, their cells, and what belongs to them: attention for encoders and decoders, wrappers.
//!
//! One type, [`Recurrent`], is the layer of all kinds, and [`RecurrentCell`] is one step of it; [`Kind`] says what
//! differs.

mod kind;
mod options;
mod layer;
mod cell;
mod config;
mod conv_lstm;
mod attention;
mod bidirectional;
mod time_distributed;

pub use attention::{BahdanauAttention, LuongAttention, length_mask};
pub use bidirectional::{Bidirectional, Merge};
pub use cell::{GruCell, LstmCell, RecurrentCell, RnnCell};
pub use config::{LastStep, RecurrentConfig};
pub use conv_lstm::{ConvLstm, ConvLstm1d, ConvLstm2d, ConvLstm3d};
pub use kind::{Gated, Kind, LongShort, RecurrentState, Simple};
pub use layer::{Gru, Lstm, Recurrent, Rnn};
pub use options::RecurrentOptions;
pub use time_distributed::TimeDistributed;
