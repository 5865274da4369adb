//! Adagrad: steps that shrink with all that was ever seen.

use super::{Now, OnePass, gradient};
use crate::Float;

/// `g += λ·p`; `s += g²`; `p −= α / (1 + (t − 1)·rate_decay) · g / (√s + eps)`.
///
/// # Reference
/// Duchi, Hazan & Singer (2011), "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", in
/// PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdagradRule {
    /// How fast the rate falls.
    pub lr_decay: f64,
    /// What the sum of squares begins with.
    pub initial_accumulator: f64,
    /// Added to the root.
    pub eps: f64,
}

impl OnePass<1, 3> for AdagradRule {
    const NAME: &'static str = "adagrad";

    fn numbers(&self, now: Now) -> [f64; 3] {
        let rate = now.learning_rate / (1.0 + (now.step as f64 - 1.0) * self.lr_decay);
        [rate, self.eps, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, [rate, eps, l2]: [T; 3], p: T, g: T, [sum]: [T; 1]) -> (T, [T; 1]) {
        let g = gradient(g + l2 * p);
        let sum = sum + g * g;
        (p - rate * g / (sum.sqrt() + eps), [sum])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;

    /// PyTorch's documented pseudo-code of `torch.optim.Adagrad`.
    #[test]
    fn is_pytorchs_algorithm() {
        for (lr_decay, decay) in [(0.0, 0.0), (0.2, 0.3)] {
            let rule = AdagradRule { lr_decay, initial_accumulator: 0.0, eps: 1e-4 };
            check_rule::<1, 3, 1>(rule, [0.1, decay], |t, p, g, [sum]| {
                let (g, rate) = (g + decay * p, 0.1 / (1.0 + f64::from(t - 1) * lr_decay));
                *sum += g * g;
                p - rate * g / (sum.sqrt() + 1e-4)
            });
        }
    }
}
