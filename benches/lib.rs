//! Training steps that the benchmarks time, how they are timed, and what the machine is like meanwhile.
//!
//! The program `workloads` runs them; the kernels have a criterion benchmark of their own, `kernels.rs`. Both are run
//! by `cargo xtask bench`.

#![forbid(unsafe_code)]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use maplet::models::{AlexNet, ResNet};
use maplet::nn::{
    self, AttentionMasks, Embedding, FeedForward, Gru, Lstm, RecurrentOptions, TransformerConfig, TransformerEncoder,
};
use maplet::prelude::*;

/// The result of building or running a workload.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One training step, from a batch in memory to updated parameters.
pub type Step = Box<dyn FnMut() -> Result<()> + Send>;

/// A workload: its name, and how to build its step.
pub type Workload = (&'static str, fn() -> Result<Step>);

/// All workloads. A new one is one line here.
pub const WORKLOADS: [Workload; 16] = [
    ("mnist_cnn_b32", || classify(mnist_cnn(42)?, images([32, 1, 28, 28]))),
    ("mnist_cnn_b128", || classify(mnist_cnn(42)?, images([128, 1, 28, 28]))),
    ("mnist_cnn_b480", || classify(mnist_cnn(42)?, images([480, 1, 28, 28]))),
    ("mlp_b64", || classify(mlp(&[784, 512, 512, 10], 42)?, images([64, 784]))),
    ("tiny_mlp_b32", tiny_mlp),
    ("lstm_b64", || classify(LastOfSequence::<Lstm>::new(Lstm::new)?, images([64, 28, 28]))),
    ("gru_b64", || classify(LastOfSequence::<Gru>::new(Gru::new)?, images([64, 28, 28]))),
    ("transformer_lm_b16", transformer_lm),
    ("resnet20_b32", || classify(ResNet::resnet20(10, 42)?, images([32, 3, 32, 32]))),
    ("resnet18_b4", || classify(ResNet::resnet18(10, 42)?, images([4, 3, 224, 224]))),
    ("alexnet_b8", || classify(AlexNet::new(10, 42)?, images([8, 3, 224, 224]))),
    ("conv_128_256_k4_b64", large_conv),
    ("mnist_cnn_forward_1", || infer(mnist_cnn(42)?, images([1, 1, 28, 28]))),
    ("mnist_cnn_forward_1000", || infer(mnist_cnn(42)?, images([1000, 1, 28, 28]))),
    ("mnist_cnn_frozen_1", || frozen(&mnist_cnn(42)?, images([1, 1, 28, 28]))),
    ("mnist_cnn_frozen_1000", || frozen(&mnist_cnn(42)?, images([1000, 1, 28, 28]))),
];

/// Uniform random numbers.
fn images<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::uniform(shape, 0.0f32, 1.0, &mut Rng::new(1))
}

/// Dense 10-46-10 with tanh and a squared error, batch 32. Its arithmetic is nothing: it times the fixed costs.
fn tiny_mlp() -> Result<Step> {
    let model = Sequential::input([10]).linear(46).tanh().linear(10).build(42)?;
    train(model, mse, Batch { inputs: images([32, 10]), targets: images([32, 10]) })
}

/// A recurrent layer 28 → 128 over rows of an image, and a dense layer on its last output.
struct LastOfSequence<R> {
    recurrent: R,
    head: Linear,
}
fields!([R: Visit] LastOfSequence<R>: recurrent, head);

impl<R> LastOfSequence<R> {
    fn new(make: fn(usize, usize, RecurrentOptions, &mut Rng) -> nn::Result<R>) -> Result<Self> {
        let rng = &mut Rng::new(42);
        Ok(Self {
            recurrent: make(28, 128, RecurrentOptions::new().batch_first(), rng)?,
            head: Linear::new(128, 10, rng)?,
        })
    }
}

impl<R: Module> Module for LastOfSequence<R> {
    fn forward(&self, x: &Var) -> nn::Result<Var> {
        let y = self.recurrent.forward(x)?;
        self.head.forward(&y.slice(1, 27, 28)?.squeeze(1)?)
    }
}

/// A causal transformer over characters: four layers of 128 features and four heads, pre-norm, GELU, learned positions.
struct TransformerLm {
    embedding: Embedding,
    positions: Param,
    encoder: TransformerEncoder,
    head: Linear,
}
fields!(TransformerLm: embedding, positions, encoder, head);

impl Module for TransformerLm {
    fn forward(&self, x: &Var) -> nn::Result<Var> {
        let x = self.embedding.forward(x)?;
        let x = x.add(&self.positions.on(&x))?;
        self.head.forward(&self.encoder.forward_with(&x, &AttentionMasks::new().causal())?)
    }
}

fn transformer_lm() -> Result<Step> {
    let rng = &mut Rng::new(42);
    let config = TransformerConfig {
        num_encoder_layers: 4,
        dim_feedforward: 512,
        dropout: 0.0,
        activation: FeedForward::Gelu,
        norm_first: true,
        ..TransformerConfig::new(128, 4)
    };
    let model = TransformerLm {
        embedding: Embedding::new(65, 128, rng)?,
        positions: Param::new(Tensor::zeros([128, 128], DType::F32)),
        encoder: config.encoder(rng)?,
        head: Linear::new(128, 65, rng)?,
    };
    let ids = |first: i64| Tensor::from_vec((first..first + 16 * 128).map(|i| i * 7 % 65).collect(), [16, 128]);
    train(model, cross_entropy, Batch { inputs: ids(0)?, targets: ids(1)? })
}

/// One large convolution, 128 → 256 with a kernel of 4 × 4.
fn large_conv() -> Result<Step> {
    let model = Sequential::input([128, 28, 28]).conv2d(256, 4).build(42)?;
    train(model, mse, Batch { inputs: images([64, 128, 28, 28]), targets: images([64, 256, 25, 25]) })
}

/// Steps of a classifier of ten classes on one batch.
fn classify(model: impl Module + 'static, inputs: Tensor) -> Result<Step> {
    let labels: Vec<i64> = (0..inputs.shape()[0] as i64).map(|sample| sample % 10).collect();
    train(model, cross_entropy, Batch { targets: Tensor::from_slice(&labels, [labels.len()])?, inputs })
}

/// Steps with Adam on one batch.
fn train(model: impl Module + 'static, loss: impl Loss + 'static, batch: Batch) -> Result<Step> {
    let mut trainer = model.compile(Adam::new(1e-3), loss, ());
    Ok(Box::new(move || Ok(trainer.step(&batch).map(drop)?)))
}

/// Forward passes outside of training.
fn infer(model: impl Module + 'static, inputs: Tensor) -> Result<Step> {
    let inputs = Var::from(inputs);
    Ok(Box::new(move || Ok(model.forward(&inputs).map(drop)?)))
}

/// Calls of a model that was frozen for these inputs.
fn frozen(model: &Sequential, inputs: Tensor) -> Result<Step> {
    let mut session = model.freeze(inputs.shape()[0])?.session();
    Ok(Box::new(move || Ok(session.run(&inputs).map(|_| ())?)))
}

/// Times single steps for about `long`, after a tenth of that to warm up, and returns their durations in milliseconds,
/// sorted.
pub fn time(step: &mut Step, long: Duration) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 5 || start.elapsed() < long {
        let warm = start.elapsed() > long / 10;
        let one = Instant::now();
        step()?;
        if warm || times.is_empty() {
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.swap_remove(0);
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// The value below which `fraction` of the sorted values lie, by the nearest rank.
pub fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let rank = (fraction * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds that a cache line needs from one thread to another and back, the median of some rounds.
///
/// Shared machines differ in this from minute to minute, by a factor of five, and small parallel steps with it: a
/// figure without it says little. `None` on a single core.
pub fn round_trip_ns() -> Option<f64> {
    const TRIPS: u32 = 2_000;
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let mut rounds: Vec<f64> = (0..5)
        .map(|_| {
            let ball = AtomicU32::new(0);
            thread::scope(|scope| {
                scope.spawn(|| hit(&ball, 1, TRIPS));
                let start = Instant::now();
                hit(&ball, 0, TRIPS);
                start.elapsed().as_secs_f64() * 1e9 / f64::from(TRIPS)
            })
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    Some(percentile(&rounds, 0.5))
}

/// Returns the ball whenever it shows `side`, modulo two, until it was returned `trips` times.
fn hit(ball: &AtomicU32, side: u32, trips: u32) {
    for trip in 0..trips {
        let mut spins = 0;
        while ball.load(SeqCst) != 2 * trip + side {
            match spins < 10_000 {
                true => spin_loop(),
                false => thread::yield_now(), // the other one has no core: the machine is overloaded
            }
            spins += 1;
        }
        ball.store(2 * trip + side + 1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_takes_a_step() {
        for (name, build) in WORKLOADS {
            build().and_then(|mut step| step()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn times_are_sorted_and_enough() {
        let mut step: Step = Box::new(|| Ok(()));
        let times = time(&mut step, Duration::ZERO).unwrap();
        assert!(times.len() >= 4 && times.is_sorted());
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.1)), (5.0, 1.0));
    }

    #[test]
    fn the_ball_comes_back() {
        assert!(round_trip_ns().is_none_or(|nanoseconds| nanoseconds > 0.0));
    }
}
