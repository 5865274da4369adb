//! How much arithmetic the networks need: floating-point operations of each layer's forward pass.
//!
//! Only products and convolutions count, a multiplication and an addition as two, as the mathematics asks for them and
//! not as a kernel may do them: a causal attention looks at the past alone, and no layer profits from zeros.

/// Floating-point operations of the forward pass, layer by layer.
pub type Layers = Vec<f64>;

/// Those of a forward pass.
pub fn forward(layers: &Layers) -> f64 {
    layers.iter().sum()
}

/// Those of a training step: each layer's forward pass, its weight gradient and its input gradient cost the same, and
/// nobody asks for the gradient of the network's input.
pub fn training(layers: &Layers) -> f64 {
    3.0 * forward(layers) - layers.first().unwrap_or(&0.0)
}

/// A convolution with kernels of `taps` elements at `positions` places of each of `n` samples.
fn conv(n: usize, [inputs, outputs]: [usize; 2], taps: usize, positions: usize) -> f64 {
    2.0 * (n * positions) as f64 * (inputs * outputs * taps) as f64
}

/// A dense layer on `n` rows.
fn dense(n: usize, inputs: usize, outputs: usize) -> f64 {
    conv(n, [inputs, outputs], 1, 1)
}

/// Convolution 3 × 3 of 32 channels, and dense layers 5408 → 128 → 10.
pub fn mnist_cnn(n: usize) -> Layers {
    vec![conv(n, [1, 32], 9, 26 * 26), dense(n, 5408, 128), dense(n, 128, 10)]
}

/// Dense layers between these sizes.
pub fn mlp(n: usize, sizes: &[usize]) -> Layers {
    sizes.windows(2).map(|pair| dense(n, pair[0], pair[1])).collect()
}

/// A recurrent layer 28 → 128 with so many gates over 28 steps, and a dense layer 128 → 10.
pub fn recurrent(n: usize, gates: usize) -> Layers {
    vec![dense(28 * n, 28, gates * 128), dense(28 * n, 128, gates * 128), dense(n, 128, 10)]
}

/// Four layers of 128 features over 128 positions, which see the positions before them, and a dense layer to 65.
pub fn transformer_lm(n: usize) -> Layers {
    let (t, d) = (128, 128);
    let rows = n * t;
    let attention = 2.0 * 2.0 * (n * t * (t + 1) / 2 * d) as f64; // scores, and the sum they weigh
    let layer = [dense(rows, d, 3 * d), attention, dense(rows, d, d), dense(rows, d, 4 * d), dense(rows, 4 * d, d)];
    let embedding = 0.0; // a look-up, whose gradient the first product must give
    [embedding].into_iter().chain([layer; 4].concat()).chain([dense(rows, d, 65)]).collect()
}

/// Basic blocks of two convolutions 3 × 3; a block that changes the shape has one of 1 × 1 beside them.
fn blocks(n: usize, mut channels: usize, stages: &[(usize, usize)], count: usize) -> Layers {
    let mut layers = Layers::new();
    for &(width, side) in stages {
        for block in 0..count {
            layers.push(conv(n, [channels, width], 9, side * side));
            layers.push(conv(n, [width, width], 9, side * side));
            if block == 0 && channels != width {
                layers.push(conv(n, [channels, width], 1, side * side));
            }
            channels = width;
        }
    }
    layers
}

/// ResNet-20 on 32 × 32.
pub fn resnet20(n: usize) -> Layers {
    let stem = conv(n, [3, 16], 9, 32 * 32);
    [vec![stem], blocks(n, 16, &[(16, 32), (32, 16), (64, 8)], 3), vec![dense(n, 64, 10)]].concat()
}

/// ResNet-18 on 224 × 224.
pub fn resnet18(n: usize, classes: usize) -> Layers {
    let stem = conv(n, [3, 64], 49, 112 * 112);
    let stages = [(64, 56), (128, 28), (256, 14), (512, 7)];
    [vec![stem], blocks(n, 64, &stages, 2), vec![dense(n, 512, classes)]].concat()
}

/// AlexNet on 224 × 224, as torchvision's.
pub fn alexnet(n: usize, classes: usize) -> Layers {
    vec![
        conv(n, [3, 64], 121, 55 * 55),
        conv(n, [64, 192], 25, 27 * 27),
        conv(n, [192, 384], 9, 13 * 13),
        conv(n, [384, 256], 9, 13 * 13),
        conv(n, [256, 256], 9, 13 * 13),
        dense(n, 9216, 4096),
        dense(n, 4096, 4096),
        dense(n, 4096, classes),
    ]
}

/// One convolution 128 → 256 with a kernel of 4 × 4 on 28 × 28.
pub fn large_conv(n: usize) -> Layers {
    vec![conv(n, [128, 256], 16, 25 * 25)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplications of a forward pass, in billions, as torchvision's documentation has them ("GFLOPS").
    #[test]
    fn published_figures_are_met() {
        let billions = |layers: &Layers| (forward(layers) / 2e9 * 100.0).round() / 100.0;
        assert_eq!(billions(&alexnet(1, 1000)), 0.71);
        assert_eq!(billions(&resnet18(1, 1000)), 1.81);
    }

    #[test]
    fn a_step_is_three_passes_but_for_the_input() {
        assert_eq!(forward(&mlp(2, &[3, 5, 7])), 2.0 * 2.0 * (15.0 + 35.0));
        assert_eq!(training(&mlp(2, &[3, 5, 7])), 2.0 * 2.0 * (2.0 * 15.0 + 3.0 * 35.0));
    }
}
