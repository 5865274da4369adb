//! Embeddings, Bilinear and Identity.

use crate::{Case, Entry, Result};
use maplet_nn_layers::{BagMode, Bilinear, Embedding, EmbeddingBag, Identity};
use maplet_tensor::DType;

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::layer("Embedding", embedding).note(
            "`max_norm`: PyTorch shortens vectors in its forward pass; here they travel with the pass, and replace the \
             layer's own before the optimizer's step. The numbers are the same.",
        ),
        Entry::layer_with("EmbeddingBag", embedding_bag, |layer: &EmbeddingBag, case, x| {
            let offsets = case.arg("offsets", DType::F64);
            Ok(vec![layer.forward_bags(&x[0], offsets.as_ref(), x.get(1))?])
        }),
        Entry::layer_with("Bilinear", bilinear, |layer: &Bilinear, _, x| Ok(vec![layer.forward(&x[0], &x[1])?])),
        Entry::layer("Identity", |_| Ok(Identity)),
    ]
}

fn embedding(case: &Case) -> Result<Embedding> {
    let mut layer = Embedding::new(case.get("num_embeddings")?, case.get("embedding_dim")?, &mut case.rng())?;
    if let Some(id) = case.optional("padding_idx")? {
        layer = layer.padding_idx(id)?;
    }
    if let Some(max_norm) = case.optional("max_norm")? {
        layer = layer.max_norm(max_norm)?.norm_type(case.get_or("norm_type", 2.0)?)?;
    }
    Ok(if case.get_or("scale_grad_by_freq", false)? { layer.scale_grad_by_freq() } else { layer })
}

fn embedding_bag(case: &Case) -> Result<EmbeddingBag> {
    let layer = EmbeddingBag::new(case.get("num_embeddings")?, case.get("embedding_dim")?, &mut case.rng())?;
    let mut layer = layer.mode(match case.get::<String>("mode")?.as_str() {
        "sum" => BagMode::Sum,
        "mean" => BagMode::Mean,
        _ => BagMode::Max,
    });
    if let Some(id) = case.optional("padding_idx")? {
        layer = layer.padding_idx(id)?;
    }
    if let Some(max_norm) = case.optional("max_norm")? {
        layer = layer.max_norm(max_norm)?;
    }
    if case.get_or("scale_grad_by_freq", false)? {
        layer = layer.scale_grad_by_freq();
    }
    Ok(if case.get_or("include_last_offset", false)? { layer.include_last_offset() } else { layer })
}

fn bilinear(case: &Case) -> Result<Bilinear> {
    let (in1, in2) = (case.get("in1_features")?, case.get("in2_features")?);
    let layer = Bilinear::new(in1, in2, case.get("out_features")?, &mut case.rng())?;
    Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
}
