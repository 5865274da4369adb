//! How a peer written in Rust talks to `cargo xtask bench` and times itself: as `protocol.py` does, which explains it.

use std::io::{BufRead, stdin};
use std::time::Instant;

/// The result of building or running a workload.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One training step, or one forward pass.
pub type Step = Box<dyn FnMut() -> Result<()>>;

/// Times single calls of `step` for so long, after a tenth of that to warm up; milliseconds, sorted.
fn measure(step: &mut Step, seconds: f64) -> Result<Vec<f64>> {
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < seconds / 10.0 {
        step()?;
    }
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        step()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Prints the names of the workloads and answers each line `NAME SECONDS`. A step is built when it is first asked for,
/// and kept until another is.
pub fn serve(workloads: &[(&str, fn() -> Result<Step>)]) -> Result<()> {
    let names: Vec<String> = workloads.iter().map(|(name, _)| format!("{name:?}")).collect();
    println!("[{}]", names.join(", "));
    let mut held: Option<(String, Step)> = None;
    for line in stdin().lock().lines() {
        let line = line?;
        let (asked, seconds) = line.split_once(' ').ok_or("expects NAME SECONDS")?;
        if held.as_ref().is_none_or(|(name, _)| name != asked) {
            drop(held.take()); // one at a time: memory
            let (_, build) = workloads.iter().find(|(name, _)| *name == asked).ok_or("there is no such workload")?;
            held = Some((asked.to_owned(), build()?));
        }
        if let Some((_, step)) = &mut held {
            let times = measure(step, seconds.parse()?)?;
            let at = |fraction: f64| times[((fraction * times.len() as f64).ceil() as usize).max(1) - 1];
            println!(r#"{{"median": {}, "p10": {}, "samples": {}}}"#, at(0.5), at(0.1), times.len());
        }
    }
    Ok(())
}
