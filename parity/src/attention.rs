//! Attention, transformers, and positions by rotation.

use crate::{Case, Entry, Result};
use maplet_autograd::{AttentionOptions, Var};
use maplet_nn_layers::{
    AttentionMasks, FeedForward, MultiheadAttention, RotaryEmbedding, RotaryPairs, SinusoidalPositions, Transformer,
    TransformerConfig, TransformerDecoderLayer, TransformerEncoderLayer, TransformerMasks, alibi, causal_mask,
};

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::function("scaled_dot_product_attention", product)
            .note("grouped heads need no flag; a mask and causal can be given together"),
        Entry::layer_with("MultiheadAttention", multihead, attend)
            .note("batch first; where nothing may be looked at, 0 instead of NaN also with weights"),
        Entry::layer_with(
            "TransformerEncoderLayer",
            |case| Ok(TransformerEncoderLayer::new(&config(case)?, &mut case.rng())?),
            |layer, case, x| Ok(vec![layer.forward_with(&x[0], &masks(case, &x[0], "src_")?)?]),
        ),
        Entry::layer_with(
            "TransformerDecoderLayer",
            |case| Ok(TransformerDecoderLayer::new(&config(case)?, &mut case.rng())?),
            |layer, case, x| Ok(vec![layer.forward(&x[0], &x[1], &all_masks(case, &x[0])?)?]),
        ),
        Entry::layer_with(
            "TransformerEncoder",
            |case| {
                let config = config(case)?;
                let encoder = config.encoder(&mut case.rng())?;
                Ok(if case.get("final_norm")? { encoder.norm(config.norm()?) } else { encoder })
            },
            |layer, case, x| Ok(vec![layer.forward_with(&x[0], &masks(case, &x[0], "src_")?.causal())?]),
        )
        .note("layers are drawn one by one, not copied from one"),
        Entry::layer_with(
            "TransformerDecoder",
            |case| {
                let config = config(case)?;
                let decoder = config.decoder(&mut case.rng())?;
                Ok(if case.get("final_norm")? { decoder.norm(config.norm()?) } else { decoder })
            },
            |layer, case, x| Ok(vec![layer.forward(&x[0], &x[1], &causal_target(case, &x[0])?)?]),
        )
        .note("layers are drawn one by one, not copied from one"),
        Entry::layer_with(
            "Transformer",
            |case| Ok(Transformer::new(&config(case)?, &mut case.rng())?),
            |layer, case, x| Ok(vec![layer.forward(&x[0], &x[1], &causal_target(case, &x[0])?)?]),
        ),
        Entry::values("causal_mask", |case, dtype| Ok(vec![("out.0".into(), causal_mask(case.get("t")?, dtype))])),
        Entry::layer_with(
            "SinusoidalPositions",
            |case| Ok(SinusoidalPositions::new(case.get("max_len")?, case.get("d")?)?),
            |layer, case, x| Ok(vec![layer.forward_from(&x[0], case.get("first")?)?]),
        )
        .note("not in PyTorch: compared with the paper's formula"),
        Entry::values("alibi", |case, dtype| {
            Ok(vec![("out.0".into(), alibi(case.get("heads")?, [case.get("t_q")?, case.get("t_k")?], dtype)?)])
        })
        .note("not in PyTorch: compared with the paper's formula"),
        Entry::function("RotaryEmbedding", |case, x| {
            let pairs = if case.get("half_split")? { RotaryPairs::HalfSplit } else { RotaryPairs::Interleaved };
            let rotary = RotaryEmbedding::with_base(16, x[0].size(-1)?, case.get("base")?)?.pairs(pairs);
            Ok(vec![rotary.rotate(&x[0], case.get("first")?)?])
        })
        .note("not in PyTorch: compared with products of complex numbers"),
    ]
}

fn product(case: &Case, x: &[Var]) -> Result<Vec<Var>> {
    let mut options = AttentionOptions::new();
    if case.get_or("is_causal", false)? {
        options = options.causal();
    }
    if let Some(scale) = case.optional("scale")? {
        options = options.scale(scale);
    }
    if let Some(mask) = x.get(3).cloned().or(case.arg("mask", x[0].dtype()).map(Var::from)) {
        options = options.mask(mask);
    }
    Ok(vec![x[0].scaled_dot_product_attention(&x[1], &x[2], &options)?])
}

fn multihead(case: &Case) -> Result<MultiheadAttention> {
    let (embed_dim, rng) = (case.get("embed_dim")?, &mut case.rng());
    let dims = [case.get_or("kdim", embed_dim)?, case.get_or("vdim", embed_dim)?];
    let mut layer = MultiheadAttention::with_dims(embed_dim, case.get("num_heads")?, dims, rng)?;
    layer = layer.batch_first(case.get("batch_first")?);
    layer = if case.get_or("bias", true)? { layer } else { layer.without_bias() };
    layer = if case.get_or("add_bias_kv", false)? { layer.bias_kv(rng)? } else { layer };
    Ok(if case.get_or("add_zero_attn", false)? { layer.add_zero_attn() } else { layer })
}

fn attend(layer: &MultiheadAttention, case: &Case, x: &[Var]) -> Result<Vec<Var>> {
    let masks = masks(case, &x[0], "")?;
    let masks = if case.get_or("is_causal", false)? { masks.causal() } else { masks };
    match x {
        [x] => Ok(vec![layer.self_attend(x, &masks)?]),
        [q, k, v] if case.get_or("need_weights", false)? => {
            let (y, weights) = layer.attend_with_weights(q, k, v, &masks, case.get_or("average", true)?)?;
            Ok(vec![y, weights])
        }
        [q, k, v] => Ok(vec![layer.attend(q, k, v, &masks)?]),
        _ => Err(format!("{} inputs", x.len()).into()),
    }
}

fn config(case: &Case) -> Result<TransformerConfig> {
    let usual = TransformerConfig::default();
    Ok(TransformerConfig {
        d_model: case.get("d_model")?,
        nhead: case.get("nhead")?,
        num_encoder_layers: case.get_or("num_layers", case.get_or("num_encoder_layers", usual.num_encoder_layers)?)?,
        num_decoder_layers: case.get_or("num_layers", case.get_or("num_decoder_layers", usual.num_decoder_layers)?)?,
        dim_feedforward: case.get("dim_feedforward")?,
        dropout: case.get("dropout")?,
        activation: match case.get_or("activation", String::from("relu"))?.as_str() {
            "gelu" => FeedForward::Gelu,
            _ => FeedForward::Relu,
        },
        layer_norm_eps: case.get_or("layer_norm_eps", usual.layer_norm_eps)?,
        batch_first: case.get("batch_first")?,
        norm_first: case.get_or("norm_first", usual.norm_first)?,
        bias: case.get_or("bias", usual.bias)?,
    })
}

/// The masks of the case whose names begin so: `src_mask`, `src_key_padding_mask`; without a prefix `attn_mask`.
fn masks(case: &Case, x: &Var, prefix: &str) -> Result<AttentionMasks> {
    let arg = |name: &str| case.arg(&format!("{prefix}{name}"), x.dtype());
    let mut masks = AttentionMasks::new();
    if let Some(mask) = arg(if prefix.is_empty() { "attn_mask" } else { "mask" }) {
        masks = masks.attention(mask);
    }
    if let Some(mask) = arg("key_padding_mask") {
        masks = masks.key_padding(mask);
    }
    Ok(masks)
}

fn all_masks(case: &Case, x: &Var) -> Result<TransformerMasks> {
    Ok(TransformerMasks {
        src: masks(case, x, "src_")?,
        tgt: masks(case, x, "tgt_")?,
        memory: masks(case, x, "memory_")?,
    })
}

fn causal_target(case: &Case, x: &Var) -> Result<TransformerMasks> {
    let masks = all_masks(case, x)?;
    Ok(TransformerMasks { tgt: masks.tgt.clone().causal(), ..masks })
}
