//! The everyday activations, and the two forms in which all others are written (`smooth`, `in_pieces`): see
//! `activation_smooth.rs`, `activation_piecewise.rs` and `gated.rs`.

use crate::{Error, Result, Var, record, record_fused};
use maplet_tensor::{Activation, Tensor};
use std::f64::consts::{PI, TAU};

/// Activations.
///
/// # Panics
/// All panic for an element type that is not floating-point.
impl Var {
    /// `max(x, 0)`; its gradient at 0 is 0.
    pub fn relu(&self) -> Var {
        record("relu", self.value().relu())
            .pull_fused(
                self,
                |dy, y| y.relu_grad(&dy),
                |dy, y| dy.mul(&dy.constant(y.value().sign())), // 1 where positive, else 0
            )
            .single()
    }

    /// `x` where positive, else `slope · x`.
    pub fn leaky_relu(&self, slope: f64) -> Var {
        self.in_pieces("leaky_relu", self.value().leaky_relu(slope), move |x, dy| x.leaky_relu_grad(dy, slope))
    }

    /// The logistic function `1 / (1 + e⁻ˣ)`.
    pub fn sigmoid(&self) -> Var {
        record("sigmoid", self.value().sigmoid())
            .pull_fused(self, |dy, y| y.sigmoid_grad(&dy), |dy, y| dy.mul(&y.sub(&y.square())?))
            .single()
    }

    /// The hyperbolic tangent.
    pub fn tanh(&self) -> Var {
        record("tanh", self.value().tanh())
            .pull_fused(self, |dy, y| y.tanh_grad(&dy), |dy, y| dy.mul(&y.square().neg().add_scalar(1.0)))
            .single()
    }

    /// `x · sigmoid(x)`, also called swish.
    ///
    /// # Reference
    /// Elfwing, Uchibe & Doya (2018), "Sigmoid-Weighted Linear Units for Neural Network Function Approximation".
    pub fn silu(&self) -> Var {
        self.smooth("silu", self.value().silu(), Tensor::silu_grad, |x| x.mul(&x.sigmoid()))
    }

    /// `x · Φ(x)`, with the distribution function Φ of the normal distribution.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units".
    pub fn gelu(&self) -> Var {
        let (x, saved) = (self.clone(), self.value().clone());
        record("gelu", self.value().gelu())
            .pull_fused(self, move |dy, _| saved.gelu_grad(&dy), move |dy, _| x.gelu_grad(&dy))
            .single()
    }

    /// The approximation of [`gelu`](Self::gelu) by tanh: `x · sigmoid(√(8/π) (x + 0.044715 x³))`.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units", section 2.
    pub fn gelu_tanh(&self) -> Var {
        self.smooth("gelu_tanh", self.value().gelu_tanh(), Tensor::gelu_tanh_grad, |x| {
            let inner = x.mul(&x.square().mul_scalar(0.044715).add_scalar(1.0))?;
            x.mul(&inner.mul_scalar((8.0 / PI).sqrt()).sigmoid())
        })
    }
}

/// The two ways to write an activation in a line: the value, the kernel of the gradient (`grad(x, dy)`), and what the
/// gradient is when it must be differentiated again.
impl Var {
    /// `y` equals the composition `twin` of this value.
    pub(super) fn smooth(
        &self,
        op: &'static str,
        y: Tensor,
        grad: impl Fn(&Tensor, &Tensor) -> maplet_tensor::Result<Tensor> + Send + Sync + 'static,
        twin: impl Fn(&Var) -> Result<Var> + Send + Sync + 'static,
    ) -> Var {
        let x = self.value().clone();
        let kernel = move |dy: Tensor, [_]: [bool; 1]| Ok([Some(grad(&x, &dy)?)]);
        record_fused(op, y, [self], kernel, move |[x]| twin(&x)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `y` is linear in this value piece by piece: its slope, `grad(x, 1)`, is a constant.
    pub(super) fn in_pieces(
        &self,
        op: &'static str,
        y: Tensor,
        grad: impl Fn(&Tensor, &Tensor) -> maplet_tensor::Result<Tensor> + Copy + Send + Sync + 'static,
    ) -> Var {
        let (x, saved) = (self.value().clone(), self.value().clone());
        let slope = move |dy: Var, y: &Var| dy.mul(&dy.constant(grad(&saved, &Tensor::ones(y.shape(), y.dtype()))?));
        record(op, y).pull_fused(self, move |dy, _| grad(&x, &dy), slope).single()
    }
}

impl Var {
    /// What a fused op applies to its result.
    pub(crate) fn activated(&self, activation: Activation) -> Result<Var> {
        match activation {
            Activation::Identity => Ok(self.clone()),
            Activation::Relu => Ok(self.relu()),
            _ => Err(Error::new("activation", format!("{activation:?} has no unfused form yet"), "")),
        }
    }
}

impl Var {
    /// The gradient of [`gelu`](Self::gelu) as an op: `dy · (Φ(x) + x φ(x))` for `x = self`. Its own,
    /// since `φ′ = −x φ`, is `dy · φ(x) (2 − x²)`.
    fn gelu_grad(&self, dy: &Var) -> Result<Var> {
        let (x, again, dy_again) = (self.clone(), self.clone(), dy.clone());
        record("gelu_grad", self.value().gelu_grad(dy.value())?)
            .pull(dy, move |d| x.gelu_grad(&d))
            .pull(self, move |d| {
                let density = again.square().mul_scalar(-0.5).exp().mul_scalar(1.0 / TAU.sqrt());
                let slope = density.mul(&again.square().neg().add_scalar(2.0))?;
                d.mul(&dy_again)?.mul(&slope)
            })
            .done()
    }
}
