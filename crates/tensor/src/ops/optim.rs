//! One pass over a parameter, its gradient and its moments, in place: the inner loops of the optimizers.

use crate::dtype::dispatch_float;
use crate::par::{self, Shared};
use crate::simd::vectorized;
use crate::{Element, Error, Float, Result, Tensor};
use num_traits::{One, Zero};

/// The numbers of one step of [`Tensor::adam_step`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// The step size α.
    pub learning_rate: f64,
    /// The decay of the mean of gradients.
    pub beta1: f64,
    /// The decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
    /// The weight decay λ.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter itself (AdamW) instead of joining the gradient (L2).
    pub decoupled: bool,
    /// The number of this step, from 1.
    pub step: u64,
}

/// The numbers of one step of [`Tensor::sgd_step`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// The step size.
    pub learning_rate: f64,
    /// How much of the velocity stays.
    pub momentum: f64,
    /// How much of the gradient is kept out of the velocity.
    pub dampening: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// The weight decay, joined to the gradient (L2).
    pub weight_decay: f64,
    /// Whether this is the first step, in which the velocity is the gradient itself.
    pub first: bool,
}

/// Nanoseconds an element takes: four arrays at the speed of the third cache.
const NS: f64 = 0.3;

impl Tensor {
    /// One step of Adam or AdamW on `self`, updating the moments `m` and `v`.
    ///
    /// `g += λ·p` (L2) or `p -= α·λ·p` (decoupled); `m = β₁·m + (1 − β₁)·g`; `v = β₂·v + (1 − β₂)·g²`;
    /// `p -= α · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)`
    ///
    /// # Numerics
    /// Gradients below `32·√min` (3.5e-18 in `f32`), first moments below `min / ε` (1e-31) and second moments below
    /// `min` (1e-38), where `min` is the smallest normal number, count as zero: the moments of weights that get no
    /// gradient any more would otherwise decay into subnormal numbers, which are a hundred times slower.
    ///
    /// # Errors
    /// Shapes or types that differ, or are not float.
    ///
    /// # Reference
    /// Kingma & Ba (2015), "Adam", algorithm 1; Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization".
    pub fn adam_step(&mut self, grad: &Tensor, m: &mut Tensor, v: &mut Tensor, step: &AdamStep) -> Result<()> {
        const OP: &str = "adam_step";
        check(OP, self, &[("gradient", grad), ("first moment", m), ("second moment", v)])?;
        dispatch_float!(self.dtype(), OP, T => {
            let numbers = AdamNumbers::<T>::new(step);
            let g = grad.slice_of::<T>();
            let (m, v) = (Shared::new(m.own_slice::<T>()), Shared::new(v.own_slice::<T>()));
            par::elements(self.own_slice::<T>(), NS, |start, p| {
                // SAFETY: pieces do not overlap.
                let (m, v) = unsafe { (m.slice(start, p.len()), v.slice(start, p.len())) };
                adam(p, &g[start..][..p.len()], m, v, &numbers);
            });
            Ok(())
        })
    }

    /// One step of stochastic gradient descent on `self`, updating the velocity if there is one.
    ///
    /// `g += λ·p`; `u = μ·u + (1 − dampening)·g` (the first time `u = g`); `p -= α·(g + μ·u)` with Nesterov, else
    /// `p -= α·u`; without a velocity `p -= α·g`.
    ///
    /// # Errors
    /// Shapes or types that differ, or are not float.
    ///
    /// # Reference
    /// Sutskever, Martens, Dahl & Hinton (2013), "On the importance of initialization and momentum in deep learning",
    /// in PyTorch's form.
    pub fn sgd_step(&mut self, grad: &Tensor, velocity: Option<&mut Tensor>, step: &SgdStep) -> Result<()> {
        const OP: &str = "sgd_step";
        check(OP, self, &[("gradient", grad)])?;
        dispatch_float!(self.dtype(), OP, T => {
            let g = grad.slice_of::<T>();
            let [rate, momentum, keep, decay] =
                [step.learning_rate, step.momentum, 1.0 - step.dampening, step.weight_decay].map(T::from_f64);
            match velocity {
                None => par::elements(self.own_slice::<T>(), NS, |start, p| sgd(p, &g[start..][..p.len()], rate, decay)),
                Some(velocity) => {
                    check(OP, self, &[("velocity", velocity)])?;
                    let (momentum_now, keep) = if step.first { (T::zero(), T::one()) } else { (momentum, keep) };
                    let velocity = Shared::new(velocity.own_slice::<T>());
                    let ahead = if step.nesterov { Some(momentum) } else { None };
                    par::elements(self.own_slice::<T>(), NS, |start, p| {
                        // SAFETY: pieces do not overlap.
                        let u = unsafe { velocity.slice(start, p.len()) };
                        sgd_momentum(p, &g[start..][..p.len()], u, rate, decay, momentum_now, keep, ahead);
                    });
                }
            }
            Ok(())
        })
    }
}

struct AdamNumbers<T> {
    beta1: T,
    rest1: T,
    beta2: T,
    rest2: T,
    /// `α / (1 − β₁ᵗ)`
    rate: T,
    /// `1 / √(1 − β₂ᵗ)`
    root: T,
    eps: T,
    l2: T,
    shrink: T,
    /// Gradients and first moments below these are zero.
    least: [T; 2],
}

impl<T: Float> AdamNumbers<T> {
    fn new(step: &AdamStep) -> Self {
        let t = step.step as f64;
        let (correction1, correction2) = (1.0 - step.beta1.powf(t), 1.0 - step.beta2.powf(t));
        let (l2, shrink) = match step.decoupled {
            true => (0.0, 1.0 - step.learning_rate * step.weight_decay),
            false => (step.weight_decay, 1.0),
        };
        Self {
            beta1: T::from_f64(step.beta1),
            rest1: T::from_f64(1.0 - step.beta1),
            beta2: T::from_f64(step.beta2),
            rest2: T::from_f64(1.0 - step.beta2),
            rate: T::from_f64(step.learning_rate / correction1),
            root: T::from_f64(correction2.sqrt().recip()),
            eps: T::from_f64(step.eps),
            l2: T::from_f64(l2),
            shrink: T::from_f64(shrink),
            least: [T::min_positive_value().sqrt() * T::from_f64(32.0), T::min_positive_value() / T::epsilon()],
        }
    }
}

vectorized! {
    fn adam<T: Float>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], by: &AdamNumbers<T>) {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = at_least(by.least[0], g + by.l2 * *p);
            *m = at_least(by.least[1], by.beta1 * *m + by.rest1 * g);
            *v = at_least(T::min_positive_value(), by.beta2 * *v + by.rest2 * g * g);
            *p = by.shrink * *p - by.rate * *m / (v.sqrt() * by.root + by.eps);
        }
    }
}

/// `x`, or zero if its size is below `least`; NaN stays.
#[inline(always)]
fn at_least<T: Float>(least: T, x: T) -> T {
    if x.abs() < least { T::zero() } else { x }
}

vectorized! {
    fn sgd<T: Float>(p: &mut [T], g: &[T], rate: T, decay: T) {
        for (p, &g) in p.iter_mut().zip(g) {
            *p = *p - rate * (g + decay * *p);
        }
    }
}

vectorized! {
    fn sgd_momentum<T: Float>(
        p: &mut [T], g: &[T], u: &mut [T], rate: T, decay: T, momentum: T, keep: T, ahead: Option<T>,
    ) {
        for ((p, &g), u) in p.iter_mut().zip(g).zip(u) {
            let g = g + decay * *p;
            // The velocity of a first step may hold anything, NaN too: it is not multiplied but replaced.
            *u = if momentum == T::zero() { keep * g } else { momentum * *u + keep * g };
            *p = *p - rate * ahead.map_or(*u, |momentum| g + momentum * *u);
        }
    }
}

fn check(op: &'static str, p: &Tensor, others: &[(&str, &Tensor)]) -> Result<()> {
    for (name, other) in others {
        p.same_dtype(op, other)?;
        if p.shape() != other.shape() {
            let what = format!("the parameter is {}, its {name} {}", p.shape(), other.shape());
            return Err(Error::shape(op, what, "they must have one shape"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    const ADAM: AdamStep = AdamStep {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 1,
    };

    /// Algorithm 1 of the paper, line by line, for one number.
    #[test]
    fn adam_is_the_papers_algorithm() {
        for (weight_decay, decoupled) in [(0.0, false), (0.3, false), (0.3, true)] {
            let gradients = [0.5, -2.0, 1e-3, 4.0];
            let (mut theta, mut m, mut v) = (1.5f64, 0.0, 0.0);
            let mut tensors = [1.5, 0.0, 0.0].map(|x| Tensor::full([70_000], x));
            for (t, g) in gradients.into_iter().enumerate() {
                let step = AdamStep { weight_decay, decoupled, step: t as u64 + 1, ..ADAM };
                let [p_t, m_t, v_t] = &mut tensors;
                p_t.adam_step(&Tensor::full([70_000], g), m_t, v_t, &step).unwrap();
                let g = if decoupled { g } else { g + weight_decay * theta };
                if decoupled {
                    theta -= 0.1 * weight_decay * theta;
                }
                m = 0.9 * m + (1.0 - 0.9) * g;
                v = 0.999 * v + (1.0 - 0.999) * g * g;
                let m_hat = m / (1.0 - 0.9f64.powi(t as i32 + 1));
                let v_hat = v / (1.0 - 0.999f64.powi(t as i32 + 1));
                theta -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
                // A few roundings a step.
                assert!(p_t.as_slice::<f64>().unwrap().iter().all(|p| (p - theta).abs() < 1e-14));
            }
        }
    }

    #[test]
    fn moments_never_become_subnormal() {
        let [mut p, mut m, mut v] = [0.0f32, 1e-30, 1e-37].map(|x| Tensor::full([16], x));
        for step in 1..10_000 {
            let tiny = Tensor::full([16], 1e-25f32);
            p.adam_step(&tiny, &mut m, &mut v, &AdamStep { step, ..ADAM }).unwrap();
            let normal = |x: &Tensor| x.as_slice::<f32>().unwrap().iter().all(|x| *x == 0.0 || x.is_normal());
            assert!(normal(&m) && normal(&v), "step {step}");
        }
        assert_eq!((m.as_slice::<f32>().unwrap()[0], v.as_slice::<f32>().unwrap()[0]), (0.0, 0.0));
    }

    /// PyTorch's documented pseudo-code of `torch.optim.SGD`, for one number.
    #[test]
    fn sgd_is_pytorchs_algorithm() {
        for (momentum, dampening, nesterov, weight_decay) in
            [(0.0, 0.0, false, 0.1), (0.9, 0.0, false, 0.0), (0.9, 0.5, false, 0.1), (0.8, 0.0, true, 0.1)]
        {
            let (mut theta, mut b) = (2.0f64, None);
            let (mut p, mut velocity) = (Tensor::full([3], theta), Tensor::full([3], f64::NAN));
            for (t, g) in [1.0, -0.5, 3.0].into_iter().enumerate() {
                let first = t == 0;
                let step = SgdStep { learning_rate: 0.1, momentum, dampening, nesterov, weight_decay, first };
                let velocity = (momentum > 0.0).then_some(&mut velocity);
                p.sgd_step(&Tensor::full([3], g), velocity, &step).unwrap();
                let mut g = g + weight_decay * theta;
                if momentum > 0.0 {
                    let now = b.map_or(g, |b: f64| momentum * b + (1.0 - dampening) * g);
                    b = Some(now);
                    g = if nesterov { g + momentum * now } else { now };
                }
                theta -= 0.1 * g;
                assert!((p.as_slice::<f64>().unwrap()[2] - theta).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn misfits_are_explained() {
        let [mut p, mut m, mut v] = [(); 3].map(|()| Tensor::zeros([2], DType::F32));
        let text = p.adam_step(&Tensor::zeros([3], DType::F32), &mut m, &mut v, &ADAM).unwrap_err().to_string();
        assert_eq!(text, "adam_step: the parameter is [2], its gradient [3]; help: they must have one shape");
    }
}
