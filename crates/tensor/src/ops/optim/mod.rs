//! The inner loops of the optimizers: one pass over a parameter, its gradient and what is remembered of it, in place.
//!
//! A rule is a struct of its numbers and a [`OnePass`], which says what happens to one element. The walk over the
//! slices, its cut into pieces and its vector instructions are here, once for all. Rules that look at more than one
//! element at a time (Adafactor, Muon) are made of ordinary operations, in the crate of the optimizers.

mod blend;
mod sgd;
mod adam;
mod adamax;
mod nadam;
mod radam;
mod rmsprop;
mod adagrad;
mod adadelta;
mod lion;
mod lamb;
mod rprop;
mod asgd;

pub use adadelta::AdadeltaRule;
pub use adagrad::AdagradRule;
pub use adam::AdamRule;
pub use adamax::AdamaxRule;
pub use asgd::AsgdStep;
pub use lamb::LambMoments;
pub use lion::LionRule;
pub use nadam::NadamStep;
pub use radam::RadamRule;
pub use rmsprop::RmspropRule;
pub use rprop::RpropRule;
pub use sgd::SgdRule;

use crate::dtype::dispatch_float;
use crate::par::{self, Shared};
use crate::simd::vectorized;
use crate::{Error, Float, Result, Tensor};

/// Nanoseconds an element takes: four arrays at the speed of the third cache.
const NS: f64 = 0.3;

/// The numbers of one update of one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// The step size, after schedule and group.
    pub learning_rate: f64,
    /// How strongly the parameter is drawn towards zero; the group's.
    pub weight_decay: f64,
    /// The number of this update of this parameter, from 1.
    pub step: u64,
}

/// What happens to one element of a parameter that has `MEMORY` tensors of memory, in a loop with `NUMBERS` numbers.
///
/// ```
/// use maplet_tensor::optim::{Now, OnePass};
/// use maplet_tensor::{Float, Tensor};
///
/// /// Moves by the rate, against the sign of the gradient.
/// #[derive(Clone, Copy)]
/// struct SignSgd;
///
/// impl OnePass<0, 1> for SignSgd {
///     const NAME: &'static str = "sign_sgd";
///
///     fn numbers(&self, now: Now) -> [f64; 1] {
///         [now.learning_rate]
///     }
///
///     #[inline(always)]
///     fn each<T: Float>(self, [rate]: [T; 1], p: T, g: T, []: [T; 0]) -> (T, [T; 0]) {
///         (p - rate * g.signum(), [])
///     }
/// }
///
/// let mut p = Tensor::from([1.0f32, 2.0]);
/// let now = Now { learning_rate: 0.5, weight_decay: 0.0, step: 1 };
/// p.update(&Tensor::from([0.1f32, -7.0]), [], SignSgd, now)?;
/// assert_eq!(p, Tensor::from([0.5f32, 2.5]));
/// # Ok::<(), maplet_tensor::Error>(())
/// ```
pub trait OnePass<const MEMORY: usize, const NUMBERS: usize>: Copy + Sync {
    /// What errors call it: `adam`.
    const NAME: &'static str;

    /// The numbers of the loop, worked out in `f64`; they are rounded once, to the parameter's type.
    fn numbers(&self, now: Now) -> [f64; NUMBERS];

    /// The new value of an element and of its memory. `#[inline(always)]` lets the loop be vectorised.
    fn each<T: Float>(self, numbers: [T; NUMBERS], p: T, g: T, memory: [T; MEMORY]) -> (T, [T; MEMORY]);
}

impl Tensor {
    /// One step of an optimizer on this parameter and its memory, in place: one pass over all slices at once.
    ///
    /// # Errors
    /// Shapes or types that differ, or are not float.
    pub fn update<const MEMORY: usize, const NUMBERS: usize>(
        &mut self,
        grad: &Tensor,
        memory: [&mut Tensor; MEMORY],
        rule: impl OnePass<MEMORY, NUMBERS>,
        now: Now,
    ) -> Result<()> {
        self.pass(grad, memory, rule, rule.numbers(now))
    }

    fn pass<R: OnePass<MEMORY, NUMBERS>, const MEMORY: usize, const NUMBERS: usize>(
        &mut self,
        grad: &Tensor,
        memory: [&mut Tensor; MEMORY],
        rule: R,
        numbers: [f64; NUMBERS],
    ) -> Result<()> {
        check(R::NAME, self, "its gradient", grad)?;
        memory.iter().try_for_each(|memory| check(R::NAME, self, "its memory", memory))?;
        dispatch_float!(self.dtype(), R::NAME, T => {
            let (numbers, g) = (numbers.map(<T as crate::Element>::from_f64), grad.slice_of::<T>());
            let memory = memory.map(|memory| Shared::new(memory.own_slice::<T>()));
            par::elements(self.own_slice::<T>(), NS, |start, p| {
                // SAFETY: pieces do not overlap.
                let memory = memory.each_ref().map(|memory| unsafe { memory.slice(start, p.len()) });
                walk(rule, numbers, p, &g[start..], memory);
            });
            Ok(())
        })
    }
}

vectorized! {
    fn walk<T: Float, R: OnePass<M, N>; const M: usize, const N: usize>(
        rule: R, numbers: [T; N], p: &mut [T], g: &[T], memory: [&mut [T]; M],
    ) {
        // Slices of one known length: the loop checks no bounds.
        let len = p.len();
        let memory = memory.map(|memory| &mut memory[..len]);
        for (i, (p, &g)) in p.iter_mut().zip(&g[..len]).enumerate() {
            let (new, kept) = rule.each(numbers, *p, g, std::array::from_fn(|k| memory[k][i]));
            *p = new;
            for k in 0..M {
                memory[k][i] = kept[k];
            }
        }
    }
}

fn check(op: &'static str, p: &Tensor, name: &str, other: &Tensor) -> Result<()> {
    p.same_dtype(op, other)?;
    if p.shape() == other.shape() {
        return Ok(());
    }
    let what = format!("the parameter is {}, {name} {}", p.shape(), other.shape());
    Err(Error::shape(op, what, "they must have one shape"))
}

/// What weight decay does, as `[l2, shrink]`: `l2 · p` joins the gradient, or the parameter itself shrinks.
fn decay(decoupled: bool, now: Now) -> [f64; 2] {
    match decoupled {
        true => [0.0, 1.0 - now.learning_rate * now.weight_decay],
        false => [now.weight_decay, 1.0],
    }
}

/// `1 − betaᵗ`, which a mean that began at zero is divided by.
fn correction(beta: f64, now: Now) -> f64 {
    1.0 - beta.powf(now.step as f64)
}

// Means of weights that get no gradient any more would decay into subnormal numbers, which are a hundred times slower.
// So gradients below `32·√min` (3.5e-18 in `f32`), their means below `min / ε` (1e-31) and means of squares below `min`
// (1e-38), where `min` is the smallest normal number, count as zero. NaN stays.

#[inline(always)]
fn gradient<T: Float>(g: T) -> T {
    at_least(T::min_positive_value().sqrt() * T::from_f64(32.0), g)
}

#[inline(always)]
fn mean<T: Float>(m: T) -> T {
    at_least(T::min_positive_value() / T::epsilon(), m)
}

#[inline(always)]
fn mean_square<T: Float>(v: T) -> T {
    at_least(T::min_positive_value(), v)
}

#[inline(always)]
fn at_least<T: Float>(least: T, x: T) -> T {
    if x.abs() < least { T::zero() } else { x }
}

/// −1, 0 or 1; zero for zero, unlike `signum`.
#[inline(always)]
fn sign<T: Float>(x: T) -> T {
    if x == T::zero() { x } else { x.signum() }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Gradients of some size and sign each.
    const GRADIENTS: [f64; 6] = [0.5, -2.0, 1e-3, 4.0, -0.25, 0.0];

    /// Runs a rule for some steps, and beside it `restated(t, p, g, memory)` for one number, which returns the new `p`:
    /// they must agree. `t` counts from 1. Memory begins with zeros.
    pub(super) fn check_rule<const M: usize, const N: usize, const K: usize>(
        rule: impl OnePass<M, N>,
        [learning_rate, weight_decay]: [f64; 2],
        restated: impl Fn(i32, f64, f64, &mut [f64; K]) -> f64,
    ) {
        const LEN: usize = 70_000; // cut into pieces
        let (mut p, mut plain, mut plain_memory) = (Tensor::full([LEN], 1.5), 1.5, [0.0; K]);
        let mut memory = [(); M].map(|()| p.zeros_like());
        for (t, g) in (1..).zip(GRADIENTS) {
            let now = Now { learning_rate, weight_decay, step: t as u64 };
            p.update(&Tensor::full([LEN], g), memory.each_mut(), rule, now).unwrap();
            plain = restated(t, plain, g, &mut plain_memory);
            // A few roundings a step, of numbers near 1.
            assert!(p.as_slice::<f64>().unwrap().iter().all(|p| (p - plain).abs() < 1e-14), "step {t}: {plain}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn misfits_are_explained() {
        let rule = AdamRule::<false> { beta1: 0.9, beta2: 0.999, eps: 1e-8, amsgrad: false };
        let now = Now { learning_rate: 0.1, weight_decay: 0.0, step: 1 };
        let text = |grad: &Tensor, memory: &Tensor| {
            let [mut p, mut m] = [(); 2].map(|()| Tensor::zeros([2], DType::F32));
            p.update(grad, [&mut m, &mut memory.clone()], rule, now).unwrap_err().to_string()
        };
        let [two, three] = [2, 3].map(|size| Tensor::zeros([size], DType::F32));
        let expected = "adam: the parameter is [2], its gradient [3]; help: they must have one shape";
        assert_eq!(text(&three, &two), expected);
        let expected = "adam: the parameter is [2], its memory [3]; help: they must have one shape";
        assert_eq!(text(&two, &three), expected);
    }
}
