//! The project as the tasks see it: its folder, its packages as cargo tells them, and how to call cargo.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask).parent().expect("xtask has a folder above it").to_owned()
}

/// A cargo command in the project's folder, with the environment of [`command`].
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

/// A command in the project's folder, with `MAPLET_DATA` if real data is at hand.
///
/// What `cargo run` told this process about the package xtask is taken out of the environment: build scripts that watch
/// those variables would run again each time.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        if own.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if let Some(data) = data_folder() {
        command.env("MAPLET_DATA", data);
    }
    command
}

/// Where real data lies: `MAPLET_DATA`, else `data`, else `../shared/data`, if there is any.
fn data_folder() -> Option<PathBuf> {
    if let Some(given) = env::var_os("MAPLET_DATA") {
        return Some(given.into());
    }
    ["data", "../shared/data"].into_iter().find_map(|place| {
        let folder = root().join(place);
        folder.join("mnist/t10k-labels-idx1-ubyte.gz").is_file().then(|| fs::canonicalize(folder).ok()).flatten()
    })
}

/// Runs a command that must succeed; `what` is it doing?
pub(crate) fn succeed(command: &mut Command, what: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{what}: failed, see above").into()),
        Err(error) => Err(format!("{what}: {}: {error}", command.get_program().display()).into()),
    }
}

/// The Python of a virtual environment in `folder` with the pinned packages; made anew when they change.
pub(crate) fn python_environment(folder: &Path, requirements: &Path) -> Result<PathBuf> {
    let wanted = fs::read_to_string(requirements)?;
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|has| has == wanted) {
        return Ok(python);
    }
    println!("installing {} into {}", wanted.split_whitespace().collect::<Vec<_>>().join(", "), folder.display());
    succeed(command("python3").args(["-m", "venv", "--clear"]).arg(folder), "python3 -m venv")?;
    succeed(command(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements), "pip install")?;
    fs::write(stamp, wanted)?;
    Ok(python)
}

/// What `cargo metadata` says with these extra arguments.
pub(crate) fn metadata(arguments: &[&str]) -> Result<Value> {
    let output = cargo(&["metadata", "--format-version", "1"]).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The members of the workspace.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let metadata = metadata(&["--no-deps"])?;
    list(&metadata["packages"])
        .map(Package::read)
        .collect::<Option<_>>()
        .ok_or_else(|| "cargo metadata: no package".into())
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = metadata(&["--no-deps"])?;
    Ok(metadata["target_directory"].as_str().ok_or("cargo metadata: no target_directory")?.into())
}

/// A member of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its Cargo.toml.
    pub(crate) manifest: PathBuf,
    /// Names of all it depends on, also for its tests and build script.
    pub(crate) dependencies: Vec<String>,
    pub(crate) targets: Vec<Target>,
}

/// Something that cargo builds from a package.
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `bin`, `example`, `test`, `bench`, ….
    pub(crate) kind: String,
    /// Its topmost source file.
    pub(crate) path: PathBuf,
}

impl Package {
    fn read(package: &Value) -> Option<Package> {
        Some(Package {
            name: package["name"].as_str()?.into(),
            manifest: package["manifest_path"].as_str()?.into(),
            dependencies: list(&package["dependencies"])
                .map(|dependency| Some(dependency["name"].as_str()?.into()))
                .collect::<Option<_>>()?,
            targets: list(&package["targets"])
                .map(|target| {
                    Some(Target {
                        name: target["name"].as_str()?.into(),
                        kind: target["kind"][0].as_str()?.into(),
                        path: target["src_path"].as_str()?.into(),
                    })
                })
                .collect::<Option<_>>()?,
        })
    }
}

/// The elements of a JSON array; none of anything else.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
