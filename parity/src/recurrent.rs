//! Recurrent layers and cells, attention of decoders, wrappers.

use crate::{Case, Entry, Result};
use maplet_autograd::Var;
use maplet_nn_layers::recurrent::{Gated, Kind, LongShort, RecurrentState, Simple};
use maplet_nn_layers::{
    BahdanauAttention, Bidirectional, ConvLstm, Gru, Linear, LuongAttention, Merge, Recurrent, RecurrentCell,
    RecurrentOptions, RnnCell, TimeDistributed, length_mask,
};

pub(crate) fn entries() -> Vec<Entry> {
    let rnn_cell = cell("RnnCell", |case| {
        let cell: RnnCell = plain_cell(case)?;
        Ok(if case.get_or("nonlinearity", String::new())? == "relu" { cell.relu() } else { cell })
    });
    vec![
        layer::<Simple>("Rnn"),
        layer::<LongShort>("Lstm"),
        layer::<Gated>("Gru"),
        rnn_cell,
        cell("LstmCell", plain_cell::<LongShort>),
        cell("GruCell", plain_cell::<Gated>),
        conv_lstm::<1>("ConvLstm1d").note(AS_KERAS),
        conv_lstm::<2>("ConvLstm2d").note(AS_KERAS),
        conv_lstm::<3>("ConvLstm3d").note(AS_KERAS),
        Entry::layer_with(
            "BahdanauAttention",
            |case| {
                let [query, key, hidden] = attention_sizes(case)?;
                Ok(BahdanauAttention::new(query, key, hidden, &mut case.rng())?)
            },
            |layer, case, x| {
                let (context, weights) = layer.forward(&x[0], &x[1], mask(case, &x[1])?.as_ref())?;
                Ok(vec![context, weights])
            },
        )
        .note(FORMULAS),
        Entry::layer_with(
            "LuongAttention",
            |case| {
                let [query, key, hidden] = attention_sizes(case)?;
                Ok(match case.get::<String>("kind")?.as_str() {
                    "dot" => LuongAttention::dot(),
                    "general" => LuongAttention::general(query, key, &mut case.rng())?,
                    _ => LuongAttention::concat(query, key, hidden, &mut case.rng())?,
                })
            },
            |layer, case, x| {
                let (context, weights) = layer.forward(&x[0], &x[1], mask(case, &x[1])?.as_ref())?;
                Ok(vec![context, weights])
            },
        )
        .note(FORMULAS),
        Entry::layer_with(
            "Bidirectional",
            |case| {
                let gru = || Gru::new(2, 3, RecurrentOptions::new(), &mut case.rng());
                Ok(Bidirectional::new(gru()?, gru()?).merge(match case.get::<String>("merge")?.as_str() {
                    "concat" => Merge::Concat,
                    "sum" => Merge::Sum,
                    "mean" => Merge::Mean,
                    _ => Merge::Mul,
                }))
            },
            |layer, case, x| Ok(vec![layer.forward_with(&x[0], lengths(case)?.as_deref())?]),
        )
        .note("two `nn.GRU`, the second on reversed sequences"),
        Entry::layer("TimeDistributed", |case| Ok(TimeDistributed::new(Linear::new(3, 2, &mut case.rng())?)))
            .note("an `nn.Linear`, step by step"),
    ]
}

const AS_KERAS: &str = "PyTorch has none: its convolutions and gates, step by step";
const FORMULAS: &str = "PyTorch has none: the paper's formulas in its functions";

fn lengths(case: &Case) -> Result<Option<Vec<usize>>> {
    case.optional("lengths")
}

/// Outputs of all steps, last state and, of an LSTM, last cell.
fn layer<K: Kind>(name: &'static str) -> Entry
where
    K::State: FromVars,
{
    Entry::layer_with(
        name,
        |case| {
            let mut options = RecurrentOptions::new().num_layers(case.get_or("num_layers", 1)?);
            options = options.proj_size(case.get_or("proj_size", 0)?).dropout(case.get_or("dropout", 0.0)?);
            if !case.get_or("bias", true)? {
                options = options.without_bias();
            }
            if case.get_or("batch_first", false)? {
                options = options.batch_first();
            }
            if case.get_or("bidirectional", false)? {
                options = options.bidirectional();
            }
            if case.get_or("nonlinearity", String::new())? == "relu" {
                options = options.relu();
            }
            Ok(Recurrent::<K>::new(case.get("input_size")?, case.get("hidden_size")?, options, &mut case.rng())?)
        },
        |layer, case, x| {
            let state = K::State::from_vars(&x[1..]);
            let (y, state) = layer.forward_with(&x[0], state.as_ref(), lengths(case)?.as_deref())?;
            Ok([y].into_iter().chain(parts(&state)).collect())
        },
    )
}

/// Two steps on one input.
fn cell<K: Kind>(name: &'static str, build: impl Fn(&Case) -> Result<RecurrentCell<K>> + Clone + 'static) -> Entry
where
    K::State: FromVars,
{
    Entry::layer_with(name, build, |cell, _, x| {
        let before = cell.forward_with(&x[0], K::State::from_vars(&x[1..]).as_ref())?;
        Ok(parts(&cell.forward_with(&x[0], Some(&before))?).collect())
    })
}

fn plain_cell<K: Kind>(case: &Case) -> Result<RecurrentCell<K>> {
    let cell = RecurrentCell::new(case.get("input_size")?, case.get("hidden_size")?, &mut case.rng())?;
    Ok(if case.get_or("bias", true)? { cell } else { cell.without_bias() })
}

/// State and cell, if they are there.
trait FromVars: Sized {
    fn from_vars(x: &[Var]) -> Option<Self>;
}

impl FromVars for Var {
    fn from_vars(x: &[Var]) -> Option<Self> {
        x.first().cloned()
    }
}

impl FromVars for (Var, Var) {
    fn from_vars(x: &[Var]) -> Option<Self> {
        Some((x.first()?.clone(), x.get(1)?.clone()))
    }
}

fn parts<S: RecurrentState>(state: &S) -> impl Iterator<Item = Var> {
    [Some(state.h().clone()), state.c().cloned()].into_iter().flatten()
}

fn conv_lstm<const D: usize>(name: &'static str) -> Entry {
    Entry::layer_with(
        name,
        |case| {
            let (from, to) = (case.get("in_channels")?, case.get("out_channels")?);
            let layer = ConvLstm::new(from, to, case.window::<D>()?, &mut case.rng())?;
            Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
        },
        |layer, _, x| {
            let (y, (h, c)) = layer.forward_with(&x[0], FromVars::from_vars(&x[1..]).as_ref())?;
            Ok(vec![y, h, c])
        },
    )
}

fn attention_sizes(case: &Case) -> Result<[usize; 3]> {
    Ok([case.get("query")?, case.get("key")?, case.get("hidden")?])
}

fn mask(case: &Case, keys: &Var) -> Result<Option<Var>> {
    let Some(lengths) = lengths(case)? else { return Ok(None) };
    Ok(Some(keys.constant(length_mask(&lengths, keys.size(1)?)?)))
}
