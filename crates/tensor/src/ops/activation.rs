//! The everyday activation functions, each above its adjoint; others are in `activation_smooth.rs` and
//! `activation_piecewise.rs`.
//!
//! An adjoint takes `dy`, the gradient of the loss with respect to the output, and gives `dx`.

use super::elementwise::{COPY, unary};
use crate::math::Math;
use crate::{Error, Result, Tensor};

/// An adjoint, written once for both float types: `adjoint!(x, dy, "relu_grad", COPY, |x: T, dy: T| …)`, with numbers
/// as in `unary!`, and a macro for the same reason.
macro_rules! adjoint {
    ($x:expr, $dy:expr, $op:expr, $cost:expr, $([$($number:ident),+],)? |$v:ident: $T:ident, $d:ident: $U:ident|
        $body:expr) => {{
        $crate::ops::activation::check_adjoint($op, $x, $dy)?;
        $crate::dtype::dispatch_float!($x.dtype(), $op, $T => {
            $($(let $number = $number as $T;)+)?
            #[inline(always)]
            fn f<const FUSED: bool>($v: $T, $d: $T $($(, $number: $T)+)?) -> $T {
                $body
            }
            Ok($crate::ops::elementwise::apply_both($x, $dy, $cost, move |x: $T, dy: $T, fused| match fused {
                true => f::<true>(x, dy $($(, $number)+)?),
                false => f::<false>(x, dy $($(, $number)+)?),
            }))
        })
    }};
}
pub(super) use adjoint;

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
        unary!(self, "leaky_relu", COPY, [slope], |x: T| if x > 0.0 { x } else { slope * x })
    }

    /// Adjoint of [`leaky_relu`](Self::leaky_relu); `self` is its input.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn leaky_relu_grad(&self, dy: &Self, slope: f64) -> Result<Self> {
        adjoint!(self, dy, "leaky_relu_grad", COPY, [slope], |x: T, dy: T| if x > 0.0 { dy } else { slope * dy })
    }

    /// `1 / (1 + e⁻ˣ)`.
    ///
    /// # Numerics
    /// `f32`: at most 3 ulp from the exact value, over the whole range.
    #[track_caller]
    pub fn sigmoid(&self) -> Self {
        unary!(self, "sigmoid", 0.6, |x: T| x.sigmoid::<FUSED>())
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
        unary!(self, "tanh", 0.8, |x: T| x.fast_tanh::<FUSED>())
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
    /// # Numerics
    /// `f32`: at most 4 ulp from the exact value for `x > −87`; beyond, where the function is tiny, at most `1e-43`.
    ///
    /// # Reference
    /// Elfwing, Uchibe & Doya (2018), "Sigmoid-Weighted Linear Units for Neural Network Function Approximation".
    #[track_caller]
    pub fn silu(&self) -> Self {
        unary!(self, "silu", 0.6, |x: T| x * x.sigmoid::<FUSED>())
    }

    /// Adjoint of [`silu`](Self::silu): `dy · s · (1 + x · (1 − s))` with `s = sigmoid(x)`; `self` is its input `x`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn silu_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "silu_grad", 0.7, |x: T, dy: T| {
            let s = x.sigmoid::<FUSED>();
            dy * (s * (1.0 + x * (1.0 - s)))
        })
    }

    /// `x · Φ(x)`, where `Φ(x) = (1 + erf(x / √2)) / 2` is the distribution function of the normal distribution: the
    /// exact form, not the approximation by tanh.
    ///
    /// # Numerics
    /// `f32`: at most 4 ulp from the exact value for `x > −1`, 11 ulp beyond, where the function is tiny.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)".
    #[track_caller]
    pub fn gelu(&self) -> Self {
        unary!(self, "gelu", 1.0, |x: T| x * x.normal_distribution::<FUSED>().0)
    }

    /// Adjoint of [`gelu`](Self::gelu): `dy · (Φ(x) + x · φ(x))` with the density `φ(x) = e^(−x²/2) / √(2π)`; `self`
    /// is its input `x`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn gelu_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "gelu_grad", 1.0, |x: T, dy: T| {
            let (distribution, density) = x.normal_distribution::<FUSED>();
            dy * (distribution + x * density)
        })
    }

    /// The approximation of [`gelu`](Self::gelu) by tanh: `x · (1 + tanh u) / 2 = x · sigmoid(2u)` with
    /// `u = √(2/π) (x + 0.044715 x³)`.
    ///
    /// # Reference
    /// Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)", §2.
    #[track_caller]
    pub fn gelu_tanh(&self) -> Self {
        unary!(self, "gelu_tanh", 0.7, |x: T| {
            const DOUBLED: T = 2.0 * GELU_SLOPE as T;
            x * (DOUBLED * x * (1.0 + GELU_CUBIC as T * x * x)).sigmoid::<FUSED>()
        })
    }

    /// Adjoint of [`gelu_tanh`](Self::gelu_tanh); `self` is its input `x`.
    ///
    /// # Errors
    /// Different shapes or element types, or integers.
    pub fn gelu_tanh_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "gelu_tanh_grad", 0.8, |x: T, dy: T| {
            const DOUBLED: T = 2.0 * GELU_SLOPE as T;
            let square = if x * x > 1e4 { 1e4 } else { x * x }; // beyond, s is 0 or 1: but 0 · ∞ would be NaN
            let s = (DOUBLED * x * (1.0 + GELU_CUBIC as T * square)).sigmoid::<FUSED>();
            dy * (s + x * s * (1.0 - s) * DOUBLED * (1.0 + 3.0 * GELU_CUBIC as T * square))
        })
    }
}

/// `√(2/π)`
const GELU_SLOPE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const GELU_CUBIC: f64 = 0.044715;

pub(crate) fn check_adjoint(op: &'static str, x: &Tensor, dy: &Tensor) -> Result<()> {
    x.same_dtype(op, dy)?;
    if x.shape() == dy.shape() {
        return Ok(());
    }
    let what = format!("{} and the gradient {} differ", x.shape(), dy.shape());
    Err(Error::shape(op, what, "both must have one shape"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::testing::{Row, check_activations};

    const SLOPE: f64 = 0.1;

    fn table() -> [Row; 7] {
        [
            ("relu", Tensor::relu, Tensor::relu_grad, true, |x| x.max(0.0)),
            (
                "leaky_relu",
                |x| x.leaky_relu(SLOPE),
                |x, dy| x.leaky_relu_grad(dy, SLOPE),
                false,
                |x| x.max(0.0) + SLOPE * x.min(0.0),
            ),
            ("sigmoid", Tensor::sigmoid, Tensor::sigmoid_grad, true, |x| 1.0 / (1.0 + (-x).exp())),
            ("tanh", Tensor::tanh, Tensor::tanh_grad, true, |x| (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
            ("silu", Tensor::silu, Tensor::silu_grad, false, |x| x / (1.0 + (-x).exp())),
            ("gelu", Tensor::gelu, Tensor::gelu_grad, false, |x| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))),
            ("gelu_tanh", Tensor::gelu_tanh, Tensor::gelu_tanh_grad, false, |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }),
        ]
    }

    #[test]
    fn equal_their_definitions_and_derivatives() {
        check_activations(&table());
    }

    #[test]
    fn gelu_tanh_has_flat_tails() {
        let x = Tensor::from([-1e30f32, -100.0, 100.0, 1e30]);
        assert_eq!(x.gelu_tanh(), Tensor::from([0.0f32, 0.0, 100.0, 1e30]));
        assert_eq!(x.gelu_tanh_grad(&Tensor::ones([4], DType::F32)).unwrap(), Tensor::from([0.0f32, 0.0, 1.0, 1.0]));
    }

    #[test]
    fn relu_keeps_nan_and_its_adjoint_takes_input_or_output() {
        let x = Tensor::from([f32::NAN, -1.0, 0.0, 2.0]);
        let y = x.relu();
        assert!(y.as_slice::<f32>().unwrap()[0].is_nan());
        assert_eq!(y.slice(0, 1, 4).unwrap(), Tensor::from([0.0f32, 0.0, 2.0]));
        let dy = Tensor::from([5.0f32, 6.0, 7.0, 8.0]);
        assert_eq!(x.relu_grad(&dy).unwrap(), Tensor::from([5.0f32, 0.0, 0.0, 8.0]));
        assert_eq!(y.relu_grad(&dy).unwrap(), x.relu_grad(&dy).unwrap());
    }

    #[test]
    fn adjoints_refuse_what_does_not_fit() {
        let (x, dy) = (Tensor::from([1.0f32, 2.0]), Tensor::from([[1.0f32, 2.0]]));
        for (name, _, adjoint, _, _) in table() {
            let text = adjoint(&x, &dy).unwrap_err().to_string();
            let shapes = "[2] and the gradient [1, 2] differ; help: both must have one shape";
            assert_eq!(text, format!("{name}_grad: {shapes}"));
            let text = adjoint(&x, &x.to_dtype(DType::F64)).unwrap_err().to_string();
            let types = "element types differ: f32 and f64; help: convert one of them with to_dtype";
            assert_eq!(text, format!("{name}_grad: {types}"));
            let bytes = Tensor::from([1u8]);
            let text = adjoint(&bytes, &bytes).unwrap_err().to_string();
            let floats = "expects f32 or f64, got u8; help: convert with to_dtype(DType::F32)";
            assert_eq!(text, format!("{name}_grad: {floats}"));
        }
    }
}
