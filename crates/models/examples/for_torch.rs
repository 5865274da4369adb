//! Saves an untrained MNIST CNN, some inputs and its logits, for `tests/fixtures/check_in_torch.py`.
//!
//! `cargo run -p maplet-models --example for_torch -- FOLDER`

use maplet_autograd::Var;
use maplet_models::{mnist_cnn, save_safetensors, write_safetensors};
use maplet_nn_layers::Module;
use maplet_tensor::{Rng, Tensor};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder")?);
    let model = mnist_cnn(42)?;
    let inputs = Tensor::uniform([64, 1, 28, 28], 0.0f32, 1.0, &mut Rng::new(7));
    let logits = model.forward(&Var::from(&inputs))?.into_value();
    save_safetensors(&model, folder.join("model.safetensors"))?;
    write_safetensors(&[("inputs".into(), inputs), ("logits".into(), logits)], folder.join("io.safetensors"))?;
    Ok(())
}
