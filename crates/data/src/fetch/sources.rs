//! Where files come from: mirrors, an address or a folder of the user's own.

use std::path::{Path, PathBuf};

use super::FileSet;
use crate::{Error, Result};

/// A place that may have the files.
pub(super) enum Source {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A base address that ends in `/`.
    Url(String),
}

impl Source {
    /// The path or address of a file, for people and for the request.
    pub(super) fn address(&self, name: &str) -> String {
        match self {
            Source::Folder(folder) => folder.join(name).display().to_string(),
            Source::Url(base) => format!("{base}{name}"),
        }
    }
}

/// The sources of `set` in the order to try: those of `from`, else the mirrors.
pub(super) fn list(set: &FileSet<'_>, from: Option<&str>) -> Result<Vec<Source>> {
    let Some(place) = from else {
        return Ok(set.mirrors.iter().map(|&base| Source::Url(base.to_owned())).collect());
    };
    if place.starts_with("http://") || place.starts_with("https://") {
        let base = place.trim_end_matches('/');
        return Ok(vec![Source::Url(format!("{base}/")), Source::Url(format!("{base}/{}/", set.name))]);
    }
    let folder = Path::new(place);
    let inner = folder.join(set.name);
    if folder.is_dir() {
        let there = [inner, folder.to_owned()].into_iter().filter(|folder| folder.is_dir());
        return Ok(there.map(Source::Folder).collect());
    }
    Err(Error::new(
        "fetch",
        format!("`{place}` is neither a folder nor a URL"),
        format!(
            "name a folder that has {} (or {}/{0}), or an http:// or https:// address",
            set.files.first().map_or("the files", |file| file.name),
            set.name
        ),
    ))
}
