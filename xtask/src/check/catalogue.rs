//! The catalogue is whole: every layer, loss, optimizer and schedule is in docs/catalogue.md, and compared with
//! PyTorch or with a formula, or a reason says why not.

use std::fs;
use std::path::Path;

use crate::catalogue::{Entry, all, is_current};
use crate::project::root;
use crate::{Result, parity};

/// Who implements one of these is something that people look for.
const TRAITS: [&str; 5] = ["Module", "Loss", "Rule", "Schedule", "Optimizer"];
/// Implementations that are no entries: for pointers, closures, and what stands behind an entry of another name.
const PLUMBING: [&str; 3] = ["Box", "F", "Descent"];

/// What is missing, as `path:line: what`.
pub(crate) fn find() -> Result<Vec<String>> {
    let root = root();
    let mut found = is_current(&root)?;
    let entries = all(&root)?;
    let compared = sources(&root.join("parity/src"))?;
    for entry in &entries {
        let literal = format!("\"{}\"", entry.name);
        if !compared.iter().any(|(_, text)| text.contains(&literal)) {
            found.push(format!("parity/src/lib.rs:1: {} is not compared, and WITHOUT has no reason", entry.name));
        }
    }
    for folder in ["crates/nn-layers/src", "crates/optim/src"] {
        for (path, text) in sources(&root.join(folder))? {
            for name in implementors(&text) {
                // `Conv<D>` is known by its aliases `Conv1d`, …, `Recurrent<K>` by `Lstm`, `AdamRule` by `Adam`.
                let stem = name.trim_end_matches("Rule").trim_end_matches("Config");
                let alias = |entry: &str| text.contains(&format!("pub type {entry} = {name}<"));
                let known = |entry: &Entry| entry.name.starts_with(stem) || alias(&entry.name);
                if !PLUMBING.contains(&name) && !entries.iter().any(known) {
                    found.push(format!("{path}:1: {name} has no line `/// PyTorch: …; Keras: ….`"));
                }
            }
        }
    }
    let sizes = fs::read_dir(root.join("parity/references"))?.map(|file| Ok(file?.metadata()?.len()));
    let size: u64 = sizes.sum::<Result<_>>()?;
    if size > parity::LARGEST {
        found.push(format!("parity/references:1: {size} bytes, more than {}: make the cases smaller", parity::LARGEST));
    }
    Ok(found)
}

/// Paths and texts of the Rust files below a folder, without their tests.
fn sources(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources.extend(self::sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            sources.push((path.strip_prefix(root()).unwrap_or(&path).display().to_string(), code.into()));
        }
    }
    sources.sort();
    Ok(sources)
}

/// The types for which a text implements one of [`TRAITS`].
fn implementors(text: &str) -> Vec<&str> {
    let declarations = text.lines().filter(|line| line.starts_with("impl"));
    let named = declarations.filter_map(|line| {
        let (head, name) = line.split_once(" for ")?;
        let of_trait = TRAITS.iter().any(|name| head.ends_with(&format!(" {name}")));
        of_trait.then(|| name.split(|c: char| !c.is_alphanumeric() && c != '_').next()).flatten()
    });
    named.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::implementors;

    #[test]
    fn finds_who_implements_a_trait() {
        let text = "impl Module for Relu {\nimpl<const D: usize> Module for Conv<D> {\nimpl Spec for Relu {\n\
                    impl<const DECOUPLED: bool> Rule for AdamRule<DECOUPLED> {\n    impl Loss for Inner {";
        assert_eq!(implementors(text), ["Relu", "Conv", "AdamRule"]);
    }
}
