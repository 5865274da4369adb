//! Smooth activation functions beyond the everyday ones, each above its adjoint: the ELU family, softplus and what is
//! made of it, softsign and tanhshrink.

use super::activation::adjoint;
use super::elementwise::{COPY, unary};
use crate::math::Math;
use crate::{Result, Tensor};

/// All take `f32` and `f64`, and panic with the text of the error for integers. Adjoints take the function's input `x`
/// as `self`.
///
/// # Errors
/// Of the adjoints: different shapes or element types, or integers.
impl Tensor {
    /// `x` where positive, else `alpha · (eˣ − 1)`.
    ///
    /// # Reference
    /// Clevert, Unterthiner & Hochreiter (2016), "Fast and Accurate Deep Network Learning by Exponential Linear Units".
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Self {
        self.scaled_elu("elu", [1.0, alpha, 1.0])
    }

    /// Adjoint of [`elu`](Self::elu).
    pub fn elu_grad(&self, dy: &Self, alpha: f64) -> Result<Self> {
        self.scaled_elu_grad("elu_grad", dy, [1.0, alpha, 1.0])
    }

    /// `1.0507… · elu(x)` with `alpha = 1.6732…`: mean 0 and variance 1 are a fixed point of deep networks with it.
    ///
    /// # Reference
    /// Klambauer, Unterthiner, Mayr & Hochreiter (2017), "Self-Normalizing Neural Networks".
    #[track_caller]
    pub fn selu(&self) -> Self {
        self.scaled_elu("selu", [SELU[0], SELU[1], 1.0])
    }

    /// Adjoint of [`selu`](Self::selu).
    pub fn selu_grad(&self, dy: &Self) -> Result<Self> {
        self.scaled_elu_grad("selu_grad", dy, [SELU[0], SELU[1], 1.0])
    }

    /// `x` where positive, else `alpha · (e^(x / alpha) − 1)`: smooth for every `alpha`.
    ///
    /// # Reference
    /// Barron (2017), "Continuously Differentiable Exponential Linear Units".
    #[track_caller]
    pub fn celu(&self, alpha: f64) -> Self {
        self.scaled_elu("celu", [1.0, alpha, 1.0 / alpha])
    }

    /// Adjoint of [`celu`](Self::celu).
    pub fn celu_grad(&self, dy: &Self, alpha: f64) -> Result<Self> {
        self.scaled_elu_grad("celu_grad", dy, [1.0, alpha, 1.0 / alpha])
    }

    /// `scale · x` where positive, else `scale · alpha · (e^(rate · x) − 1)`.
    #[track_caller]
    fn scaled_elu(&self, op: &'static str, [scale, alpha, rate]: [f64; 3]) -> Self {
        let depth = scale * alpha;
        unary!(self, op, 0.6, [scale, depth, rate], |x: T| {
            if x > 0.0 { scale * x } else { depth * (rate * x).fast_exp_m1::<FUSED>() }
        })
    }

    fn scaled_elu_grad(&self, op: &'static str, dy: &Self, [scale, alpha, rate]: [f64; 3]) -> Result<Self> {
        let slope = scale * alpha * rate;
        adjoint!(self, dy, op, 0.6, [scale, slope, rate], |x: T, dy: T| {
            dy * if x <= 0.0 { slope * (rate * x).fast_exp::<FUSED>() } else { scale }
        })
    }

    /// `ln(1 + e^(beta · x)) / beta`, and `x` itself where `beta · x` is above `threshold`.
    ///
    /// # Reference
    /// Dugas, Bengio, Bélisle, Nadeau & Garcia (2001), "Incorporating Second-Order Functional Knowledge".
    #[track_caller]
    pub fn softplus(&self, beta: f64, threshold: f64) -> Self {
        unary!(self, "softplus", 1.0, [beta, threshold], |x: T| {
            let z = beta * x;
            let y = ((if z > 0.0 { z } else { 0.0 }) + (-z.abs()).fast_exp::<FUSED>().fast_ln_1p::<FUSED>()) / beta;
            if z > threshold { x } else { y }
        })
    }

    /// Adjoint of [`softplus`](Self::softplus): `dy · sigmoid(beta · x)`, and `dy` above the threshold.
    pub fn softplus_grad(&self, dy: &Self, beta: f64, threshold: f64) -> Result<Self> {
        adjoint!(self, dy, "softplus_grad", 0.6, [beta, threshold], |x: T, dy: T| {
            let z = beta * x;
            dy * if z > threshold { 1.0 } else { z.sigmoid::<FUSED>() }
        })
    }

    /// `ln sigmoid(x)`, also where that is too small for a number.
    #[track_caller]
    pub fn log_sigmoid(&self) -> Self {
        unary!(self, "log_sigmoid", 1.0, |x: T| {
            (if x < 0.0 { x } else { 0.0 }) - (-x.abs()).fast_exp::<FUSED>().fast_ln_1p::<FUSED>()
        })
    }

    /// Adjoint of [`log_sigmoid`](Self::log_sigmoid): `dy · sigmoid(−x)`.
    pub fn log_sigmoid_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "log_sigmoid_grad", 0.6, |x: T, dy: T| dy * (-x).sigmoid::<FUSED>())
    }

    /// `x · tanh(softplus(x))`.
    ///
    /// # Numerics
    /// `tanh(ln(1 + eˣ)) = (e² + 2e) / (e² + 2e + 2)` with `e = eˣ`, or the same divided by `e²` where `x > 0`: nothing
    /// overflows and no digits cancel.
    ///
    /// # Reference
    /// Misra (2020), "Mish: A Self Regularized Non-Monotonic Activation Function".
    #[track_caller]
    pub fn mish(&self) -> Self {
        unary!(self, "mish", 0.8, |x: T| {
            let e = (-x.abs()).fast_exp::<FUSED>();
            let (of, rest) = if x < 0.0 { (e * (e + 2.0), 2.0) } else { (1.0 + 2.0 * e, 2.0 * e * e) };
            x * (of / (of + rest))
        })
    }

    /// Adjoint of [`mish`](Self::mish): `dy · (t + x · (1 − t²) · sigmoid(x))` with `t = tanh(softplus(x))`.
    pub fn mish_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "mish_grad", 1.0, |x: T, dy: T| {
            let e = (-x.abs()).fast_exp::<FUSED>();
            let (of, rest) = if x < 0.0 { (e * (e + 2.0), 2.0) } else { (1.0 + 2.0 * e, 2.0 * e * e) };
            let (t, one_minus_t) = (of / (of + rest), rest / (of + rest));
            let sigmoid = (if x < 0.0 { e } else { 1.0 }) / (1.0 + e);
            dy * (t + x * one_minus_t * (1.0 + t) * sigmoid)
        })
    }

    /// `x / (1 + |x|)`.
    ///
    /// # Reference
    /// Bergstra, Desjardins, Lamblin & Bengio (2009), "Quadratic Polynomials Learn Better Image Features".
    #[track_caller]
    pub fn softsign(&self) -> Self {
        unary!(self, "softsign", COPY, |x: T| x / (1.0 + x.abs()))
    }

    /// Adjoint of [`softsign`](Self::softsign): `dy / (1 + |x|)²`.
    pub fn softsign_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "softsign_grad", COPY, |x: T, dy: T| dy / ((1.0 + x.abs()) * (1.0 + x.abs())))
    }

    /// `x − tanh(x)`.
    #[track_caller]
    pub fn tanhshrink(&self) -> Self {
        unary!(self, "tanhshrink", 0.8, |x: T| x - x.fast_tanh::<FUSED>())
    }

    /// Adjoint of [`tanhshrink`](Self::tanhshrink): `dy · tanh(x)²`.
    pub fn tanhshrink_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "tanhshrink_grad", 0.8, |x: T, dy: T| dy * x.fast_tanh::<FUSED>() * x.fast_tanh::<FUSED>())
    }
}

/// Scale and alpha of [`selu`](Tensor::selu): the paper's constants, eq. 14, to all digits.
pub const SELU: [f64; 2] = [1.050_700_987_355_480_5, 1.673_263_242_354_377_2];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::ops::testing::{Row, check_activations};

    fn table() -> [Row; 9] {
        fn ln_1p_exp(x: f64) -> f64 {
            x.exp().ln_1p()
        }
        [
            ("elu", |x| x.elu(0.7), |x, dy| x.elu_grad(dy, 0.7), false, |x| x.max(0.0) + 0.7 * x.min(0.0).exp_m1()),
            ("selu", Tensor::selu, Tensor::selu_grad, false, |x| {
                1.0507009873554805 * (x.max(0.0) + 1.6732632423543772 * x.min(0.0).exp_m1())
            }),
            (
                "celu",
                |x| x.celu(0.7),
                |x, dy| x.celu_grad(dy, 0.7),
                false,
                |x| x.max(0.0) + 0.7 * (x.min(0.0) / 0.7).exp_m1(),
            ),
            (
                "softplus",
                |x| x.softplus(2.0, 40.0),
                |x, dy| x.softplus_grad(dy, 2.0, 40.0),
                false,
                |x| ln_1p_exp(2.0 * x) / 2.0,
            ),
            ("log_sigmoid", Tensor::log_sigmoid, Tensor::log_sigmoid_grad, false, |x| -ln_1p_exp(-x)),
            ("mish", Tensor::mish, Tensor::mish_grad, false, |x| x * ln_1p_exp(x).tanh()),
            ("softsign", Tensor::softsign, Tensor::softsign_grad, false, |x| x / (1.0 + x.abs())),
            ("tanhshrink", Tensor::tanhshrink, Tensor::tanhshrink_grad, false, |x| x - x.tanh()),
            ("softplus", |x| x.softplus(1.0, -1e9), |x, dy| x.softplus_grad(dy, 1.0, -1e9), false, |x| x),
        ]
    }

    #[test]
    fn equal_their_definitions_and_derivatives() {
        check_activations(&table());
    }

    /// Limits, where a naive formula overflows or cancels: value and slope at −100, −1000 and 1000.
    #[test]
    fn tails_are_exact() {
        let e = (-100f64).exp();
        let selu = 1.0507009873554805;
        for ((name, function, adjoint, ..), values, slopes) in [
            (table()[0], [-0.7, -0.7, 1000.0], [0.7 * e, 0.0, 1.0]),
            (
                table()[1],
                [-selu * 1.6732632423543772, -selu * 1.6732632423543772, selu * 1000.0],
                [SELU[0] * SELU[1] * e, 0.0, selu],
            ),
            (table()[2], [-0.7, -0.7, 1000.0], [(-100f64 / 0.7).exp(), 0.0, 1.0]),
            (table()[3], [e * e / 2.0, 0.0, 1000.0], [e * e, 0.0, 1.0]),
            (table()[4], [-100.0, -1000.0, 0.0], [1.0, 1.0, 0.0]),
            (table()[5], [-100.0 * e, 0.0, 1000.0], [e - 100.0 * e, 0.0, 1.0]),
            (table()[6], [-100.0 / 101.0, -1000.0 / 1001.0, 1000.0 / 1001.0], [1.0, 1.0, 1.0].map(|_: f64| 0.0)),
            (table()[7], [-99.0, -999.0, 999.0], [1.0, 1.0, 1.0]),
        ] {
            let x = Tensor::from([-100.0f64, -1000.0, 1000.0]);
            let y = function(&x).to_vec::<f64>().unwrap();
            let dx = adjoint(&x, &Tensor::ones([3], DType::F64)).unwrap().to_vec::<f64>().unwrap();
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-14 * b.abs();
            for i in 0..3 {
                assert!(near(y[i], values[i]), "{name}: {y:?}, not {values:?}");
                let softsign = 1.0 / (1.0 + [100.0f64, 1000.0, 1000.0][i]).powi(2);
                assert!(near(dx[i], if name == "softsign" { softsign } else { slopes[i] }), "{name}': {dx:?}");
            }
            let wide = function(&x.to_dtype(DType::F32)).to_dtype(DType::F64).to_vec::<f64>().unwrap();
            assert!((0..3).all(|i| (wide[i] - values[i]).abs() <= 1e-6 * values[i].abs() + 1e-43), "{name}: {wide:?}");
        }
    }

    #[test]
    fn small_values_keep_their_digits() {
        // log_sigmoid(20) = −ln(1 + e⁻²⁰) and elu(−1e−6) = −1e−6 + 5e−13, in single precision.
        let close = |found: Tensor, expected: f64| (found.item::<f32>().unwrap() as f64 / expected - 1.0).abs() < 5e-7;
        assert!(close(Tensor::scalar(20.0f32).log_sigmoid(), -(-20f64).exp()));
        assert!(close(Tensor::scalar(-20.0f32).softplus(1.0, 20.0), (-20f64).exp()));
        assert!(close(Tensor::scalar(-1e-6f32).elu(1.0), -1e-6 + 5e-13));
    }
}
