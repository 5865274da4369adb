//! [`Moments`]: the numbers that Adam and its relatives share, with their setters and their check.

use crate::{Descent, Error, Result, Rule};

/// A rule with two decays and an eps: [`Adam`](crate::Adam) and its relatives.
pub trait Moments: Rule {
    /// β₁, the decay of the mean of gradients; β₂, that of the mean of their squares or of what stands in its place;
    /// and eps.
    fn moments_mut(&mut self) -> [&mut f64; 3];
}

impl<R: Moments> Descent<R> {
    /// The decays of the mean of gradients and of the mean of their squares (in [`Adamax`](crate::Adamax): of the
    /// largest gradient).
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        let [first, second, _] = self.rule.moments_mut();
        (*first, *second) = (beta1, beta2);
        self
    }

    /// What is added to the root of the second mean (in [`Adamax`](crate::Adamax): to each gradient's size), so that
    /// no step is divided by zero.
    pub fn eps(mut self, eps: f64) -> Self {
        let [_, _, own] = self.rule.moments_mut();
        *own = eps;
        self
    }
}

/// An error unless the three numbers are possible.
pub(crate) fn check<R: Moments>(mut rule: R) -> Result<()> {
    let [beta1, beta2, eps] = rule.moments_mut();
    Error::unless_decays(R::NAME, [("beta1", *beta1), ("beta2", *beta2)])?;
    Error::unless_finite(R::NAME, "eps", *eps)
}
