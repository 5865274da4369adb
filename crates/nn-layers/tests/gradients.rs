//! First and second derivatives of layers that take more than one tensor, with respect to all inputs and parameters.
//! Those that take one are asked in their own files, by `check_module`.

use maplet_autograd::Var;
use maplet_autograd::{Visit, gradcheck_model};
use maplet_nn_layers::recurrent::{Gated, Kind, LongShort, RecurrentState, Simple};
use maplet_nn_layers::{
    AdaptiveLogSoftmaxConfig, AttentionMasks, BagMode, BahdanauAttention, Bidirectional, Bilinear, ConvLstm2d,
    EmbeddingBag, FeedForward, GruCell, LearnedPositions, LstmCell, LuongAttention, MultiheadAttention, Recurrent,
    RecurrentCell, RecurrentOptions, Result, RnnCell, RotaryEmbedding, Transformer, TransformerConfig,
    TransformerDecoderLayer, TransformerEncoderLayer, TransformerMasks, cast, length_mask,
};
use maplet_tensor::{DType, Rng, Shape, Tensor, Window2d};

/// All derivatives of all that the layer gives, with inputs of these shapes.
fn check<M: Visit>(mut layer: M, shapes: &[&[usize]], forward: impl Fn(&M, &[Var]) -> Result<Vec<Var>>) {
    cast(&mut layer, DType::F64).unwrap();
    let mut rng = Rng::new(11);
    let inputs = shapes.iter().map(|shape| Tensor::normal(Shape::new(shape).unwrap(), 0.0f64, 1.0, &mut rng));
    let inputs: Vec<Tensor> = inputs.collect();
    gradcheck_model(
        &mut layer,
        |layer, v| {
            let outputs = forward(layer, v)?.into_iter().map(|y| y.reshape(y.len()));
            let outputs = outputs.collect::<Result<Vec<Var>, _>>()?;
            Var::concat(&outputs.iter().collect::<Vec<_>>(), 0)
        },
        &inputs,
    )
    .unwrap();
}

fn rng() -> Rng {
    Rng::new(1)
}

#[test]
fn bilinear() {
    let layer = Bilinear::new(2, 3, 2, &mut rng()).unwrap();
    check(layer, &[&[3, 2], &[3, 3]], |layer, v| Ok(vec![layer.forward(&v[0], &v[1])?]));
}

/// Queries, keys and values of their own sizes, keys that come after, a mask that is trained, one that hides, dropout.
#[test]
fn attention_of_separate_queries_keys_and_values() {
    let masks = |v: &[Var]| {
        let padding = Tensor::from([[0u8, 0, 0], [0, 0, 1]]);
        AttentionMasks::new().attention(v[3].clone()).key_padding(padding)
    };
    let shapes: [&[usize]; 4] = [&[2, 2, 4], &[2, 3, 3], &[2, 3, 5], &[2, 3]];
    let layer = MultiheadAttention::with_dims(4, 2, [3, 5], &mut rng()).unwrap();
    let extra = layer.clone().bias_kv(&mut rng()).unwrap().add_zero_attn().dropout(0.3).unwrap();
    for layer in [layer, extra] {
        check(layer.clone(), &shapes, |layer, v| Ok(vec![layer.attend(&v[0], &v[1], &v[2], &masks(v))?]));
        check(layer, &shapes, |layer, v| {
            let (y, weights) = layer.attend_with_weights(&v[0], &v[1], &v[2], &masks(v), false)?;
            Ok(vec![y, weights])
        });
    }
}

fn config(norm_first: bool) -> TransformerConfig {
    TransformerConfig {
        norm_first,
        num_encoder_layers: 2,
        num_decoder_layers: 2,
        dim_feedforward: 3,
        dropout: 0.2,
        activation: FeedForward::Gelu, // ReLU has a kink
        ..TransformerConfig::new(4, 2)
    }
}

fn masks() -> TransformerMasks {
    let padding = AttentionMasks::new().key_padding(Tensor::from([[0u8, 0, 0], [0, 0, 1]]));
    TransformerMasks { src: padding.clone(), tgt: AttentionMasks::new().causal(), memory: padding }
}

const SOURCE: &[usize] = &[2, 3, 4];
const TARGET: &[usize] = &[2, 2, 4];

#[test]
fn transformer_layers() {
    for norm_first in [false, true] {
        let layer = TransformerEncoderLayer::new(&config(norm_first), &mut rng()).unwrap();
        check(layer, &[SOURCE], |layer, v| Ok(vec![layer.forward_with(&v[0], &masks().src)?]));
        let layer = TransformerDecoderLayer::new(&config(norm_first), &mut rng()).unwrap();
        check(layer, &[TARGET, SOURCE], |layer, v| Ok(vec![layer.forward(&v[0], &v[1], &masks())?]));
    }
}

#[test]
fn transformer_stacks() {
    let encoder = config(true).encoder(&mut rng()).unwrap();
    check(encoder, &[SOURCE], |encoder, v| Ok(vec![encoder.forward_with(&v[0], &masks().src)?]));
    let decoder = config(false).decoder(&mut rng()).unwrap();
    check(decoder, &[TARGET, SOURCE], |decoder, v| Ok(vec![decoder.forward(&v[0], &v[1], &masks())?]));
}

#[test]
fn whole_transformers() {
    for norm_first in [false, true] {
        let config = TransformerConfig { num_encoder_layers: 1, num_decoder_layers: 1, ..config(norm_first) };
        let model = Transformer::new(&config, &mut rng()).unwrap();
        check(model, &[SOURCE, TARGET], |model, v| Ok(vec![model.forward(&v[0], &v[1], &masks())?]));
    }
}

fn parts<S: RecurrentState>(state: &S) -> Vec<Var> {
    [Some(state.h().clone()), state.c().cloned()].into_iter().flatten().collect()
}

/// Two layers in both directions, sequences of two lengths, the states handed in and out.
fn recurrent<K: Kind>(options: RecurrentOptions, state: fn(&[Var]) -> K::State, shapes: &[&[usize]]) {
    let layer = Recurrent::<K>::new(2, 3, options.num_layers(2).bidirectional(), &mut rng()).unwrap();
    let shapes = [&[&[3usize, 2, 2][..]], shapes].concat();
    check(layer, &shapes, |layer, v| {
        let (y, state) = layer.forward_with(&v[0], Some(&state(&v[1..])), Some(&[3, 2]))?;
        Ok([vec![y], parts(&state)].concat())
    });
}

#[test]
fn recurrent_layers_with_lengths_and_states() {
    let options = RecurrentOptions::new;
    recurrent::<Simple>(options(), |v| v[0].clone(), &[&[4, 2, 3]]);
    recurrent::<Simple>(options().relu(), |v| v[0].clone(), &[&[4, 2, 3]]);
    recurrent::<Gated>(options().dropout(0.3), |v| v[0].clone(), &[&[4, 2, 3]]);
    recurrent::<LongShort>(options(), |v| (v[0].clone(), v[1].clone()), &[&[4, 2, 3], &[4, 2, 3]]);
    recurrent::<LongShort>(options().proj_size(2), |v| (v[0].clone(), v[1].clone()), &[&[4, 2, 2], &[4, 2, 3]]);
}

#[test]
fn recurrent_cells_with_states() {
    fn cell<K: Kind>(cell: RecurrentCell<K>, state: fn(&[Var]) -> K::State, shapes: &[&[usize]]) {
        check(cell, shapes, |cell, v| Ok(parts(&cell.forward_with(&v[0], Some(&state(&v[1..])))?)));
    }
    cell(RnnCell::new(2, 3, &mut rng()).unwrap(), |v| v[0].clone(), &[&[2, 2], &[2, 3]]);
    cell(GruCell::new(2, 3, &mut rng()).unwrap(), |v| v[0].clone(), &[&[2, 2], &[2, 3]]);
    let both: fn(&[Var]) -> (Var, Var) = |v| (v[0].clone(), v[1].clone());
    cell(LstmCell::new(2, 3, &mut rng()).unwrap(), both, &[&[2, 2], &[2, 3], &[2, 3]]);
}

#[test]
fn convolutional_recurrence_with_a_state() {
    let layer = ConvLstm2d::new(1, 2, Window2d::new(3).padding(1), &mut rng()).unwrap();
    check(layer, &[&[1, 2, 1, 2, 3], &[1, 2, 2, 3], &[1, 2, 2, 3]], |layer, v| {
        let (y, (h, c)) = layer.forward_with(&v[0], Some(&(v[1].clone(), v[2].clone())))?;
        Ok(vec![y, h, c])
    });
}

#[test]
fn both_directions_with_lengths() {
    let one = || Recurrent::<Gated>::new(2, 2, RecurrentOptions::new(), &mut rng()).unwrap();
    check(Bidirectional::new(one(), one()), &[&[3, 2, 2]], |layer, v| {
        Ok(vec![layer.forward_with(&v[0], Some(&[2, 3]))?])
    });
}

/// Several queries to keys of another size, some of them padding.
#[test]
fn attention_of_recurrent_encoder_decoders() {
    let mask = |v: &[Var]| v[0].constant(length_mask(&[3, 2], 3).unwrap());
    let shapes: [&[usize]; 2] = [&[2, 2, 4], &[2, 3, 2]];
    let layer = BahdanauAttention::new(4, 2, 3, &mut rng()).unwrap();
    check(layer, &shapes, |layer, v| {
        let (context, weights) = layer.forward(&v[0], &v[1], Some(&mask(v)))?;
        Ok(vec![context, weights])
    });
    let general = LuongAttention::general(4, 2, &mut rng()).unwrap();
    let concat = LuongAttention::concat(4, 2, 3, &mut rng()).unwrap();
    for (layer, shapes) in [(general, shapes), (concat, shapes), (LuongAttention::dot(), [&[2, 2, 2], &[2, 3, 2]])] {
        check(layer, &shapes, |layer, v| {
            let (context, weights) = layer.forward(&v[0], &v[1], Some(&mask(v)))?;
            Ok(vec![context, weights])
        });
    }
}

/// Bags of two ids, of none and of three, one of them twice.
#[test]
fn bags_of_embeddings_with_offsets_and_weights() {
    let (ids, offsets) = (Tensor::from([1i64, 4, 0, 2, 0]), Tensor::from([0i64, 2, 2]));
    for mode in [BagMode::Sum, BagMode::Mean, BagMode::Max] {
        let layer = EmbeddingBag::new(5, 2, &mut rng()).unwrap().mode(mode).padding_idx(4).unwrap();
        check(layer, &[&[5]], |layer, v| {
            let weights = (mode == BagMode::Sum).then_some(&v[0]);
            Ok(vec![layer.forward_bags(&v[0].constant(&ids), Some(&offsets), weights)?])
        });
    }
}

#[test]
fn adaptive_softmax_with_labels() {
    let layer = AdaptiveLogSoftmaxConfig::new(4, 6, &[2, 4]).div_value(2.0).head_bias(true).build(&mut rng()).unwrap();
    let labels = Tensor::from([0i64, 5, 2, 3]);
    check(layer, &[&[4, 4]], |layer, v| {
        let (scores, loss) = layer.forward(&v[0], &labels)?;
        Ok(vec![scores, loss])
    });
}

#[test]
fn positions_from_a_place_on() {
    let layer = LearnedPositions::new(5, 3, &mut rng()).unwrap();
    check(layer, &[&[2, 2, 3]], |layer, v| Ok(vec![layer.forward_from(&v[0], 2)?]));
    check(RotaryEmbedding::new(5, 4).unwrap(), &[&[1, 2, 2, 4]], |layer, v| Ok(vec![layer.rotate(&v[0], 2)?]));
}
