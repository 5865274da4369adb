//! Elementwise functions of one value: the elementary ones, and the activations.
//!
//! A rule that can be written in the output is handed the output (`pull_with`).

use crate::{Error, Result, Var, record, record_fused};
use maplet_tensor::{Activation, Tensor};
use std::f64::consts::TAU;

/// Elementary functions.
///
/// # Panics
/// All panic for an element type that is not floating-point.
impl Var {
    /// `−x`
    pub fn neg(&self) -> Var {
        record("neg", self.value().neg()).pull(self, |dy| Ok(dy.neg())).single()
    }

    /// `|x|`; its gradient at 0 is 0.
    pub fn abs(&self) -> Var {
        let x = self.clone();
        record("abs", self.value().abs()).pull(self, move |dy| dy.mul(&dy.constant(x.value().sign()))).single()
    }

    /// `eˣ`
    pub fn exp(&self) -> Var {
        record("exp", self.value().exp()).pull_with(self, |dy, y| dy.mul(y)).single()
    }

    /// The natural logarithm.
    pub fn log(&self) -> Var {
        let x = self.clone();
        record("log", self.value().log()).pull(self, move |dy| dy.div(&x)).single()
    }

    /// `√x`
    pub fn sqrt(&self) -> Var {
        record("sqrt", self.value().sqrt()).pull_with(self, |dy, y| Ok(dy.div(y)?.mul_scalar(0.5))).single()
    }

    /// `1/x`
    pub fn recip(&self) -> Var {
        record("recip", self.value().recip()).pull_with(self, |dy, y| Ok(dy.mul(&y.square())?.neg())).single()
    }

    /// `x²`
    pub fn square(&self) -> Var {
        let x = self.clone();
        record("square", self.value().square()).pull(self, move |dy| Ok(dy.mul(&x)?.mul_scalar(2.0))).single()
    }

    /// The sine, of radians.
    pub fn sin(&self) -> Var {
        let x = self.clone();
        record("sin", self.value().sin()).pull(self, move |dy| dy.mul(&x.cos())).single()
    }

    /// The cosine, of radians.
    pub fn cos(&self) -> Var {
        let x = self.clone();
        record("cos", self.value().cos()).pull(self, move |dy| Ok(dy.mul(&x.sin())?.neg())).single()
    }

    /// −1, 0 or 1: no gradient flows through it.
    pub fn sign(&self) -> Var {
        record("sign", self.value().sign()).cut(self).single()
    }

    /// Brings every element into `[low, high]`; elements outside get no gradient, those on the border do.
    pub fn clamp(&self, low: f64, high: f64) -> Var {
        let y = self.value().clamp(low, high);
        let x = self.clone();
        record("clamp", y)
            .pull(self, move |dy| {
                let inside = x.value().clamp(low, high).equal(x.value())?;
                x.constant(inside).where_cond(&dy, &dy.constant(dy.value().zeros_like()))
            })
            .single()
    }
}

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
        let (x, saved) = (self.value().clone(), self.value().clone());
        record("leaky_relu", self.value().leaky_relu(slope))
            .pull_fused(
                self,
                move |dy, _| x.leaky_relu_grad(&dy, slope),
                move |dy, y| {
                    let ones = Tensor::ones(y.shape(), y.dtype());
                    dy.mul(&dy.constant(saved.leaky_relu_grad(&ones, slope)?))
                },
            )
            .single()
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
        let x = self.value().clone();
        let kernel = move |dy, [_]: [bool; 1]| Ok([Some(x.silu_grad(&dy)?)]);
        let fused = record_fused("silu", self.value().silu(), [self], kernel, |[x]| x.mul(&x.sigmoid()));
        fused.unwrap_or_else(|error| panic!("{error}"))
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
