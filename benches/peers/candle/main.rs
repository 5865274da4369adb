//! Candle on the workloads of `cargo xtask bench`: Adam (AdamW without decay), float32. Threads: `RAYON_NUM_THREADS`.

#![forbid(unsafe_code)]

#[path = "../protocol.rs"]
mod protocol;

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{AdamW, Conv2dConfig, Linear, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss};
use protocol::{Result, Step, serve};

const DEVICE: Device = Device::Cpu;

fn main() -> Result<()> {
    serve(&[
        ("mnist_cnn_b32", || training(mnist_cnn, uniform(&[32, 1, 28, 28])?)),
        ("mnist_cnn_b128", || training(mnist_cnn, uniform(&[128, 1, 28, 28])?)),
        ("mnist_cnn_b480", || training(mnist_cnn, uniform(&[480, 1, 28, 28])?)),
        ("mlp_b64", || training(mlp, uniform(&[64, 784])?)),
        ("mnist_cnn_forward_1", || inference(mnist_cnn, uniform(&[1, 1, 28, 28])?)),
        ("mnist_cnn_forward_1000", || inference(mnist_cnn, uniform(&[1000, 1, 28, 28])?)),
        ("mlp_forward_64", || inference(mlp, uniform(&[64, 784])?)),
    ])
}

/// Builds a model from a source of parameters.
type Build = fn(VarBuilder<'_>) -> candle_core::Result<Box<dyn Module>>;

fn mnist_cnn(vars: VarBuilder<'_>) -> candle_core::Result<Box<dyn Module>> {
    let conv = candle_nn::conv2d(1, 32, 3, Conv2dConfig::default(), vars.pp("conv"))?;
    let hidden = candle_nn::linear(5408, 128, vars.pp("hidden"))?;
    let head = candle_nn::linear(128, 10, vars.pp("head"))?;
    Ok(Box::new(candle_nn::func(move |x| {
        let x = conv.forward(x)?.relu()?.max_pool2d(2)?.flatten_from(1)?;
        head.forward(&hidden.forward(&x)?.relu()?)
    })))
}

fn mlp(vars: VarBuilder<'_>) -> candle_core::Result<Box<dyn Module>> {
    let layer = |inputs, outputs, name| candle_nn::linear(inputs, outputs, vars.pp(name));
    let layers: [Linear; 3] = [layer(784, 512, "a")?, layer(512, 512, "b")?, layer(512, 10, "c")?];
    Ok(Box::new(candle_nn::func(move |x| {
        let x = layers[1].forward(&layers[0].forward(x)?.relu()?)?.relu()?;
        layers[2].forward(&x)
    })))
}

fn uniform(shape: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::rand(0.0f32, 1.0, shape, &DEVICE)
}

fn training(build: Build, x: Tensor) -> Result<Step> {
    let vars = VarMap::new();
    let model = build(VarBuilder::from_varmap(&vars, DType::F32, &DEVICE))?;
    let labels = Tensor::from_iter((0..x.dim(0)? as u32).map(|sample| sample % 10), &DEVICE)?;
    let adam = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), adam)?;
    Ok(Box::new(move || Ok(optimizer.backward_step(&loss::cross_entropy(&model.forward(&x)?, &labels)?)?)))
}

/// Forward passes with parameters that want no gradient.
fn inference(build: Build, x: Tensor) -> Result<Step> {
    let vars = VarMap::new();
    build(VarBuilder::from_varmap(&vars, DType::F32, &DEVICE))?;
    let held = vars.data().lock().map_err(|_| "a thread that held the parameters panicked")?;
    let constants = held.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    let model = build(VarBuilder::from_tensors(constants, DType::F32, &DEVICE))?;
    drop(held);
    Ok(Box::new(move || Ok(model.forward(&x).map(drop)?)))
}
