//! Losses for independent yes-or-no questions: targets `t` are from 0 to 1.

use super::classes::focus;
use super::{expect_alike, loss, weighted};
use crate::{Error, Result};
use maplet_autograd::{Var, record};
use maplet_tensor::{DType, Float, Tensor};

loss! {
    /// `−t · log σ(z) − (1 − t) · log(1 − σ(z))` of logits `z`.
    ///
    /// PyTorch: `nn.BCEWithLogitsLoss`; Keras: `losses.BinaryCrossentropy(from_logits=True)`.
    ///
    /// # Shapes
    /// - logits and targets of one shape and type; weights broadcast to it
    ///
    /// # Errors
    /// Another shape or type.
    ///
    /// # Numerics
    /// Both terms are computed by `log_sigmoid`, so that nothing overflows and no digits cancel.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::{BceWithLogits, Loss, bce_with_logits};
    ///
    /// let (logits, targets) = (Var::from(Tensor::from([0.0f64, 0.0])), Tensor::from([1.0f64, 0.0]));
    /// assert_eq!(bce_with_logits(&logits, &targets)?.item::<f64>()?, 2f64.ln());
    /// let positives_count_thrice = BceWithLogits::new().pos_weight(Tensor::from([3.0f64]));
    /// assert_eq!(positives_count_thrice.loss(&logits, &targets)?.item::<f64>()?, 2.0 * 2f64.ln());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "binary_crossentropy")]
    pub struct BceWithLogits {}
    weights {
        /// How much each element counts. The mean is still divided by the number of elements.
        weight,
        /// How much more the positive targets count than the negative ones, usually one number a class.
        pos_weight
    }
    fn bce_with_logits
}

impl BceWithLogits {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let op = "bce_with_logits";
        let t = expect_alike(op, output, targets)?;
        let positive = weighted(op, &t, self.pos_weight.as_ref())?;
        let each = two_sided(output, &positive, &t.neg().add_scalar(1.0))?;
        self.reduction.of(op, &weighted(op, &each, self.weight.as_ref())?)
    }
}

/// `−positive · log σ(z) − negative · log σ(−z)`
fn two_sided(z: &Var, positive: &Var, negative: &Var) -> Result<Var> {
    Ok(z.log_sigmoid().mul(positive)?.add(&z.neg().log_sigmoid().mul(negative)?)?.neg())
}

loss! {
    /// `−t · log p − (1 − t) · log(1 − p)` of probabilities `p`. [`BceWithLogits`] is more exact.
    ///
    /// PyTorch: `nn.BCELoss`; Keras: `losses.BinaryCrossentropy`.
    ///
    /// # Errors
    /// A probability or a target outside 0 to 1; another shape or type.
    ///
    /// # Numerics
    /// Logarithms are kept above −100, and the divisor `p (1 − p)` of the gradient above 1e−12, as in PyTorch.
    pub struct Bce {}
    weights {
        /// How much each element counts. The mean is still divided by the number of elements.
        weight
    }
    fn bce
}

impl Bce {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let t = expect_alike("bce", output, targets)?;
        let each = match output.dtype() {
            DType::F64 => each_bce::<f64>(output.value(), targets)?,
            _ => each_bce::<f32>(output.value(), targets)?,
        };
        let p = output.clone();
        let rule = move |dy: Var| {
            let divisor = p.sub(&p.square())?.clamp(1e-12, f64::INFINITY);
            dy.mul(&p.sub(&t)?.div(&divisor)?)
        };
        let each = record("bce", each).pull(output, rule).done()?;
        self.reduction.of("bce", &weighted("bce", &each, self.weight.as_ref())?)
    }
}

fn each_bce<T: Float>(probs: &Tensor, targets: &Tensor) -> Result<Tensor> {
    expect_shares::<T>("output", probs, "probabilities are from 0 to 1: for logits there is bce_with_logits")?;
    expect_shares::<T>("target", targets, "targets are from 0, for no, to 1, for yes")?;
    let kept = |log: T| log.max(T::from_f64(-100.0));
    let each = |p: T, t: T| -(t * kept(p.ln()) + (T::one() - t) * kept((-p).ln_1p()));
    Ok(probs.zip::<T>(targets, each)?)
}

/// Refuses what is not from 0 to 1.
fn expect_shares<T: Float>(name: &str, shares: &Tensor, help: &str) -> Result<()> {
    let shares = shares.as_slice::<T>()?;
    match shares.iter().position(|share| !(T::zero()..=T::one()).contains(share)) {
        Some(at) => Err(Error::new("bce", format!("{name} {at} is {}", shares[at]), help)),
        None => Ok(()),
    }
}

loss! {
    /// [`BceWithLogits`], averaged over the classes on the last axis: one number a sample.
    ///
    /// PyTorch: `nn.MultiLabelSoftMarginLoss`; Keras: –.
    ///
    /// # Shapes
    /// - logits and targets `[.., k]`, weight `[k]`; numbers `[..]` before the reduction
    ///
    /// # Errors
    /// Another shape or type.
    pub struct MultiLabelSoftMargin {}
    weights {
        /// How much each class counts. The mean is still divided by the number of classes.
        weight
    }
    fn multi_label_soft_margin
}

impl MultiLabelSoftMargin {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let op = "multi_label_soft_margin";
        let t = expect_alike(op, output, targets)?;
        let each = two_sided(output, &t, &t.neg().add_scalar(1.0))?;
        let each = weighted(op, &each, self.weight.as_ref())?.mean(-1, false)?;
        self.reduction.of(op, &each)
    }
}

loss! {
    /// `−α_t (1 − p_t)^gamma · log p_t`, where `p_t` is the probability of the right answer, and `α_t` is `alpha` for
    /// positive and `1 − alpha` for negative targets: what the model is sure of counts little.
    ///
    /// PyTorch: `torchvision.ops.sigmoid_focal_loss`; Keras: `losses.BinaryFocalCrossentropy`.
    ///
    /// # Shapes
    /// - logits and targets of one shape and type
    ///
    /// # Errors
    /// Another shape or type.
    ///
    /// # Reference
    /// Lin, Goyal, Girshick, He & Dollár (2017), "Focal Loss for Dense Object Detection", eq. 5.
    pub struct SigmoidFocal {
        /// How much positive targets count, 0.25; below 0 all count 1.
        alpha: f64 = 0.25,
        /// How much less the easy ones count, 2.
        gamma: f64 = 2.0,
    }
    fn sigmoid_focal
}

impl SigmoidFocal {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let t = expect_alike("sigmoid_focal", output, targets)?;
        let rest = t.neg().add_scalar(1.0);
        let miss = output.sigmoid().mul(&rest)?.add(&output.neg().sigmoid().mul(&t)?)?;
        let mut each = two_sided(output, &t, &rest)?.mul(&focus(&miss, self.gamma))?;
        if self.alpha >= 0.0 {
            each = each.mul(&t.mul_scalar(self.alpha).add(&rest.mul_scalar(1.0 - self.alpha))?)?;
        }
        self.reduction.of("sigmoid_focal", &each)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, check_refusals, near, random, text, value, values};
    use super::*;
    use crate::{Loss, Reduction};

    #[test]
    fn bce_with_logits_is_exact_at_the_ends() {
        let bce = |z: f64, t: f64| value(bce_with_logits(&Tensor::from([z]).into(), &Tensor::from([t])));
        near(bce(0.0, 0.3), 2f64.ln());
        near(bce(3f64.ln(), 1.0), (4.0f64 / 3.0).ln()); // σ = 3/4
        near(bce(3f64.ln(), 0.25), 0.25 * (4.0f64 / 3.0).ln() + 0.75 * 4f64.ln());
        assert_eq!((bce(800.0, 1.0), bce(-800.0, 1.0), bce(800.0, 0.0)), (0.0, 800.0, 800.0));
        assert!((bce(40.0, 1.0) / (-40f64).exp() - 1.0).abs() < 1e-12); // log(1 + e) ≈ e
        assert!((bce(-40.0, 0.0) / (-40f64).exp() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn weights_of_elements_and_of_positive_targets() {
        let (z, t) = (Var::from(Tensor::from([[0.0f64, 0.0], [0.0, 0.0]])), Tensor::from([[1.0f64, 0.0], [0.5, 1.0]]));
        let ln = 2f64.ln();
        let loss = BceWithLogits::new().pos_weight(Tensor::from([3.0f64, 5.0])).reduction(Reduction::None);
        all_near(&values(loss.loss(&z, &t)), &[3.0 * ln, ln, 2.0 * ln, 5.0 * ln]);
        let loss = loss.weight(Tensor::from([[1.0f64], [10.0]]));
        all_near(&values(loss.clone().loss(&z, &t)), &[3.0 * ln, ln, 20.0 * ln, 50.0 * ln]);
        near(value(loss.reduction(Reduction::Mean).loss(&z, &t)), 74.0 * ln / 4.0);
        let found = text(BceWithLogits::new().weight(Tensor::from([1.0f64, 2.0, 3.0])).loss(&z, &t));
        let expected = "bce_with_logits: the weight is [3], the losses [2, 2]; help: a weight must broadcast to them";
        assert_eq!(found, expected);
    }

    #[test]
    fn bce_of_probabilities() {
        let (p, t) = (Var::from(Tensor::from([0.25f64, 0.25, 0.0, 1.0])), Tensor::from([1.0f64, 0.5, 1.0, 1.0]));
        let loss = Bce::new().reduction(Reduction::None);
        all_near(&values(loss.loss(&p, &t)), &[4f64.ln(), 0.5 * 4f64.ln() + 0.5 * (4.0f64 / 3.0).ln(), 100.0, 0.0]);
        near(value(Bce::new().weight(Tensor::from([2.0f64, 0.0, 0.0, 1.0])).loss(&p, &t)), 4f64.ln() / 2.0);
        let pass = maplet_autograd::Pass::record();
        let end = pass.leaf(Tensor::from([0.0f64]));
        let grads = bce(&end, &Tensor::from([1.0f64])).unwrap().backward().unwrap();
        assert_eq!(grads.of(&end), Some(&Tensor::from([-1e12f64]))); // not ∞
        let found = text(bce(&Tensor::from([0.5f32, 1.5]).into(), &Tensor::from([1.0f32, 1.0])));
        let expected = "bce: output 1 is 1.5; help: probabilities are from 0 to 1: for logits there is bce_with_logits";
        assert_eq!(found, expected);
        for (target, shown) in [(-1.0, "-1"), (1.5, "1.5"), (f32::NAN, "NaN")] {
            let found = text(bce(&Tensor::from([0.5f32, 0.5]).into(), &Tensor::from([1.0f32, target])));
            assert_eq!(found, format!("bce: target 1 is {shown}; help: targets are from 0, for no, to 1, for yes"));
        }
    }

    #[test]
    fn multi_label_soft_margin_is_the_mean_over_classes() {
        let (z, t) = (Var::from(Tensor::from([[0.0f64, 3f64.ln()]])), Tensor::from([[1.0f64, 0.0]]));
        near(value(multi_label_soft_margin(&z, &t)), (2f64.ln() + 4f64.ln()) / 2.0);
        let weighted = MultiLabelSoftMargin::new().weight(Tensor::from([1.0f64, 4.0])).reduction(Reduction::None);
        all_near(&values(weighted.loss(&z, &t)), &[(2f64.ln() + 4.0 * 4f64.ln()) / 2.0]);
    }

    #[test]
    fn sigmoid_focal_by_its_formula() {
        let (z, t) = (Var::from(Tensor::from([3f64.ln(), 3f64.ln()])), Tensor::from([1.0f64, 0.0]));
        let loss = SigmoidFocal::new().reduction(Reduction::None);
        let (yes, no) = ((4.0f64 / 3.0).ln() / 16.0, 4f64.ln() * 9.0 / 16.0);
        all_near(&values(loss.clone().loss(&z, &t)), &[0.25 * yes, 0.75 * no]);
        all_near(&values(loss.clone().alpha(-1.0).loss(&z, &t)), &[yes, no]);
        all_near(&values(loss.alpha(0.5).gamma(0.0).loss(&z, &t)), &[8.0 * yes, no * 8.0 / 9.0]);
    }

    #[test]
    fn gradients_are_derivatives() {
        let (z, t) = (random([4, 3], -2.0, 2.0), random([4, 3], 0.0, 1.0));
        let weighted = BceWithLogits::new().weight(Tensor::from([1.0f64, 2.0, 3.0])).pos_weight(Tensor::from([2.0f64]));
        for loss in [&bce_with_logits as &dyn Loss, &weighted, &multi_label_soft_margin, &sigmoid_focal] {
            check_gradient(loss, &z, &t);
            check_gradient(loss, &z.zeros_like(), &t);
            check_gradient(loss, &z.mul_scalar(500.0), &t); // far out
        }
        check_gradient(&SigmoidFocal::new().gamma(0.5), &z.mul_scalar(500.0), &t.mul_scalar(0.0));
        check_gradient(&bce, &random([4, 3], 0.1, 0.9), &t);
        for loss in [&bce_with_logits as &dyn Loss, &bce, &sigmoid_focal] {
            check_refusals(loss);
        }
    }
}
