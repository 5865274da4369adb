//! Training steps that the benchmarks time, how they are timed, and what the machine is like meanwhile.
//!
//! The program `workloads` runs them; the kernels have a criterion benchmark of their own, `kernels.rs`. Both are run
//! by `cargo xtask bench`.

#![forbid(unsafe_code)]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use maplet::prelude::*;

/// The result of building or running a workload.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One training step, from a batch in memory to updated parameters.
pub type Step = Box<dyn FnMut() -> Result<()> + Send>;

/// A workload: its name, and how to build its step.
pub type Workload = (&'static str, fn() -> Result<Step>);

/// All workloads. A new one is one line here.
pub const WORKLOADS: [Workload; 5] = [
    ("mnist_cnn_b32", || mnist_cnn(32)),
    ("mnist_cnn_b128", || mnist_cnn(128)),
    ("mnist_cnn_b480", || mnist_cnn(480)),
    ("mlp_b64", mlp),
    ("tiny_mlp_b32", tiny_mlp),
];

/// Convolution 3 × 3 × 32, ReLU, max-pool 2 × 2, dense 128, ReLU, dense 10: Adam on random images.
fn mnist_cnn(batch: usize) -> Result<Step> {
    let model = Sequential::input([1, 28, 28]);
    let model = model.conv2d(32, 3).relu().max_pool2d(2).flatten().linear(128).relu().linear(10).build(42)?;
    classify(model, Tensor::uniform([batch, 1, 28, 28], 0.0f32, 1.0, &mut Rng::new(1)))
}

/// Dense 784-512-512-10 with ReLU: Adam, batch 64.
fn mlp() -> Result<Step> {
    let model = Sequential::input([784]).linear(512).relu().linear(512).relu().linear(10).build(42)?;
    classify(model, Tensor::uniform([64, 784], 0.0f32, 1.0, &mut Rng::new(1)))
}

/// Dense 10-46-10 with tanh and a squared error: Adam, batch 32. Its arithmetic is nothing: it times the fixed costs.
fn tiny_mlp() -> Result<Step> {
    let model = Sequential::input([10]).linear(46).tanh().linear(10).build(42)?;
    let mut rng = Rng::new(1);
    let mut random = || Tensor::uniform([32, 10], 0.0f32, 1.0, &mut rng);
    let batch = Batch { inputs: random(), targets: random() };
    let mut trainer = model.compile(Adam::new(1e-3), mse, ());
    Ok(Box::new(move || Ok(trainer.step(&batch).map(drop)?)))
}

/// Steps of a classifier of ten classes on one batch.
fn classify(model: Sequential, inputs: Tensor) -> Result<Step> {
    let labels: Vec<i64> = (0..inputs.shape()[0] as i64).map(|sample| sample % 10).collect();
    let batch = Batch { targets: Tensor::from_slice(&labels, [labels.len()])?, inputs };
    let mut trainer = model.compile(Adam::new(1e-3), cross_entropy, ());
    Ok(Box::new(move || Ok(trainer.step(&batch).map(drop)?)))
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
