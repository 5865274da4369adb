//! Normalization layers.

use crate::{Case, Entry, Result};
use maplet_nn_layers::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, RmsNorm};
use maplet_tensor::Shape;

const BATCHED: &str = "Inputs have the batch axis; PyTorch also takes them without.";

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::layer("BatchNorm1d", batch_norm::<1>),
        Entry::layer("BatchNorm2d", batch_norm::<2>),
        Entry::layer("BatchNorm3d", batch_norm::<3>),
        Entry::layer("InstanceNorm1d", instance_norm::<1>).note(BATCHED),
        Entry::layer("InstanceNorm2d", instance_norm::<2>).note(BATCHED),
        Entry::layer("InstanceNorm3d", instance_norm::<3>).note(BATCHED),
        Entry::layer("GroupNorm", |case| {
            let layer = GroupNorm::new(case.get("num_groups")?, case.get("num_channels")?)?;
            let layer = layer.eps(case.get_or("eps", 1e-5)?)?;
            Ok(if case.get_or("affine", true)? { layer } else { layer.without_affine() })
        }),
        Entry::layer("LayerNorm", |case| {
            let layer = LayerNorm::new(normalized_shape(case)?)?.eps(case.get_or("eps", 1e-5)?)?;
            let layer = if case.get_or("elementwise_affine", true)? { layer } else { layer.without_affine() };
            Ok(if case.get_or("bias", true)? { layer } else { layer.without_bias() })
        }),
        Entry::layer("RmsNorm", |case| {
            let layer = RmsNorm::new(normalized_shape(case)?)?;
            let layer = case.optional("eps")?.map_or(Ok(layer.clone()), |eps| layer.eps(eps))?;
            Ok(if case.get_or("elementwise_affine", true)? { layer } else { layer.without_affine() })
        }),
        Entry::layer("LocalResponseNorm", |case| {
            let layer = LocalResponseNorm::new(case.get("size")?)?;
            let layer = layer.alpha(case.get_or("alpha", 1e-4)?).beta(case.get_or("beta", 0.75)?);
            Ok(layer.k(case.get_or("k", 1.0)?))
        }),
    ]
}

fn batch_norm<const D: usize>(case: &Case) -> Result<BatchNorm<D>> {
    let layer = BatchNorm::new(case.get("num_features")?)?.eps(case.get_or("eps", 1e-5)?)?;
    let layer = layer.momentum(case.get_or("momentum", 0.1)?)?;
    let layer = if case.get_or("cumulative", false)? { layer.cumulative() } else { layer };
    let layer = if case.get_or("affine", true)? { layer } else { layer.without_affine() };
    Ok(if case.get_or("track_running_stats", true)? { layer } else { layer.without_running_stats() })
}

fn instance_norm<const D: usize>(case: &Case) -> Result<InstanceNorm<D>> {
    let layer = InstanceNorm::new(case.get("num_features")?)?.eps(case.get_or("eps", 1e-5)?)?;
    let layer = layer.momentum(case.get_or("momentum", 0.1)?)?;
    let layer = if case.get_or("affine", false)? { layer.affine() } else { layer };
    Ok(if case.get_or("track_running_stats", false)? { layer.running_stats() } else { layer })
}

fn normalized_shape(case: &Case) -> Result<Shape> {
    Ok(Shape::new(&case.get::<Vec<usize>>("normalized_shape")?)?)
}
