//! Normalizations and softmax, which memory bounds. Whatever a kernel reads twice counts once.

use maplet::tensor::{Activation, LabelOptions, Result, Tensor};

use crate::{Bench, random};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    batch_norm(bench, "resnet20_16_b32", [32, 16, 32, 32])?;
    batch_norm(bench, "resnet18_64_b4", [4, 64, 56, 56])?;
    layer_norm(bench, "2048_128", [2048, 128])?;
    group_norm(bench)?;
    softmax(bench, "8192_128", [8192, 128])?;
    softmax(bench, "128_1000", [128, 1000])
}

fn batch_norm(bench: &mut Bench, name: &str, shape: [usize; 4]) -> Result<()> {
    let (x, dy, eps) = (random(shape), random(shape), 1e-5);
    let (w, b) = (random([shape[1]]), random([shape[1]]));
    let (mean, var) = x.channel_moments()?;
    bench.moves("batch_norm_moments", name, x.len(), || x.channel_moments())?;
    bench.moves("batch_norm", name, 2 * x.len(), || x.batch_norm(&mean, &var, &w, &b, eps, Activation::Identity))?;
    bench.moves("batch_norm_grad", name, 3 * x.len(), || {
        dy.batch_norm_grad(&x, &mean, &var, &w, &b, eps, Activation::Identity, false, [true; 3])
    })
}

fn layer_norm(bench: &mut Bench, name: &str, shape: [usize; 2]) -> Result<()> {
    let (x, dy, w, b) = (random(shape), random(shape), random([shape[1]]), random([shape[1]]));
    let (_, stats) = x.layer_norm(&w, &b, 1e-5)?;
    bench.moves("layer_norm", name, 2 * x.len(), || x.layer_norm(&w, &b, 1e-5))?;
    bench.moves("layer_norm_grad", name, 3 * x.len(), || dy.layer_norm_grad(&x, &w, &stats, [true; 3]))?;
    let (_, stats) = x.rms_norm(&w, 1e-5)?;
    bench.moves("rms_norm", name, 2 * x.len(), || x.rms_norm(&w, 1e-5))?;
    bench.moves("rms_norm_grad", name, 3 * x.len(), || dy.rms_norm_grad(&x, &w, &stats, [true; 2]))
}

fn group_norm(bench: &mut Bench) -> Result<()> {
    let (shape, name) = ([8, 64, 32, 32], "8_64_32_32");
    let (x, dy, w, b) = (random(shape), random(shape), random([64]), random([64]));
    let (_, stats) = x.group_norm(8, &w, &b, 1e-5)?;
    bench.moves("group_norm", name, 2 * x.len(), || x.group_norm(8, &w, &b, 1e-5))?;
    bench.moves("group_norm_grad", name, 3 * x.len(), || dy.group_norm_grad(&x, 8, &w, &stats, [true; 3]))
}

fn softmax(bench: &mut Bench, name: &str, shape: [usize; 2]) -> Result<()> {
    let (x, dy) = (random(shape), random(shape));
    let y = x.softmax(-1)?;
    bench.moves("softmax", name, 2 * x.len(), || x.softmax(-1))?;
    bench.moves("softmax_grad", name, 3 * x.len(), || y.softmax_grad(&dy, -1))?;
    bench.moves("log_softmax", name, 2 * x.len(), || x.log_softmax(-1))?;
    let labels: Vec<i64> = (0..shape[0] as i64).map(|row| row % 10).collect();
    let labels = Tensor::from_vec(labels, [shape[0]])?;
    let options = LabelOptions::default();
    bench.moves("cross_entropy", name, x.len(), || x.cross_entropy(&labels, &options))
}
