//! `cargo xtask bench`: runs the benchmarks and gathers their figures into a table and `target/bench/report.json`.
//!
//! Three sources: the program `workloads` of the package maplet-benches prints one JSON object a line (training steps,
//! forward passes, whole epochs, the state of the machine); the criterion benchmark `kernels` leaves its samples in
//! files; and with `--peers` the programs of `peers.rs`.

mod machine;
mod rows;
mod goals;
mod peers;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use crate::Result;
use crate::project::{cargo, target_folder};
use machine::Machine;
use rows::Row;

#[derive(Args)]
pub(crate) struct Options {
    /// Runs only benchmarks whose name contains this
    filter: Option<String>,
    /// Takes few samples: figures to see that everything runs, not to quote
    #[arg(long)]
    quick: bool,
    /// Leaves out training steps, forward passes and epochs
    #[arg(long, conflicts_with = "only_workloads")]
    only_kernels: bool,
    /// Leaves out the kernels
    #[arg(long)]
    only_workloads: bool,
    /// Compares with an earlier report.json
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Times these frameworks too, turn by turn with ours; they are installed or built under target/
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["only_kernels", "baseline"])]
    peers: Vec<peers::Peer>,
    /// How many pairs of measurements are made with each peer
    #[arg(long, default_value_t = 5, requires = "peers")]
    pairs: usize,
    /// How long each measurement of a pair takes, in seconds
    #[arg(long, default_value_t = 2.0, requires = "peers")]
    seconds: f64,
    /// A Python that has the packages of benches/peers/requirements.txt
    #[arg(long, value_name = "FILE", requires = "peers")]
    python: Option<PathBuf>,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let mut machine = Machine::before()?;
    let filter = options.filter.as_deref().unwrap_or_default();
    if !options.peers.is_empty() {
        let Options { peers, pairs, seconds, python, .. } = &options;
        let plan = peers::Plan { peers, filter, pairs: *pairs, seconds: *seconds, python: python.as_deref() };
        let rows = peers::compare(&plan)?;
        machine.finish()?;
        return write(&json!({ "machine": machine.json(), "rows": rows }), "peers.json");
    }
    let mut rows = Vec::new();
    if !options.only_kernels {
        rows.extend(steps(&options)?);
    }
    if !options.only_workloads {
        rows.extend(kernels(&options)?);
    }
    if rows.is_empty() {
        return Err(format!("no benchmark has `{filter}` in its name").into());
    }
    machine.finish()?;
    let report = json!({ "machine": machine.json(), "rows": rows::report(&rows, &machine.peaks()) });
    if let Some(earlier) = &options.baseline {
        rows::against(earlier, &rows)?;
    }
    write(&report, "report.json")
}

/// Writes a report below target/bench.
fn write(report: &Value, name: &str) -> Result<()> {
    let folder = target_folder()?.join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    fs::write(&path, serde_json::to_string_pretty(report)? + "\n")?;
    println!("report: {}", path.display());
    Ok(())
}

/// The program that times what is not a single kernel.
fn workloads() -> Command {
    cargo(&["run", "--release", "--quiet", "--package", "maplet-benches", "--bin", "workloads", "--"])
}

/// Runs the program `workloads`; its lines are rows.
fn steps(options: &Options) -> Result<Vec<Row>> {
    let mut command = workloads();
    command.args(options.quick.then_some("--quick")).args(&options.filter);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut rows = Vec::new();
    for line in BufReader::new(child.stdout.take().ok_or("workloads has no output")?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        rows.push(Row::read(&line).ok_or_else(|| format!("workloads: not a row: {line}"))?);
        eprintln!("{}", rows.last().map_or("", |row| &row.name));
    }
    match child.wait()?.success() {
        true => Ok(rows),
        false => Err("the program `workloads` failed".into()),
    }
}

/// Runs the criterion benchmarks and reads the samples of this run.
fn kernels(options: &Options) -> Result<Vec<Row>> {
    let start = SystemTime::now();
    let mut command =
        cargo(&["bench", "--quiet", "--package", "maplet-benches", "--bench", "kernels", "--", "--noplot"]);
    if options.quick {
        command.args(["--warm-up-time", "0.05", "--measurement-time", "0.1", "--sample-size", "10"]);
    }
    command.args(&options.filter);
    if !command.status()?.success() {
        return Err("the benchmark `kernels` failed".into());
    }
    rows::of_criterion(&target_folder()?.join("criterion"), start)
}
