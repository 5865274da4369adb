//! Adadelta: steps in units of the recent steps themselves.

use super::{Now, OnePass, gradient, mean_square};
use crate::Float;

/// `g += λ·p`; `v = ρ·v + (1 − ρ)·g²`; `d = √(u + eps) / √(v + eps) · g`; `u = ρ·u + (1 − ρ)·d²`; `p −= α·d`.
///
/// # Reference
/// Zeiler (2012), "ADADELTA: An Adaptive Learning Rate Method", algorithm 1, with PyTorch's rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdadeltaRule {
    /// The decay ρ of both means.
    pub rho: f64,
    /// Added under both roots.
    pub eps: f64,
}

impl OnePass<2, 5> for AdadeltaRule {
    const NAME: &'static str = "adadelta";

    fn numbers(&self, now: Now) -> [f64; 5] {
        [self.rho, 1.0 - self.rho, self.eps, now.learning_rate, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, [rho, rest, eps, rate, l2]: [T; 5], p: T, g: T, [v, u]: [T; 2]) -> (T, [T; 2]) {
        let g = gradient(g + l2 * p);
        let v = mean_square(rho * v + rest * g * g);
        let d = (u + eps).sqrt() / (v + eps).sqrt() * g;
        let u = mean_square(rho * u + rest * d * d);
        (p - rate * d, [v, u])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;

    /// Algorithm 1 of the paper, with the decay in the gradient.
    #[test]
    fn is_the_papers_algorithm() {
        for decay in [0.0, 0.3] {
            let rule = AdadeltaRule { rho: 0.9, eps: 1e-6 };
            check_rule::<2, 5, 2>(rule, [0.5, decay], |_, p, g, [v, u]| {
                let g = g + decay * p;
                *v = 0.9 * *v + (1.0 - 0.9) * g * g;
                let d = (*u + 1e-6).sqrt() / (*v + 1e-6).sqrt() * g;
                *u = 0.9 * *u + (1.0 - 0.9) * d * d;
                p - 0.5 * d
            });
        }
    }
}
