//! The one error of this crate.

use std::fmt;

/// The result of every fallible operation of optimizers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says which optimizer refused, why, and what to do: `adam: beta1 is 1; help: use a number from 0 to below 1`.
///
/// One word wide.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct Error(maplet_autograd::Error);

impl Error {
    /// A number, a state or a gradient is not what it must be. An empty `help` is left out of the text.
    pub fn new(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self(maplet_autograd::Error::new(op, what, help))
    }

    /// An error unless `value` is `fine`.
    pub(crate) fn unless(fine: bool, op: &'static str, name: &str, value: f64, help: &str) -> Result<()> {
        if fine { Ok(()) } else { Err(Self::new(op, format!("{name} is {value}"), help)) }
    }
}

impl From<maplet_autograd::Error> for Error {
    fn from(error: maplet_autograd::Error) -> Self {
        Self(error)
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
        let error = Error::new("adam", "beta1 is 1", "use less");
        assert_eq!(
            format!("{error} / {error:?}"),
            "adam: beta1 is 1; help: use less / adam: beta1 is 1; help: use less"
        );
    }
}
