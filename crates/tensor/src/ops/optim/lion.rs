//! Lion: steps of one size, whose direction is a vote.

use super::{Now, OnePass, decay, mean, sign};
use crate::Float;

/// `p −= α · (sign(β₁·m + (1 − β₁)·g) + λ·p)`; then `m = β₂·m + (1 − β₂)·g`.
///
/// # Reference
/// Chen et al. (2023), "Symbolic Discovery of Optimization Algorithms", algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LionRule {
    /// How much the mean has to say in the step.
    pub beta1: f64,
    /// The decay of the mean.
    pub beta2: f64,
}

impl OnePass<1, 6> for LionRule {
    const NAME: &'static str = "lion";

    fn numbers(&self, now: Now) -> [f64; 6] {
        let [_, shrink] = decay(true, now);
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2, now.learning_rate, shrink]
    }

    #[inline(always)]
    fn each<T: Float>(self, by: [T; 6], p: T, g: T, [m]: [T; 1]) -> (T, [T; 1]) {
        let [beta1, rest1, beta2, rest2, rate, shrink] = by;
        (shrink * p - rate * sign(beta1 * m + rest1 * g), [mean(beta2 * m + rest2 * g)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;
    use crate::Tensor;

    /// Algorithm 2 of the paper.
    #[test]
    fn is_the_papers_algorithm() {
        for decay in [0.0, 0.3] {
            check_rule::<1, 6, 1>(LionRule { beta1: 0.8, beta2: 0.95 }, [0.1, decay], |_, p, g, [m]| {
                let c: f64 = 0.8 * *m + (1.0 - 0.8) * g;
                *m = 0.95 * *m + (1.0 - 0.95) * g;
                p - 0.1 * (c.signum() + decay * p)
            });
        }
    }

    #[test]
    fn nothing_to_vote_on_is_no_step() {
        let (mut p, mut m) = (Tensor::from([3.0f32, 3.0]), Tensor::from([0.0f32, 0.0]));
        let now = Now { learning_rate: 0.1, weight_decay: 0.0, step: 1 };
        let grad = Tensor::from([0.0f32, -0.0]);
        p.update(&grad, [&mut m], LionRule { beta1: 0.9, beta2: 0.99 }, now).unwrap();
        assert_eq!(p, Tensor::from([3.0f32, 3.0]));
    }
}
