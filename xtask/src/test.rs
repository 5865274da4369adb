//! `cargo xtask test`: the test command. Every stage runs, also after a failure; the summary names what failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;

use crate::project::{cargo, command};
use crate::table::table;
use crate::{Result, check};

#[derive(Args)]
#[command(after_help = format!("Stages:\n{}", stage_list()))]
pub(crate) struct Options {
    /// Runs only these stages (may be given several times, or as a list with commas)
    #[arg(long, value_name = "STAGE", value_delimiter = ',', value_parser = stage_names())]
    only: Vec<String>,
    /// Leaves these stages out
    #[arg(long, value_name = "STAGE", value_delimiter = ',', value_parser = stage_names())]
    skip: Vec<String>,
}

/// One part of the test command.
struct Stage {
    name: &'static str,
    about: &'static str,
    /// Runs only when `--only` names it.
    asked: bool,
    run: fn() -> Result<Outcome>,
}

const fn stage(name: &'static str, about: &'static str, run: fn() -> Result<Outcome>) -> Stage {
    Stage { name, about, asked: false, run }
}

/// What a stage found. Checks count as no tests; what they find is failures.
#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: usize,
}

/// The stages, quick ones first.
const STAGES: [Stage; 10] = [
    stage("fmt", "every file is formatted", fmt),
    stage("tidy", "the written rules of the project hold", || findings(check::tidy::find()?)),
    stage("graph", "crates depend strictly downward", || findings(check::graph::find()?)),
    stage("catalogue", "the catalogue is whole, and compared with PyTorch", || findings(check::catalogue::find()?)),
    stage("licenses", "deny.toml allows every license", || findings(check::licenses::find()?)),
    stage("clippy", "no warning of the compiler or of clippy", clippy),
    stage("tests", "all tests, with those in the documentation", tests),
    stage("simd", "the kernels' tests without AVX-512, and without AVX2", simd),
    stage("docs", "the documentation builds without a warning", docs),
    Stage {
        asked: true,
        ..stage("sanitizer", "the kernels' tests under AddressSanitizer (nightly, on request)", sanitizer)
    },
];

fn stage_names() -> Vec<&'static str> {
    STAGES.iter().map(|stage| stage.name).collect()
}

fn stage_list() -> String {
    STAGES.iter().map(|stage| format!("  {:<9} {}\n", stage.name, stage.about)).collect()
}

pub(crate) fn run(options: Options) -> Result<()> {
    let named = |names: &[String], stage: &Stage| names.iter().any(|name| name == stage.name);
    let chosen = STAGES.iter().filter(|stage| match options.only.is_empty() {
        true => !stage.asked,
        false => named(&options.only, stage),
    });
    let mut rows = Vec::new();
    let mut bad = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for stage in chosen.filter(|stage| !named(&options.skip, stage)) {
        println!("\n── {}: {}", stage.name, stage.about);
        let start = Instant::now();
        let outcome = (stage.run)().unwrap_or_else(|error| {
            println!("{error}");
            Outcome { passed: 0, failed: 1 }
        });
        let seconds = start.elapsed().as_secs_f64();
        let result = if outcome.failed == 0 { "ok" } else { "FAILED" };
        println!("── {}: {result} ({seconds:.1} s)", stage.name);
        rows.push([stage.name.to_owned(), result.to_owned(), format!("{seconds:.1}")]);
        passed += outcome.passed;
        failed += outcome.failed;
        if outcome.failed > 0 {
            bad.push(stage.name);
        }
    }
    println!("\n{}", table(["stage", "result", "seconds"], &rows));
    println!("{passed} passed, {failed} failed");
    match bad.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", bad.join(", ")).into()),
    }
}

/// Prints what a check found.
fn findings(found: Vec<String>) -> Result<Outcome> {
    for line in &found {
        println!("{line}");
    }
    Ok(Outcome { passed: 0, failed: found.len() })
}

/// The workspace, and what the benchmarks compare with, which stands outside of it.
fn fmt() -> Result<Outcome> {
    let mut sum = Outcome::default();
    for manifest in ["Cargo.toml", "benches/peers/burn/Cargo.toml", "benches/peers/candle/Cargo.toml"] {
        sum.failed += succeed(cargo(&["fmt", "--all", "--check", "--manifest-path", manifest]))?.failed;
    }
    Ok(sum)
}

fn clippy() -> Result<Outcome> {
    succeed(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn docs() -> Result<Outcome> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    succeed(command)
}

fn succeed(mut command: std::process::Command) -> Result<Outcome> {
    let status = command.status()?;
    Ok(Outcome { passed: 0, failed: usize::from(!status.success()) })
}

fn tests() -> Result<Outcome> {
    count(cargo(&["test", "--workspace", "--no-fail-fast"]))
}

/// The fast paths for other machines, which this one would never take.
fn simd() -> Result<Outcome> {
    let mut sum = Outcome::default();
    for level in ["plain", "avx2"] {
        println!("MAPLET_SIMD={level}");
        let mut command = cargo(&["test", "--package", "maplet-tensor", "--lib", "--quiet"]);
        command.env("MAPLET_SIMD", level);
        let outcome = count(command)?;
        sum.passed += outcome.passed;
        sum.failed += outcome.failed;
    }
    Ok(sum)
}

/// All `unsafe` code is in the tensor crate, and Miri knows no AVX-512.
fn sanitizer() -> Result<Outcome> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let mut command = command("rustup");
    command.args(["run", "nightly", "cargo", "test", "--package", "maplet-tensor", "--lib", "--target", TARGET]);
    command.args(["--target-dir", "target/sanitizer"]).env("RUSTFLAGS", "-Zsanitizer=address");
    count(command)
}

/// Runs tests and adds up what the test programs say about themselves.
fn count(mut command: Command) -> Result<Outcome> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut outcome = Outcome::default();
    let output = child.stdout.take().ok_or("cargo test has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some((passed, failed)) = counts(&line) {
            outcome.passed += passed;
            outcome.failed += failed;
        }
    }
    if !child.wait()?.success() {
        outcome.failed = outcome.failed.max(1); // it did not compile, or a test program died
    }
    Ok(outcome)
}

/// Passed and failed of a line `test result: ok. 12 passed; 0 failed; …`.
fn counts(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = counts.split("; ").map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn reads_the_counts_of_a_test_program() {
        let line = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(counts(line), Some((12, 0)));
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(counts(line), Some((3, 2)));
        assert_eq!(counts("test ops::matmul ... ok"), None);
        assert_eq!(counts("test result: something else"), None);
    }
}
