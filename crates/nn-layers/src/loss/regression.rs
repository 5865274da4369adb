//! Losses of numbers: of the difference `d = output − target`, element by element.
//!
//! Output and targets have one shape and type: nothing broadcasts, so `[n, 1]` against `[n]` is an error, not an `[n,
//! n]` of nonsense.

use super::{expect_alike, expect_that, loss};
use crate::Result;
use maplet_autograd::{Var, record};
use maplet_tensor::Tensor;

loss! {
    /// `d²`
    ///
    /// PyTorch: `nn.MSELoss`; Keras: `losses.MeanSquaredError`.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{Loss, Mse, Reduction, mse};
    ///
    /// let (output, targets) = (Var::from(Tensor::from([1.0f32, 5.0])), Tensor::from([1.0f32, 3.0]));
    /// assert_eq!(mse(&output, &targets)?.item::<f32>()?, 2.0);
    /// assert_eq!(Mse::new().reduction(Reduction::Sum).loss(&output, &targets)?.item::<f32>()?, 4.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "mean_squared_error")]
    pub struct Mse {}
    fn mse
}

impl Mse {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        self.reduction.of("mse", &difference("mse", output, targets)?.square())
    }
}

loss! {
    /// `|d|`
    ///
    /// PyTorch: `nn.L1Loss`; Keras: `losses.MeanAbsoluteError`.
    #[doc(alias = "mean_absolute_error")]
    pub struct L1 {}
    fn l1
}

impl L1 {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        self.reduction.of("l1", &difference("l1", output, targets)?.abs())
    }
}

loss! {
    /// `d² / 2` where `|d| < delta`, else `delta · (|d| − delta / 2)`.
    ///
    /// PyTorch: `nn.HuberLoss`; Keras: `losses.Huber`.
    ///
    /// # Errors
    /// A `delta` that is not positive; another shape or type of the targets.
    ///
    /// # Reference
    /// Huber (1964), "Robust Estimation of a Location Parameter".
    pub struct Huber {
        /// Where the parabola meets the lines, 1.
        delta: f64 = 1.0,
    }
    fn huber
}

impl Huber {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let delta = self.delta;
        expect_that(delta > 0.0, "huber", format!("delta is {delta}"), "use a positive number")?;
        self.reduction.of("huber", &bent(&difference("huber", output, targets)?, delta)?)
    }
}

loss! {
    /// `d² / (2 beta)` where `|d| < beta`, else `|d| − beta / 2`: [`Huber`] divided by `beta`.
    ///
    /// PyTorch: `nn.SmoothL1Loss`; Keras: –.
    ///
    /// # Errors
    /// A negative `beta`; another shape or type of the targets.
    ///
    /// # Reference
    /// Girshick (2015), "Fast R-CNN", eq. 3.
    pub struct SmoothL1 {
        /// Where the parabola meets the lines, 1; with 0 it is [`L1`].
        beta: f64 = 1.0,
    }
    fn smooth_l1
}

impl SmoothL1 {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let beta = self.beta;
        expect_that(beta >= 0.0, "smooth_l1", format!("beta is {beta}"), "use 0 or more")?;
        let d = difference("smooth_l1", output, targets)?;
        let each = if beta == 0.0 { d.abs() } else { bent(&d, beta)?.mul_scalar(1.0 / beta) };
        self.reduction.of("smooth_l1", &each)
    }
}

loss! {
    /// `log cosh d`: about `d² / 2` near 0 and `|d| − log 2` far out, smooth everywhere.
    ///
    /// PyTorch: –; Keras: `losses.LogCosh`.
    ///
    /// # Numerics
    /// `|d| + log(1 + exp(−2|d|)) − log 2`: never overflows; its absolute error is that of `log 2`, its gradient is
    /// `tanh d`.
    pub struct LogCosh {}
    fn log_cosh
}

impl LogCosh {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let d = difference("log_cosh", output, targets)?;
        let size = d.value().abs();
        let y = size.add(&size.mul_scalar(-2.0).softplus(1.0, f64::INFINITY))?.add_scalar(-(2f64.ln()));
        let slope = d.clone();
        self.reduction.of("log_cosh", &record("log_cosh", y).pull(&d, move |dy| dy.mul(&slope.tanh())).done()?)
    }
}

fn difference(op: &'static str, output: &Var, targets: &Tensor) -> Result<Var> {
    Ok(output.sub(&expect_alike(op, output, targets)?)?)
}

/// `d² / 2` up to `border`, then straight on: `c · (d − c / 2)` for `d` brought within the borders, `c`.
fn bent(d: &Var, border: f64) -> Result<Var> {
    let c = d.clamp(-border, border);
    Ok(c.mul(&d.sub(&c.mul_scalar(0.5))?)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, check_refusals, random, text, values};
    use super::*;
    use crate::{Loss, Reduction};

    /// Of the differences 0.5, −2, 0 and 3.
    fn check(loss: impl Loss, expected: [f64; 4]) {
        let (output, targets) = (Tensor::from([1.0f64, -1.0, 0.25, 3.0]), Tensor::from([0.5f64, 1.0, 0.25, 0.0]));
        all_near(&values(loss.loss(&output.clone().into(), &targets)), &expected);
        check_gradient(&loss, &output.add_scalar(0.01), &targets);
    }

    #[test]
    fn each_is_its_formula() {
        let none = Reduction::None;
        check(Mse::new().reduction(none), [0.25, 4.0, 0.0, 9.0]);
        check(L1::new().reduction(none), [0.5, 2.0, 0.0, 3.0]);
        check(Huber::new().reduction(none), [0.125, 1.5, 0.0, 2.5]);
        check(Huber::new().delta(2.5).reduction(none), [0.125, 2.0, 0.0, 2.5 * 1.75]);
        check(SmoothL1::new().reduction(none), [0.125, 1.5, 0.0, 2.5]);
        check(SmoothL1::new().beta(2.5).reduction(none), [0.05, 0.8, 0.0, 1.75]);
        check(SmoothL1::new().beta(0.0).reduction(none), [0.5, 2.0, 0.0, 3.0]);
        check(LogCosh::new().reduction(none), [0.5f64, -2.0, 0.0, 3.0].map(|d| d.cosh().ln()));
    }

    #[test]
    fn gradients_are_derivatives_also_without_a_difference() {
        let (x, t) = (random([4, 3], -2.0, 2.0), random([4, 3], 0.0, 1.0));
        for loss in [&mse as &dyn Loss, &l1, &huber, &smooth_l1, &log_cosh] {
            check_gradient(loss, &x, &t);
            check_refusals(loss);
        }
        for loss in [&mse as &dyn Loss, &huber, &smooth_l1, &log_cosh] {
            check_gradient(loss, &t, &t);
        }
    }

    #[test]
    fn log_cosh_far_out_is_a_line() {
        let far =
            LogCosh::new().reduction(Reduction::Sum).loss(&Tensor::from([1000.0f64]).into(), &Tensor::from([0.0f64]));
        all_near(&values(far), &[1000.0 - 2f64.ln()]);
    }

    #[test]
    fn wrong_numbers_are_refused() {
        let (output, t) = (Var::from(Tensor::from([1.0f32])), Tensor::from([1.0f32]));
        let found = text(Huber::new().delta(0.0).loss(&output, &t));
        assert_eq!(found, "huber: delta is 0; help: use a positive number");
        let found = text(SmoothL1::new().beta(-1.0).loss(&output, &t));
        assert_eq!(found, "smooth_l1: beta is -1; help: use 0 or more");
    }
}
