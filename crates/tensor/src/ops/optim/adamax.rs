//! Adamax: Adam with the largest gradient in the place of the mean of squares.

use super::{Now, OnePass, correction, gradient, mean, mean_square};
use crate::Float;

/// `g += λ·p`; `m = β₁·m + (1 − β₁)·g`; `u = max(β₂·u, |g| + eps)`; `p −= α / (1 − β₁ᵗ) · m / u`.
///
/// # Reference
/// Kingma & Ba (2015), "Adam", algorithm 2; `eps` is PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamaxRule {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the largest gradient.
    pub beta2: f64,
    /// Added to each gradient's size.
    pub eps: f64,
}

impl OnePass<2, 6> for AdamaxRule {
    const NAME: &'static str = "adamax";

    fn numbers(&self, now: Now) -> [f64; 6] {
        let rate = now.learning_rate / correction(self.beta1, now);
        [self.beta1, 1.0 - self.beta1, self.beta2, self.eps, rate, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, by: [T; 6], p: T, g: T, [m, u]: [T; 2]) -> (T, [T; 2]) {
        let [beta1, rest1, beta2, eps, rate, l2] = by;
        let g = gradient(g + l2 * p);
        let m = mean(beta1 * m + rest1 * g);
        let u = mean_square((beta2 * u).max(g.abs() + eps));
        (p - rate * m / u, [m, u])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;

    /// Algorithm 2 of the paper.
    #[test]
    fn is_the_papers_algorithm() {
        for decay in [0.0, 0.3] {
            let rule = AdamaxRule { beta1: 0.8, beta2: 0.9, eps: 1e-6 };
            check_rule::<2, 6, 2>(rule, [0.1, decay], |t, p, g, [m, u]| {
                let g = g + decay * p;
                *m = 0.8 * *m + (1.0 - 0.8) * g;
                *u = f64::max(0.9 * *u, g.abs() + 1e-6);
                p - 0.1 / (1.0 - 0.8f64.powi(t)) * *m / *u
            });
        }
    }
}
