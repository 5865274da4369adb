//! `cargo xtask bench`: runs the benchmarks and gathers their figures into a table and `target/bench/report.json`.
//!
//! Three sources: the program `workloads` of the package maplet-benches prints one JSON object a line (training steps,
//! and the state of the machine); the criterion benchmark `kernels` leaves its samples in files; and with `--peers` the
//! programs of `peers.rs`.

mod peers;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use crate::Result;
use crate::project::{self, cargo, list, target_folder};
use crate::table::table;

#[derive(Args)]
pub(crate) struct Options {
    /// Runs only benchmarks whose name contains this
    filter: Option<String>,
    /// Takes few samples: figures to see that everything runs, not to quote
    #[arg(long)]
    quick: bool,
    /// Leaves out the training steps
    #[arg(long, conflicts_with = "only_workloads")]
    only_kernels: bool,
    /// Leaves out the kernels
    #[arg(long)]
    only_workloads: bool,
    /// Compares with an earlier report.json
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Times these frameworks too, turn by turn with ours; their packages go into an environment under target/
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

/// One figure of the report.
struct Row {
    name: String,
    unit: String,
    median: f64,
    p10: f64,
    samples: usize,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let mut rows = Vec::new();
    let mut machine = machine();
    if !options.peers.is_empty() {
        let filter = options.filter.as_deref().unwrap_or_default();
        let Options { peers, pairs, seconds, python, .. } = &options;
        let plan = peers::Plan { peers, filter, pairs: *pairs, seconds: *seconds, python: python.as_deref() };
        let rows = peers::compare(&plan)?;
        return write(&json!({ "machine": machine, "rows": rows }), "peers.json");
    }
    if !options.only_kernels {
        workloads(&options, &mut rows, &mut machine)?;
    }
    if !options.only_workloads {
        rows.extend(kernels(&options)?);
    }
    if rows.is_empty() {
        return Err(format!("no benchmark has `{}` in its name", options.filter.unwrap_or_default()).into());
    }
    let cells = |row: &Row| {
        [
            row.name.clone(),
            format!("{:.4}", row.median),
            format!("{:.4}", row.p10),
            row.unit.clone(),
            row.samples.to_string(),
        ]
    };
    println!(
        "\n{}",
        table(["benchmark", "median", "p10", "unit", "samples"], &rows.iter().map(cells).collect::<Vec<_>>())
    );
    println!("machine: {machine}");
    let report = json!({
        "machine": machine,
        "rows": rows.iter().map(|row| json!({
            "name": row.name, "unit": row.unit, "median": row.median, "p10": row.p10, "samples": row.samples,
        })).collect::<Vec<_>>(),
    });
    if let Some(earlier) = &options.baseline {
        peers::against(earlier, &rows.iter().map(|row| (row.name.clone(), row.median)).collect::<Vec<_>>())?;
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

/// Runs the program `workloads`; its lines are rows, or facts about the machine.
fn workloads(options: &Options, rows: &mut Vec<Row>, machine: &mut Value) -> Result<()> {
    let mut command =
        cargo(&["run", "--release", "--quiet", "--package", "maplet-benches", "--bin", "workloads", "--"]);
    command.args(options.quick.then_some("--quick")).args(&options.filter);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    for line in BufReader::new(child.stdout.take().ok_or("workloads has no output")?).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        match line["machine"].as_object() {
            Some(facts) => facts.iter().for_each(|(name, fact)| machine[name] = fact.clone()),
            None => rows.push(row(&line).ok_or_else(|| format!("workloads: not a row: {line}"))?),
        }
    }
    match child.wait()?.success() {
        true => Ok(()),
        false => Err("the program `workloads` failed".into()),
    }
}

fn row(line: &Value) -> Option<Row> {
    Some(Row {
        name: line["name"].as_str()?.into(),
        unit: line["unit"].as_str()?.into(),
        median: line["median"].as_f64()?,
        p10: line["p10"].as_f64()?,
        samples: line["samples"].as_u64()? as usize,
    })
}

/// Runs the criterion benchmarks and reads the samples of this run.
fn kernels(options: &Options) -> Result<Vec<Row>> {
    let start = SystemTime::now();
    let mut command =
        cargo(&["bench", "--quiet", "--package", "maplet-benches", "--bench", "kernels", "--", "--noplot"]);
    if options.quick {
        command.args(["--warm-up-time", "0.2", "--measurement-time", "0.5", "--sample-size", "10"]);
    }
    command.args(&options.filter);
    if !command.status()?.success() {
        return Err("the benchmark `kernels` failed".into());
    }
    let mut rows = Vec::new();
    let folder = target_folder()?.join("criterion");
    if folder.is_dir() {
        samples(&folder, start, &mut rows)?;
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// Collects the rows of all `…/new/sample.json` below `folder` that were written after `start`.
fn samples(folder: &Path, start: SystemTime, rows: &mut Vec<Row>) -> Result<()> {
    let sample = folder.join("sample.json");
    if folder.ends_with("new") && sample.is_file() && fs::metadata(&sample)?.modified()? >= start {
        let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(folder.join(name))?)?) };
        let name = read("benchmark.json")?["full_id"].as_str().unwrap_or_default().to_owned();
        let sample = read("sample.json")?;
        let nanoseconds: Vec<f64> = list(&sample["times"])
            .zip(list(&sample["iters"]))
            .filter_map(|(time, count)| Some(time.as_f64()? / count.as_f64()?))
            .collect();
        let at = |fraction| percentile(nanoseconds.clone(), fraction) / 1e6;
        rows.push(Row { name, unit: "ms".into(), median: at(0.5), p10: at(0.1), samples: nanoseconds.len() });
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            samples(&path, start, rows)?;
        }
    }
    Ok(())
}

/// The value below which `fraction` of the values lie, by the nearest rank; NaN of none.
fn percentile(mut values: Vec<f64>, fraction: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (fraction * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// What a reader of the figures needs to know about this machine and this state of the project.
fn machine() -> Value {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    json!({
        "cores": available_parallelism().map_or(0, usize::from),
        "cpu": model,
        "simd": simd(),
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "rustc": output(Command::new("rustc").arg("--version")),
        "commit": output(Command::new("git").current_dir(project::root()).args(["describe", "--always", "--dirty"])),
    })
}

/// The widest instruction sets that the kernels can choose from.
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ] {
        found.extend(there.then_some(name));
    }
    found
}

/// What a command prints, if it is there and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        assert_eq!((percentile(values.clone(), 0.5), percentile(values, 0.1)), (5.0, 1.0));
        assert_eq!(percentile(vec![3.0], 0.1), 3.0);
        assert!(percentile(Vec::new(), 0.5).is_nan());
    }

    #[test]
    fn a_row_has_all_its_fields() {
        let whole = json!({"name": "a", "unit": "ms", "median": 1.5, "p10": 1.0, "samples": 7});
        assert!(row(&whole).is_some_and(|row| row.median == 1.5 && row.samples == 7));
        assert!(row(&json!({"name": "a", "unit": "ms", "median": 1.5})).is_none());
    }
}
