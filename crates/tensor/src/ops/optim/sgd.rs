//! Stochastic gradient descent, with or without a velocity.

use super::{Now, OnePass};
use crate::Float;

/// `g += λ·p`; `u = μ·u + (1 − dampening)·g` (the first time `u = g`); `p −= α·(g + μ·u)` with Nesterov, else
/// `p −= α·u`; without a memory `p −= α·g`.
///
/// # Reference
/// Sutskever, Martens, Dahl & Hinton (2013), "On the importance of initialization and momentum in deep learning", in
/// PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdRule {
    /// How much of the velocity stays.
    pub momentum: f64,
    /// How much of the gradient is kept out of the velocity.
    pub dampening: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
}

impl OnePass<0, 2> for SgdRule {
    const NAME: &'static str = "sgd";

    fn numbers(&self, now: Now) -> [f64; 2] {
        [now.learning_rate, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, [rate, l2]: [T; 2], p: T, g: T, []: [T; 0]) -> (T, [T; 0]) {
        (p - rate * (g + l2 * p), [])
    }
}

impl OnePass<1, 4> for SgdRule {
    const NAME: &'static str = "sgd";

    fn numbers(&self, now: Now) -> [f64; 4] {
        let keep = if now.step == 1 { 1.0 } else { 1.0 - self.dampening };
        [now.learning_rate, now.weight_decay, self.momentum, keep]
    }

    #[inline(always)]
    fn each<T: Float>(self, [rate, l2, momentum, keep]: [T; 4], p: T, g: T, [u]: [T; 1]) -> (T, [T; 1]) {
        let g = g + l2 * p;
        let u = momentum * u + keep * g;
        (p - rate * if self.nesterov { g + momentum * u } else { u }, [u])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;

    /// PyTorch's documented pseudo-code of `torch.optim.SGD`.
    #[test]
    fn is_pytorchs_algorithm() {
        for (momentum, dampening, nesterov, decay) in
            [(0.9, 0.0, false, 0.0), (0.9, 0.5, false, 0.1), (0.8, 0.0, true, 0.1)]
        {
            let rule = SgdRule { momentum, dampening, nesterov };
            check_rule::<1, 4, 1>(rule, [0.1, decay], |t, p, g, [b]| {
                let g = g + decay * p;
                *b = if t == 1 { g } else { momentum * *b + (1.0 - dampening) * g };
                p - 0.1 * if nesterov { g + momentum * *b } else { *b }
            });
        }
        let rule = SgdRule { momentum: 0.0, dampening: 0.0, nesterov: false };
        check_rule::<0, 2, 0>(rule, [0.1, 0.3], |_, p, g, []| p - 0.1 * (g + 0.3 * p));
    }
}
