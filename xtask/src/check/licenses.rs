//! Every package of the dependency tree has a license that `deny.toml` allows.
//!
//! `cargo deny check` reads the same list and knows more (advisories, sources); this check needs no extra tool.

use std::fs;
use std::process::Command;

use crate::Result;
use crate::project;

/// Packages, as they are built on this machine, whose license the list does not allow.
pub(crate) fn find() -> Result<Vec<String>> {
    let allowed = allowed(&fs::read_to_string(project::root().join("deny.toml"))?)?;
    let metadata = project::metadata(&["--filter-platform", &host()?])?;
    let mut found = Vec::new();
    for package in project::list(&metadata["packages"]) {
        let license = package["license"].as_str().unwrap_or("");
        if !permits(license, &allowed) {
            let (name, version) = (&package["name"], &package["version"]);
            let license = if license.is_empty() { "none stated" } else { license };
            found.push(format!("{name} {version}: license {license}; help: leave it out, or allow it in deny.toml"));
        }
    }
    Ok(found)
}

/// The target that rustc builds for by itself.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.to_owned())
}

/// The strings of `allow = […]` in the section `[licenses]`.
fn allowed(deny: &str) -> Result<Vec<String>> {
    let section = deny.split("\n[").find(|section| section.starts_with("licenses]"));
    let list = section.and_then(|section| section.split_once("allow = [")?.1.split_once(']'));
    let (list, _) = list.ok_or("deny.toml has no list `allow` in [licenses]")?;
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or(""));
    Ok(lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect())
}

/// Whether an SPDX expression can be satisfied by allowed licenses. `OR` binds weaker than `AND`.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let satisfied = any(&mut words, allowed);
    satisfied && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut satisfied = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        satisfied |= all(words, allowed);
    }
    satisfied
}

fn all(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut satisfied = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        satisfied &= one(words, allowed);
    }
    satisfied
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let satisfied = any(words, allowed);
        return words.next() == Some(")") && satisfied;
    }
    let Some(mut license) = words.next().map(str::to_owned) else { return false };
    if words.next_if_eq(&"WITH").is_some() {
        license = format!("{license} WITH {}", words.next().unwrap_or(""));
    }
    allowed.contains(&license)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_list_of_deny_toml() {
        let deny =
            "[advisories]\nallow = [\"no\"]\n\n[licenses]\nallow = [\n  \"MIT\", # \"this\"\n  \"ISC\",\n]\n\n[bans]\n";
        assert_eq!(allowed(deny).unwrap(), ["MIT", "ISC"]);
        assert_eq!(allowed("[bans]\n").unwrap_err().to_string(), "deny.toml has no list `allow` in [licenses]");
    }

    #[test]
    fn understands_license_expressions() {
        let allowed = ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        for yes in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "MIT AND ISC",
            "(GPL-3.0 OR MIT) AND ISC",
            "GPL-3.0 AND ISC OR MIT",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(permits(yes, &allowed), "{yes}");
        }
        for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0", "MIT MIT", "(MIT"] {
            assert!(!permits(no, &allowed), "{no}");
        }
    }
}
