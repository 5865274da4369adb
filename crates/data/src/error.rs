//! The one error of this crate: which operation, which file, what is wrong, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what refused the data, why, and what to do about it; one word wide.
///
/// The text reads `op: what is wrong; help: what to do`, and names the file where there is one.
///
/// # Example
/// ```
/// use maplet_data::Error;
///
/// let error = Error::new("my_set", "line 7 has 3 fields, expected 4", "export the table again");
/// assert_eq!(error.to_string(), "my_set: line 7 has 3 fields, expected 4; help: export the table again");
/// ```
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// The sorts of [`Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A tensor operation refused its arguments.
    #[error(transparent)]
    Tensor(maplet_tensor::Error),
    /// The system could not open or read a file.
    #[error("{op}: {}: {source}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something other than it should.
    #[error("{op}: {}: {what}{}", path.display(), and(help))]
    File {
        /// What was being done.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// What was promised or expected, and what was found.
        what: String,
        /// What to do; may be empty.
        help: String,
    },
    /// Anything else that does not fit: sizes, fractions, indices.
    #[error("{op}: {what}{}", and(help))]
    Value {
        /// What was being done.
        op: &'static str,
        /// What is wrong.
        what: String,
        /// What to do; may be empty.
        help: String,
    },
}

impl Error {
    /// Something does not fit. For datasets of your own, too. An empty `help` is left out of the text.
    pub fn new(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        ErrorKind::Value { op, what: what.into(), help: help.into() }.into()
    }

    /// A file holds something other than it should.
    pub fn file(op: &'static str, path: &Path, what: impl Into<String>, help: impl Into<String>) -> Self {
        ErrorKind::File { op, path: path.into(), what: what.into(), help: help.into() }.into()
    }

    /// The system could not open or read a file.
    pub fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        ErrorKind::Io { op, path: path.into(), source }.into()
    }

    /// What sort of error this is, with its parts.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<maplet_tensor::Error> for Error {
    fn from(error: maplet_tensor::Error) -> Self {
        ErrorKind::Tensor(error).into()
    }
}

/// The same text as `Display`: `unwrap` then prints a sentence, not a structure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn and(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!("; help: {help}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_word_and_names_what_it_knows() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let path = Path::new("a/b.gz");
        let texts = [
            Error::new("split", "0 samples", "").to_string(),
            Error::file("idx", path, "ends early", "fetch it again").to_string(),
            Error::io("idx", path, io::Error::other("disk on fire")).to_string(),
            Error::from(maplet_tensor::Error::shape("stack", "shapes differ", "")).to_string(),
        ];
        let expected = [
            "split: 0 samples",
            "idx: a/b.gz: ends early; help: fetch it again",
            "idx: a/b.gz: disk on fire",
            "stack: shapes differ",
        ];
        assert_eq!(texts, expected);
    }
}
