//! Project tasks, `cargo xtask <command>`: fetching data, the test command, benchmarks, the long trainings,
//! the comparison with PyTorch, the catalogue.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

mod project;
mod table;

mod fetch;
mod test;
mod check;
mod bench;
mod examples;
mod parity;
mod catalogue;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Any error, as text for the person at the terminal.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Maplet's project tasks", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetches MNIST or Fashion-MNIST, resuming and checking every file; does nothing when they are there.
    FetchMnist(fetch::Options),
    /// Runs every check of the project: format, rules, licenses, lints, tests, docs.
    Test(test::Options),
    /// Runs the benchmarks, prints a table and writes target/bench/report.json.
    Bench(bench::Options),
    /// Runs the examples and the long trainings, and compares their accuracy with what each must reach.
    Examples(examples::Options),
    /// Compares the whole catalogue with PyTorch, in an environment of its own, and writes docs/parity.md.
    Parity(parity::Options),
    /// Writes docs/catalogue.md from the sources.
    Catalogue,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::FetchMnist(options) => fetch::run(options),
        Command::Test(options) => test::run(options),
        Command::Bench(options) => bench::run(options),
        Command::Examples(options) => examples::run(options),
        Command::Parity(options) => parity::run(options),
        Command::Catalogue => catalogue::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The names of all commands, for the check that the texts name no other.
fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert_eq!(command_names(), ["fetch-mnist", "test", "bench", "examples", "parity", "catalogue"]);
    }
}
