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

    /// An error unless `value` is finite and not negative.
    pub(crate) fn unless_finite(op: &'static str, name: &str, value: f64) -> Result<()> {
        Self::unless(value.is_finite() && value >= 0.0, op, name, value, "use a finite number, 0 or more")
    }

    /// An error unless `value` is a decay: from 0 to below 1.
    pub(crate) fn unless_decay(op: &'static str, name: &str, value: f64) -> Result<()> {
        Self::unless((0.0..1.0).contains(&value), op, name, value, "use a number from 0 to below 1")
    }

    /// An error unless every one of these is a decay.
    pub(crate) fn unless_decays<const N: usize>(op: &'static str, values: [(&str, f64); N]) -> Result<()> {
        values.into_iter().try_for_each(|(name, value)| Self::unless_decay(op, name, value))
    }
}

impl From<maplet_autograd::Error> for Error {
    fn from(error: maplet_autograd::Error) -> Self {
        Self(error)
    }
}

impl From<maplet_tensor::Error> for Error {
    fn from(error: maplet_tensor::Error) -> Self {
        Self(error.into())
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
