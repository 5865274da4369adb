//! Elementary functions that compile into vector loops.
use crate::Float;

/// The functions that the standard library only has as scalar calls.
pub(crate) trait Math: Float {
    fn fast_exp(self) -> Self;
    fn fast_ln(self) -> Self;
    fn fast_tanh(self) -> Self;
    fn sigmoid(self) -> Self;
    /// The distribution function `Φ(x)` and the density `φ(x)` of the normal distribution.
    fn normal_distribution(self) -> (Self, Self);
}
macro_rules! tmp { ($($T:ident)*) => {$(
impl Math for $T {
    fn fast_exp(self) -> Self { self.exp() }
    fn fast_ln(self) -> Self { self.ln() }
    fn fast_tanh(self) -> Self { self.tanh() }
    fn sigmoid(self) -> Self { 1.0 / (1.0 + (-self).exp()) }
    fn normal_distribution(self) -> (Self, Self) { (0.5 * libm::erfc(-(self as f64) / std::f64::consts::SQRT_2) as $T, (-0.5 * self * self).exp() * 0.398_942_280_401_432_7) }
}
)*}}
tmp!(f32 f64);
