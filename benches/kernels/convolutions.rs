//! Convolutions of real networks over images and sequences, each with its adjoints, and the fused one of MNIST.

use maplet::tensor::{Activation, Result, Shape, Window, Window1d, Window2d};

use crate::{Bench, random};

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let plain = Window2d::new;
    let same = Window2d::new(3).padding(1);
    // name, [batch, channels, outputs], sides of the image, window
    for (name, sizes, sides, window) in [
        ("mnist_b32", [32, 1, 32], [28, 28], plain(3)),
        ("alexnet1_b8", [8, 3, 64], [224, 224], plain(11).stride(4).padding(2)),
        ("alexnet2_b8", [8, 64, 192], [27, 27], plain(5).padding(2)),
        ("alexnet3_b8", [8, 192, 384], [13, 13], same),
        ("resnet18_stem_b4", [4, 3, 64], [224, 224], plain(7).stride(2).padding(3)),
        ("resnet18_64_b4", [4, 64, 64], [56, 56], same),
        ("resnet18_128_down_b4", [4, 64, 128], [56, 56], same.stride(2)),
        ("resnet18_128_skip_b4", [4, 64, 128], [56, 56], plain(1).stride(2)),
        ("resnet18_512_b4", [4, 512, 512], [7, 7], same),
        ("resnet20_16_b32", [32, 16, 16], [32, 32], same),
        ("resnet20_64_b32", [32, 64, 64], [8, 8], same),
        ("mobilenet_depth_32_b8", [8, 32, 32], [112, 112], same.groups(32)),
        ("mobilenet_depth_64_down_b8", [8, 64, 64], [112, 112], same.stride(2).groups(64)),
        ("mobilenet_depth_512_b8", [8, 512, 512], [14, 14], same.groups(512)),
        ("mobilenet_point_64_b8", [8, 32, 64], [112, 112], plain(1)),
        ("mobilenet_point_512_b8", [8, 512, 512], [14, 14], plain(1)),
    ] {
        layer(bench, name, sizes, sides, window)?;
    }
    // Raw sound as in M5 (Dai et al. 2017), and dilated as in WaveNet (van den Oord et al. 2016).
    for (name, sizes, length, window) in [
        ("m5_stem_b32", [32, 1, 128], 8000, Window1d::new(80).stride(4)),
        ("m5_128_b32", [32, 128, 128], 495, Window1d::new(3)),
        ("wavenet_b8", [8, 64, 64], 4000, Window1d::new(2).dilation(64)),
    ] {
        layer(bench, name, sizes, [length], window)?;
    }
    fused(bench)
}

/// Forward, input gradient and weight gradient of one layer.
fn layer<const D: usize>(
    bench: &mut Bench,
    name: &str,
    [n, inputs, outputs]: [usize; 3],
    sides: [usize; D],
    window: Window<D>,
) -> Result<()> {
    let channels = inputs / window.groups;
    let x = random([n, inputs, sides.iter().product()]).reshape(Shape::new(&[&[n, inputs][..], &sides].concat())?)?;
    let taps: usize = window.kernel.iter().product();
    let w =
        random([outputs, channels, taps]).reshape(Shape::new(&[&[outputs, channels][..], &window.kernel].concat())?)?;
    let dy = x.conv(&w, window)?;
    let flops = 2 * dy.len() * channels * taps;
    bench.flops("conv", name, flops, || x.conv(&w, window))?;
    bench.flops("conv_dx", name, flops, || dy.conv_grad_input(&w, x.shape(), window))?;
    bench.flops("conv_dw", name, flops, || dy.conv_grad_weight(&x, w.shape(), window))
}

/// Convolution with ReLU, and max-pool, of the MNIST network: as one kernel and as two.
fn fused(bench: &mut Bench) -> Result<()> {
    let (conv, pool) = (Window2d::new(3), Window2d::pool(2));
    for batch in [32, 128] {
        let (x, w, b) = (random([batch, 1, 28, 28]), random([32, 1, 3, 3]), random([32]));
        let (name, flops) = (format!("b{batch}"), 2 * batch * 32 * 26 * 26 * 9);
        bench.flops("conv_relu_pool", &name, flops, || x.conv2d_relu_max_pool2d(&w, Some(&b), conv, pool))?;
        bench.flops("conv_relu_pool_unfused", &name, flops, || {
            x.conv_bias(&w, Some(&b), conv, Activation::Relu)?.max_pool(pool)
        })?;
        let (y, winners) = x.conv2d_relu_max_pool2d(&w, Some(&b), conv, pool)?;
        bench.flops("conv_relu_pool_dw", &name, flops, || {
            y.conv2d_relu_max_pool2d_grad(&winners, &x, &w, conv, pool, [false, true, true])
        })?;
    }
    Ok(())
}
