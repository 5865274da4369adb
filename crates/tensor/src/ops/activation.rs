//! Activation functions, each above its adjoint.
//!
//! An adjoint takes `dy`, the gradient of the loss with respect to the output, and gives `dx`.

use super::elementwise::{COPY, apply, combine, float, unary};
use crate::dtype::dispatch_float;
use crate::math::Math;
use crate::{Error, Result, Tensor};

/// An adjoint, written once for both float types: `adjoint!(x, dy, "relu_grad", COPY, |x: T, dy: T| …)`.
///
/// A macro for the same reason as `unary!`.
macro_rules! adjoint {
    ($x:expr, $dy:expr, $op:literal, $cost:expr, |$v:ident: $T:ident, $d:ident: $U:ident| $body:expr) => {{
        check_adjoint($op, $x, $dy)?;
        dispatch_float!($x.dtype(), $op, $T => {
            #[inline(always)]
            fn f($v: $T, $d: $T) -> $T {
                $body
            }
            combine($op, $x, $dy, $cost, f)
        })
    }};
}

/// All activations take `f32` and `f64`, and panic with the text of the error for integers. Adjoints return errors.
impl Tensor {
    /// `max(x, 0)`; NaN stays NaN.
    #[track_caller]
    pub fn relu(&self) -> Self {
        unary!(self, "relu", COPY, |x: T| if x < 0.0 { 0.0 } else { x })
    }

    /// Adjoint of [`relu`](Self::relu): `dy` where `self` is positive, else 0. `self` may be its input or its output.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn relu_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "relu_grad", COPY, |x: T, dy: T| if x <= 0.0 { 0.0 } else { dy })
    }

    /// `x` where positive, else `slope · x`.
    ///
    /// # Reference
    /// Maas, Hannun & Ng (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models".
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Self {
        float!(self, "leaky_relu", T => {
            let slope = slope as T;
            apply(self, COPY, move |x: T| if x > 0.0 { x } else { slope * x })
        })
    }

    /// Adjoint of [`leaky_relu`](Self::leaky_relu); `self` is its input.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn leaky_relu_grad(&self, dy: &Self, slope: f64) -> Result<Self> {
        check_adjoint("leaky_relu_grad", self, dy)?;
        dispatch_float!(self.dtype(), "leaky_relu_grad", T => {
            let slope = slope as T;
            combine("leaky_relu_grad", self, dy, COPY, move |x: T, dy: T| if x > 0.0 { dy } else { slope * dy })
        })
    }

    /// `1 / (1 + e⁻ˣ)`.
    ///
    /// # Numerics
    /// `f32`: at most 3 ulp from the exact value, over the whole range.
    #[track_caller]
    pub fn sigmoid(&self) -> Self {
        unary!(self, "sigmoid", 0.6, |x: T| x.sigmoid())
    }

    /// Adjoint of [`sigmoid`](Self::sigmoid): `dy · y · (1 − y)`; `self` is its output `y`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn sigmoid_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "sigmoid_grad", COPY, |y: T, dy: T| dy * y * (1.0 - y))
    }

    /// The hyperbolic tangent.
    ///
    /// # Numerics
    /// `f32`: at most 2 ulp from the exact value, over the whole range.
    #[track_caller]
    pub fn tanh(&self) -> Self {
        unary!(self, "tanh", 0.8, |x: T| x.fast_tanh())
    }

    /// Adjoint of [`tanh`](Self::tanh): `dy · (1 − y²)`; `self` is its output `y`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn tanh_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "tanh_grad", COPY, |y: T, dy: T| dy * (1.0 - y * y))
    }

    /// `x · sigmoid(x)`, also known as swish.
    ///
    /// # Reference
    /// Elfwing, Uchibe & Doya (2018), "Sigmoid-Weighted Linear Units for Neural Network Function Approximation".
    #[track_caller]
    pub fn silu(&self) -> Self {
        unary!(self, "silu", 0.6, |x: T| x * x.sigmoid())
    }

    /// Adjoint of [`silu`](Self::silu): `dy · s · (1 + x · (1 − s))` with `s = sigmoid(x)`; `self` is its input `x`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn silu_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "silu_grad", 0.7, |x: T, dy: T| {
            let s = x.sigmoid();
            dy * (s * (1.0 + x * (1.0 - s)))
        })
    }

    /// `x · Φ(x)`, where `Φ(x) = (1 + erf(x / √2)) / 2` is the distribution function of the normal distribution: the
    /// exact form, not the approximation by tanh.
    ///
    /// # Numerics
    /// `f32`: at most 4 ulp from the exact value where that is a normal number.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)".
    #[track_caller]
    pub fn gelu(&self) -> Self {
        unary!(self, "gelu", 1.0, |x: T| x * x.normal_distribution().0)
    }

    /// Adjoint of [`gelu`](Self::gelu): `dy · (Φ(x) + x · φ(x))` with the density `φ(x) = e^(−x²/2) / √(2π)`; `self`
    /// is its input `x`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn gelu_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "gelu_grad", 1.0, |x: T, dy: T| {
            let (distribution, density) = x.normal_distribution();
            dy * (distribution + x * density)
        })
    }
}

fn check_adjoint(op: &'static str, x: &Tensor, dy: &Tensor) -> Result<()> {
    x.same_dtype(op, dy)?;
    if x.shape() == dy.shape() {
        return Ok(());
    }
    let what = format!("{} and the gradient {} differ", x.shape(), dy.shape());
    Err(Error::shape(op, what, "both must have one shape"))
}
