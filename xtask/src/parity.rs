//! `cargo xtask parity`: reference values by PyTorch, the comparison, and docs/parity.md.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::Result;
use crate::project::{cargo, command, python_environment, root, succeed, target_folder};

#[derive(Args)]
pub(crate) struct Options {
    /// A Python that has the packages of parity/python/requirements.txt; else an environment is made under target/
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Also replaces the committed reference files by the fresh ones
    #[arg(long)]
    write: bool,
}

/// All reference files together stay below this, in bytes.
pub(crate) const LARGEST: u64 = 10_000_000;

pub(crate) fn run(options: Options) -> Result<()> {
    let root = root();
    let work = target_folder()?.join("parity");
    let (references, ours) = (work.join("references"), work.join("ours"));
    for folder in [&references, &ours] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    let scripts = root.join("parity/python");
    let python = match options.python {
        Some(python) => python,
        None => python_environment(&work.join("python"), &scripts.join("requirements.txt"))?,
    };
    let make = scripts.join("make.py");
    succeed(command(&python).arg(&make).arg("--out").arg(&references), "the reference values")?;
    let parity = |task: &str, out: &Path| {
        let mut command = cargo(&["run", "--quiet", "--package", "maplet-parity", "--", "--references"]);
        command.arg(&references).arg(task).arg("--out").arg(out);
        succeed(&mut command, task)
    };
    parity("export", &ours)?;
    succeed(command(&python).arg(&make).arg("--ours").arg(&ours), "our state dicts in PyTorch")?;
    parity("report", &root.join("docs/parity.md"))?;
    println!("docs/parity.md is written");
    if options.write {
        for file in fs::read_dir(&references)? {
            let file = file?;
            fs::copy(file.path(), root.join("parity/references").join(file.file_name()))?;
        }
        println!("parity/references is replaced");
    }
    Ok(())
}
