//! The one error of this crate: where in the training, what is wrong, what to do.

use std::fmt;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says where in the training something was refused, why, and what to do; one word wide.
///
/// The text reads `place: op: what is wrong; help: what to do`, for instance `epoch 1, step 3: cross_entropy: …`.
/// Errors of the crates below keep their own text; this crate only adds the place.
///
/// ```
/// use maplet_train::Error;
///
/// let error = Error::new("my_metric", "7 classes, expected 10", "check the labels").at("epoch 1, step 3");
/// assert_eq!(error.to_string(), "epoch 1, step 3: my_metric: 7 classes, expected 10; help: check the labels");
/// ```
#[derive(thiserror::Error)]
#[error("{}{}", .0.place, .0.kind)]
pub struct Error(Box<Inner>);

struct Inner {
    /// `"epoch 1, step 3: "`, or nothing.
    place: String,
    kind: ErrorKind,
}

/// What went wrong, for code that decides by it; people read the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A tensor operation refused its arguments.
    #[error(transparent)]
    Tensor(maplet_tensor::Error),
    /// The backward pass, or a file of saved weights.
    #[error(transparent)]
    Autograd(maplet_autograd::Error),
    /// The model's forward pass, or the loss.
    #[error(transparent)]
    Layers(maplet_nn_layers::Error),
    /// The optimizer.
    #[error(transparent)]
    Optim(maplet_optim::Error),
    /// The data set.
    #[error(transparent)]
    Data(maplet_data::Error),
    /// The loss is infinite or not a number.
    #[error("loss: it is {loss}, the model holds the weights {weights}; help: {NOT_FINITE}")]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Which weights the model holds now: `of the end of epoch 2`.
        weights: String,
    },
    /// Anything else that does not fit.
    #[error("{op}: {what}{}", and(.help))]
    Value {
        /// The operation that refused.
        op: &'static str,
        /// What is wrong.
        what: String,
        /// What to do; may be empty.
        help: String,
    },
}

const NOT_FINITE: &str = "lower the learning rate, clip the gradients, or look for NaN in the data";

impl Error {
    /// Something does not fit. For metrics and callbacks of your own, too. An empty `help` is left out of the text.
    pub fn new(op: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        ErrorKind::Value { op, what: what.into(), help: help.into() }.into()
    }

    /// The same error with `place: ` in front.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place = format!("{place}: {}", self.0.place);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { place: String::new(), kind }))
    }
}

impl From<maplet_tensor::Error> for Error {
    fn from(error: maplet_tensor::Error) -> Self {
        ErrorKind::Tensor(error).into()
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

impl From<maplet_optim::Error> for Error {
    fn from(error: maplet_optim::Error) -> Self {
        ErrorKind::Optim(error).into()
    }
}

impl From<maplet_data::Error> for Error {
    fn from(error: maplet_data::Error) -> Self {
        ErrorKind::Data(error).into()
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
    fn is_one_word_and_reads_as_a_sentence() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let error = Error::from(maplet_tensor::Error::shape("matmul", "inner sizes differ", ""));
        assert_eq!(format!("{:?}", error.at("step 3").at("epoch 1")), "epoch 1: step 3: matmul: inner sizes differ");
        assert_eq!(Error::new("fit", "no samples", "").to_string(), "fit: no samples");
    }

    #[test]
    fn a_loss_that_is_not_finite_says_which_weights_remain() {
        let error = Error::from(ErrorKind::NotFinite { loss: f64::NAN, weights: "of the end of epoch 2".into() });
        let text = "loss: it is NaN, the model holds the weights of the end of epoch 2; \
                    help: lower the learning rate, clip the gradients, or look for NaN in the data";
        assert_eq!(error.to_string(), text);
    }
}
