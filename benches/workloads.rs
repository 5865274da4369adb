//! Times training steps, forward passes and whole epochs: one JSON object a line on standard output, for `cargo xtask
//! bench`.
//!
//! `workloads [--quick] [FILTER]` prints a line of figures for each, `workloads --machine` one line about the machine.
//! `workloads --serve` prints all names and answers each line `NAME SECONDS` by one measurement, as the programs in
//! `peers/` do.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::env;
use std::io::{BufRead, stdin};
use std::time::Duration;

use maplet::tensor::{par, simd};
use maplet_benches::epoch::{EPOCHS, images};
use maplet_benches::machine::{Peak, busy_cores, load, peaks, round_trip_ns};
use maplet_benches::networks::workloads;
use maplet_benches::{Result, Step, percentile, time};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let (mut long, mut epochs) = (Duration::from_secs(4), 3);
    let mut filter = String::new();
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--machine" => {
                println!("{}", machine());
                return Ok(());
            }
            "--serve" => return serve(),
            "--quick" => (long, epochs) = (Duration::from_millis(300), 1),
            _ => filter = argument,
        }
    }
    for workload in workloads().iter().filter(|workload| workload.name.contains(&filter)) {
        let times = par::enter(|| time(&mut workload.build()?, long))?;
        let mut row = figures(&times, "ms");
        (row["name"], row["flops"]) = (json!(workload.name), json!(workload.flops));
        println!("{row}");
    }
    let mut data = None;
    for epoch in EPOCHS.iter().filter(|epoch| epoch.name.contains(&filter)) {
        if data.is_none() {
            data = Some(images()?);
        }
        let Some(data) = &data else { continue };
        let mut row = figures(&epoch.time(data, epochs)?, "s");
        (row["name"], row["flops"], row["goal"]) = (json!(epoch.name), json!(epoch.flops()), json!(epoch.goal));
        println!("{row}");
    }
    Ok(())
}

fn figures(times: &[f64], unit: &str) -> Value {
    json!({"unit": unit, "samples": times.len(), "median": percentile(times, 0.5), "p10": percentile(times, 0.1)})
}

fn machine() -> Value {
    let busy = busy_cores(); // before this program is busy itself
    let threads = par::threads();
    let peak = |peak: Peak| {
        let triads = peak.triads.iter().map(|triad| json!({"holds": triad.holds, "gbs": triad.gbs}));
        json!({"threads": peak.threads, "gflops": peak.gflops, "triads": triads.collect::<Vec<_>>()})
    };
    json!({
        "kernels": format!("{:?}", simd()), "threads": threads, "load": load(), "busy_cores": busy,
        "round_trip_ns": round_trip_ns(), "peaks": peaks(threads).into_iter().map(peak).collect::<Vec<_>>(),
    })
}

/// Times what it is asked to. A step is built when it is first asked for, and kept until another is.
fn serve() -> Result<()> {
    let all = workloads();
    println!("{}", json!(all.iter().map(|workload| &workload.name).collect::<Vec<_>>()));
    let mut held: Option<(&str, Step)> = None;
    for line in stdin().lock().lines() {
        let line = line?;
        let (asked, seconds) = line.split_once(' ').ok_or("expects NAME SECONDS")?;
        let long = Duration::from_secs_f64(seconds.parse()?);
        if held.as_ref().is_none_or(|(name, _)| *name != asked) {
            drop(held.take());
            let workload = all.iter().find(|workload| workload.name == asked).ok_or("there is no such workload")?;
            held = Some((&workload.name, workload.build()?));
        }
        if let Some((_, step)) = &mut held {
            println!("{}", figures(&par::enter(|| time(step, long))?, "ms"));
        }
    }
    Ok(())
}
