//! Recurrent layers as steps of a [`Sequential`](crate::Sequential), and [`LastStep`].

use super::kind::{Gated, Kind, LongShort, Simple};
use super::layer::Recurrent;
use super::options::RecurrentOptions;
use crate::plan::{Draft, Plan, batched};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Shape;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// A recurrent layer in a [`Sequential`](crate::Sequential). Samples are `[t, input_size]`: it is always batch-first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound = "")]
pub struct RecurrentConfig<K> {
    /// The number of hidden units.
    pub hidden_size: usize,
    /// Everything else.
    #[serde(default)]
    pub options: RecurrentOptions,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Kind> RecurrentConfig<K> {
    /// A layer of so many hidden units.
    pub fn new(hidden_size: usize, options: RecurrentOptions) -> Self {
        Self { hidden_size, options: options.batch_first(), kind: PhantomData }
    }

    /// The weights of all layers, and how many multiplications with them one step takes.
    fn count(&self, input_size: usize, output_size: usize) -> (u64, u64) {
        let RecurrentOptions { num_layers, bias, proj_size, .. } = self.options;
        let [directions, gates, hidden, output, projection] =
            [self.options.directions(), K::cell(false).gates(), self.hidden_size, output_size, proj_size]
                .map(|size| size as u64);
        let width = gates.saturating_mul(hidden);
        let layer = |input: u64| {
            let products = width.saturating_mul(input.saturating_add(output)).saturating_add(projection * hidden);
            (products, products.saturating_add(if bias { 2 * width } else { 0 }))
        };
        let ((first, first_weights), (later, later_weights)) = (layer(input_size as u64), layer(directions * output));
        let all = |first: u64, later: u64| {
            let later = later.saturating_mul(num_layers.saturating_sub(1) as u64);
            first.saturating_add(later).saturating_mul(directions)
        };
        (all(first_weights, later_weights), all(first, later))
    }
}

impl<K: Kind> Spec for RecurrentConfig<K> {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { hidden_size, options, .. } = self.clone();
        let from = input.last().map_or("?".into(), usize::to_string);
        Plan::new(format!("{} {from} → {hidden_size}", K::LABEL), || {
            let &[steps, input_size] = input.sizes() else {
                let what = format!("expects [n, t, features], got {}", batched(input));
                return Err(Error::new(K::NAME, what, "put reshape([t, features]) before it"));
            };
            Recurrent::<K>::check(input_size, hidden_size, &options)?;
            let output_size = options.output_size(hidden_size);
            let output = Shape::new(&[steps, options.directions() * output_size])?;
            let (parameters, products) = self.count(input_size, output_size);
            let flops = products.saturating_mul(2 * steps as u64);
            let options = options.batch_first();
            Ok(Draft::new(output, flops)
                .trained(parameters, move |rng| Recurrent::<K>::new(input_size, hidden_size, options, rng)))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.options.bias)
    }
}

/// The last of all steps: what Keras's layers give unless `return_sequences` is set.
///
/// # Shapes
/// - input `[n, t, ..]`, output `[n, ..]`
///
/// PyTorch: –; Keras: –.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastStep;
fields!(LastStep:);

impl Module for LastStep {
    fn forward(&self, x: &Var) -> Result<Var> {
        match *x.shape() {
            [_, steps, ..] if steps > 0 => Ok(x.slice(1, steps - 1, steps)?.squeeze(1)?),
            _ => Err(Error::new("last_step", format!("{} has no last step", x.shape()), "give it [n, t, ..]")),
        }
    }
}

impl Spec for LastStep {
    fn plan(&self, input: &Shape) -> Plan {
        Plan::new("LastStep".into(), || {
            let Some((_, step)) = input.split_first() else {
                let what = format!("{} has no last step", batched(input));
                return Err(Error::new("last_step", what, "give it [n, t, ..]"));
            };
            Ok(Draft::new(Shape::new(step)?, 0).fixed(Self))
        })
    }
}

impl Builder {
    /// [`Rnn`](crate::Rnn) with so many hidden units, on samples `[t, features]`; the options' axes are batch-first.
    pub fn rnn(self, hidden_size: usize, options: RecurrentOptions) -> Self {
        self.step(RecurrentConfig::<Simple>::new(hidden_size, options))
    }

    /// [`Lstm`](crate::Lstm) with so many hidden units, on samples `[t, features]`; the options' axes are batch-first.
    pub fn lstm(self, hidden_size: usize, options: RecurrentOptions) -> Self {
        self.step(RecurrentConfig::<LongShort>::new(hidden_size, options))
    }

    /// [`Gru`](crate::Gru) with so many hidden units, on samples `[t, features]`; the options' axes are batch-first.
    pub fn gru(self, hidden_size: usize, options: RecurrentOptions) -> Self {
        self.step(RecurrentConfig::<Gated>::new(hidden_size, options))
    }

    /// [`LastStep`]
    pub fn last_step(self) -> Self {
        self.step(LastStep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, SequentialConfig, check_module};
    use maplet_autograd::params;
    use maplet_tensor::{DType, Tensor};

    #[test]
    fn steps_behave_as_modules_and_count_their_weights() {
        let options = RecurrentOptions::new().num_layers(2).bidirectional().proj_size(2);
        let model = Sequential::input([4, 3]).lstm(3, options).gru(2, RecurrentOptions::new()).no_bias();
        let mut model = model.rnn(3, RecurrentOptions::new().relu()).last_step().build(1).unwrap();
        for (i, row) in model.rows().iter().enumerate() {
            let prefix = format!("{i}.");
            let own = params(&model).into_iter().filter(|(name, _)| name.starts_with(&prefix));
            assert_eq!(row.parameters, own.map(|(_, param)| param.value().len() as u64).sum::<u64>(), "{}", row.label);
        }
        let labels: Vec<&str> = model.rows().iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["Lstm 3 → 3", "Gru 4 → 2", "Rnn 2 → 3", "LastStep"]);
        let list: Vec<(String, Vec<usize>)> =
            params(&model).into_iter().map(|(name, param)| (name, param.shape().to_vec())).collect();
        let parameters: Vec<(&str, &[usize])> = list.iter().map(|(name, shape)| (&name[..], &shape[..])).collect();
        let expect = Expect { input: &[2, 4, 3], output: &[2, 3], parameters: &parameters, ..Expect::default() };
        check_module(&mut model, &expect).unwrap();
    }

    #[test]
    fn steps_are_data_and_hostile_ones_are_refused() {
        let json = r#"{"input_shape":[4,3],"steps":[{"lstm":{"hidden_size":5}},
            {"gru":{"hidden_size":5,"options":{"num_layers":2,"bias":false}}},"last_step"]}"#;
        let config: SequentialConfig = serde_json::from_str(json).unwrap();
        let model = Sequential::from_config(&config, 1).unwrap();
        assert_eq!(model.forward(&Tensor::zeros([2, 4, 3], DType::F32).into()).unwrap().shape(), [2, 5].into());
        let text = |json: &str| {
            let config: SequentialConfig = serde_json::from_str(json).unwrap();
            config.rows().err().unwrap().to_string()
        };
        let found = text(r#"{"input_shape":[4,3],"steps":[{"lstm":{"hidden_size":1099511627776}}]}"#);
        assert!(found.ends_with("is more weights than a model can have; help: stay below 4294967296"), "{found}");
        let options = r#"{"num_layers":18446744073709551615,"bidirectional":true}"#;
        let json = format!(r#"{{"input_shape":[4,3],"steps":[{{"gru":{{"hidden_size":9,"options":{options}}}}}]}}"#);
        let found = text(&json);
        let want = "layer 0 (Gru 3 → 9): gru: num_layers 18446744073709551615 × gates 3 × hidden_size 9 × hidden_size 9 is \
                    more weights than a model can have; help: stay below 4294967296";
        assert_eq!(found, want);
        let found = text(r#"{"input_shape":[3],"steps":[{"rnn":{"hidden_size":2}}]}"#);
        let want = "layer 0 (Rnn 3 → 2): rnn: expects [n, t, features], got [n, 3]; \
                    help: put reshape([t, features]) before it";
        assert_eq!(found, want);
        let found = text(r#"{"input_shape":[],"steps":["last_step"]}"#);
        assert_eq!(found, "layer 0 (LastStep): last_step: [n] has no last step; help: give it [n, t, ..]");
        let found = LastStep.forward(&Tensor::zeros([2, 0], DType::F32).into()).err().unwrap().to_string();
        assert_eq!(found, "last_step: [2, 0] has no last step; help: give it [n, t, ..]");
    }
}
