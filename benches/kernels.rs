//! Times single kernels in the sizes of the training steps: `cargo bench -p maplet-benches [FILTER]`.

#![forbid(unsafe_code)]

use std::hint::black_box;

use criterion::Criterion;
use maplet::tensor::optim::{AdamRule, Now};
use maplet::tensor::{Activation, Result, Rng, Tensor, Trans, Window2d, par};

fn main() -> Result<()> {
    par::enter(|| {
        let mut criterion = Criterion::default().configure_from_args();
        matmul(&mut criterion)?;
        conv(&mut criterion)?;
        conv_pool(&mut criterion)?;
        adam(&mut criterion)?;
        criterion.final_summary();
        Ok(())
    })
}

/// Times `kernel`, after one call to see that it works.
fn bench<T>(criterion: &mut Criterion, name: &str, mut kernel: impl FnMut() -> Result<T>) -> Result<()> {
    kernel()?;
    criterion.bench_function(name, |bencher| bencher.iter(|| black_box(kernel())));
    Ok(())
}

fn random<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::normal(shape, 0.0f32, 1.0, &mut Rng::new(1))
}

/// Square products, and those of the dense layer 5408 → 128 at batch 32: forward, input gradient, weight gradient.
fn matmul(criterion: &mut Criterion) -> Result<()> {
    for size in [64, 128, 256, 512] {
        let (a, b) = (random([size, size]), random([size, size]));
        bench(criterion, &format!("matmul_{size}"), || a.matmul(&b))?;
    }
    let (x, w, b, dy) = (random([32, 5408]), random([128, 5408]), random([128]), random([32, 128]));
    bench(criterion, "linear_b32_5408_128", || x.linear(&w, Some(&b), Activation::Relu))?;
    bench(criterion, "linear_dx_b32_5408_128", || dy.matmul(&w))?;
    bench(criterion, "linear_dw_b32_5408_128", || dy.matmul_with(&x, Trans { a: true, b: false }))
}

/// Convolutions 3 × 3: the first one of the MNIST network, and two of ResNet-20, each with its adjoints.
fn conv(criterion: &mut Criterion) -> Result<()> {
    let same = Window2d::new(3).padding(1);
    for (name, x, w, window) in [
        ("b32_1_32_28", random([32, 1, 28, 28]), random([32, 1, 3, 3]), Window2d::new(3)),
        ("b32_16_16_32", random([32, 16, 32, 32]), random([16, 16, 3, 3]), same),
        ("b32_64_64_8", random([32, 64, 8, 8]), random([64, 64, 3, 3]), same),
    ] {
        let dy = x.conv(&w, window)?;
        bench(criterion, &format!("conv2d_{name}"), || x.conv(&w, window))?;
        bench(criterion, &format!("conv2d_dx_{name}"), || dy.conv_grad_input(&w, x.shape(), window))?;
        bench(criterion, &format!("conv2d_dw_{name}"), || dy.conv_grad_weight(&x, w.shape(), window))?;
    }
    Ok(())
}

/// Convolution with ReLU, and max-pool, of the MNIST network: as one kernel and as two.
fn conv_pool(criterion: &mut Criterion) -> Result<()> {
    let (conv, pool) = (Window2d::new(3), Window2d::pool(2));
    for batch in [32, 128] {
        let (x, w, b) = (random([batch, 1, 28, 28]), random([32, 1, 3, 3]), random([32]));
        bench(criterion, &format!("conv_relu_pool_b{batch}"), || x.conv2d_relu_max_pool2d(&w, Some(&b), conv, pool))?;
        bench(criterion, &format!("conv_relu_pool_unfused_b{batch}"), || {
            x.conv_bias(&w, Some(&b), conv, Activation::Relu)?.max_pool(pool)
        })?;
        let (y, winners) = x.conv2d_relu_max_pool2d(&w, Some(&b), conv, pool)?;
        bench(criterion, &format!("conv_relu_pool_dw_b{batch}"), || {
            y.conv2d_relu_max_pool2d_grad(&winners, &x, &w, conv, pool, [false, true, true])
        })?;
    }
    Ok(())
}

/// One pass of Adam over the largest weight of the MNIST network.
fn adam(criterion: &mut Criterion) -> Result<()> {
    let (mut p, g) = (random([128, 5408]), random([128, 5408]));
    let (mut m, mut v) = (p.zeros_like(), p.zeros_like());
    let rule = AdamRule::<false> { beta1: 0.9, beta2: 0.999, eps: 1e-8, amsgrad: false };
    let mut now = Now { learning_rate: 1e-3, weight_decay: 0.0, step: 0 };
    bench(criterion, "adam_692k", || {
        now.step += 1;
        p.update(&g, [&mut m, &mut v], rule, now)
    })
}
