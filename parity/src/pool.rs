//! Pools: of windows, adaptive, global, and the inverse of max-pools.

use crate::{Case, Entry, Result};
use maplet_autograd::Var;
use maplet_nn_layers::{
    AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, GlobalAvgPool, GlobalMaxPool, LpPool, MaxPool, MaxUnpool, Module,
};
use maplet_tensor::{OutputSize, Pool, Resize, Window};

pub(crate) fn entries() -> Vec<Entry> {
    let mut entries = vec![
        Entry::function("GlobalAvgPool", |case, x| {
            Ok(vec![GlobalAvgPool::new().keepdims(case.get("keepdims")?).forward(&x[0])?])
        })
        .note("Keras's: compared with `mean` over the spatial axes"),
        Entry::function("GlobalMaxPool", |case, x| {
            Ok(vec![GlobalMaxPool::new().keepdims(case.get("keepdims")?).forward(&x[0])?])
        })
        .note("Keras's: compared with `amax` over the spatial axes"),
        Entry::function("FractionalMaxPool2d", fractional::<2>),
        Entry::function("FractionalMaxPool3d", fractional::<3>),
    ];
    entries.extend(over::<1>([
        "MaxPool1d",
        "AvgPool1d",
        "LpPool1d",
        "AdaptiveMaxPool1d",
        "AdaptiveAvgPool1d",
        "MaxUnpool1d",
    ]));
    entries.extend(over::<2>([
        "MaxPool2d",
        "AvgPool2d",
        "LpPool2d",
        "AdaptiveMaxPool2d",
        "AdaptiveAvgPool2d",
        "MaxUnpool2d",
    ]));
    entries.extend(over::<3>([
        "MaxPool3d",
        "AvgPool3d",
        "LpPool3d",
        "AdaptiveMaxPool3d",
        "AdaptiveAvgPool3d",
        "MaxUnpool3d",
    ]));
    entries
}

fn over<const D: usize>([max, avg, lp, adaptive_max, adaptive_avg, unpool]: [&'static str; 6]) -> Vec<Entry> {
    vec![
        Entry::layer_with(
            max,
            |case| Ok(MaxPool::<D>::new(pool(case)?)?),
            |layer, _, x| Ok(pair(layer.forward_with_indices(&x[0])?)),
        ),
        Entry::layer(avg, |case| Ok(AvgPool::<D>::new(pool(case)?)?)),
        Entry::layer(lp, |case| Ok(LpPool::<D>::new(case.get("norm_type")?, pool(case)?)?)),
        Entry::layer_with(
            adaptive_max,
            |case| Ok(AdaptiveMaxPool::<D>::new(output_size(case)?)?),
            |layer, _, x| Ok(pair(layer.forward_with_indices(&x[0])?)),
        ),
        Entry::layer(adaptive_avg, |case| Ok(AdaptiveAvgPool::<D>::new(output_size(case)?)?)),
        Entry::layer_with(
            unpool,
            |case| Ok(MaxUnpool::<D>::new(window(case)?)?),
            |layer, case, x| {
                let sizes: Option<Vec<usize>> = case.optional("output_size")?;
                Ok(vec![match sizes {
                    None => layer.forward(&x[0], &x[1])?,
                    Some(_) => layer.forward_to(&x[0], &x[1], case.sizes("output_size", [0; D])?)?,
                }])
            },
        ),
    ]
}

/// With PyTorch's samples, which are those of a training pass here.
fn fractional<const D: usize>(case: &Case, x: &[Var]) -> Result<Vec<Var>> {
    let ratios: Option<Vec<f64>> = case.optional("output_ratio")?;
    let to = match ratios {
        Some(ratios) => Resize::Scale(ratios.try_into().map_err(|ratios| format!("`output_ratio` is {ratios:?}"))?),
        None => Resize::Size(case.sizes("output_size", [0; D])?),
    };
    let (kernel, samples) = (case.sizes("kernel_size", [1; D])?, case.arg("samples", x[0].dtype()));
    Ok(pair(x[0].fractional_max_pool_with_indices(kernel, to, samples.as_ref())?))
}

fn pair((y, indices): (Var, Var)) -> Vec<Var> {
    vec![y, indices]
}

/// The stride is the kernel where it is not given.
fn window<const D: usize>(case: &Case) -> Result<Window<D>> {
    let window = case.window::<D>()?;
    Ok(window.stride(case.sizes("stride", window.kernel)?))
}

fn pool<const D: usize>(case: &Case) -> Result<Pool<D>> {
    let pool = Pool::from(window(case)?).ceil_mode(case.get_or("ceil_mode", false)?);
    let divisor_override = case.optional("divisor_override")?;
    Ok(Pool { divisor_override, ..pool.count_include_pad(case.get_or("count_include_pad", true)?) })
}

fn output_size<const D: usize>(case: &Case) -> Result<OutputSize<D>> {
    let sizes: Vec<Option<usize>> = case.get("output_size")?;
    let sizes: [_; D] = sizes.try_into().map_err(|sizes| format!("`output_size` is {sizes:?}"))?;
    Ok(sizes.into())
}
