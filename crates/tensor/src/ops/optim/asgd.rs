//! Averaged stochastic gradient descent.

use super::{Now, OnePass};
use crate::Float;

/// `g += weight_decay·p`; `p = (1 − λ·η)·p − η·g`; the average `a` becomes `a + (p − a)·μ`.
///
/// # Reference
/// Polyak & Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging"; Bottou (2010), "Large-Scale
/// Machine Learning with Stochastic Gradient Descent", in PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AsgdStep {
    /// The decay λ of the parameter.
    pub lambda: f64,
    /// The step size η.
    pub eta: f64,
    /// How much of the parameter enters the average; 1 copies it.
    pub mu: f64,
}

impl OnePass<1, 4> for AsgdStep {
    const NAME: &'static str = "asgd";

    fn numbers(&self, now: Now) -> [f64; 4] {
        [1.0 - self.lambda * self.eta, self.eta, self.mu, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, [shrink, eta, mu, l2]: [T; 4], p: T, g: T, [average]: [T; 1]) -> (T, [T; 1]) {
        let p = shrink * p - eta * (g + l2 * p);
        (p, [if mu == T::one() { p } else { average + (p - average) * mu }])
    }
}
