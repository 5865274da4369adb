//! Times the training steps: one JSON object a line on standard output, for `cargo xtask bench`.
//!
//! `workloads [--quick] [FILTER]`. The first line and the last are facts about the machine, the others are figures.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::env;
use std::time::Duration;

use maplet::tensor::{par, simd};
use maplet_benches::{Result, WORKLOADS, percentile, round_trip_ns, time};
use serde_json::json;

fn main() -> Result<()> {
    let mut long = Duration::from_secs(4);
    let mut filter = String::new();
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--quick" => long = Duration::from_millis(300),
            _ => filter = argument,
        }
    }
    println!("{}", json!({"machine": {"kernels": format!("{:?}", simd()), "round_trip_before_ns": round_trip_ns()}}));
    for (name, build) in WORKLOADS.iter().filter(|(name, _)| name.contains(&filter)) {
        let times = par::enter(|| time(&mut build()?, long))?;
        println!(
            "{}",
            json!({
                "name": name, "unit": "ms", "samples": times.len(),
                "median": percentile(&times, 0.5), "p10": percentile(&times, 0.1),
            })
        );
    }
    println!("{}", json!({"machine": {"round_trip_after_ns": round_trip_ns()}}));
    Ok(())
}
