//! Losses of a margin, for targets `t` of 1 and −1.

use super::{check_signs, expect_signs, loss};
use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::Tensor;

loss! {
    /// `max(0, 1 − t · output)`
    ///
    /// PyTorch: –; Keras: `losses.Hinge`.
    ///
    /// # Errors
    /// A target that is not 1 or −1; another shape or type.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::hinge;
    ///
    /// let output = Var::from(Tensor::from([0.5f32, 1.0]));
    /// let loss = hinge(&output, &Tensor::from([1.0f32, -1.0]))?;
    /// assert_eq!(loss.item::<f32>()?, (0.5 + 2.0) / 2.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Hinge {}
    fn hinge
}

impl Hinge {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        self.reduction.of("hinge", &shortfall("hinge", output, targets)?)
    }
}

loss! {
    /// `max(0, 1 − t · output)²`
    ///
    /// PyTorch: –; Keras: `losses.SquaredHinge`.
    ///
    /// # Errors
    /// A target that is not 1 or −1; another shape or type.
    pub struct SquaredHinge {}
    fn squared_hinge
}

impl SquaredHinge {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        self.reduction.of("squared_hinge", &shortfall("squared_hinge", output, targets)?.square())
    }
}

/// What `t · output` lacks to 1.
fn shortfall(op: &'static str, output: &Var, targets: &Tensor) -> Result<Var> {
    let t = expect_signs(op, output, targets)?;
    Ok(output.mul(&t)?.neg().add_scalar(1.0).relu())
}

loss! {
    /// The output where the target is 1, else `max(0, margin − output)`: for distances of pairs that belong together or
    /// not.
    ///
    /// PyTorch: `nn.HingeEmbeddingLoss`; Keras: –.
    ///
    /// # Errors
    /// A target that is not 1 or −1; another shape or type.
    pub struct HingeEmbedding {
        /// How far apart pairs should be that do not belong together, 1.
        margin: f64 = 1.0,
    }
    fn hinge_embedding
}

impl HingeEmbedding {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        expect_signs("hinge_embedding", output, targets)?;
        let together = output.constant(targets.greater(&targets.zeros_like())?);
        let apart = output.neg().add_scalar(self.margin).relu();
        self.reduction.of("hinge_embedding", &together.where_cond(output, &apart)?)
    }
}

loss! {
    /// `log(1 + exp(−t · output))`
    ///
    /// PyTorch: `nn.SoftMarginLoss`; Keras: –.
    ///
    /// # Errors
    /// A target that is not 1 or −1; another shape or type.
    pub struct SoftMargin {}
    fn soft_margin
}

impl SoftMargin {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let t = expect_signs("soft_margin", output, targets)?;
        self.reduction.of("soft_margin", &output.mul(&t)?.log_sigmoid().neg())
    }
}

loss! {
    /// `max(0, margin − t · (first − second))`: the first of a pair should be the larger where the target is 1, the
    /// second where it is −1.
    ///
    /// PyTorch: `nn.MarginRankingLoss`; Keras: –.
    pub struct MarginRanking {
        /// How much larger, 0.
        margin: f64 = 0.0,
    }
}

impl MarginRanking {
    /// The loss of pairs.
    ///
    /// # Errors
    /// Different shapes or types, or a target that is not 1 or −1.
    pub fn loss(&self, first: &Var, second: &Var, targets: &Tensor) -> Result<Var> {
        let op = "margin_ranking";
        if first.shape() != second.shape() {
            let what = format!("the pairs are {} and {}", first.shape(), second.shape());
            return Err(Error::new(op, what, "both must have one shape"));
        }
        let t = expect_signs(op, first, targets)?;
        self.reduction.of(op, &first.sub(second)?.mul(&t)?.neg().add_scalar(self.margin).relu())
    }
}

/// [`MarginRanking`] with its defaults.
///
/// # Errors
/// As there.
pub fn margin_ranking(first: &Var, second: &Var, targets: &Tensor) -> Result<Var> {
    MarginRanking::new().loss(first, second, targets)
}

/// 1 where a target is 1 and 0 where it is −1, for one target a sample, of any element type.
pub(super) fn together(op: &'static str, of: &Var, targets: &Tensor) -> Result<Var> {
    super::expect_shape(op, of, targets)?;
    check_signs(op, targets)?;
    Ok(of.constant(targets.greater(&targets.zeros_like())?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, check_refusals, near, random, text, value, values};
    use super::*;
    use crate::{Loss, Reduction};
    use maplet_autograd::gradcheck;

    #[test]
    fn each_is_its_formula() {
        let none = Reduction::None;
        let soft = |x: f64| x.exp().ln_1p();
        let all: [(Box<dyn Loss>, [f64; 4]); 5] = [
            (Box::new(Hinge::new().reduction(none)), [0.5, 3.0, 1.25, 4.0]),
            (Box::new(SquaredHinge::new().reduction(none)), [0.25, 9.0, 1.5625, 16.0]),
            (Box::new(HingeEmbedding::new().reduction(none)), [0.5, -2.0, 0.75, 0.0]),
            (Box::new(HingeEmbedding::new().margin(4.0).reduction(none)), [0.5, -2.0, 3.75, 1.0]),
            (Box::new(SoftMargin::new().reduction(none)), [soft(-0.5), soft(2.0), soft(0.25), soft(3.0)]),
        ];
        let (x, t) = (Var::from(Tensor::from([0.5f64, -2.0, 0.25, 3.0])), Tensor::from([1.0f64, 1.0, -1.0, -1.0]));
        for (loss, expected) in all {
            all_near(&values(loss.loss(&x, &t)), &expected);
            check_gradient(&*loss, x.value(), &t);
        }
    }

    #[test]
    fn targets_are_signs() {
        let x = Var::from(Tensor::from([0.5f64, -2.0]));
        for loss in [&hinge as &dyn Loss, &squared_hinge, &hinge_embedding, &soft_margin] {
            check_refusals(loss);
            let found = text(loss.loss(&x, &Tensor::from([1.0f64, 0.0])));
            let help = "help: use 1 and -1; for t of 0 and 1 that is 2t - 1";
            assert_eq!(found, format!("{}: target 1 is 0; {help}", loss.name()));
        }
    }

    #[test]
    fn soft_margin_far_out_is_a_line() {
        let loss = SoftMargin::new().reduction(Reduction::None);
        let x = Var::from(Tensor::from([1000.0f64, -1000.0]));
        all_near(&values(loss.loss(&x, &Tensor::from([-1.0f64, -1.0]))), &[1000.0, 0.0]);
    }

    #[test]
    fn margin_ranking_of_pairs() {
        let (a, b) = (Var::from(Tensor::from([1.0f64, 1.0, 1.0])), Var::from(Tensor::from([0.5f64, 0.5, 2.0])));
        let t = Tensor::from([1.0f64, -1.0, -1.0]);
        near(value(margin_ranking(&a, &b, &t)), 0.5 / 3.0);
        let loss = MarginRanking::new().margin(0.75).reduction(Reduction::None);
        all_near(&values(loss.loss(&a, &b, &t)), &[0.25, 1.25, 0.0]);
        let (x, y) = (random([3, 2], -1.0, 1.0), random([3, 2], 0.0, 2.0));
        let t = Tensor::from([[1.0f64, -1.0], [1.0, 1.0], [-1.0, -1.0]]);
        gradcheck(|v| Ok(loss.loss(&v[0], &v[1], &t)?), &[x, y]).unwrap();
        let found = text(margin_ranking(&a, &Tensor::from([1.0f64]).into(), &Tensor::from([1.0f64])));
        assert_eq!(found, "margin_ranking: the pairs are [3] and [1]; help: both must have one shape");
        let found = text(margin_ranking(&a, &b, &Tensor::from([1.0f64, 2.0, 1.0])));
        assert_eq!(found, "margin_ranking: target 1 is 2; help: use 1 and -1; for t of 0 and 1 that is 2t - 1");
    }
}
