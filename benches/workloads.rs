//! Times the training steps: one JSON object a line on standard output, for `cargo xtask bench`.
//!
//! `workloads [--quick] [FILTER]`. The first line and the last are facts about the machine, the others are figures.
//!
//! `workloads --serve` prints all names and answers each line `NAME SECONDS` by one measurement, as the programs in
//! `peers/` do.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::env;
use std::io::{BufRead, stdin};
use std::time::Duration;

use maplet::tensor::{par, simd};
use maplet_benches::{Result, Step, WORKLOADS, percentile, round_trip_ns, time};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let mut long = Duration::from_secs(4);
    let mut filter = String::new();
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--serve" => return serve(),
            "--quick" => long = Duration::from_millis(300),
            _ => filter = argument,
        }
    }
    println!("{}", json!({"machine": {"kernels": format!("{:?}", simd()), "round_trip_before_ns": round_trip_ns()}}));
    for (name, build) in WORKLOADS.iter().filter(|(name, _)| name.contains(&filter)) {
        let times = par::enter(|| time(&mut build()?, long))?;
        println!("{}", figures(name, &times));
    }
    println!("{}", json!({"machine": {"round_trip_after_ns": round_trip_ns()}}));
    Ok(())
}

fn figures(name: &str, times: &[f64]) -> Value {
    json!({
        "name": name, "unit": "ms", "samples": times.len(),
        "median": percentile(times, 0.5), "p10": percentile(times, 0.1),
    })
}

/// Times what it is asked to. A step is built when it is first asked for, and kept until another is.
fn serve() -> Result<()> {
    println!("{}", json!(WORKLOADS.map(|(name, _)| name)));
    let mut held: Option<(&str, Step)> = None;
    for line in stdin().lock().lines() {
        let line = line?;
        let (asked, seconds) = line.split_once(' ').ok_or("expects NAME SECONDS")?;
        let long = Duration::from_secs_f64(seconds.parse()?);
        if held.as_ref().is_none_or(|(name, _)| *name != asked) {
            drop(held.take());
            let (name, build) = WORKLOADS.iter().find(|(name, _)| *name == asked).ok_or("there is no such workload")?;
            held = Some((*name, build()?));
        }
        if let Some((name, step)) = &mut held {
            println!("{}", figures(name, &par::enter(|| time(step, long))?));
        }
    }
    Ok(())
}
