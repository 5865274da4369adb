//! Crates depend strictly downward.

use crate::Result;
use crate::project::{self, Package};

/// The packages from the bottom to the top. A package may depend on packages of lower rows only, also in its tests.
const ROWS: [&[&str]; 8] = [
    &["maplet-tensor"],
    &["maplet-autograd"],
    &["maplet-nn-layers"],
    &["maplet-optim", "maplet-data"],
    &["maplet-train"],
    &["maplet-models"],
    &["maplet"],
    &["maplet-examples", "maplet-benches", "maplet-parity", "xtask"],
];

/// Packages that know less than their row allows: of the project's packages, these may depend on the named ones only.
const ONLY: [(&str, &[&str]); 3] = [
    ("maplet-optim", &["maplet-tensor", "maplet-autograd"]),
    ("maplet-data", &["maplet-tensor"]),
    ("xtask", &["maplet-data"]),
];

/// What the packages of the workspace do against the order.
pub(crate) fn find() -> Result<Vec<String>> {
    Ok(violations(&project::packages()?))
}

fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some(own) = row(&package.name) else {
            found.push(format!(
                "{}: has no place in the order; help: give it one in xtask/src/check/graph.rs",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(other) = row(dependency) else { continue }; // not a package of ours
            if other >= own {
                found.push(format!("{} depends on {dependency}, which does not stand below it", package.name));
            }
            let only = ONLY.iter().find(|(name, _)| *name == package.name);
            if only.is_some_and(|(_, allowed)| !allowed.contains(&dependency.as_str())) {
                found.push(format!("{} depends on {dependency}, of which it must know nothing", package.name));
            }
        }
    }
    found
}

fn row(package: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.into(),
            manifest: "Cargo.toml".into(),
            dependencies: dependencies.iter().map(|&d| d.into()).collect(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn downward_is_fine() {
        let packages = [
            package("maplet-tensor", &["rayon", "ndarray"]),
            package("maplet-optim", &["maplet-autograd", "maplet-tensor", "serde"]),
            package("maplet-train", &["maplet-data", "maplet-nn-layers"]),
        ];
        assert_eq!(violations(&packages), [""; 0]);
    }

    #[test]
    fn upward_sideways_and_too_far_are_found() {
        assert_eq!(
            violations(&[package("maplet-tensor", &["maplet-autograd"])]),
            ["maplet-tensor depends on maplet-autograd, which does not stand below it"]
        );
        assert_eq!(
            violations(&[package("maplet-examples", &["maplet-benches"])]),
            ["maplet-examples depends on maplet-benches, which does not stand below it"]
        );
        assert_eq!(
            violations(&[package("maplet-data", &["maplet-autograd"])]),
            ["maplet-data depends on maplet-autograd, of which it must know nothing"]
        );
    }

    #[test]
    fn a_new_package_must_take_its_place() {
        assert_eq!(
            violations(&[package("maplet-vision", &[])]),
            ["maplet-vision: has no place in the order; help: give it one in xtask/src/check/graph.rs"]
        );
    }
}
