//! Adam, AdamW and their AMSGrad variants.

use super::{Now, OnePass, correction, decay, gradient, mean, mean_square};
use crate::Float;

/// `g += λ·p` (L2) or `p −= α·λ·p` (decoupled); `m = β₁·m + (1 − β₁)·g`; `v = β₂·v + (1 − β₂)·g²`;
/// `p −= α · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)`. With a third memory (AMSGrad) the largest `v` so far takes the
/// place of `v` in the last formula.
///
/// # Reference
/// Kingma & Ba (2015), "Adam", algorithm 1; Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization"; Reddi,
/// Kale & Kumar (2018), "On the Convergence of Adam and Beyond", algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamRule<const DECOUPLED: bool> {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Whether the largest second mean counts.
    pub amsgrad: bool,
}

impl<const DECOUPLED: bool> AdamRule<DECOUPLED> {
    fn numbers(&self, now: Now) -> [f64; 9] {
        let [l2, shrink] = decay(DECOUPLED, now);
        let rate = now.learning_rate / correction(self.beta1, now);
        let root = correction(self.beta2, now).sqrt().recip();
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2, rate, root, self.eps, l2, shrink]
    }
}

impl<const DECOUPLED: bool> OnePass<2, 9> for AdamRule<DECOUPLED> {
    const NAME: &'static str = if DECOUPLED { "adamw" } else { "adam" };

    fn numbers(&self, now: Now) -> [f64; 9] {
        Self::numbers(self, now)
    }

    #[inline(always)]
    fn each<T: Float>(self, numbers: [T; 9], p: T, g: T, [m, v]: [T; 2]) -> (T, [T; 2]) {
        let [m, v] = moments(numbers, p, g, [m, v]);
        (step(numbers, p, m, v), [m, v])
    }
}

impl<const DECOUPLED: bool> OnePass<3, 9> for AdamRule<DECOUPLED> {
    const NAME: &'static str = if DECOUPLED { "adamw" } else { "adam" };

    fn numbers(&self, now: Now) -> [f64; 9] {
        Self::numbers(self, now)
    }

    #[inline(always)]
    fn each<T: Float>(self, numbers: [T; 9], p: T, g: T, [m, v, most]: [T; 3]) -> (T, [T; 3]) {
        let [m, v] = moments(numbers, p, g, [m, v]);
        let most = most.max(v);
        (step(numbers, p, m, most), [m, v, most])
    }
}

#[inline(always)]
fn moments<T: Float>([beta1, rest1, beta2, rest2, _, _, _, l2, _]: [T; 9], p: T, g: T, [m, v]: [T; 2]) -> [T; 2] {
    let g = gradient(g + l2 * p);
    [mean(beta1 * m + rest1 * g), mean_square(beta2 * v + rest2 * g * g)]
}

#[inline(always)]
fn step<T: Float>([_, _, _, _, rate, root, eps, _, shrink]: [T; 9], p: T, m: T, v: T) -> T {
    shrink * p - rate * m / (v.sqrt() * root + eps)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;
    use crate::Tensor;

    /// Algorithm 1 of the paper, line by line; the AMSGrad paper's `v̂ₜ = max(v̂ₜ₋₁, vₜ)`, with Adam's corrections as
    /// in PyTorch.
    fn restated(t: i32, p: f64, g: f64, [m, v, most]: &mut [f64; 3], l2: f64, shrink: f64, amsgrad: bool) -> f64 {
        let (g, p) = (g + l2 * p, p - 0.1 * shrink * p);
        *m = 0.9 * *m + (1.0 - 0.9) * g;
        *v = 0.99 * *v + (1.0 - 0.99) * g * g;
        *most = most.max(*v);
        let m_hat = *m / (1.0 - 0.9f64.powi(t));
        let v_hat = if amsgrad { *most } else { *v } / (1.0 - 0.99f64.powi(t));
        p - 0.1 * m_hat / (v_hat.sqrt() + 1e-8)
    }

    #[test]
    fn is_the_papers_algorithm() {
        let adam = AdamRule::<false> { beta1: 0.9, beta2: 0.99, eps: 1e-8, amsgrad: false };
        let adamw = AdamRule::<true> { beta1: 0.9, beta2: 0.99, eps: 1e-8, amsgrad: false };
        check_rule::<2, 9, 3>(adam, [0.1, 0.0], |t, p, g, m| restated(t, p, g, m, 0.0, 0.0, false));
        check_rule::<2, 9, 3>(adam, [0.1, 0.3], |t, p, g, m| restated(t, p, g, m, 0.3, 0.0, false));
        check_rule::<3, 9, 3>(adam, [0.1, 0.3], |t, p, g, m| restated(t, p, g, m, 0.3, 0.0, true));
        check_rule::<2, 9, 3>(adamw, [0.1, 0.3], |t, p, g, m| restated(t, p, g, m, 0.0, 0.3, false));
        check_rule::<3, 9, 3>(adamw, [0.1, 0.3], |t, p, g, m| restated(t, p, g, m, 0.0, 0.3, true));
    }

    #[test]
    fn moments_never_become_subnormal() {
        let adam = AdamRule::<false> { beta1: 0.9, beta2: 0.999, eps: 1e-8, amsgrad: false };
        let [mut p, mut m, mut v] = [0.0f32, 1e-30, 1e-37].map(|x| Tensor::full([16], x));
        for step in 1..10_000 {
            let (tiny, now) = (Tensor::full([16], 1e-25f32), Now { learning_rate: 0.1, weight_decay: 0.0, step });
            p.update(&tiny, [&mut m, &mut v], adam, now).unwrap();
            let normal = |x: &Tensor| x.as_slice::<f32>().unwrap().iter().all(|x| *x == 0.0 || x.is_normal());
            assert!(normal(&m) && normal(&v), "step {step}");
        }
        assert_eq!((m.as_slice::<f32>().unwrap()[0], v.as_slice::<f32>().unwrap()[0]), (0.0, 0.0));
    }
}
