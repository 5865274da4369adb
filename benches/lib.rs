//! Training steps and forward passes that the benchmarks time, and what the machine can do meanwhile.
//!
//! The program `workloads` runs them; the kernels have a criterion benchmark of their own, `kernels/`. Both are run
//! by `cargo xtask bench`.

#![forbid(unsafe_code)]

pub mod networks;
pub mod layers;
pub mod epoch;
pub mod machine;

use std::time::{Duration, Instant};

/// The result of building or running a workload.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One training step, from a batch in memory to updated parameters; or one forward pass.
pub type Step = Box<dyn FnMut() -> Result<()> + Send>;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
