//! Rprop: steps that look at nothing but the gradient's sign.

use super::{Now, OnePass, sign};
use crate::Float;

/// With `h` the gradient before, the size of an element's step is multiplied with `plus` where `g·h > 0`, with `minus`
/// where `g·h < 0`, and kept in `[smallest, largest]`; where `g·h < 0` the gradient counts as zero, this time and the
/// next. Then `p −= sign(g) · size`.
///
/// Its memory is `h`, which begins with zeros, and the size, which begins with the rate.
///
/// # Reference
/// Riedmiller & Braun (1993), "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", in
/// PyTorch's form, without backtracking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RpropRule {
    /// What a step is multiplied with when the gradient turns, below 1.
    pub minus: f64,
    /// What a step is multiplied with when the gradient keeps its sign, above 1.
    pub plus: f64,
    /// The smallest step.
    pub smallest: f64,
    /// The largest step.
    pub largest: f64,
}

impl OnePass<2, 5> for RpropRule {
    const NAME: &'static str = "rprop";

    fn numbers(&self, now: Now) -> [f64; 5] {
        [self.minus, self.plus, self.smallest, self.largest, now.weight_decay]
    }

    #[inline(always)]
    fn each<T: Float>(self, by: [T; 5], p: T, g: T, [before, size]: [T; 2]) -> (T, [T; 2]) {
        let [minus, plus, smallest, largest, l2] = by;
        let g = g + l2 * p;
        let turn = g * before;
        let turned = turn < T::zero();
        let factor = if turned {
            minus
        } else if turn > T::zero() {
            plus
        } else {
            T::one()
        };
        let size = (size * factor).max(smallest).min(largest);
        let g = if turned { T::zero() } else { g };
        (p - sign(g) * size, [g, size])
    }
}
