//! The one error of this crate: it adds *where* to what the layers below say.

use std::fmt;

/// The result of every fallible operation of layers, losses and models.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an op refused, and the layer in which it did: `layer 5 (Linear 1600 → 10): linear: …; help: …`.
///
/// One word wide.
#[derive(thiserror::Error)]
pub struct Error(Box<Inner>);

struct Inner {
    /// From the outermost place to the innermost, each followed by `": "`.
    place: String,
    source: maplet_autograd::Error,
}

impl Error {
    /// An argument is not what `op` takes. An empty `help` is left out of the text.
    pub fn new(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        maplet_autograd::Error::new(op, what, help).into()
    }

    /// The same error, seen from outside: `place: ` goes in front of its text.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place.insert_str(0, &format!("{place}: "));
        self
    }

    /// The op's own error, without the place.
    pub fn source(&self) -> &maplet_autograd::Error {
        &self.0.source
    }
}

impl From<maplet_autograd::Error> for Error {
    fn from(source: maplet_autograd::Error) -> Self {
        Self(Box::new(Inner { place: String::new(), source }))
    }
}

impl From<maplet_tensor::Error> for Error {
    fn from(source: maplet_tensor::Error) -> Self {
        maplet_autograd::Error::from(source).into()
    }
}

/// For closures that must return autograd's error, such as `gradcheck`'s.
impl From<Error> for maplet_autograd::Error {
    fn from(error: Error) -> Self {
        if error.0.place.is_empty() { error.0.source } else { Self::new("forward", error.to_string(), "") }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.place, self.0.source)
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
    fn is_one_word_and_says_where() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let error =
            Error::new("linear", "inner sizes differ", "transpose it").at("layer 2 (Linear 3 → 4)").at("encoder");
        let text = "encoder: layer 2 (Linear 3 → 4): linear: inner sizes differ; help: transpose it";
        assert_eq!((error.to_string().as_str(), format!("{error:?}").as_str()), (text, text));
        assert_eq!(error.source().to_string(), "linear: inner sizes differ; help: transpose it");
        assert_eq!(maplet_autograd::Error::from(error).to_string(), format!("forward: {text}"));
    }
}
