//! `cargo xtask catalogue`: docs/catalogue.md, made from lines `/// PyTorch: …; Keras: ….` of the sources.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::project::root;

/// The parts of the catalogue: a heading, and where its entries are.
const PARTS: [(&str, &str); 3] = [
    ("Layers, losses, containers, initializers", "crates/nn-layers/src"),
    ("Optimizers, schedules", "crates/optim/src"),
    ("Functions and gradients", "crates/autograd/src"),
];

/// The file that it is written to.
const FILE: &str = "docs/catalogue.md";

/// Something that people look for.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// As in the source: `` `nn.Conv2d` ``, or `–` where there is none.
    pub(crate) pytorch: String,
    pub(crate) keras: String,
    about: String,
    /// Its source file, from the project's folder.
    page: String,
}

pub(crate) fn run() -> Result<()> {
    let root = root();
    let text = text(&root)?;
    fs::write(root.join(FILE), &text)?;
    println!("{FILE} is written");
    Ok(())
}

/// An error line if docs/catalogue.md is not what the sources say.
pub(crate) fn is_current(root: &Path) -> Result<Vec<String>> {
    let there = fs::read_to_string(root.join(FILE)).unwrap_or_default();
    let current = there == text(root)?;
    Ok(if current { vec![] } else { vec![format!("{FILE}:1: not what the sources say: run `cargo xtask catalogue`")] })
}

fn text(root: &Path) -> Result<String> {
    let mut text = String::from(
        "# Catalogue\n\nMade by `cargo xtask catalogue` from the documentation in the sources, to which each name leads. The\n\
        differences from PyTorch are measured in [parity.md](parity.md).\n",
    );
    for (heading, folder) in PARTS {
        let entries = entries(root, folder)?;
        text += &format!("\n## {heading}\n\n| Maplet | PyTorch | Keras | |\n|---|---|---|---|\n");
        for Entry { name, pytorch, keras, about, page } in entries {
            text += &format!("| [`{name}`](../{page}) | {pytorch} | {keras} | {about} |\n");
        }
    }
    Ok(text)
}

/// All entries of the catalogue.
pub(crate) fn all(root: &Path) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for (_, folder) in PARTS {
        all.extend(entries(root, folder)?);
    }
    Ok(all)
}

/// The entries below a folder, by name.
fn entries(root: &Path, folder: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let page = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                let text = fs::read_to_string(&path)?;
                entries.extend(
                    read(&text, &page).map_err(|line| format!("{page}:{line}: this PyTorch line is not read"))?,
                );
            }
        }
    }
    entries.sort_by_key(|entry: &Entry| entry.name.to_lowercase());
    Ok(entries)
}

/// The entries of one source file; or the number of a line that looks like one and is not.
fn read(text: &str, page: &str) -> std::result::Result<Vec<Entry>, usize> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut entries = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(names) = line.strip_prefix("/// PyTorch: ") else { continue };
        let entry = || {
            let (pytorch, keras) = names.strip_suffix('.')?.split_once("; Keras: ")?;
            let begin = lines[..at].iter().rposition(|line| !line.starts_with("///")).map_or(0, |before| before + 1);
            let about = sentence(&lines[begin..at]);
            let item = lines[at..].iter().find_map(|line| item(line))?;
            let (pytorch, keras, page) = (pytorch.into(), keras.into(), page.into());
            Some(Entry { name: item.into(), pytorch, keras, about, page })
        };
        entries.push(entry().ok_or(at + 1)?);
    }
    Ok(entries)
}

/// The first sentence of a doc comment, without its links.
fn sentence(comment: &[&str]) -> String {
    let lines = comment.iter().map(|line| line.trim_start_matches('/').trim()).take_while(|line| !line.is_empty());
    let paragraph = lines.collect::<Vec<_>>().join(" ");
    let sentence = paragraph.split_once(". ").map_or(&*paragraph, |(sentence, _)| sentence).trim_end_matches('.');
    let mut plain = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('[') {
        plain += before;
        if plain.matches('`').count() % 2 == 1 {
            plain.push('['); // code, such as a shape
            rest = after;
            continue;
        }
        let (label, after) = after.split_once(']').unwrap_or((after, ""));
        plain += label;
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').map_or("", |(_, after)| after),
            None => after,
        };
    }
    (plain + rest).replace('|', "\\|")
}

/// The name of the public item that a line declares.
fn item(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ")?;
    let rest = ["struct ", "enum ", "type ", "fn ", "trait "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_name_counterparts_and_first_sentence() {
        let text = "/// Slides a [window](Window) over [`Tensor`]s `[n, c]`. And more.\n///\n/// PyTorch: `nn.Conv2d`; Keras: –.\n\
                    #[derive(Debug)]\npub struct Conv<const D: usize> {\n";
        let entries = read(text, "a.rs").unwrap();
        let entry = &entries[0];
        assert_eq!((&*entry.name, &*entry.pytorch, &*entry.keras), ("Conv", "`nn.Conv2d`", "–"));
        assert_eq!(&*entry.about, "Slides a window over `Tensor`s `[n, c]`");
        assert_eq!(read("/// PyTorch: `nn.Conv2d`\npub struct Conv;\n", "a.rs"), Err(1));
        assert_eq!(item("pub fn conv2d(x: &Var)"), Some("conv2d"));
    }
}
