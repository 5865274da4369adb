//! Reads a handwritten digit from a picture, with a network that `mnist_cnn` saved.
//!
//! Shows how a model file is used: it knows its own architecture, normalisation and class names. The picture may be
//! dark on light or the reverse, of any size; it is brought into MNIST's form first.
//! Expect: the three most probable classes. It takes no time.
//!
//! `cargo run --release --example mnist_predict -- digits.maplet seven.png`

use clap::Parser;
use maplet::prelude::*;
use maplet_examples::{Result, picture};
use std::path::PathBuf;

/// Reads a handwritten digit from a picture.
#[derive(Parser)]
struct Args {
    /// A network that `mnist_cnn --save` wrote
    file: PathBuf,
    /// A picture of one digit: PNG
    image: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let file = ModelFile::load(&args.file)?;
    let input = picture::load(&args.image)?;
    let classes = file.classify(&input)?;
    for (name, probability) in classes.top(0, 3) {
        println!("{name:12} {:6.2} %", 100.0 * probability);
    }
    Ok(())
}
