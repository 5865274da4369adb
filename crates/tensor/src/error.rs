//! The one error of this crate: which op, what is wrong, what to do.

use std::fmt;

/// The result of every fallible tensor operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Says which operation refused its arguments, why, and what to do about it.
///
/// The text reads `op: what is wrong, with the shapes; help: what to do`. The error is one word wide, so a
/// `Result<Tensor>` costs no more than a `Tensor`.
///
/// ```
/// use maplet_tensor::Tensor;
///
/// let error = Tensor::from([1.0f32, 2.0]).reshape([3]).unwrap_err();
/// assert_eq!(error.to_string(), "reshape: [2] has 2 elements, [3] needs 3; help: the sizes must multiply to 2");
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error(Box<Inner>);

/// What sort of argument was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Shapes or ranks that do not fit.
    Shape,
    /// An element type that the operation does not take.
    DType,
    /// An index, label or axis out of range.
    Index,
    /// Any other value out of its range.
    Value,
}

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    op: &'static str,
    what: String,
    help: String,
}

impl Error {
    fn build(kind: ErrorKind, op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, op, what: what.into(), help: help.into() }))
    }

    /// Shapes or ranks that do not fit. An empty `help` is left out of the text.
    pub fn shape(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::build(ErrorKind::Shape, op, what, help)
    }

    /// An element type that `op` does not take.
    pub fn dtype(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::build(ErrorKind::DType, op, what, help)
    }

    /// An index, label or axis out of range.
    pub fn index(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::build(ErrorKind::Index, op, what, help)
    }

    /// Any other value out of its range.
    pub fn value(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::build(ErrorKind::Value, op, what, help)
    }

    /// What sort of argument was refused.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that refused.
    pub fn op(&self) -> &'static str {
        self.0.op
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.op, self.0.what)?;
        if self.0.help.is_empty() { Ok(()) } else { write!(f, "; help: {}", self.0.help) }
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
        let error = Error::shape("matmul", "inner sizes differ", "");
        assert_eq!(format!("{error} / {error:?}"), "matmul: inner sizes differ / matmul: inner sizes differ");
        assert_eq!((error.kind(), error.op()), (ErrorKind::Shape, "matmul"));
    }
}
