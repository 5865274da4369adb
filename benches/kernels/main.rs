//! Times single kernels in the sizes of real networks: `cargo bench -p maplet-benches [FILTER]`.
//!
//! Each says how much arithmetic it does ("elements" in criterion's words are floating-point operations), or, where
//! memory is what bounds it, how many bytes it must read and write at least.

#![forbid(unsafe_code)]

mod products;
mod convolutions;
mod pools;
mod norms;
mod elementwise;
mod optimizers;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use maplet::tensor::{Result, Rng, Tensor, par};

fn main() -> Result<()> {
    par::enter(|| {
        let criterion = Criterion::default().sample_size(20);
        let criterion = criterion.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let mut bench = Bench(criterion.configure_from_args());
        products::run(&mut bench)?;
        convolutions::run(&mut bench)?;
        pools::run(&mut bench)?;
        norms::run(&mut bench)?;
        elementwise::run(&mut bench)?;
        optimizers::run(&mut bench)?;
        bench.0.final_summary();
        Ok(())
    })
}

/// What the files beside this one time kernels with.
struct Bench(Criterion);

impl Bench {
    /// Times a kernel that does so many floating-point operations.
    fn flops<T>(&mut self, family: &str, name: &str, flops: usize, kernel: impl FnMut() -> Result<T>) -> Result<()> {
        self.time(family, name, Throughput::Elements(flops as u64), kernel)
    }

    /// Times a kernel that must read or write so many elements of four bytes.
    fn moves<T>(&mut self, family: &str, name: &str, elements: usize, kernel: impl FnMut() -> Result<T>) -> Result<()> {
        self.time(family, name, Throughput::BytesDecimal(4 * elements as u64), kernel)
    }

    /// After one call to see that it works.
    fn time<T>(
        &mut self,
        family: &str,
        name: &str,
        work: Throughput,
        mut kernel: impl FnMut() -> Result<T>,
    ) -> Result<()> {
        kernel()?;
        let mut group = self.0.benchmark_group(family);
        group.sampling_mode(SamplingMode::Flat).throughput(work);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(kernel())));
        group.finish();
        Ok(())
    }
}

fn random<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::normal(shape, 0.0f32, 1.0, &mut Rng::new(1))
}
