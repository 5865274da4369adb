//! Elementary functions of one value; activations are in `activation.rs`.
//!
//! A rule that can be written in the output is handed the output (`pull_with`).

use crate::{Var, record};

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
