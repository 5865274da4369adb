//! A whole epoch of the MNIST network: 60,000 images with shuffling, loading, normalization and a metric.

use std::time::Instant;

use maplet::prelude::*;

use crate::{Result, layers};

/// Images in an epoch.
const IMAGES: usize = 60_000;
/// Images that are drawn where MNIST is not at hand; more would take longer than the epoch.
const DRAWN: usize = 6_000;

/// An epoch at one batch size.
pub struct Epoch {
    /// `mnist_cnn_epoch_b<batch>`
    pub name: &'static str,
    /// Seconds that it is meant to take at most on two threads of the machine of docs/performance.md.
    pub goal: f64,
    batch: usize,
}

/// The epochs that are timed.
pub const EPOCHS: [Epoch; 2] = [
    Epoch { name: "mnist_cnn_epoch_b32", goal: 2.4, batch: 32 },
    Epoch { name: "mnist_cnn_epoch_b128", goal: 1.9, batch: 128 },
];

impl Epoch {
    /// Floating-point operations of the training steps.
    pub fn flops(&self) -> f64 {
        layers::training(&layers::mnist_cnn(IMAGES))
    }

    /// Seconds of each of `count` epochs, sorted.
    pub fn time(&self, data: &ImageDataset, count: usize) -> Result<Vec<f64>> {
        let mut trainer = mnist_cnn(42)?.compile(Adam::new(1e-3), cross_entropy, Accuracy::new());
        let mut seconds = Vec::with_capacity(count);
        for _ in 0..count {
            let options = FitOptions::new().batch_size(self.batch).progress(Progress::none());
            let start = Instant::now();
            let history = trainer.fit(data, options)?;
            seconds.push(start.elapsed().as_secs_f64());
            let learned = history.get("accuracy").last().is_some_and(|&accuracy| accuracy > 0.5);
            if !learned {
                return Err(format!("{}: the network learns nothing", self.name).into());
            }
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds)
    }
}

/// MNIST's training images where the folder `MAPLET_DATA` has them, else drawn digits, repeated.
pub fn images() -> Result<ImageDataset> {
    let folder = std::env::var_os("MAPLET_DATA").unwrap_or_else(|| "data".into());
    let data = match Mnist::open(folder, Split::Train) {
        Ok(data) => data,
        Err(_) => {
            let drawn = digits(DRAWN, 1);
            let repeat = |tensor: &Tensor| Tensor::concat(&[tensor; IMAGES / DRAWN], 0);
            ImageDataset::new(repeat(drawn.images())?, repeat(drawn.labels())?, drawn.class_names())?
        }
    };
    let normalizer = Normalizer::fit(&data)?;
    Ok(data.normalize(normalizer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On few images: an epoch takes a minute without optimization.
    #[test]
    fn an_epoch_learns() {
        let data = digits(2_000, 1);
        let data = data.clone().normalize(Normalizer::fit(&data).unwrap()).unwrap();
        let seconds = EPOCHS[0].time(&data, 1).unwrap();
        assert!(seconds.len() == 1 && seconds[0] > 0.0);
    }

    /// Of 32 images, in millions: the convolution forward and back to its weights, the products also to their inputs.
    #[test]
    fn its_arithmetic_is_that_of_its_steps() {
        let step = 2.0 * 12.46 + 3.0 * (44.30 + 0.08);
        assert!((EPOCHS[0].flops() / 1e6 * 32.0 / 60_000.0 - step).abs() < 0.1);
    }
}
