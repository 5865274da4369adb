//! The open loop: what `fit` does, step by step.
//!
//! Shows one training step in full: a batch, a forward pass, the loss, the gradients, the update. No mode to switch and
//! no gradient to reset: the mode rides on the data, and gradients are values.
//! Expect: above 95 % after one epoch. About five seconds with `--release`.
//!
//! `cargo run --release --example 04_mnist_loop`

use clap::Parser;
use maplet::prelude::*;
use maplet_examples::{DataArgs, Result};

/// Trains the MNIST CNN in a loop of one's own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// How often to go through the training images
    #[arg(long, default_value_t = 1)]
    epochs: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (train, test) = args.data.open()?;
    let (train, test) = (Loader::new(train, 32)?.shuffle(42), Loader::new(test, 256)?);

    let mut model = mnist_cnn(42)?; // the network of the example `mnist_cnn`
    let mut optimizer = Adam::new(1e-3);
    let mut step = 0;
    for epoch in 0..args.epochs {
        let mut sum = 0.0;
        for batch in train.epoch(epoch) {
            let batch = batch?;
            let images = Pass::train(step).input(batch.inputs); // recorded; the seed is for dropout
            let logits = model.forward(&images)?;
            let loss = cross_entropy(&logits, &batch.targets)?;
            let grads = loss.backward()?;
            optimizer.step(&mut model, &grads)?;

            sum += f64::from(loss.item::<f32>()?);
            step += 1;
            if step % 200 == 0 {
                println!("epoch {} step {step}: mean loss {:.4}", epoch + 1, sum / 200.0);
                sum = 0.0;
            }
        }
    }

    let (mut right, mut all) = (0.0, 0);
    for batch in test.epoch(0) {
        let batch = batch?;
        let logits = model.forward(&Var::from(&batch.inputs))?; // outside any pass: nothing is recorded
        let hits = logits.value().argmax(-1, false)?.equal(&batch.targets)?;
        right += hits.to_dtype(DType::F64).sum(.., false)?.item::<f64>()?;
        all += batch.len();
    }
    println!("test accuracy {:.2} %", 100.0 * right / all as f64);
    Ok(())
}
