//! Matrix products: square, thin, batched, and those of dense layers with their adjoints.

use maplet::tensor::{Activation, Attend, Heads, Result, Tensor, Trans};

use crate::{Bench, random};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for size in [32, 64, 128, 256, 512, 1024] {
        product(bench, [size, size, size])?;
    }
    // Thin ones: a single row, few columns, few steps, few rows of many steps.
    for shape in [[1, 1024, 1024], [1024, 1024, 1], [4096, 512, 10], [4096, 9, 32], [16, 16384, 16], [2048, 128, 512]] {
        product(bench, shape)?;
    }
    let (a, b) = (random([64, 128, 32]), random([64, 32, 128]));
    bench.flops("matmul", "64x_128_32_128", 2 * 64 * 128 * 32 * 128, || a.matmul(&b))?;
    for batch in [32, 128] {
        dense(bench, batch, 5408, 128)?;
    }
    dense(bench, 64, 512, 512)?;
    dense(bench, 8, 9216, 4096)?;
    // The transformer's.
    for [inputs, outputs] in [[128, 128], [128, 384], [128, 512], [512, 128]] {
        dense(bench, 2048, inputs, outputs)?;
    }
    attention(bench)
}

/// `[m, k] × [k, n]`
fn product(bench: &mut Bench, [m, k, n]: [usize; 3]) -> Result<()> {
    let (a, b) = (random([m, k]), random([k, n]));
    bench.flops("matmul", &format!("{m}_{k}_{n}"), 2 * m * k * n, || a.matmul(&b))
}

/// A dense layer: forward, input gradient, weight gradient.
fn dense(bench: &mut Bench, batch: usize, inputs: usize, outputs: usize) -> Result<()> {
    let (name, flops) = (format!("b{batch}_{inputs}_{outputs}"), 2 * batch * inputs * outputs);
    let (x, w, b) = (random([batch, inputs]), random([outputs, inputs]), random([outputs]));
    let dy = random([batch, outputs]);
    bench.flops("linear", &name, flops, || x.linear(&w, Some(&b), Activation::Relu))?;
    bench.flops("linear_dx", &name, flops, || dy.matmul(&w))?;
    bench.flops("linear_dw", &name, flops, || dy.matmul_with(&x, Trans { a: true, b: false }))
}

/// Four heads of 32 features over 128 positions, in a batch of 16: scores and the sum they weigh, then back.
fn attention(bench: &mut Bench) -> Result<()> {
    let (heads, attend, product) = (Heads::Axis, Attend::default(), 2 * 16 * 4 * 128 * 128 * 32);
    let [q, k, v] = [(); 3].map(|()| random([16, 4, 128, 32]));
    bench.flops("attention", "b16_h4_t128_d32", 2 * product, || Tensor::attention([&q, &k, &v], heads, &attend))?;
    let (y, sums) = Tensor::attention([&q, &k, &v], heads, &attend)?;
    let back = || Tensor::attention_grad([&q, &k, &v], heads, &attend, [&y, &sums], &y, [true; 3]);
    bench.flops("attention_grad", "b16_h4_t128_d32", 4 * product, back)
}
