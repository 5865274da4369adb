//! Nadam: Adam that looks ahead along its first moment, as Nesterov's momentum does.

use super::{Now, OnePass, correction, decay, gradient, mean, mean_square};
use crate::Float;

/// One step of Nadam: `m` and `v` as in Adam, then
/// `p −= α · ((1 − μ)/(1 − product) · g + ahead/(1 − product·ahead) · m) / (√(v / (1 − β₂ᵗ)) + eps)`.
///
/// # Reference
/// Dozat (2016), "Incorporating Nesterov Momentum into Adam", algorithm 2, with PyTorch's decay of the momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NadamStep {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Whether weight decay shrinks the parameter itself instead of joining the gradient.
    pub decoupled: bool,
    /// The momentum `μ` of this step.
    pub momentum: f64,
    /// The momentum of the next step.
    pub ahead: f64,
    /// The product of all momenta so far, this step's included.
    pub product: f64,
}

impl OnePass<2, 10> for NadamStep {
    const NAME: &'static str = "nadam";

    fn numbers(&self, now: Now) -> [f64; 10] {
        let [l2, shrink] = decay(self.decoupled, now);
        let root = correction(self.beta2, now).sqrt().recip();
        let by_gradient = now.learning_rate * (1.0 - self.momentum) / (1.0 - self.product);
        let by_mean = now.learning_rate * self.ahead / (1.0 - self.product * self.ahead);
        let rests = [1.0 - self.beta1, 1.0 - self.beta2];
        [self.beta1, rests[0], self.beta2, rests[1], by_gradient, by_mean, root, self.eps, l2, shrink]
    }

    #[inline(always)]
    fn each<T: Float>(self, by: [T; 10], p: T, g: T, [m, v]: [T; 2]) -> (T, [T; 2]) {
        let [beta1, rest1, beta2, rest2, by_gradient, by_mean, root, eps, l2, shrink] = by;
        let g = gradient(g + l2 * p);
        let m = mean(beta1 * m + rest1 * g);
        let v = mean_square(beta2 * v + rest2 * g * g);
        (shrink * p - (by_gradient * g + by_mean * m) / (v.sqrt() * root + eps), [m, v])
    }
}
