//! Burn (its CPU backend flex) on the workloads of `cargo xtask bench`: Adam, float32. Threads: `RAYON_NUM_THREADS`.

#![forbid(unsafe_code)]

#[path = "../protocol.rs"]
mod protocol;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};
use protocol::{Result, Step, serve};

fn main() -> Result<()> {
    serve(&[
        ("mnist_cnn_b32", || Ok(training(MnistCnn::new, [32, 1, 28, 28]))),
        ("mnist_cnn_b128", || Ok(training(MnistCnn::new, [128, 1, 28, 28]))),
        ("mnist_cnn_b480", || Ok(training(MnistCnn::new, [480, 1, 28, 28]))),
        ("mlp_b64", || Ok(training(Mlp::new, [64, 784]))),
        ("mnist_cnn_forward_1", || Ok(inference(MnistCnn::new, [1, 1, 28, 28]))),
        ("mnist_cnn_forward_1000", || Ok(inference(MnistCnn::new, [1000, 1, 28, 28]))),
        ("mlp_forward_64", || Ok(inference(Mlp::new, [64, 784]))),
    ])
}

/// A classifier of inputs with `D` axes.
trait Classifier<const D: usize>: Module + 'static {
    fn forward(&self, x: Tensor<D>) -> Tensor<2>;
}

#[derive(Module, Debug)]
struct MnistCnn {
    conv: Conv2d,
    pool: MaxPool2d,
    hidden: Linear,
    head: Linear,
}

impl MnistCnn {
    fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, 32], [3, 3]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            hidden: LinearConfig::new(5408, 128).init(device),
            head: LinearConfig::new(128, 10).init(device),
        }
    }
}

impl Classifier<4> for MnistCnn {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv.forward(x))).flatten::<2>(1, 3);
        self.head.forward(relu(self.hidden.forward(x)))
    }
}

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    b: Linear,
    c: Linear,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        let layer = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Self { a: layer(784, 512), b: layer(512, 512), c: layer(512, 10) }
    }
}

impl Classifier<2> for Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.c.forward(relu(self.b.forward(relu(self.a.forward(x)))))
    }
}

fn training<const D: usize, M: Classifier<D>>(build: fn(&Device) -> M, shape: [usize; D]) -> Step {
    let device = Device::flex().autodiff();
    let mut model = Some(build(&device)); // an update takes the model and returns it
    let mut optimizer = AdamConfig::new().init();
    let x = Tensor::<D>::random(shape, Distribution::Uniform(0.0, 1.0), &device);
    let labels = Tensor::<1, Int>::arange(0..shape[0] as i64, &device).remainder_scalar(10);
    let loss = CrossEntropyLossConfig::new().init(&device);
    Box::new(move || {
        let held = model.take().ok_or("the step before failed")?;
        let loss = loss.forward(held.forward(x.clone()), labels.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &held);
        model = Some(optimizer.step(1e-3, held, grads));
        Ok(())
    })
}

fn inference<const D: usize, M: Classifier<D>>(build: fn(&Device) -> M, shape: [usize; D]) -> Step {
    let device = Device::flex();
    let model = build(&device);
    let x = Tensor::<D>::random(shape, Distribution::Uniform(0.0, 1.0), &device);
    Box::new(move || {
        model.forward(x.clone());
        Ok(())
    })
}
