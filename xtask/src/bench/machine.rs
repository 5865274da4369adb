//! What a reader of the figures needs to know about this machine, and its state before and after they are taken.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use serde_json::{Value, json};

use super::rows::Work;
use super::workloads;
use crate::Result;
use crate::project::{self, list};
use crate::table::table;

/// The machine, and what the program `workloads` found out about it.
pub(crate) struct Machine {
    constants: Value,
    before: Value,
    after: Value,
}

/// The best that was seen of as many threads as the benchmarks use.
pub(crate) struct Peaks {
    /// Billions of floating-point operations a second.
    gflops: f64,
    /// For each level of the memory, the nearest first: the bytes it holds, and billions of bytes a second.
    triads: Vec<(f64, f64)>,
}

impl Machine {
    /// Measures what there is before the benchmarks.
    pub(crate) fn before() -> Result<Self> {
        Ok(Self { constants: constants(), before: state()?, after: Value::Null })
    }

    /// Measures again, and prints all of it.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.after = state()?;
        let number = |value: &Value| value.as_f64().map_or("?".into(), |number| format!("{number:.1}"));
        let both = |name: &str| format!("{} before, {} after", number(&self.before[name]), number(&self.after[name]));
        let Value::Object(constants) = &self.constants else { return Ok(()) };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let constants: Vec<String> = constants.iter().map(|(name, value)| format!("{name} {}", text(value))).collect();
        println!("\nmachine: {}", constants.join(", "));
        println!("threads: {}, kernels: {}", self.before["threads"], text(&self.before["kernels"]));
        println!("load average of the last minute: {}", both("load"));
        println!("cores that others keep busy: {}", both("busy_cores"));
        println!("a cache line there and back, ns: {}", both("round_trip_ns"));
        let cells = list(&self.before["peaks"]).map(|peak| {
            let threads = peak["threads"].as_u64().unwrap_or(0);
            let cell = |value: f64| format!("{value:.1}");
            let peaks = self.peaks_of(threads);
            let triad = |level: usize| peaks.triads.get(level).map_or(String::new(), |(_, gbs)| cell(*gbs));
            [threads.to_string(), cell(peaks.gflops), triad(0), triad(1), triad(2)]
        });
        let heads = ["cores", "GFLOP/s at most", "GB/s in the second cache", "in the third", "in memory"];
        println!("\n{}", table(heads, &cells.collect::<Vec<_>>()));
        Ok(())
    }

    /// For the threads of the benchmarks.
    pub(crate) fn peaks(&self) -> Peaks {
        self.peaks_of(self.before["threads"].as_u64().unwrap_or(1))
    }

    /// The best before and after; of all cores if there are fewer than `threads`.
    fn peaks_of(&self, threads: u64) -> Peaks {
        let mut best = Peaks { gflops: 0.0, triads: Vec::new() };
        for state in [&self.before, &self.after] {
            let own = |peak: &&Value| peak["threads"].as_u64().is_some_and(|of| of <= threads);
            let Some(peak) = list(&state["peaks"]).filter(own).last() else { continue };
            best.gflops = best.gflops.max(peak["gflops"].as_f64().unwrap_or(0.0));
            for (level, triad) in list(&peak["triads"]).enumerate() {
                let holds = triad["holds"].as_f64().unwrap_or(f64::INFINITY);
                let gbs = triad["gbs"].as_f64().unwrap_or(0.0);
                match best.triads.get_mut(level) {
                    Some((_, best)) => *best = best.max(gbs),
                    None => best.triads.push((holds, gbs)),
                }
            }
        }
        best
    }

    pub(crate) fn json(&self) -> Value {
        let mut all = self.constants.clone();
        (all["before"], all["after"]) = (self.before.clone(), self.after.clone());
        all
    }
}

impl Peaks {
    /// What bounds this work, in billions a second: arithmetic, or the nearest memory that holds the bytes.
    pub(crate) fn bound(&self, work: Work) -> Option<f64> {
        let bound = match work {
            Work::Flops(_) => Some(self.gflops),
            Work::Bytes(bytes) => self.triads.iter().find(|(holds, _)| bytes <= *holds).map(|(_, gbs)| *gbs),
        };
        bound.filter(|&bound| bound > 0.0)
    }
}

/// What the program `workloads` says about the machine now.
fn state() -> Result<Value> {
    let output = workloads().arg("--machine").output()?;
    if !output.status.success() {
        return Err(format!("workloads --machine: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What does not change while benchmarks run.
fn constants() -> Value {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    json!({
        "cores": available_parallelism().map_or(0, usize::from),
        "cpu": model,
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "rustc": output(Command::new("rustc").arg("--version")),
        "commit": output(Command::new("git").current_dir(project::root()).args(["describe", "--always", "--dirty"])),
    })
}

/// What a command prints, if it is there and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(gflops: f64, gbs: f64) -> Value {
        let of = |threads: f64| {
            json!({"threads": threads as u64, "gflops": threads * gflops, "triads": [
                {"holds": 1000, "gbs": 4.0 * gbs}, {"holds": null, "gbs": gbs},
            ]})
        };
        json!({"threads": 2, "peaks": [of(1.0), of(2.0)]})
    }

    #[test]
    fn the_bound_is_the_best_of_the_level_that_holds_it() {
        let machine = Machine { constants: Value::Null, before: state(100.0, 10.0), after: state(110.0, 9.0) };
        let peaks = machine.peaks();
        assert_eq!(peaks.bound(Work::Flops(1.0)), Some(220.0));
        assert_eq!(peaks.bound(Work::Bytes(1000.0)), Some(40.0));
        assert_eq!(peaks.bound(Work::Bytes(1001.0)), Some(10.0));
        assert_eq!(machine.peaks_of(1).bound(Work::Flops(1.0)), Some(110.0));
        assert_eq!(machine.peaks_of(7).bound(Work::Flops(1.0)), Some(220.0));
    }
}
