//! The elementwise part of Lamb: the step's direction, before it is scaled by the layer's norms.

use super::{Now, OnePass, correction, gradient, mean, mean_square};
use crate::Float;

/// `m` and `v` as in Adam; the third memory becomes the direction `m̂ / (√v̂ + eps) + λ·p`, and `p` stays as it is.
///
/// # Reference
/// You et al. (2020), "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambMoments {
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
}

impl OnePass<3, 8> for LambMoments {
    const NAME: &'static str = "lamb";

    fn numbers(&self, now: Now) -> [f64; 8] {
        let scale = correction(self.beta1, now).recip();
        let root = correction(self.beta2, now).sqrt().recip();
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2, scale, root, self.eps, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, by: [T; 8], p: T, g: T, [m, v, _]: [T; 3]) -> (T, [T; 3]) {
        let [beta1, rest1, beta2, rest2, scale, root, eps, weight_decay] = by;
        let g = gradient(g);
        let m = mean(beta1 * m + rest1 * g);
        let v = mean_square(beta2 * v + rest2 * g * g);
        (p, [m, v, scale * m / (v.sqrt() * root + eps) + weight_decay * p])
    }
}
