//! The one error of this crate.

use std::fmt;

/// The result of every fallible operation on recorded values.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says which operation refused, why, and what to do: `op: what is wrong; help: what to do`.
///
/// One word wide. Errors of the tensor kernels pass through with their own text.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// What went wrong, for code that decides by it; people read the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A tensor kernel refused its arguments.
    #[error(transparent)]
    Tensor(maplet_tensor::Error),
    /// Values were recorded, mixed or differentiated in a way that has no meaning.
    #[error("{0}")]
    Graph(Message),
    /// An argument, a name or a file's content is not what it must be.
    #[error("{0}")]
    Value(Message),
    /// A file could not be saved or loaded.
    #[error(transparent)]
    Container(crate::container::ContainerError),
    /// The operating system refused; the source says why.
    #[error("{op}: {what}: {source}")]
    Io {
        /// The operation that was refused.
        op: &'static str,
        /// What it was doing, with the file's name.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// An operation, what is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The operation that refused.
    pub op: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do; may be empty.
    pub help: String,
}

impl Error {
    /// An argument, a name or a file's content is not what it must be. An empty `help` is left out of the text.
    pub fn new(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(ErrorKind::Value(Message { op, what: what.into(), help: help.into() })))
    }

    /// Values were recorded, mixed or differentiated in a way that has no meaning.
    pub fn graph(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(ErrorKind::Graph(Message { op, what: what.into(), help: help.into() })))
    }

    /// The operating system refused `what`.
    pub fn io(op: &'static str, what: impl Into<String>, source: std::io::Error) -> Self {
        Self(Box::new(ErrorKind::Io { op, what: what.into(), source }))
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }
}

impl From<maplet_tensor::Error> for Error {
    fn from(error: maplet_tensor::Error) -> Self {
        Self(Box::new(ErrorKind::Tensor(error)))
    }
}

impl From<crate::container::ContainerError> for Error {
    fn from(error: crate::container::ContainerError) -> Self {
        Self(Box::new(ErrorKind::Container(error)))
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, self.what)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; help: {}", self.help) }
    }
}

/// The same text as `Display`: `unwrap` then prints a sentence, not a structure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_word_and_reads_as_a_sentence() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let error = Error::new("load", "2 parameters missing", "");
        assert_eq!(format!("{error} / {error:?}"), "load: 2 parameters missing / load: 2 parameters missing");
        let error = Error::graph("backward", "no graph", "record it");
        assert_eq!(error.to_string(), "backward: no graph; help: record it");
        assert!(matches!(error.kind(), ErrorKind::Graph(Message { op: "backward", .. })));
        let tensor = maplet_tensor::Error::shape("matmul", "inner sizes differ", "");
        assert_eq!(Error::from(tensor).to_string(), "matmul: inner sizes differ");
        let error = Error::io("save", "writing m.bin", std::io::Error::other("no space left"));
        assert_eq!(error.to_string(), "save: writing m.bin: no space left");
    }
}
