//! The project's written rules, as far as a machine can see them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::code;
use crate::project::{self, Package};
use crate::{Result, command_names};

/// Longest line of a comment, in characters; rustfmt, of the same mind, sees to the code but not to comments.
const WIDTH: usize = 120;
/// Longest source file, in lines: past it, there are two subjects in it.
const LINES: usize = 500;
/// How far above an `unsafe` its reason may begin, in lines.
const REASON: usize = 5;

/// A text file of the project.
struct Text {
    /// Path from the project's folder, with `/`.
    path: String,
    text: String,
}

/// What is against the rules, as `path:line: what`.
pub(crate) fn find() -> Result<Vec<String>> {
    let root = project::root();
    let packages = project::packages()?;
    let texts = texts(&root)?;
    let mut found = Vec::new();
    for text in &texts {
        found.extend(no_machine_paths(text));
        if text.path.ends_with(".rs") {
            found.extend(source_rules(text));
        }
        if text.path.ends_with(".md") {
            found.extend(links_lead_somewhere(text, &root));
            found.extend(commands_exist(text, &packages));
        }
    }
    found.extend(roots_forbid_unsafe(&packages, &root)?);
    found.extend(ops_are_tested(&texts));
    Ok(found)
}

/// All text files but those that are built, fetched or hidden.
fn texts(root: &Path) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = [".rs", ".md", ".toml", ".py", ".sh", ".yml"].iter().any(|ending| name.ends_with(ending));
            if path.is_dir() {
                let skipped = name == ".git" || (folder == *root && ["target", "data"].contains(&&*name));
                folders.extend((!skipped).then_some(path));
            } else if text || path.ends_with(".ci/run") {
                let from_root = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                texts.push(Text { path: from_root, text: fs::read_to_string(&path)? });
            }
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}

/// The rules for every Rust file.
fn source_rules(file: &Text) -> Vec<String> {
    let code = code::only(&file.text);
    let lines: Vec<&str> = file.text.lines().collect();
    let in_tensor = file.path.starts_with("crates/tensor/");
    let in_library = file.path.starts_with("crates/") && file.path.contains("/src/");
    let mut found = Vec::new();
    let mut say = |line: usize, what: &str| found.push(format!("{}:{}: {what}", file.path, line + 1));
    if !file.text.starts_with("//!") {
        say(0, "a file begins with `//!`: what is here");
    }
    if lines.len() > LINES {
        say(LINES, "a file this long holds two subjects: split it");
    }
    for (at, line) in code.lines().enumerate() {
        for unfinished in ["todo!", "unimplemented!", "dbg!"].iter().filter(|&unfinished| line.contains(unfinished)) {
            say(at, &format!("unfinished: {unfinished}"));
        }
        if line.contains("[ignore") {
            say(at, "a test that is switched off tests nothing");
        }
        if line.contains("[should_panic]") {
            say(at, "any panic satisfies this test: add expected = \"…\"");
        }
        if in_library && ["println!", "print!"].iter().any(|print| line.contains(print)) {
            say(at, "a library does not print");
        }
        if has_unsafe(line) && !in_tensor {
            say(at, "unsafe belongs to the tensor crate");
        }
        let claim = line.contains("unsafe {") || line.contains("unsafe impl"); // what is sound is claimed here
        if claim && in_tensor && !has_reason(&lines, at) {
            say(at, "unsafe without a `SAFETY:` line above it");
        }
        if lines[at].trim_start().starts_with("//") && lines[at].chars().count() > WIDTH {
            say(at, "a comment is at most 120 characters wide");
        }
    }
    found
}

/// Whether a line of code has the word `unsafe` (and not merely a name with it).
fn has_unsafe(line: &str) -> bool {
    words(line).any(|word| word == "unsafe")
}

/// The names and numbers in `code`.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Whether the lines up to `at` say why the `unsafe` there is sound.
fn has_reason(lines: &[&str], at: usize) -> bool {
    let comments = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with(['/', '#']));
    let near = lines[at.saturating_sub(REASON)..=at].iter();
    near.chain(comments).any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

/// Paths of somebody's machine help nobody else.
fn no_machine_paths(file: &Text) -> Vec<String> {
    let places = ["home", "root", "Users", "work"].map(|place| format!("/{place}/"));
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for place in &places {
            let absolute =
                |(start, _)| !line[..start].ends_with(|c: char| c.is_alphanumeric() || ".-_}~*>".contains(c));
            if line.match_indices(place).any(absolute) {
                found.push(format!("{}:{}: a path of one machine: {place}", file.path, at + 1));
            }
        }
    }
    found
}

/// Relative links of a Markdown file point to something that is there.
fn links_lead_somewhere(file: &Text, root: &Path) -> Vec<String> {
    let folder = root.join(&file.path);
    let folder = folder.parent().unwrap_or(root);
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                found.push(format!("{}:{}: the link leads nowhere: {link}", file.path, at + 1));
            }
        }
    }
    found
}

/// Commands that a text tells people to type are there.
fn commands_exist(file: &Text, packages: &[Package]) -> Vec<String> {
    let examples = || packages.iter().flat_map(|package| &package.targets).filter(|target| target.kind == "example");
    let tasks = command_names();
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for task in words_after(line, "cargo xtask ").filter(|task| !task.is_empty() && !tasks.contains(task)) {
            found.push(format!("{}:{}: there is no `cargo xtask {task}`", file.path, at + 1));
        }
        let named = words_after(line, "--example ");
        for example in named.filter(|name| !name.is_empty() && !examples().any(|target| target.name == *name)) {
            found.push(format!("{}:{}: there is no example {example}", file.path, at + 1));
        }
    }
    found
}

/// The word after each `phrase` of a text; empty for a placeholder such as `<command>` or `…`.
fn words_after(text: &str, phrase: &str) -> impl Iterator<Item = String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(phrase).skip(1).map(move |rest| rest.chars().take_while(|&c| word(c)).collect())
}

/// Every library and program but the tensor crate forbids `unsafe`, so that the compiler watches too.
fn roots_forbid_unsafe(packages: &[Package], root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| package.name != "maplet-tensor") {
        if fs::read_to_string(&package.manifest)?.contains("unsafe_code = \"forbid\"") {
            continue;
        }
        for target in package.targets.iter().filter(|target| target.kind == "lib" || target.kind == "bin") {
            if !fs::read_to_string(&target.path)?.contains("#![forbid(unsafe_code)]") {
                let path: PathBuf = target.path.strip_prefix(root).unwrap_or(&target.path).into();
                found.push(format!("{}:1: lacks #![forbid(unsafe_code)]", path.display()));
            }
        }
    }
    Ok(found)
}

/// Every public op of `tensor` and `autograd` is named in a test of its crate.
fn ops_are_tested(texts: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["crates/tensor/", "crates/autograd/"] {
        let files: Vec<_> = texts.iter().filter(|file| file.path.starts_with(folder)).collect();
        let tested: HashSet<_> = files.iter().flat_map(|file| words(test_code(file))).collect();
        for file in files.iter().filter(|file| file.path.contains("src/ops/")) {
            let code = code::only(&file.text);
            let library = code.split("#[cfg(test)]").next().unwrap_or("");
            for name in words_after(library, "\n    pub fn ") {
                if !tested.contains(name.as_str()) {
                    found.push(format!("{}:1: no test names the op {name}", file.path));
                }
            }
        }
    }
    found
}

/// The part of a file that is compiled for tests only.
fn test_code(file: &Text) -> &str {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    match file.text.find("#[cfg(test)]") {
        _ if is_test => &file.text,
        Some(at) => &file.text[at..],
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text { path: path.into(), text: text.into() }
    }

    fn rules(path: &str, code: &str) -> Vec<String> {
        source_rules(&file(path, &format!("//! A file.\n{code}\n")))
    }

    #[test]
    fn a_clean_file_passes() {
        let clean = "fn f() { g(\"println!\"); } // todo!\n#[should_panic(expected = \"x\")]\nfn eunsafe() {}";
        assert_eq!(rules("crates/nn-layers/src/lib.rs", clean), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let path = "crates/train/src/a.rs";
        assert_eq!(
            source_rules(&file(path, "fn f() {}")),
            [format!("{path}:1: a file begins with `//!`: what is here")]
        );
        for (code, what) in [
            ("fn f() { todo! () }", "unfinished: todo!"),
            ("# [ignore = \"slow\"]", "a test that is switched off tests nothing"),
            ("# [should_panic]", "any panic satisfies this test: add expected = \"…\""),
            ("eprintln!(\"x\");", "a library does not print"),
            ("unsafe { f() }", "unsafe belongs to the tensor crate"),
        ] {
            assert_eq!(rules(path, code), [format!("{path}:2: {what}")]);
        }
        let wide = format!("// {}", "x".repeat(118));
        assert_eq!(rules(path, &wide), [format!("{path}:2: a comment is at most 120 characters wide")]);
        assert_eq!(
            rules(path, &"\n".repeat(500)),
            [format!("{path}:501: a file this long holds two subjects: split it")]
        );
        assert_eq!(rules("examples/a.rs", "println!(\"x\");"), [""; 0]);
    }

    #[test]
    fn unsafe_code_gives_its_reason() {
        let path = "crates/tensor/src/a.rs";
        assert_eq!(rules(path, "unsafe { f() }"), [format!("{path}:2: unsafe without a `SAFETY:` line above it")]);
        assert_eq!(rules(path, "unsafe fn f() {}"), [""; 0], "whoever calls it says why");
        assert_eq!(rules(path, "// SAFETY: f is sound.\nunsafe { f() }"), [""; 0]);
        assert_eq!(rules(path, "/// # Safety\n/// 1\n/// 2\n/// 3\n/// 4\n/// 5\nunsafe impl Send for X {}"), [""; 0]);
        assert_eq!(rules(path, "// SAFETY: for g.\ng();\ng();\ng();\ng();\ng();\nunsafe { f() }").len(), 1);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let line = format!("see /{}/me/data", "home");
        assert_eq!(no_machine_paths(&file("a.md", &line)), [format!("a.md:1: a path of one machine: /{}/", "home")]);
        assert_eq!(no_machine_paths(&file("a.md", "see docs/home/x and ../work/x")), [""; 0]);
    }

    #[test]
    fn texts_name_only_what_is_there() {
        let target = project::Target { name: "mnist_cnn".into(), kind: "example".into(), path: "x.rs".into() };
        let package =
            Package { name: "x".into(), manifest: "x".into(), dependencies: Vec::new(), targets: vec![target] };
        let text = "`cargo xtask test`, `cargo xtask <command>`\n\
                    `cargo xtask tset` `cargo run --example mnist_cnn`\n--example mnits";
        assert_eq!(
            commands_exist(&file("a.md", text), &[package]),
            ["a.md:2: there is no `cargo xtask tset`", "a.md:3: there is no example mnits"]
        );
        let links =
            file("xtask/a.md", "[a](Cargo.toml) [b](src/main.rs#x) [c](https://x.y/z) [d](#e)\n[f](src/nothing.rs)");
        assert_eq!(
            links_lead_somewhere(&links, &project::root()),
            ["xtask/a.md:2: the link leads nowhere: src/nothing.rs"]
        );
    }

    #[test]
    fn an_op_without_a_test_is_found() {
        let op = "impl Tensor {\n    pub fn exp(&self) {}\n    pub fn map<T>(&self) {}\n    pub fn lost(&self) {}\n}\n";
        let texts = [
            file("crates/tensor/src/ops/a.rs", &format!("{op}#[cfg(test)]\nmod tests {{ fn t() {{ x.exp(); }} }}")),
            file("crates/tensor/tests/b.rs", "fn u() { x.map::<f32>(); }"),
        ];
        assert_eq!(ops_are_tested(&texts), ["crates/tensor/src/ops/a.rs:1: no test names the op lost"]);
    }
}
