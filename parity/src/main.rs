//! `cargo xtask parity` calls this: it writes the table of differences, and state dicts of ours for PyTorch to load.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use clap::{Parser, Subcommand};
use maplet_models::write_safetensors;
use maplet_parity::{Case, FAMILIES, Outcome, Result, WITHOUT, check};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Compares Maplet with the reference values of PyTorch")]
struct Cli {
    /// The folder with the reference files
    #[arg(long)]
    references: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every case and writes the table
    Report {
        /// The file to write, in Markdown
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes a state dict of ours, and the outputs with it, for every case of a layer with parameters
    Export {
        /// The folder to write to
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let Cli { references, command } = Cli::parse();
    let done = match command {
        Command::Report { out } => report(&references, &out),
        Command::Export { out } => export(&references, &out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(references: &Path, out: &Path) -> Result<()> {
    let mut table = String::new();
    let (mut version, mut rows, mut cases_in_all) = (String::new(), 0, 0);
    let mut wrong = Vec::new();
    for family in FAMILIES {
        let (cases, torch) = Case::read(&references.join(format!("{}.safetensors", family.name)))?;
        version = torch;
        for entry in (family.entries)() {
            let outcome = check(&entry, &cases);
            let Outcome { cases: count, single, double, .. } = outcome;
            let units = |worst: Option<f64>| worst.map_or("–".into(), |worst| format!("{worst:.3}"));
            let loads = cases.iter().any(|case| case.entry == entry.name && entry.saves_weights(case));
            let back = if loads { "both ways" } else { "–" };
            let (single, double) = (units(single), units(double));
            writeln!(table, "| {} | {count} | {single} | {double} | {back} | {} |", entry.name, entry.note)?;
            rows += 1;
            cases_in_all += count;
            wrong.extend(outcome.wrong);
        }
    }
    let mut text = format!(
        "# Parity with PyTorch\n\n\
        Made by `cargo xtask parity`: {rows} entries, {cases_in_all} configurations, against PyTorch {version} in float64.\n\n\
        Each configuration compares outputs, gradients of inputs and parameters, running statistics; of optimizers the\n\
        parameters after each of 20 steps, of schedules the rates. **F32** and **F64** are the largest difference found, in\n\
        units of the tolerance: 1 would be just allowed. The tolerance is a part of the largest element of the tensor: 1e-5\n\
        in F32 (1e-4 for long recurrences), 1e-10 in F64. **State dict**: PyTorch's weights load here by name, and ours load\n\
        there, strictly, with the same outputs.\n\n\
        | entry | configurations | F32 | F64 | state dict | note |\n|---|---|---|---|---|---|\n{table}"
    );
    writeln!(text, "\n## What is not compared\n\n| entry | reason |\n|---|---|")?;
    for (name, reason) in WITHOUT {
        writeln!(text, "| {name} | {reason} |")?;
    }
    if !wrong.is_empty() {
        return Err(format!("{} cases differ:\n{}", wrong.len(), wrong.join("\n")).into());
    }
    std::fs::write(out, text)?;
    println!("{rows} entries, {cases_in_all} configurations: all inside their tolerance");
    Ok(())
}

fn export(references: &Path, out: &Path) -> Result<()> {
    let mut files = 0;
    for family in FAMILIES {
        let (cases, _) = Case::read(&references.join(format!("{}.safetensors", family.name)))?;
        for entry in (family.entries)() {
            for case in cases.iter().filter(|case| case.entry == entry.name) {
                let tensors = entry.export(case).map_err(|error| format!("{}/{}: {error}", entry.name, case.name))?;
                if tensors.is_empty() {
                    continue;
                }
                let folder = out.join(family.name).join(entry.name);
                std::fs::create_dir_all(&folder)?;
                write_safetensors(&tensors, folder.join(format!("{}.safetensors", case.name)))?;
                files += 1;
            }
        }
    }
    println!("{files} state dicts of ours");
    Ok(())
}
