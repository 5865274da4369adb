//! RMSProp: steps in units of the gradient's recent size.

use super::{Now, OnePass, gradient, mean, mean_square};
use crate::Float;

/// `g += λ·p`; `v = α·v + (1 − α)·g²`; the step is `s = g / (√v + eps)`. Centered, `v` in it becomes `v − a²` with
/// `a = α·a + (1 − α)·g`; with momentum, `b = μ·b + s` takes the place of `s`. Then `p −= rate·s`.
///
/// Its memory is `v`, then `a` if it is centered, then `b` if there is momentum.
///
/// # Reference
/// Tieleman & Hinton (2012), "Lecture 6.5: RMSProp"; centered: Graves (2013), "Generating Sequences With Recurrent
/// Neural Networks", eqs. 38 to 45, in PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmspropRule {
    /// The decay α of the means.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
    /// How much of the velocity stays.
    pub momentum: f64,
    /// Whether the mean is taken off the mean of squares.
    pub centered: bool,
}

type Numbers<T> = [T; 6];

impl RmspropRule {
    fn numbers(&self, now: Now) -> Numbers<f64> {
        [self.alpha, 1.0 - self.alpha, self.eps, self.momentum, now.learning_rate, now.weight_decay]
    }
}

/// The new `p`, `v`, `a` and `b`; those that are not there are passed through.
#[inline(always)]
fn all<T: Float>(by: Numbers<T>, p: T, g: T, v: T, a: Option<T>, b: Option<T>) -> (T, [T; 3]) {
    let [alpha, rest, eps, momentum, rate, l2] = by;
    let g = gradient(g + l2 * p);
    let v = mean_square(alpha * v + rest * g * g);
    let a = a.map(|a| mean(alpha * a + rest * g));
    let s = g / (a.map_or(v, |a| v - a * a).sqrt() + eps);
    let b = b.map(|b| mean(momentum * b + s));
    (p - rate * b.unwrap_or(s), [v, a.unwrap_or(v), b.unwrap_or(v)])
}

// A macro, because the three lengths of the memory differ in nothing else.
macro_rules! one_pass {
    ($memory:literal, |$by:ident, $p:ident, $g:ident, $m:pat, $rule:ident| $body:expr) => {
        impl OnePass<$memory, 6> for RmspropRule {
            const NAME: &'static str = "rmsprop";

            fn numbers(&self, now: Now) -> Numbers<f64> {
                Self::numbers(self, now)
            }

            #[inline(always)]
            fn each<T: Float>(self, $by: Numbers<T>, $p: T, $g: T, $m: [T; $memory]) -> (T, [T; $memory]) {
                let $rule = self;
                $body
            }
        }
    };
}

one_pass!(1, |by, p, g, [v], _rule| {
    let (p, [v, ..]) = all(by, p, g, v, None, None);
    (p, [v])
});
one_pass!(2, |by, p, g, [v, other], rule| match rule.centered {
    true => {
        let (p, [v, a, _]) = all(by, p, g, v, Some(other), None);
        (p, [v, a])
    }
    false => {
        let (p, [v, _, b]) = all(by, p, g, v, None, Some(other));
        (p, [v, b])
    }
});
one_pass!(3, |by, p, g, [v, a, b], _rule| all(by, p, g, v, Some(a), Some(b)));

#[cfg(test)]
mod tests {
    use super::super::testing::check_rule;
    use super::*;

    /// PyTorch's documented pseudo-code of `torch.optim.RMSprop`.
    fn restated(p: f64, g: f64, [v, a, b]: &mut [f64; 3], rule: RmspropRule) -> f64 {
        let g = g + 0.3 * p;
        *v = 0.9 * *v + (1.0 - 0.9) * g * g;
        *a = 0.9 * *a + (1.0 - 0.9) * g;
        let v = if rule.centered { *v - *a * *a } else { *v };
        let s = g / (v.sqrt() + 1e-4);
        *b = rule.momentum * *b + s;
        p - 0.1 * *b
    }

    #[test]
    fn is_pytorchs_algorithm() {
        let rule = |momentum: f64, centered: bool| RmspropRule { alpha: 0.9, eps: 1e-4, momentum, centered };
        let numbers = [0.1, 0.3];
        check_rule::<1, 6, 3>(rule(0.0, false), numbers, |_, p, g, m| restated(p, g, m, rule(0.0, false)));
        check_rule::<2, 6, 3>(rule(0.0, true), numbers, |_, p, g, m| restated(p, g, m, rule(0.0, true)));
        check_rule::<2, 6, 3>(rule(0.9, false), numbers, |_, p, g, m| restated(p, g, m, rule(0.9, false)));
        check_rule::<3, 6, 3>(rule(0.9, true), numbers, |_, p, g, m| restated(p, g, m, rule(0.9, true)));
    }
}
