//! Activation functions that are straight or parabolic piece by piece, each above its adjoint. At a border the adjoint
//! is PyTorch's.

use super::activation::adjoint;
use super::elementwise::{COPY, unary};
use crate::{Result, Tensor};

/// All take `f32` and `f64`, and panic with the text of the error for integers. Adjoints take the function's input `x`
/// as `self`.
///
/// # Errors
/// Of the adjoints: different shapes or element types, or integers.
impl Tensor {
    /// `x` between `low` and `high`, else the nearer of the two: [`clamp`](Self::clamp), with another adjoint.
    #[track_caller]
    pub fn hardtanh(&self, low: f64, high: f64) -> Self {
        unary!(self, "hardtanh", COPY, [low, high], |x: T| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        })
    }

    /// Adjoint of [`hardtanh`](Self::hardtanh): 0 on the borders as well.
    pub fn hardtanh_grad(&self, dy: &Self, low: f64, high: f64) -> Result<Self> {
        adjoint!(self, dy, "hardtanh_grad", COPY, [low, high], |x: T, dy: T| {
            if x <= low || x >= high { 0.0 } else { dy }
        })
    }

    /// `(x + 3) / 6` between −3 and 3, 0 below and 1 above.
    ///
    /// # Reference
    /// Courbariaux, Bengio & David (2015), "BinaryConnect", with the slope of Howard et al. (2019), "Searching for
    /// MobileNetV3".
    #[track_caller]
    pub fn hardsigmoid(&self) -> Self {
        unary!(self, "hardsigmoid", COPY, |x: T| hard_sigmoid!(x))
    }

    /// Adjoint of [`hardsigmoid`](Self::hardsigmoid).
    pub fn hardsigmoid_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "hardsigmoid_grad", COPY, |x: T, dy: T| if x > -3.0 && x < 3.0 { dy / 6.0 } else { 0.0 })
    }

    /// `x · hardsigmoid(x)`.
    ///
    /// # Reference
    /// Howard et al. (2019), "Searching for MobileNetV3", §5.2.
    #[track_caller]
    pub fn hardswish(&self) -> Self {
        unary!(self, "hardswish", COPY, |x: T| x * hard_sigmoid!(x))
    }

    /// Adjoint of [`hardswish`](Self::hardswish): `dy · (x / 3 + 1/2)` between −3 and 3, 0 below and `dy` above.
    pub fn hardswish_grad(&self, dy: &Self) -> Result<Self> {
        adjoint!(self, dy, "hardswish_grad", COPY, |x: T, dy: T| {
            let inside = dy * (x / 3.0 + 0.5);
            if x <= -3.0 {
                0.0
            } else if x < 3.0 {
                inside
            } else {
                dy
            }
        })
    }

    /// `x` where it is above `threshold`, else `value`.
    #[track_caller]
    pub fn threshold(&self, threshold: f64, value: f64) -> Self {
        unary!(self, "threshold", COPY, [threshold, value], |x: T| if x <= threshold { value } else { x })
    }

    /// Adjoint of [`threshold`](Self::threshold).
    pub fn threshold_grad(&self, dy: &Self, threshold: f64) -> Result<Self> {
        adjoint!(self, dy, "threshold_grad", COPY, [threshold], |x: T, dy: T| if x <= threshold { 0.0 } else { dy })
    }

    /// `x` where `|x| > lambda`, else 0.
    #[track_caller]
    pub fn hardshrink(&self, lambda: f64) -> Self {
        unary!(self, "hardshrink", COPY, [lambda], |x: T| if x >= -lambda && x <= lambda { 0.0 } else { x })
    }

    /// `x` moved towards 0 by `lambda`, but not beyond.
    #[track_caller]
    pub fn softshrink(&self, lambda: f64) -> Self {
        unary!(self, "softshrink", COPY, [lambda], |x: T| {
            let moved = if x > 0.0 { x - lambda } else { x + lambda };
            if x >= -lambda && x <= lambda { 0.0 } else { moved }
        })
    }

    /// Adjoint of [`hardshrink`](Self::hardshrink) and of [`softshrink`](Self::softshrink).
    pub fn shrink_grad(&self, dy: &Self, lambda: f64) -> Result<Self> {
        adjoint!(self, dy, "shrink_grad", COPY, [lambda], |x: T, dy: T| {
            if x >= -lambda && x <= lambda { 0.0 } else { dy }
        })
    }
}

/// A macro because `unary!` makes its body an item, which sees no closures.
macro_rules! hard_sigmoid {
    ($x:ident) => {{
        let y = ($x + 3.0) / 6.0;
        let y = if y < 0.0 { 0.0 } else { y };
        if y > 1.0 { 1.0 } else { y }
    }};
}
use hard_sigmoid;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Row, check_activations};

    #[test]
    fn equal_their_definitions_and_derivatives() {
        let table: [Row; 6] = [
            (
                "hardtanh",
                |x| x.hardtanh(-0.7, 1.3),
                |x, dy| x.hardtanh_grad(dy, -0.7, 1.3),
                false,
                |x| x.clamp(-0.7, 1.3),
            ),
            ("hardsigmoid", Tensor::hardsigmoid, Tensor::hardsigmoid_grad, false, |x| {
                ((x + 3.0) / 6.0).clamp(0.0, 1.0)
            }),
            ("hardswish", Tensor::hardswish, Tensor::hardswish_grad, false, |x| x * ((x + 3.0) / 6.0).clamp(0.0, 1.0)),
            (
                "threshold",
                |x| x.threshold(0.4, -7.0),
                |x, dy| x.threshold_grad(dy, 0.4),
                false,
                |x| {
                    if x > 0.4 { x } else { -7.0 }
                },
            ),
            (
                "hardshrink",
                |x| x.hardshrink(0.6),
                |x, dy| x.shrink_grad(dy, 0.6),
                false,
                |x| {
                    if x.abs() > 0.6 { x } else { 0.0 }
                },
            ),
            (
                "softshrink",
                |x| x.softshrink(0.6),
                |x, dy| x.shrink_grad(dy, 0.6),
                false,
                |x| x.signum() * (x.abs() - 0.6).max(0.0),
            ),
        ];
        check_activations(&table);
    }

    /// The borders, where the derivative is a choice: PyTorch's.
    #[test]
    fn borders_are_as_in_pytorch() {
        let x = Tensor::from([-3.0f32, -0.5, 0.5, 3.0]);
        let dy = Tensor::from([1.0f32; 4]);
        assert_eq!(x.hardtanh_grad(&dy, -0.5, 0.5).unwrap(), Tensor::from([0.0f32; 4]));
        assert_eq!(x.hardsigmoid_grad(&dy).unwrap(), Tensor::from([0.0f32, 1.0 / 6.0, 1.0 / 6.0, 0.0]));
        assert_eq!(x.hardswish_grad(&dy).unwrap(), Tensor::from([0.0f32, -0.5 / 3.0 + 0.5, 0.5 / 3.0 + 0.5, 1.0]));
        assert_eq!(x.threshold_grad(&dy, 0.5).unwrap(), Tensor::from([0.0f32, 0.0, 0.0, 1.0]));
        assert_eq!(x.shrink_grad(&dy, 0.5).unwrap(), Tensor::from([1.0f32, 0.0, 0.0, 1.0]));
        assert_eq!(x.softshrink(0.5), Tensor::from([-2.5f32, 0.0, 0.0, 2.5]));
    }

    #[test]
    fn nan_stays_nan() {
        let x = Tensor::from([f32::NAN]);
        let all = [x.hardtanh(-1.0, 1.0), x.hardsigmoid(), x.hardswish(), x.threshold(0.0, 1.0), x.hardshrink(0.5)];
        assert!(all.into_iter().chain([x.softshrink(0.5)]).all(|y| y.item::<f32>().unwrap().is_nan()));
    }
}
