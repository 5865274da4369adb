//! Attention layers against each other and against PyTorch's names; their numbers are compared in `parity`.

use super::*;
use crate::{Expect, Named, Sequential, cast, check_module};
use maplet_autograd::{Pass, params};
use maplet_tensor::{DType, Shape, Tensor};

fn normal(shape: &[usize], seed: u64) -> Var {
    Tensor::normal(Shape::new(shape).unwrap(), 0.0f32, 1.0, &mut Rng::new(seed)).into()
}

/// Averages of some numbers near 1, in another order.
fn assert_near(a: &Var, b: &Var) {
    assert_eq!(a.shape(), b.shape());
    let apart = a.value().sub(b.value()).unwrap().abs().max(.., false).unwrap().item::<f32>().unwrap();
    assert!(apart < 3e-6, "{apart} apart");
}

fn attention() -> MultiheadAttention {
    MultiheadAttention::new(8, 2, &mut Rng::new(1)).unwrap()
}

fn config() -> TransformerConfig {
    TransformerConfig {
        num_encoder_layers: 2,
        num_decoder_layers: 2,
        dim_feedforward: 12,
        dropout: 0.0,
        ..TransformerConfig::new(8, 2)
    }
}

const ATTENTION: [(&str, &[usize]); 4] =
    [("in_proj_weight", &[24, 8]), ("in_proj_bias", &[24]), ("out_proj.weight", &[8, 8]), ("out_proj.bias", &[8])];

#[test]
fn a_residual_sum_lies_where_its_branch_lay() {
    let at = |x: &Var| x.value().as_slice::<f32>().unwrap().as_ptr();
    let block = Block { activation: FeedForward::Relu, dropout: 0.0, norm_first: true };
    let norm = LayerNorm::new(8).unwrap();
    let x = Pass::train(0).leaf(normal(&[2, 3, 8], 1).into_value());
    let mut branch = std::ptr::null();
    let part = |x: &Var| {
        let y = x.mul_scalar(2.0);
        branch = at(&y);
        Ok(y)
    };
    assert_eq!(at(&block.residual(&x, &norm, part).unwrap()), branch);
}

#[test]
fn attention_behaves_as_a_module() {
    let expect = Expect {
        input: &[2, 3, 8],
        output: &[2, 3, 8],
        parameters: &ATTENTION,
        refuses: &[
            (
                &[2, 3, 4],
                "linear: input [2, 3, 4] and weight [24, 8] differ in their last sizes; \
                 help: the input's last axis must be 8",
            ),
            (&[8], "multihead_attention: expects [n, t, features] or [t, features], got [8]; help: reshape the input"),
        ],
        ..Expect::default()
    };
    check_module(&mut attention().dropout(0.3).unwrap(), &expect).unwrap();
    let extra = attention().bias_kv(&mut Rng::new(2)).unwrap().add_zero_attn();
    let with_kv = [&ATTENTION[..2], &[("bias_k", &[1, 1, 8]), ("bias_v", &[1, 1, 8])], &ATTENTION[2..]].concat();
    check_module(&mut extra.clone(), &Expect { parameters: &with_kv, refuses: &[], ..expect }).unwrap();
}

#[test]
fn transformer_layers_behave_as_modules() {
    let rest: Named<'_> = &[
        ("linear1.weight", &[12, 8]),
        ("linear1.bias", &[12]),
        ("linear2.weight", &[8, 12]),
        ("linear2.bias", &[8]),
        ("norm1.weight", &[8]),
        ("norm1.bias", &[8]),
        ("norm2.weight", &[8]),
        ("norm2.bias", &[8]),
    ];
    let attention: Vec<(String, &[usize])> =
        ATTENTION.iter().map(|&(name, shape)| (format!("self_attn.{name}"), shape)).collect();
    let attention = attention.iter().map(|(name, shape)| (name.as_str(), *shape));
    let parameters: Vec<(&str, &[usize])> = attention.chain(rest.iter().copied()).collect();
    let expect = Expect { input: &[2, 3, 8], output: &[2, 3, 8], parameters: &parameters, ..Expect::default() };
    for norm_first in [false, true] {
        let config = TransformerConfig { norm_first, dropout: 0.2, activation: FeedForward::Gelu, ..config() };
        let mut layer = TransformerEncoderLayer::new(&config, &mut Rng::new(3)).unwrap();
        check_module(&mut layer, &expect).unwrap();
    }
}

#[test]
fn names_are_pytorchs() {
    let mut rng = Rng::new(4);
    let names = |model: &dyn maplet_autograd::Visit| -> Vec<String> {
        params(model).into_iter().map(|(name, _)| name).collect()
    };
    let apart = MultiheadAttention::with_dims(8, 2, [3, 5], &mut rng).unwrap().without_bias();
    assert_eq!(names(&apart), ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]);
    let model = Transformer::new(&config(), &mut rng).unwrap();
    let names = names(&model);
    for name in [
        "encoder.layers.1.self_attn.in_proj_weight",
        "encoder.norm.weight",
        "decoder.layers.0.multihead_attn.out_proj.bias",
        "decoder.layers.1.norm3.bias",
        "decoder.norm.bias",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}");
    }
    assert_eq!(names.len(), 2 * 12 + 2 * 18 + 4);
}

/// A cut into steps of any sizes gives the output of one causal pass.
#[test]
fn decoding_with_a_cache_equals_the_causal_pass() {
    let x = normal(&[2, 7, 8], 5);
    let causal = AttentionMasks::new().causal();
    let layer = attention();
    let mut caches = [KvCache::new(), KvCache::new()];
    let whole = layer.self_attend(&x, &causal).unwrap();
    for (steps, cache) in [&[1usize; 7][..], &[3, 1, 3]].into_iter().zip(&mut caches) {
        let mut first = 0;
        for step in steps {
            let y = layer.decode(&x.slice(1, first, first + step).unwrap(), cache).unwrap();
            assert_near(&y, &whole.slice(1, first, first + step).unwrap());
            first += step;
        }
        assert_eq!((cache.len(), cache.is_empty()), (7, false));
    }

    // Taken back to 3 positions, with the samples exchanged.
    let [cache, _] = &mut caches;
    let text = cache.truncate(8).unwrap_err().to_string();
    assert_eq!(text, "truncate: 7 positions were seen, 8 cannot stay; help: keep fewer");
    cache.truncate(3).unwrap();
    cache.reorder(&Tensor::from([1i64, 0]).into()).unwrap();
    let turned = x.flip(0).unwrap();
    let y = layer.decode(&turned.slice(1, 3, 4).unwrap(), cache).unwrap();
    assert_near(&y, &whole.flip(0).unwrap().slice(1, 3, 4).unwrap());

    for norm_first in [false, true] {
        let config = TransformerConfig { norm_first, ..config() };
        let model = Transformer::new(&config, &mut Rng::new(6)).unwrap();
        let whole = model.encoder.forward_with(&x, &causal).unwrap();
        let mut caches = model.encoder.caches();
        let memory = normal(&[2, 5, 8], 7);
        let padding = Tensor::from([[0u8, 0, 0, 0, 1], [0, 0, 1, 1, 1]]);
        let masks = TransformerMasks {
            tgt: causal.clone(),
            memory: AttentionMasks::new().key_padding(padding),
            ..TransformerMasks::default()
        };
        let whole_target = model.decoder.forward(&x, &memory, &masks).unwrap();
        let mut decoder_caches = model.decoder.caches();
        for t in 0..7 {
            let token = x.slice(1, t, t + 1).unwrap();
            assert_near(&model.encoder.decode(&token, &mut caches).unwrap(), &whole.slice(1, t, t + 1).unwrap());
            let y = model.decoder.decode(&token, &memory, &masks.memory, &mut decoder_caches).unwrap();
            assert_near(&y, &whole_target.slice(1, t, t + 1).unwrap());
        }
        let text = model.encoder.decode(&x, &mut caches[1..]).unwrap_err().to_string();
        assert_eq!(text, "decode: 1 caches for 2 layers; help: take those that caches() makes");
    }
    let extra = attention().add_zero_attn().decode(&x, &mut KvCache::new()).unwrap_err().to_string();
    let text = "decode: keys that come after those of the data have no place in a cache; \
                help: build the layer without bias_kv and add_zero_attn";
    assert_eq!(extra, text);
}

#[test]
fn an_error_leaves_the_caches_as_they_were() {
    let mut rng = Rng::new(1);
    let (x, memory) = (normal(&[1, 1, 8], 1), normal(&[1, 3, 8], 2));
    let (mut layer, mut cache) = (attention(), KvCache::new());
    layer.decode(&x, &mut cache).unwrap();
    assert!(layer.decode(&normal(&[2, 1, 8], 3), &mut cache).is_err()); // two samples where one was seen
    assert_eq!(cache.len(), 1);
    layer.out_proj = Linear::new(4, 8, &mut rng).unwrap(); // fails behind the attention
    assert!(layer.decode(&x, &mut cache).is_err());
    assert_eq!(cache.len(), 1);
    assert!(layer.decode_memory(&x, &memory, &AttentionMasks::new(), &mut KvCache::new()).is_err());

    // The second layer fails, at its end: the first one must not have advanced.
    let mut encoder = config().encoder(&mut rng).unwrap();
    let mut caches = encoder.caches();
    let fits = encoder.decode(&x, &mut caches).unwrap();
    let works = std::mem::replace(&mut encoder.layers[1].linear2, Linear::new(3, 8, &mut rng).unwrap());
    assert!(encoder.layers[1].decode(&x, &mut caches[1]).is_err());
    assert!(encoder.decode(&x, &mut caches).is_err());
    assert_eq!(caches.iter().map(KvCache::len).collect::<Vec<_>>(), [1, 1]);
    encoder.layers[1].linear2 = works;
    let again = encoder.decode(&x, &mut caches).unwrap();
    let mut fresh = encoder.caches();
    assert_near(&encoder.decode(&x, &mut fresh).unwrap(), &fits);
    assert_near(&encoder.decode(&x, &mut fresh).unwrap(), &again);

    // A memory of two samples for a target of one is forgotten again, also by the first layer.
    let decoder = config().decoder(&mut rng).unwrap();
    let mut caches = decoder.caches();
    let masks = AttentionMasks::new();
    assert!(decoder.decode(&x, &normal(&[2, 3, 8], 4), &masks, &mut caches).is_err());
    assert!(caches.iter().all(|cache| cache.own.is_empty() && cache.memory.is_empty()));
    assert_near(
        &decoder.decode(&x, &memory, &masks, &mut caches).unwrap(),
        &decoder.forward(&x, &memory, &TransformerMasks::default()).unwrap(),
    );
}

#[test]
fn every_way_to_say_a_mask_means_the_same() {
    let (layer, x) = (attention(), normal(&[2, 4, 8], 8));
    let with = |masks: AttentionMasks| layer.self_attend(&x, &masks).unwrap();
    let masks = AttentionMasks::new;
    let causal = with(masks().causal());
    let bias = causal_mask(4, DType::F32);
    let hidden = bias.less(&Tensor::scalar(0.0f32)).unwrap();
    let every = Tensor::stack(&[&hidden; 4], 0).unwrap();
    let padding = Tensor::from([[0u8, 0, 0, 0], [0, 0, 0, 1]]);
    for mask in [
        bias.clone(),
        hidden.clone(),
        every.clone(),
        every.slice(0, 0, 2).unwrap(),
        every.reshape([2, 2, 4, 4]).unwrap(),
    ] {
        assert_near(&with(masks().attention(mask.clone())), &causal);
        assert_near(
            &with(masks().attention(mask).key_padding(&padding)),
            &with(masks().causal().key_padding(&padding)),
        );
    }
    let small = Tensor::from([[0.0f32; 4], [0.0, 0.0, 0.0, f32::NEG_INFINITY]]);
    assert_near(&with(masks().attention(hidden).key_padding(small)), &with(masks().causal().key_padding(&padding)));

    // What is hidden from everyone might as well be away, also with keys that come after.
    let extra = attention().bias_kv(&mut Rng::new(9)).unwrap().add_zero_attn();
    for (layer, causal) in [(&layer, false), (&layer, true), (&extra, false), (&extra, true)] {
        let plain = if causal { masks().causal() } else { masks() };
        let last = Tensor::from([[0u8, 0, 0, 1], [0, 0, 0, 1]]);
        let hidden = layer.self_attend(&x, &plain.clone().key_padding(last)).unwrap();
        let shorter = layer.self_attend(&x.slice(1, 0, 3).unwrap(), &plain).unwrap();
        assert_near(&hidden.slice(1, 0, 3).unwrap(), &shorter);
    }
}

#[test]
fn a_learned_mask_gets_its_gradient() {
    let (layer, pass) = (attention(), Pass::record());
    let (x, bias) = (pass.input(normal(&[2, 3, 8], 10).into_value()), pass.leaf(Tensor::zeros([2, 3, 3], DType::F32)));
    let y = layer.self_attend(&x, &AttentionMasks::new().attention(bias.clone()).causal()).unwrap();
    let grads = y.sum(.., false).unwrap().backward().unwrap();
    let slope = grads.of(&bias).unwrap().as_slice::<f32>().unwrap();
    assert!(slope[0].abs() < 1e-6 && slope[6].abs() > 1e-4, "{slope:?}"); // a query with one key, one with three
}

#[test]
fn layouts_agree() {
    let (layer, x, memory) = (attention(), normal(&[2, 4, 8], 11), normal(&[2, 3, 8], 12));
    let masks = AttentionMasks::new();
    let y = layer.attend(&x, &memory, &memory, &masks).unwrap();
    let turned = layer.clone().batch_first(false);
    let turn = |x: &Var| x.transpose(0, 1).unwrap();
    let (turned_x, turned_memory) = (turn(&x), turn(&memory));
    assert_near(&turn(&turned.attend(&turned_x, &turned_memory, &turned_memory, &masks).unwrap()), &y);
    assert_near(&turn(&turned.self_attend(&turned_x, &masks).unwrap()), &layer.self_attend(&x, &masks).unwrap());
    let one = |x: &Var| x.slice(0, 1, 2).unwrap().squeeze(0).unwrap();
    assert_near(&layer.attend(&one(&x), &one(&memory), &one(&memory), &masks).unwrap(), &one(&y));
    assert_near(&layer.attend(&x, &x, &x, &masks).unwrap(), &layer.self_attend(&x, &masks).unwrap());

    let (same, weights) = layer.attend_with_weights(&x, &memory, &memory, &masks, true).unwrap();
    let (_, every) = layer.attend_with_weights(&x, &memory, &memory, &masks, false).unwrap();
    assert_near(&same, &y);
    assert_near(&weights, &every.mean(1, false).unwrap());
    assert_eq!((weights.shape(), every.shape()), ([2, 4, 3].into(), [2, 2, 4, 3].into()));
    assert_near(&every.sum(-1, false).unwrap(), &Tensor::ones([2, 2, 4], DType::F32).into());
    let one = layer.attend_with_weights(&one(&x), &one(&memory), &one(&memory), &masks, true).unwrap().1;
    assert_eq!(one.shape(), [4, 3].into());
}

#[test]
fn a_query_that_sees_nothing_gets_the_bias_alone() {
    let (mut layer, x) = (attention(), normal(&[1, 3, 8], 13));
    layer.out_proj.bias.as_mut().unwrap().set_value(Tensor::full([8], 0.5f32)).unwrap();
    let masks = AttentionMasks::new().key_padding(Tensor::from([[1u8, 1, 1]]));
    let bias = Var::from(Tensor::full([1, 3, 8], 0.5f32));
    assert_near(&layer.self_attend(&x, &masks).unwrap(), &bias);
    let (y, weights) = layer.attend_with_weights(&x, &x, &x, &masks, true).unwrap();
    assert_near(&y, &bias);
    assert_eq!(weights.value(), &Tensor::zeros([1, 3, 3], DType::F32));
}

#[test]
fn begins_as_in_pytorch() {
    let layer = MultiheadAttention::new(64, 4, &mut Rng::new(14)).unwrap();
    let most = |x: &Tensor| x.abs().max(.., false).unwrap().item::<f32>().unwrap();
    // Xavier's bound for [192, 64], Linear's for 64 features; all of 12288 and 4096 draws below, the greatest near it.
    let (bound, linear) = ((6.0f32 / 256.0).sqrt(), 1.0 / 8.0);
    let found = [most(layer.in_proj_weight.as_ref().unwrap().value()), most(layer.out_proj.weight.value())];
    assert!(found[0] <= bound && found[0] > 0.99 * bound && found[1] <= linear && found[1] > 0.99 * linear);
    assert_eq!(most(layer.in_proj_bias.as_ref().unwrap().value()), 0.0);
    assert_eq!(most(layer.out_proj.bias.as_ref().unwrap().value()), 0.0);
    let model = Transformer::new(&config(), &mut Rng::new(15)).unwrap();
    let bound = (6.0f32 / 20.0).sqrt(); // [12, 8]
    let found = most(model.decoder.layers[1].linear1.weight.value());
    assert!(found <= bound && found > 0.9 * bound, "{found} of {bound}");
}

#[test]
fn works_in_f64() {
    let mut model = Transformer::new(&config(), &mut Rng::new(16)).unwrap();
    cast(&mut model, DType::F64).unwrap();
    let x = Var::from(normal(&[2, 3, 8], 17).value().to_dtype(DType::F64));
    let masks = TransformerMasks { tgt: AttentionMasks::new().causal(), ..TransformerMasks::default() };
    assert_eq!(model.forward(&x, &x, &masks).unwrap().dtype(), DType::F64);
}

#[test]
fn misfits_are_explained() {
    let mut rng = Rng::new(18);
    let mut text = |embed_dim, heads| MultiheadAttention::new(embed_dim, heads, &mut rng).err().unwrap().to_string();
    let divide = "help: num_heads must divide embed_dim";
    assert_eq!(text(10, 3), format!("multihead_attention: embed_dim 10 does not divide into 3 heads; {divide}"));
    assert_eq!(text(8, 0), "multihead_attention: num_heads is 0; help: use 1 or more");
    assert_eq!(text(0, 2), "multihead_attention: embed_dim is 0; help: use 1 or more");
    let text = attention().dropout(1.0).err().unwrap().to_string();
    assert_eq!(text, "multihead_attention: dropout is 1; help: use a probability from 0 to below 1");
    let wrong = TransformerConfig { dropout: -0.5, ..config() };
    let text = TransformerDecoderLayer::new(&wrong, &mut rng).err().unwrap().to_string();
    assert_eq!(text, "multihead_attention: dropout is -0.5; help: use a probability from 0 to below 1");
    let text = MultiheadAttention::with_dims(8, 2, [0, 3], &mut rng).err().unwrap().to_string();
    assert_eq!(text, "multihead_attention: kdim is 0; help: use 1 or more");

    let (x, masks) = (normal(&[2, 4, 8], 19), AttentionMasks::new);
    let text = |masks| attention().self_attend(&x, &masks).unwrap_err().to_string();
    let help = "help: it must be [4, 4], or [4, 4, 4]: one for each head of each sample";
    for shape in [&[4usize, 3][..], &[3, 4, 4], &[4]] {
        let mask = Tensor::zeros(Shape::new(shape).unwrap(), DType::U8);
        assert_eq!(
            text(masks().attention(mask)),
            format!("multihead_attention: the attention mask is {shape:?}; {help}")
        );
    }
    let found = text(masks().key_padding(Tensor::zeros([4, 2], DType::U8)));
    assert_eq!(found, "multihead_attention: the key padding mask is [4, 2]; help: it must be [2, 4]");
    let found = text(masks().attention(Tensor::zeros([4, 4], DType::I64)));
    let types = "the mask is i64, the queries are f32; help: masks are u8, or f32 to be added to the scores";
    assert_eq!(found, format!("scaled_dot_product_attention: {types}"));
    let mut bare = attention();
    bare.in_proj_weight = None;
    let found = bare.self_attend(&x, &masks()).unwrap_err().to_string();
    assert_eq!(found, "multihead_attention: the layer has no weights; help: make it with new or with_dims");
    let found = attention().attend(&x, &x, &normal(&[2, 3, 8], 1), &masks()).unwrap_err().to_string();
    let help = "help: they are [n, t_q, heads · d], [n, t_k, heads · d] and [n, t_k, heads · d_v]";
    let misfit = "q [2, 4, 8], k [2, 4, 8] and v [2, 3, 8] do not fit, with 2 heads";
    assert_eq!(found, format!("scaled_dot_product_attention: {misfit}; {help}"));
}

#[test]
fn steps_of_sequential_are_data() {
    for (bias, parameters) in [(true, 288), (false, 256)] {
        let config = TransformerConfig { bias, ..config() };
        let steps = Sequential::input([5, 8]).sinusoidal_positions(9).learned_positions(5).multihead_attention(4);
        let steps = if bias { steps } else { steps.no_bias() };
        let built = steps.transformer_encoder(config).build(1).unwrap();
        let counted: Vec<u64> = built.rows().iter().map(|row| row.parameters).collect();
        assert_eq!(counted[..3], [0, 5 * 8, parameters]);
        let found: usize = params(&built).iter().map(|(_, param)| param.value().len()).sum();
        assert_eq!(counted.iter().sum::<u64>(), found as u64);
        assert_eq!(built.forward(&normal(&[2, 5, 8], 20)).unwrap().shape(), [2, 5, 8].into());
        let json = serde_json::to_string(&built.config()).unwrap();
        assert_eq!(serde_json::from_str::<crate::SequentialConfig>(&json).unwrap(), built.config());
    }
    let text = |steps: crate::Builder| steps.build(1).err().unwrap().to_string();
    let found = text(Sequential::input([5, 6]).transformer_encoder(config()));
    let place = "layer 0 (TransformerEncoder 2 × 8, 2 heads)";
    let help = "help: use d_model = 6 and batch_first = true";
    let what = "expects [n, t, 8] with the batch first, got [n, 5, 6]";
    assert_eq!(found, format!("{place}: transformer_encoder: {what}; {help}"));
    let found = text(Sequential::input([6]).transformer_encoder(config()));
    let what = "expects [n, t, 8], got [n, 6]; help: put embeddings or reshape([t, d]) before it";
    assert_eq!(found, format!("{place}: transformer_encoder: {what}"));
    let found = text(Sequential::input([6]).multihead_attention(2));
    let what = "expects [n, t, features], got [n, 6]; help: put reshape([t, features]) before it";
    assert_eq!(found, format!("layer 0 (MultiheadAttention 2 heads): multihead_attention: {what}"));
    let found = text(Sequential::input([6, 2]).learned_positions(5));
    let what = "position 5 is beyond the table of 5; help: make max_len larger or the sequence shorter";
    assert_eq!(found, format!("layer 0 (LearnedPositions 5): learned_positions: {what}"));
    let found = text(Sequential::input([6]).sinusoidal_positions(5));
    let what = "expects [n, .., t, d], got [n, 6]; help: add the missing axis";
    assert_eq!(found, format!("layer 0 (SinusoidalPositions 5): sinusoidal_positions: {what}"));
}
