//! The one error of this crate.

use std::fmt;
use std::path::Path;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Says which operation refused, why, and what to do: `op: what is wrong; help: what to do`. One word wide.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// The sorts of [`Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, a name or a value that cannot be recorded, saved or loaded.
    #[error(transparent)]
    Autograd(maplet_autograd::Error),
    /// A layer refused its arguments, or an architecture makes no sense.
    #[error(transparent)]
    Layers(maplet_nn_layers::Error),
    /// Inputs that do not suit the normalisation.
    #[error(transparent)]
    Data(maplet_data::Error),
    /// A tensor operation refused its arguments.
    #[error(transparent)]
    Tensor(maplet_tensor::Error),
    /// The contents of a model file do not fit together.
    #[error("{op}: {what}{}", and(help))]
    File {
        /// `load` or `save`.
        op: &'static str,
        /// What is wrong.
        what: String,
        /// What to do; may be empty.
        help: String,
    },
    /// An error together with the file that it is about.
    #[error("{path}: {error}")]
    At {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: Error,
    },
}

impl Error {
    /// The contents of a file do not fit together. An empty `help` is left out of the text.
    pub fn new(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        ErrorKind::File { op, what: what.into(), help: help.into() }.into()
    }

    /// Names the file in front of the text.
    pub fn at(self, path: &Path) -> Self {
        ErrorKind::At { path: path.display().to_string(), error: self }.into()
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

impl From<maplet_autograd::Error> for Error {
    fn from(error: maplet_autograd::Error) -> Self {
        ErrorKind::Autograd(error).into()
    }
}

impl From<maplet_nn_layers::Error> for Error {
    fn from(error: maplet_nn_layers::Error) -> Self {
        ErrorKind::Layers(error).into()
    }
}

impl From<maplet_data::Error> for Error {
    fn from(error: maplet_data::Error) -> Self {
        ErrorKind::Data(error).into()
    }
}

impl From<maplet_tensor::Error> for Error {
    fn from(error: maplet_tensor::Error) -> Self {
        ErrorKind::Tensor(error).into()
    }
}

fn and(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!("; help: {help}") }
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
    fn is_one_word_and_names_the_file() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let error = Error::new("load", "no weights", "save it again").at(Path::new("a/b.maplet"));
        assert_eq!(format!("{error} / {error:?}"), {
            let text = "a/b.maplet: load: no weights; help: save it again";
            format!("{text} / {text}")
        });
    }
}
