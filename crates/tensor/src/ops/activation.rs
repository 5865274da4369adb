//! Activation functions, each above its adjoint.
//!
//! An adjoint takes `dy`, the gradient of the loss with respect to the output, and gives `dx`.

use super::elementwise::{COPY, apply, apply_both, float, unary};
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
            Ok(apply_both($x, $dy, $cost, f))
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
            Ok(apply_both(self, dy, COPY, move |x: T, dy: T| if x > 0.0 { dy } else { slope * dy }))
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
    /// # Numerics
    /// `f32`: at most 4 ulp from the exact value for `x > −87`; beyond, where the function is tiny, at most `1e-43`.
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
    /// `f32`: at most 4 ulp from the exact value for `x > −1`, 11 ulp beyond, where the function is tiny.
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
    use crate::{DType, Rng};

    const SLOPE: f64 = 0.1;

    type Forward = fn(&Tensor) -> Tensor;
    type Adjoint = fn(&Tensor, &Tensor) -> Result<Tensor>;
    /// Name, function, adjoint, whether the adjoint takes the output, and the definition.
    type Row = (&'static str, Forward, Adjoint, bool, fn(f64) -> f64);

    fn table() -> [Row; 6] {
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
        ]
    }

    #[test]
    fn functions_equal_their_definitions() {
        let x = Tensor::normal([100], 0.0f64, 3.0, &mut Rng::new(6));
        for (name, function, _, _, definition) in table() {
            for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
                let x = x.to_dtype(dtype);
                let y = function(&x).to_dtype(DType::F64);
                let x = x.to_dtype(DType::F64);
                for (&x, &y) in x.as_slice::<f64>().unwrap().iter().zip(y.as_slice::<f64>().unwrap()) {
                    assert!((y - definition(x)).abs() < tolerance * x.abs().max(1.0), "{name}({x}) = {y}");
                }
            }
        }
    }

    #[test]
    fn adjoints_equal_central_differences() {
        let mut rng = Rng::new(7);
        let (x, dy) = (Tensor::normal([100], 0.0f64, 2.0, &mut rng), Tensor::normal([100], 0.0f64, 1.0, &mut rng));
        let step = 1e-5; // error: step² · third derivative, and 1e-16 / step
        for (name, function, adjoint, of_output, definition) in table() {
            for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-6)] {
                let (x, dy) = (x.to_dtype(dtype), dy.to_dtype(dtype));
                let saved = if of_output { function(&x) } else { x.clone() };
                let dx = adjoint(&saved, &dy).unwrap().to_dtype(DType::F64);
                let (x, dy) = (x.to_dtype(DType::F64), dy.to_dtype(DType::F64));
                for (i, &x) in x.as_slice::<f64>().unwrap().iter().enumerate() {
                    let slope = (definition(x + step) - definition(x - step)) / (2.0 * step);
                    let expected = slope * dy.as_slice::<f64>().unwrap()[i];
                    let got = dx.as_slice::<f64>().unwrap()[i];
                    assert!((got - expected).abs() < tolerance * 4.0, "{name}' at {x}: {got}, not {expected}");
                }
            }
        }
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
