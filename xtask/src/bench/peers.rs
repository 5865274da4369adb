//! `cargo xtask bench --peers …`: the same workloads in other frameworks, turn by turn with ours.
//!
//! Both programs stay alive and sleep while the other one is timed, so that a pair is measured within seconds: shared
//! machines change from minute to minute. The ratio is taken pair by pair.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::goals::goal;
use super::rows::percentile;
use super::workloads;
use crate::Result;
use crate::project::{cargo, command, list, python_environment, root, succeed, target_folder};
use crate::table::table;

/// A framework to compare with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Peer {
    Torch,
    Jax,
    Onnxruntime,
    Burn,
    Candle,
}

impl Peer {
    /// A command that runs its program; what the program needs is installed or built.
    fn program(self, name: &str, python: Option<&Path>) -> Result<Command> {
        let (peers, target) = (root().join("benches/peers"), target_folder()?.join("bench"));
        match self {
            Self::Torch | Self::Jax | Self::Onnxruntime => {
                let python = match python {
                    Some(python) => python.to_owned(),
                    None => python_environment(&target.join("python"), &peers.join("requirements.txt"))?,
                };
                let mut program = command(python);
                program.arg(peers.join(format!("{name}_peer.py")));
                Ok(program)
            }
            Self::Burn | Self::Candle => {
                let target = target.join("rust");
                eprintln!("building {name} into {}, which takes minutes the first time", target.display());
                let mut build = cargo(&["build", "--release", "--quiet", "--locked", "--manifest-path"]);
                build.arg(peers.join(name).join("Cargo.toml")).arg("--target-dir").arg(&target);
                // All of this machine, as their documentation recommends. Ours is built as anybody builds it.
                succeed(build.env("RUSTFLAGS", "-C target-cpu=native"), "cargo build")?;
                Ok(command(target.join(format!("release/{name}-peer{}", std::env::consts::EXE_SUFFIX))))
            }
        }
    }
}

/// How the comparison is to be made.
pub(crate) struct Plan<'a> {
    pub(crate) peers: &'a [Peer],
    pub(crate) filter: &'a str,
    /// Ours and theirs are timed so often.
    pub(crate) pairs: usize,
    /// For so long each time.
    pub(crate) seconds: f64,
    /// A Python that has the peers, instead of an environment of our own.
    pub(crate) python: Option<&'a Path>,
}

/// Times, prints the table, and returns the rows of the report.
pub(crate) fn compare(plan: &Plan<'_>) -> Result<Vec<Value>> {
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).to_string();
    let mut ours = workloads();
    ours.arg("--serve").env("RAYON_NUM_THREADS", &threads);
    let mut ours = Process::start("maplet", ours)?;
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for &peer in plan.peers {
        let name = peer.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let mut theirs = peer.program(&name, plan.python)?;
        theirs.arg(&threads).env("RAYON_NUM_THREADS", &threads);
        let mut theirs = Process::start(&name, theirs)?;
        // A frozen model stands beside what the peer calls a forward pass.
        let in_theirs = |workload: &str| workload.replace("_frozen_", "_forward_");
        let asked =
            |workload: &String| workload.contains(plan.filter) && theirs.workloads.contains(&in_theirs(workload));
        let common: Vec<String> = ours.workloads.iter().filter(|workload| asked(workload)).cloned().collect();
        for workload in common {
            eprintln!("{workload}: {} pairs with {name}", plan.pairs);
            let mut pairs = Vec::with_capacity(plan.pairs);
            for _ in 0..plan.pairs.max(1) {
                pairs.push((
                    ours.measure(&workload, plan.seconds)?,
                    theirs.measure(&in_theirs(&workload), plan.seconds)?,
                ));
            }
            let of = |pick: fn(&(f64, f64)) -> f64, fraction| percentile(pairs.iter().map(pick).collect(), fraction);
            let ratio: fn(&(f64, f64)) -> f64 = |(ours, theirs)| theirs / ours;
            let (median, low, high) = (of(ratio, 0.5), of(ratio, 0.0), of(ratio, 1.0));
            let goal = goal(&workload, peer);
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
    let trained = rows
        .iter()
        .filter(|row| row["peer"] == "torch" && row["name"].as_str().is_some_and(|name| name.contains("_b")));
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
