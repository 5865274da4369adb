//! RAdam: Adam that waits with its second moment until it can be trusted.

use super::{Now, OnePass, correction, decay, gradient, mean, mean_square};
use crate::Float;

/// `m` and `v` as in Adam; with `ρ∞ = 2/(1 − β₂) − 1` and `ρ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ)`: while `ρ ≤ 5` the step is
/// `p −= α·m̂`, after that `p −= α·m̂ · r · √(1 − β₂ᵗ) / (√v + eps)` with
/// `r² = (ρ − 4)(ρ − 2)·ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)·ρ)`.
///
/// # Reference
/// Liu et al. (2020), "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2, with PyTorch's `eps` and
/// bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RadamRule {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Whether weight decay shrinks the parameter itself instead of joining the gradient.
    pub decoupled: bool,
}

impl OnePass<2, 9> for RadamRule {
    const NAME: &'static str = "radam";

    fn numbers(&self, now: Now) -> [f64; 9] {
        let [l2, shrink] = decay(self.decoupled, now);
        let (t, rest) = (now.step as f64, correction(self.beta2, now));
        let longest = 2.0 / (1.0 - self.beta2) - 1.0;
        let length = longest - 2.0 * t * self.beta2.powf(t) / rest;
        let rate = now.learning_rate / correction(self.beta1, now);
        let [plain, adaptive] = if length > 5.0 {
            let of = |length: f64| (length - 4.0) * (length - 2.0) / length;
            [0.0, rate * (of(length) / of(longest)).sqrt() * rest.sqrt()]
        } else {
            [rate, 0.0]
        };
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2, plain, adaptive, self.eps, l2, shrink]
    }

    #[inline(always)]
    fn each<T: Float>(self, by: [T; 9], p: T, g: T, [m, v]: [T; 2]) -> (T, [T; 2]) {
        let [beta1, rest1, beta2, rest2, plain, adaptive, eps, l2, shrink] = by;
        let g = gradient(g + l2 * p);
        let m = mean(beta1 * m + rest1 * g);
        let v = mean_square(beta2 * v + rest2 * g * g);
        let rate = if adaptive == T::zero() { plain } else { adaptive / (v.sqrt() + eps) };
        (shrink * p - rate * m, [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;

    /// Algorithm 2 of the paper. With β₂ = 0.9, ρ passes 5 within the run.
    #[test]
    fn is_the_papers_algorithm() {
        for decoupled in [false, true] {
            let rule = RadamRule { beta1: 0.8, beta2: 0.9, eps: 1e-8, decoupled };
            check_rule::<2, 9, 2>(rule, [0.1, 0.3], |t, p, g, [m, v]| {
                let (g, p) = if decoupled { (g, p - 0.1 * 0.3 * p) } else { (g + 0.3 * p, p) };
                *m = 0.8 * *m + (1.0 - 0.8) * g;
                *v = 0.9 * *v + (1.0 - 0.9) * g * g;
                let (m_hat, beta2_t) = (*m / (1.0 - 0.8f64.powi(t)), 0.9f64.powi(t));
                let (rho_inf, rho) = (19.0, 19.0 - 2.0 * f64::from(t) * beta2_t / (1.0 - beta2_t));
                assert_eq!(rho > 5.0, t > 5, "both sides are seen");
                if rho <= 5.0 {
                    return p - 0.1 * m_hat;
                }
                let l = (1.0 - beta2_t).sqrt() / (v.sqrt() + 1e-8);
                let r = ((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)).sqrt();
                p - 0.1 * m_hat * r * l
            });
        }
    }
}
