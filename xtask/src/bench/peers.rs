//! `cargo xtask bench --peers …`: the same workloads in other frameworks, turn by turn with ours.
//!
//! Both programs stay alive and sleep while the other one is timed, so that a pair is measured within seconds: shared
//! machines change from minute to minute. The ratio is taken pair by pair.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::percentile;
use crate::Result;
use crate::project::{cargo, command, list, python_environment, root, target_folder};
use crate::table::table;

/// A framework to compare with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Peer {
    Torch,
    Jax,
    Onnxruntime,
}

/// How many times faster than a peer we mean to be.
const GOALS: [(&str, Peer, f64); 18] = [
    ("mnist_cnn_b32", Peer::Torch, 6.0),
    ("mnist_cnn_b128", Peer::Torch, 6.0),
    ("mnist_cnn_b480", Peer::Torch, 6.0),
    ("mlp_b64", Peer::Torch, 1.35),
    ("tiny_mlp_b32", Peer::Torch, 15.0),
    ("lstm_b64", Peer::Torch, 1.5),
    ("gru_b64", Peer::Torch, 2.2),
    ("transformer_lm_b16", Peer::Torch, 1.6),
    ("resnet20_b32", Peer::Torch, 1.35),
    ("resnet18_b4", Peer::Torch, 1.15),
    ("alexnet_b8", Peer::Torch, 1.1),
    ("conv_128_256_k4_b64", Peer::Torch, 1.0),
    ("mnist_cnn_forward_1", Peer::Torch, 4.0),
    ("mnist_cnn_forward_1000", Peer::Torch, 8.0),
    ("mnist_cnn_b32", Peer::Jax, 2.3),
    ("mlp_b64", Peer::Jax, 1.1),
    ("resnet20_b32", Peer::Jax, 2.5),
    ("mnist_cnn_forward_1000", Peer::Onnxruntime, 1.5),
];

/// How the comparison is to be made.
pub(crate) struct Plan<'a> {
    pub(crate) peers: &'a [Peer],
    pub(crate) filter: &'a str,
    /// Ours and theirs are timed so often.
    pub(crate) pairs: usize,
    /// For so long each time.
    pub(crate) seconds: f64,
    /// A Python that has the peers, instead of an environment of our own.
    pub(crate) python: Option<&'a std::path::Path>,
}

/// Times, prints the table, and returns the rows of the report.
pub(crate) fn compare(plan: &Plan<'_>) -> Result<Vec<Value>> {
    let folder = root().join("benches/peers");
    let python = match plan.python {
        Some(python) => python.to_owned(),
        None => python_environment(&target_folder()?.join("bench/python"), &folder.join("requirements.txt"))?,
    };
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).to_string();
    let mut ours = cargo(&["run", "--release", "--quiet", "--package", "maplet-benches", "--bin", "workloads", "--"]);
    ours.arg("--serve").env("RAYON_NUM_THREADS", &threads);
    let mut ours = Process::start("maplet", ours)?;
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for &peer in plan.peers {
        let name = peer.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let mut theirs = command(&python);
        theirs.arg(folder.join(format!("{name}_peer.py"))).arg(&threads);
        let mut theirs = Process::start(&name, theirs)?;
        let asked = |workload: &String| workload.contains(plan.filter) && theirs.workloads.contains(workload);
        let workloads: Vec<String> = ours.workloads.iter().filter(|workload| asked(workload)).cloned().collect();
        for workload in workloads {
            eprintln!("{workload}: {} pairs with {name}", plan.pairs);
            let mut pairs = Vec::with_capacity(plan.pairs);
            for _ in 0..plan.pairs.max(1) {
                pairs.push((ours.measure(&workload, plan.seconds)?, theirs.measure(&workload, plan.seconds)?));
            }
            let of = |pick: fn(&(f64, f64)) -> f64, fraction| percentile(pairs.iter().map(pick).collect(), fraction);
            let ratio: fn(&(f64, f64)) -> f64 = |(ours, theirs)| theirs / ours;
            let (median, low, high) = (of(ratio, 0.5), of(ratio, 0.0), of(ratio, 1.0));
            let goal = GOALS.iter().find(|(name, of, _)| *name == workload && *of == peer).map(|(_, _, goal)| *goal);
            let (our_time, their_time) = (of(|pair| pair.0, 0.5), of(|pair| pair.1, 0.5));
            cells.push([
                workload.clone(),
                name.clone(),
                format!("{our_time:.3}"),
                format!("{their_time:.3}"),
                format!("{median:.2}"),
                format!("{low:.2} to {high:.2}"),
                goal.map_or("–".into(), |goal| format!("{goal} {}", if median >= goal { "held" } else { "short" })),
            ]);
            rows.push(json!({
                "name": workload, "peer": name, "threads": threads, "pairs": pairs.len(), "ours_ms": our_time,
                "theirs_ms": their_time, "ratio": median, "ratio_low": low, "ratio_high": high, "goal": goal,
            }));
        }
    }
    if rows.is_empty() {
        return Err(format!("no workload has `{}` in its name", plan.filter).into());
    }
    println!("\n{}", table(["workload", "peer", "ours ms", "theirs ms", "ratio", "spread", "goal"], &cells));
    println!("threads: {threads}; ratio = theirs / ours, the median of the pairs");
    let trained =
        rows.iter().filter(|row| row["peer"] == "torch" && !row["name"].as_str().unwrap_or("").contains("forward"));
    let logarithms: Vec<f64> = trained.filter_map(|row| Some(row["ratio"].as_f64()?.ln())).collect();
    if logarithms.len() > 1 {
        let mean = (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
        println!("geometric mean of {} training ratios to torch: {mean:.2}", logarithms.len());
    }
    Ok(rows)
}

/// A program that times workloads when it is asked to, a line at a time.
struct Process {
    name: String,
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    workloads: Vec<String>,
}

impl Process {
    fn start(name: &str, mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{name}: {error}"))?;
        let asks = child.stdin.take().ok_or("a child without input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("a child without output")?);
        let mut process = Self { name: name.into(), child, asks, answers, workloads: Vec::new() };
        let names = process.answer()?;
        process.workloads = list(&names).filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        Ok(process)
    }

    /// The median in milliseconds.
    fn measure(&mut self, workload: &str, seconds: f64) -> Result<f64> {
        sleep(Duration::from_millis(300)); // the threads of the other program stop spinning
        writeln!(self.asks, "{workload} {seconds}")?;
        let answer = self.answer()?;
        answer["median"].as_f64().ok_or_else(|| format!("{}: {workload}: no median in {answer}", self.name).into())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("{}: the program ended, see above", self.name).into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

/// Prints how each row of a report compares with the row of the same name in an earlier one.
pub(crate) fn against(earlier: &std::path::Path, rows: &[(String, f64)]) -> Result<()> {
    let text = fs::read_to_string(earlier).map_err(|error| format!("{}: {error}", earlier.display()))?;
    let report: Value = serde_json::from_str(&text)?;
    let before = |name: &str| list(&report["rows"]).find(|row| row["name"] == name)?["median"].as_f64();
    let cells = rows.iter().filter_map(|(name, now)| {
        let before = before(name)?;
        Some([name.clone(), format!("{before:.4}"), format!("{now:.4}"), format!("{:.3}", before / now)])
    });
    println!("\n{}", table(["benchmark", "before ms", "now ms", "times faster"], &cells.collect::<Vec<_>>()));
    Ok(())
}
