//! `cargo xtask examples`: the course, and the long trainings with the accuracy that each must reach.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use clap::Args;

use crate::Result;
use crate::project::{self, cargo, target_folder};
use crate::table::table;

#[derive(Args)]
pub(crate) struct Options {
    /// Trains on this dataset only: mnist, fashion-mnist or digits
    #[arg(long)]
    dataset: Option<String>,
    /// Trains with this seed only
    #[arg(long)]
    seed: Option<u64>,
    /// Runs the course alone, without the long trainings
    #[arg(long)]
    course: bool,
}

/// A run of the example `mnist_cnn`, and the share of the test images that it must classify right.
struct Training {
    dataset: &'static str,
    seed: u64,
    epochs: u32,
    least: f64,
}

const fn mnist(seed: u64, least: f64) -> Training {
    Training { dataset: "mnist", seed, epochs: 5, least }
}

const TRAININGS: [Training; 8] = [
    mnist(42, 0.985),
    mnist(1, 0.98),
    mnist(2, 0.98),
    mnist(3, 0.98),
    mnist(4, 0.98),
    mnist(5, 0.98),
    Training { dataset: "fashion-mnist", seed: 42, epochs: 10, least: 0.90 },
    Training { dataset: "digits", seed: 42, epochs: 5, least: 0.98 },
];

/// What a training was seen to do.
struct Seen {
    accuracy: Option<f64>,
    seconds: f64,
    /// Most memory that it held, in MB, where the system tells.
    megabytes: Option<u64>,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let mut rows = Vec::new();
    let mut bad = 0;
    if options.dataset.is_none() && options.seed.is_none() {
        for name in course()? {
            println!("\n── {name}");
            let start = Instant::now();
            let fine = cargo(&["run", "--release", "--quiet", "--example", &name]).status()?.success();
            bad += usize::from(!fine);
            let seconds = format!("{:.1}", start.elapsed().as_secs_f64());
            let (none, result) = (String::new, if fine { "ok" } else { "FAILED" });
            rows.push([name, none(), none(), none(), seconds, none(), result.into()]);
        }
    }
    if !options.course {
        let chosen = TRAININGS.iter().filter(|training| {
            options.dataset.as_ref().is_none_or(|name| training.dataset == name)
                && options.seed.is_none_or(|seed| training.seed == seed)
        });
        for training in chosen {
            let seen = train(training)?;
            let fine = seen.accuracy.is_some_and(|accuracy| accuracy >= training.least);
            bad += usize::from(!fine);
            rows.push([
                training.dataset.into(),
                training.seed.to_string(),
                percent(Some(training.least)),
                percent(seen.accuracy),
                format!("{:.1}", seen.seconds),
                seen.megabytes.map_or(String::new(), |megabytes| megabytes.to_string()),
                if fine { "ok" } else { "FAILED" }.into(),
            ]);
        }
    }
    if rows.is_empty() {
        return Err("no training has this dataset and this seed; see the list in xtask/src/examples.rs".into());
    }
    println!("\n{}", table(["example", "seed", "at least", "test accuracy", "seconds", "MB", "result"], &rows));
    match bad {
        0 => Ok(()),
        _ => Err(format!("{bad} of {} fell short", rows.len()).into()),
    }
}

/// The numbered examples, in order.
fn course() -> Result<Vec<String>> {
    let packages = project::packages()?;
    let targets = packages.into_iter().flat_map(|package| package.targets);
    let numbered = |name: &str| name.starts_with(|first: char| first.is_ascii_digit());
    let mut names: Vec<_> =
        targets.filter(|target| target.kind == "example" && numbered(&target.name)).map(|target| target.name).collect();
    names.sort();
    Ok(names)
}

/// Builds and runs one training, showing what it prints.
fn train(training: &Training) -> Result<Seen> {
    let Training { dataset, seed, epochs, .. } = training;
    println!("\n── {dataset}, seed {seed}, {epochs} epochs");
    if !cargo(&["build", "--release", "--quiet", "--example", "mnist_cnn"]).status()?.success() {
        return Err("the example mnist_cnn does not build".into());
    }
    let program = target_folder()?.join(format!("release/examples/mnist_cnn{}", std::env::consts::EXE_SUFFIX));
    let start = Instant::now();
    let mut command = project::command(program);
    command.args(["--dataset", dataset, "--seed", &seed.to_string(), "--epochs", &epochs.to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut replaced = false;
    let mut seen = Seen { accuracy: None, seconds: 0.0, megabytes: None };
    for line in BufReader::new(child.stdout.take().ok_or("mnist_cnn has no output")?).lines() {
        let line = line?;
        println!("{line}");
        replaced |= *dataset != "digits" && line.contains("generated digits");
        seen.accuracy = accuracy(&line).or(seen.accuracy);
        seen.megabytes = peak_megabytes(child.id()).or(seen.megabytes);
    }
    seen.seconds = start.elapsed().as_secs_f64();
    if !child.wait()?.success() || replaced {
        seen.accuracy = None; // that of other images counts for nothing
    }
    Ok(seen)
}

/// The figure of a line that says `test accuracy …`, as a share: `98.6 %` and `0.986` are the same.
fn accuracy(line: &str) -> Option<f64> {
    let (_, after) = line.split_once("test accuracy")?;
    let after = after.trim_start_matches([' ', ':', '=']);
    let digits: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let number: f64 = digits.parse().ok()?;
    Some(if after[digits.len()..].trim_start().starts_with('%') { number / 100.0 } else { number })
}

/// Most memory that a running process has held so far; Linux tells.
fn peak_megabytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("none".into(), |share| format!("{:.2} %", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::accuracy;

    #[test]
    fn reads_the_accuracy_however_it_is_written() {
        assert_eq!(accuracy("test loss 0.0431  test accuracy 0.9862"), Some(0.9862));
        assert_eq!(accuracy("test loss 0.0431, test accuracy: 98.50 %"), Some(0.985));
        assert_eq!(accuracy("test accuracy = 100%"), Some(1.0));
        assert_eq!(accuracy("validation accuracy 0.9"), None);
        assert_eq!(accuracy("test accuracy unknown"), None);
    }
}
