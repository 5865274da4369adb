//! Elementwise arithmetic with broadcasting, comparisons and choice; the operators `+ - * /`.
//!
//! A broadcast input gets its gradient summed over the axes that were stretched (`sum_to`).

use crate::{Result, Var, record};
use maplet_tensor::Tensor;
use std::ops;

/// Two operands, which are broadcast to each other.
///
/// # Errors
/// All return an error for shapes that do not broadcast and for different element types.
impl Var {
    /// `self + other`, broadcasting.
    pub fn add(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.shape(), other.shape());
        record("add", self.value().add(other.value())?)
            .pull(self, move |dy| dy.sum_to(a))
            .pull(other, move |dy| dy.sum_to(b))
            .done()
    }

    /// [`add`](Self::add) to a value that the caller needs no more: if nobody else has it and the shapes are the same,
    /// the sum takes its memory.
    pub fn add_to(&self, mut other: Var) -> Result<Var> {
        let watched = [self, &other].into_iter().filter_map(Var::pass).any(|pass| pass.watch().is_some());
        let same = self.shape() == other.shape() && self.dtype() == other.dtype() && self.dtype().is_float();
        if watched || !same || !other.value.is_unique() {
            return self.add(&other);
        }
        other.value.accumulate(self.value())?;
        record("add", other.value().clone()).pull(self, Ok).pull(&other, Ok).done()
    }

    /// `self − other`, broadcasting.
    pub fn sub(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.shape(), other.shape());
        record("sub", self.value().sub(other.value())?)
            .pull(self, move |dy| dy.sum_to(a))
            .pull(other, move |dy| dy.neg().sum_to(b))
            .done()
    }

    /// `self · other`, elementwise, broadcasting.
    pub fn mul(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.clone(), other.clone());
        let (a_shape, b_shape) = (self.shape(), other.shape());
        record("mul", self.value().mul(other.value())?)
            .pull(self, move |dy| dy.mul(&b)?.sum_to(a_shape))
            .pull(other, move |dy| dy.mul(&a)?.sum_to(b_shape))
            .done()
    }

    /// `self / other`, elementwise, broadcasting.
    pub fn div(&self, other: &Var) -> Result<Var> {
        let (a_shape, b_shape) = (self.shape(), other.shape());
        let (b, divisor) = (other.clone(), other.clone());
        record("div", self.value().div(other.value())?)
            .pull(self, move |dy| dy.div(&b)?.sum_to(a_shape))
            .pull_with(other, move |dy, y| dy.mul(y)?.div(&divisor)?.neg().sum_to(b_shape)) // −a/b² = −y/b
            .done()
    }

    /// `self` to the power of `other`, elementwise, broadcasting.
    ///
    /// # Numerics
    /// At `self = 0` the gradient with respect to the exponent is 0, its limit for positive exponents.
    pub fn pow(&self, other: &Var) -> Result<Var> {
        let (base, exponent, a, b) = (self.clone(), other.clone(), self.clone(), self.shape());
        let exponent_shape = other.shape();
        record("pow", self.value().pow(other.value())?)
            .pull(self, move |dy| {
                // exponent · base^(exponent − 1), where an exponent of 0 gives 0 and not 0 · 0⁻¹.
                let lowered = exponent.replaced_where_zero(1.0)?.add_scalar(-1.0);
                dy.mul(&exponent)?.mul(&base.pow(&lowered)?)?.sum_to(b)
            })
            .pull_with(other, move |dy, y| dy.mul(y)?.mul(&a.replaced_where_zero(1.0)?.log())?.sum_to(exponent_shape))
            .done()
    }

    /// The larger of the two, elementwise, broadcasting; where they are equal, each gets half of the gradient.
    pub fn maximum(&self, other: &Var) -> Result<Var> {
        self.larger("maximum", self.value().maximum(other.value())?, other, self, other)
    }

    /// The smaller of the two, elementwise, broadcasting; where they are equal, each gets half of the gradient.
    pub fn minimum(&self, other: &Var) -> Result<Var> {
        self.larger("minimum", self.value().minimum(other.value())?, other, other, self)
    }

    /// Records that `y` has `self` where `a > b` and `other` where `a < b`.
    fn larger(&self, op: &'static str, y: Tensor, other: &Var, a: &Var, b: &Var) -> Result<Var> {
        /// `dy` where `a > b`, half of it where `a = b`.
        fn share(dy: Var, a: &Tensor, b: &Tensor) -> Result<Var> {
            let half = a.equal(b)?.to_dtype(dy.dtype()).mul_scalar(0.5);
            let share = a.greater(b)?.to_dtype(dy.dtype()).add(&half)?;
            dy.mul(&dy.constant(share))
        }
        let (a, b, self_shape, other_shape) = (a.value().clone(), b.value().clone(), self.shape(), other.shape());
        let (c, d) = (a.clone(), b.clone());
        record(op, y)
            .pull(self, move |dy| share(dy, &a, &b)?.sum_to(self_shape))
            .pull(other, move |dy| share(dy, &d, &c)?.sum_to(other_shape))
            .done()
    }

    /// `self`, with a constant where it is 0: a guard against poles.
    fn replaced_where_zero(&self, by: f64) -> Result<Var> {
        let zero = self.constant(self.value().equal(&Tensor::zeros([], self.dtype()))?);
        zero.where_cond(&self.constant(Tensor::ones([], self.dtype()).mul_scalar(by)), self)
    }

    /// `a` where this mask (`u8`) is not 0, `b` where it is, broadcasting all three.
    pub fn where_cond(&self, a: &Var, b: &Var) -> Result<Var> {
        let (yes, no, a_shape, b_shape) = (self.clone(), self.clone(), a.shape(), b.shape());
        let zero = self.constant(Tensor::zeros([], a.dtype()));
        let null = zero.clone();
        record("where_cond", self.value().where_cond(a.value(), b.value())?)
            .cut(self)
            .pull(a, move |dy| yes.where_cond(&dy, &zero)?.sum_to(a_shape))
            .pull(b, move |dy| no.where_cond(&null, &dy)?.sum_to(b_shape))
            .done()
    }
}

/// One operand and a number.
impl Var {
    /// `self + number`
    pub fn add_scalar(&self, number: f64) -> Var {
        record("add_scalar", self.value().add_scalar(number)).pull(self, Ok).single()
    }

    /// `self · number`
    pub fn mul_scalar(&self, number: f64) -> Var {
        let y = self.value().mul_scalar(number);
        record("mul_scalar", y).pull(self, move |dy| Ok(dy.mul_scalar(number))).single()
    }

    /// `self` to the power of `number`
    pub fn pow_scalar(&self, number: f64) -> Var {
        let x = self.clone();
        record("pow_scalar", self.value().pow_scalar(number))
            .pull(self, move |dy| match number {
                0.0 => Ok(dy.mul_scalar(0.0)),
                _ => dy.mul(&x.pow_scalar(number - 1.0).mul_scalar(number)),
            })
            .single()
    }
}

/// Comparisons give masks, of type `u8`, which no gradient flows through.
macro_rules! comparison {
    ($($name:ident $sign:literal),*) => {
        impl Var {$(
            #[doc = concat!("1 where `self ", $sign, " other`, else 0, broadcasting; no gradient flows through it.")]
            pub fn $name(&self, other: &Var) -> Result<Var> {
                record(stringify!($name), self.value().$name(other.value())?).cut(self).cut(other).done()
            }
        )*}
    };
}
comparison!(equal "=", not_equal "≠", less "<", less_equal "≤", greater ">", greater_equal "≥");

/// `+ - * /` between values, and with a number on the right. They panic with the text of the method's error.
macro_rules! operator {
    ($($Trait:ident $op:ident $scalar:expr),*) => {$(
        impl ops::$Trait<&Var> for &Var {
            type Output = Var;
            fn $op(self, other: &Var) -> Var {
                Var::$op(self, other).unwrap_or_else(|error| panic!("{error}"))
            }
        }

        impl ops::$Trait<f64> for &Var {
            type Output = Var;
            fn $op(self, number: f64) -> Var {
                $scalar(self, number)
            }
        }
    )*};
}
operator!(
    Add add Var::add_scalar,
    Sub sub |x: &Var, number: f64| x.add_scalar(-number),
    Mul mul Var::mul_scalar,
    Div div |x: &Var, number: f64| x.mul_scalar(1.0 / number)
);

impl ops::Neg for &Var {
    type Output = Var;
    fn neg(self) -> Var {
        Var::neg(self)
    }
}
