//! Smooth activations beyond the everyday ones: the ELU family, softplus and what is made of it, softsign, tanhshrink.
//!
//! Each has a kernel, a kernel for the gradient, and the composition that it equals; that one too is safe far out.

use crate::{Result, Var, record};
use maplet_tensor::{SELU, Tensor};

/// # Panics
/// All panic for an element type that is not floating-point.
impl Var {
    /// `x` where positive, else `alpha · (eˣ − 1)`.
    ///
    /// # Reference
    /// Clevert, Unterthiner & Hochreiter (2016), "Fast and Accurate Deep Network Learning by Exponential Linear Units".
    pub fn elu(&self, alpha: f64) -> Var {
        let (y, grad) = (self.value().elu(alpha), move |x: &Tensor, dy: &Tensor| x.elu_grad(dy, alpha));
        self.smooth("elu", y, grad, move |x| x.scaled_elu([1.0, alpha, 1.0]))
    }

    /// `1.0507… · elu(x)` with `alpha = 1.6732…`: mean 0 and variance 1 are a fixed point of deep networks with it.
    ///
    /// # Reference
    /// Klambauer, Unterthiner, Mayr & Hochreiter (2017), "Self-Normalizing Neural Networks".
    pub fn selu(&self) -> Var {
        let [scale, alpha] = SELU;
        self.smooth("selu", self.value().selu(), Tensor::selu_grad, move |x| x.scaled_elu([scale, alpha, 1.0]))
    }

    /// `x` where positive, else `alpha · (e^(x / alpha) − 1)`: smooth for every `alpha`.
    ///
    /// # Reference
    /// Barron (2017), "Continuously Differentiable Exponential Linear Units".
    pub fn celu(&self, alpha: f64) -> Var {
        let (y, grad) = (self.value().celu(alpha), move |x: &Tensor, dy: &Tensor| x.celu_grad(dy, alpha));
        self.smooth("celu", y, grad, move |x| x.scaled_elu([1.0, alpha, 1.0 / alpha]))
    }

    /// `scale · x` where positive, else `scale · alpha · (e^(rate · x) − 1)`, of plain ops.
    fn scaled_elu(&self, [scale, alpha, rate]: [f64; 3]) -> Result<Var> {
        // The exponential sees no positive number, which it could turn into ∞.
        let bent = self.clamp(f64::NEG_INFINITY, 0.0).mul_scalar(rate).exp().add_scalar(-1.0).mul_scalar(scale * alpha);
        self.above(0.0)?.where_cond(&self.mul_scalar(scale), &bent)
    }

    /// `ln(1 + e^(beta · x)) / beta`, and `x` itself where `beta · x` is above `threshold`.
    ///
    /// # Reference
    /// Dugas, Bengio, Bélisle, Nadeau & Garcia (2001), "Incorporating Second-Order Functional Knowledge".
    pub fn softplus(&self, beta: f64, threshold: f64) -> Var {
        let y = self.value().softplus(beta, threshold);
        let grad = move |x: &Tensor, dy: &Tensor| x.softplus_grad(dy, beta, threshold);
        self.smooth("softplus", y, grad, move |x| {
            let z = x.mul_scalar(beta);
            z.above(threshold)?.where_cond(x, &z.neg().log_sigmoid().mul_scalar(-1.0 / beta))
        })
    }

    /// `log sigmoid(x)`, also where that is too small for a number.
    pub fn log_sigmoid(&self) -> Var {
        let (x, saved) = (self.clone(), self.value().clone());
        record("log_sigmoid", self.value().log_sigmoid())
            .pull_fused(self, move |dy, _| saved.log_sigmoid_grad(&dy), move |dy, _| dy.mul(&x.neg().sigmoid()))
            .single()
    }

    /// `x · tanh(softplus(x))`.
    ///
    /// # Reference
    /// Misra (2020), "Mish: A Self Regularized Non-Monotonic Activation Function".
    pub fn mish(&self) -> Var {
        self.smooth("mish", self.value().mish(), Tensor::mish_grad, |x| x.mul(&x.softplus(1.0, 20.0).tanh()))
    }

    /// `x / (1 + |x|)`.
    ///
    /// # Reference
    /// Bergstra, Desjardins, Lamblin & Bengio (2009), "Quadratic Polynomials Learn Better Image Features".
    pub fn softsign(&self) -> Var {
        self.smooth("softsign", self.value().softsign(), Tensor::softsign_grad, |x| x.div(&x.abs().add_scalar(1.0)))
    }

    /// `x − tanh(x)`.
    pub fn tanhshrink(&self) -> Var {
        self.smooth("tanhshrink", self.value().tanhshrink(), Tensor::tanhshrink_grad, |x| x.sub(&x.tanh()))
    }

    /// A mask: 1 where this value is above `number`.
    pub(super) fn above(&self, number: f64) -> Result<Var> {
        self.greater(&self.constant(Tensor::full([], number).to_dtype(self.dtype())))
    }
}
