//! Losses of the overlap of regions, for segmentation: outputs are probabilities.

use super::{expect_alike, expect_that, loss};
use crate::Result;
use maplet_autograd::Var;
use maplet_tensor::Tensor;

loss! {
    /// `1 − (2 Σ p t + smooth) / (Σ p + Σ t + smooth)` for each sample, summed over all of it.
    ///
    /// PyTorch: –; Keras: `losses.Dice`.
    ///
    /// # Shapes
    /// - probabilities and targets (from 0 to 1) of one shape, `[n, ..]`; numbers `[n]` before the reduction
    ///
    /// # Errors
    /// Another shape or type, or a negative `smooth`.
    ///
    /// # Reference
    /// Milletari, Navab & Ahmadi (2016), "V-Net", §3. Keras adds its 1e−7 to the divisor alone.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{Dice, Loss};
    ///
    /// let (half, all) = (Var::from(Tensor::from([[1.0f64, 0.0]])), Tensor::from([[1.0f64, 1.0]]));
    /// let loss = Dice::new().smooth(0.0).loss(&half, &all)?.item::<f64>()?;
    /// assert!((loss - 1.0 / 3.0).abs() < 1e-15); // 1 − 2 · 1 / (1 + 2)
    /// # Ok::<(), maplet_nn_layers::Error>(())
    /// ```
    pub struct Dice {
        /// Added to both sides, 1, so that nothing found where there is nothing is no loss.
        smooth: f64 = 1.0,
    }
    fn dice
}

impl Dice {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        not_negative("dice", &[("smooth", self.smooth)])?;
        self.reduction.of("dice", &index("dice", output, targets, [0.5, 0.5], self.smooth / 2.0)?)
    }
}

loss! {
    /// `1 − (h + smooth) / (h + alpha · f + beta · m + smooth)` for each sample, with the hits `h = Σ p t`, the false
    /// ones `f = Σ p (1 − t)` and the missed ones `m = Σ (1 − p) t`.
    ///
    /// PyTorch: –; Keras: `losses.Tversky`.
    ///
    /// # Shapes
    /// - probabilities and targets (from 0 to 1) of one shape, `[n, ..]`; numbers `[n]` before the reduction
    ///
    /// # Errors
    /// Another shape or type, or a negative number.
    ///
    /// # Reference
    /// Salehi, Erdogmus & Gholipour (2017), "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional
    /// Deep Networks", eq. 2.
    pub struct Tversky {
        /// What a false one costs, 0.5.
        alpha: f64 = 0.5,
        /// What a missed one costs, 0.5.
        beta: f64 = 0.5,
        /// Added to both sides, 1.
        smooth: f64 = 1.0,
    }
    fn tversky
}

impl Tversky {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        not_negative("tversky", &[("alpha", self.alpha), ("beta", self.beta), ("smooth", self.smooth)])?;
        self.reduction.of("tversky", &index("tversky", output, targets, [self.alpha, self.beta], self.smooth)?)
    }
}

fn not_negative(op: &'static str, numbers: &[(&str, f64)]) -> Result<()> {
    let check =
        |(name, number): &(&str, f64)| expect_that(*number >= 0.0, op, format!("{name} is {number}"), "use 0 or more");
    numbers.iter().try_for_each(check)
}

fn index(op: &'static str, output: &Var, targets: &Tensor, [alpha, beta]: [f64; 2], smooth: f64) -> Result<Var> {
    let t = expect_alike(op, output, targets)?;
    let n = output.shape().first().copied().unwrap_or(1);
    let samples = [n, output.len() / n.max(1)];
    let (p, t) = (output.reshape(samples)?, t.reshape(samples)?);
    let hits = p.mul(&t)?.sum(1, false)?;
    let (wrong, missed) = (p.sum(1, false)?.sub(&hits)?, t.sum(1, false)?.sub(&hits)?);
    let all = hits.add(&wrong.mul_scalar(alpha))?.add(&missed.mul_scalar(beta))?.add_scalar(smooth);
    Ok(hits.add_scalar(smooth).div(&all)?.neg().add_scalar(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, check_refusals, near, random, text, value, values};
    use super::*;
    use crate::{Loss, Reduction};

    #[test]
    fn by_their_formulas() {
        let (p, t) = (Var::from(Tensor::from([[0.5f64, 1.0], [0.0, 0.0]])), Tensor::from([[1.0f64, 0.0], [0.0, 0.0]]));
        let none = Reduction::None;
        all_near(&values(Dice::new().reduction(none).loss(&p, &t)), &[1.0 - 2.0 / 3.5, 0.0]);
        near(value(dice(&p, &t)), (1.0 - 2.0 / 3.5) / 2.0);
        let loss = Tversky::new().alpha(0.3).beta(0.7).smooth(0.0).reduction(Reduction::Sum);
        let one = p.slice(0, 0, 1).unwrap();
        near(value(loss.loss(&one, &t.slice(0, 0, 1).unwrap())), 1.0 - 0.5 / (0.5 + 0.3 + 0.35));
        // Tversky with halves is Dice with twice the smoothing.
        let halves = value(Tversky::new().loss(&p, &t));
        near(halves, value(Dice::new().smooth(2.0).loss(&p, &t)));
        let (p, t) = (random([3, 4], 0.1, 0.9), random([3, 4], 0.0, 1.0));
        check_gradient(&dice, &p, &t);
        check_gradient(&tversky, &p, &t);
        check_refusals(&dice);
        check_refusals(&tversky);
    }

    #[test]
    fn negative_numbers_are_refused() {
        let (p, t) = (Var::from(Tensor::from([[0.5f64]])), Tensor::from([[1.0f64]]));
        let found = text(Tversky::new().alpha(-0.5).loss(&p, &t));
        assert_eq!(found, "tversky: alpha is -0.5; help: use 0 or more");
        assert_eq!(text(Dice::new().smooth(-2.0).loss(&p, &t)), "dice: smooth is -2; help: use 0 or more");
    }
}
