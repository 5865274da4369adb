//! Losses that are minus the logarithm of a probability, or compare two distributions.

use super::{expect_alike, expect_that, loss};
use crate::{Error, Result};
use maplet_autograd::Var;
use maplet_tensor::{DType, Tensor};
use std::f64::consts::TAU;

loss! {
    /// The Kullback-Leibler divergence `t · (log t − output)` of outputs that are *log*-probabilities.
    ///
    /// Sum it over the classes: [`Reduction::BatchMean`](crate::Reduction::BatchMean) is the divergence's mean over the
    /// batch, the mean divides by the number of classes as well.
    ///
    /// PyTorch: `nn.KLDivLoss`; Keras: `losses.KLDivergence`.
    ///
    /// # Numerics
    /// A target of 0 gives 0.
    ///
    /// # Reference
    /// Kullback & Leibler (1951), "On Information and Sufficiency".
    pub struct KlDiv {
        /// Whether the targets are log-probabilities too.
        log_target: bool = false,
    }
    fn kl_div
}

impl KlDiv {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let t = expect_alike("kl_div", output, targets)?;
        let (probs, log_probs) = match self.log_target {
            true => (targets.exp(), targets.clone()),
            // Where the probability is 0 any finite logarithm will do.
            false => (targets.clone(), targets.add(&targets.equal(&targets.zeros_like())?.to_dtype(t.dtype()))?.log()),
        };
        let each = output.constant(log_probs).sub(output)?.mul(&output.constant(probs))?;
        self.reduction.of("kl_div", &each)
    }
}

loss! {
    /// `exp(output) − t · output` for counts `t` of a Poisson distribution and the logarithm of its rate, without the
    /// part `log t!`, which is constant.
    ///
    /// PyTorch: `nn.PoissonNLLLoss`; Keras: `losses.Poisson`.
    pub struct PoissonNll {
        /// Whether outputs are logarithms of rates, as they are unless this is false: then the loss is
        /// `output − t · log(output + eps)`.
        log_input: bool = true,
        /// Adds Stirling's approximation of `log t!`, `t log t − t + log(2πt) / 2`, where `t > 1`.
        full: bool = false,
        /// Keeps the logarithm of a rate finite, 1e−8.
        eps: f64 = 1e-8,
    }
    fn poisson_nll
}

impl PoissonNll {
    fn of(&self, output: &Var, targets: &Tensor) -> Result<Var> {
        let t = expect_alike("poisson_nll", output, targets)?;
        let mut each = match self.log_input {
            true => output.exp().sub(&t.mul(output)?)?,
            false => output.sub(&t.mul(&output.add_scalar(self.eps).log())?)?,
        };
        if self.full {
            let one = Tensor::ones([], targets.dtype());
            let t = targets.maximum(&one)?;
            let stirling = t.mul(&t.log())?.sub(&t)?.add(&t.mul_scalar(TAU).log().mul_scalar(0.5))?;
            let stirling = targets.greater(&one)?.where_cond(&stirling, &one.zeros_like())?;
            each = each.add(&output.constant(stirling))?;
        }
        self.reduction.of("poisson_nll", &each)
    }
}

loss! {
    /// `(log var + (output − t)² / var) / 2` for a normal distribution whose mean and variance are predicted.
    ///
    /// PyTorch: `nn.GaussianNLLLoss`; Keras: –.
    ///
    /// # Shapes
    /// - output and targets of one shape; `var` the same, or with the last axis of size 1 or missing: one variance for
    ///   all of a sample
    ///
    /// # Reference
    /// Nix & Weigend (1994), "Estimating the Mean and Variance of the Target Probability Distribution".
    pub struct GaussianNll {
        /// Adds the constant `log(2π) / 2`.
        full: bool = false,
        /// The least variance, 1e−6. Where it is less its gradient flows all the same.
        eps: f64 = 1e-6,
    }
}

impl GaussianNll {
    /// The loss for a predicted mean and variance.
    ///
    /// # Errors
    /// Another shape or type, a negative variance, an `eps` that is not positive.
    pub fn loss(&self, output: &Var, targets: &Tensor, var: &Var) -> Result<Var> {
        let op = "gaussian_nll";
        let t = expect_alike(op, output, targets)?;
        expect_that(self.eps > 0.0, op, format!("eps is {}", self.eps), "use a small positive number")?;
        let var = spread(op, var, output)?;
        let least = var.value().to_dtype(DType::F64).to_vec::<f64>()?.into_iter().fold(0.0, f64::min);
        expect_that(least >= 0.0, op, format!("a variance is {least}"), "use exp or softplus for the output")?;
        // Raised by a constant, so that the gradient does not stop where the variance is small.
        let raised = var.value().clamp(self.eps, f64::INFINITY).sub(var.value())?;
        let var = var.add(&output.constant(raised))?;
        let each = var.log().add(&output.sub(&t)?.square().div(&var)?)?.mul_scalar(0.5);
        let each = if self.full { each.add_scalar(TAU.ln() / 2.0) } else { each };
        self.reduction.of(op, &each)
    }
}

/// [`GaussianNll`] with its defaults.
///
/// # Errors
/// As there.
pub fn gaussian_nll(output: &Var, targets: &Tensor, var: &Var) -> Result<Var> {
    GaussianNll::new().loss(output, targets, var)
}

/// A variance of the shape `[.., d]`, `[.., 1]` or `[..]`, so that it broadcasts to `[.., d]`.
fn spread(op: &'static str, var: &Var, output: &Var) -> Result<Var> {
    let (shape, of) = (output.shape(), var.shape());
    if of == shape || (shape.rank() > 0 && of == shape.with_size(shape.rank() - 1, 1)) {
        return Ok(var.clone());
    }
    if shape.rank() > 0 && of == shape.without(shape.rank() - 1) {
        return Ok(var.unsqueeze(-1)?);
    }
    Err(Error::new(op, format!("the output is {shape}, the variance {of}"), "give one for each element or each sample"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, check_gradient, check_refusals, near, random, text, value, values};
    use super::*;
    use crate::{Loss, Reduction};
    use maplet_autograd::gradcheck;

    #[test]
    fn kl_div_is_the_mean_difference_of_logarithms() {
        let (p, q) = ([0.25f64, 0.75, 0.0], [0.5f64, 0.25, 0.25]);
        let output = Var::from(Tensor::from([q.map(f64::ln)]));
        let expected = 0.25 * 0.5f64.ln() + 0.75 * 3f64.ln();
        near(value(KlDiv::new().reduction(Reduction::BatchMean).loss(&output, &Tensor::from([p]))), expected);
        near(value(kl_div(&output, &Tensor::from([p]))), expected / 3.0);
        let logs = Tensor::from([[0.25f64.ln(), 0.75f64.ln(), f64::MIN]]);
        let log_target = KlDiv::new().log_target(true).reduction(Reduction::Sum);
        near(value(log_target.loss(&output, &logs)), expected);
        let (x, t) = (random([3, 4], -2.0, -0.1), random([3, 4], 0.0, 1.0));
        check_gradient(&kl_div, &x, &t);
        check_gradient(&log_target, &x, &x);
        check_refusals(&KlDiv::new());
    }

    #[test]
    fn poisson_nll_with_and_without_the_constant() {
        let (x, t) = (Var::from(Tensor::from([0.0f64, 1.0, -1.0])), Tensor::from([0.0f64, 1.0, 5.0]));
        let none = Reduction::None;
        let e = 1f64.exp();
        all_near(&values(PoissonNll::new().reduction(none).loss(&x, &t)), &[1.0, e - 1.0, 1.0 / e + 5.0]);
        let stirling = 5.0 * 5f64.ln() - 5.0 + 0.5 * (5.0 * TAU).ln();
        let full = PoissonNll::new().full(true).reduction(none);
        all_near(&values(full.loss(&x, &t)), &[1.0, e - 1.0, 1.0 / e + 5.0 + stirling]);
        let rates = PoissonNll::new().log_input(false).reduction(none);
        let x = Var::from(Tensor::from([0.0f64, 1.0, 2.0]));
        all_near(&values(rates.loss(&x, &t)), &[0.0, 1.0 - (1.0 + 1e-8f64).ln(), 2.0 - 5.0 * (2.0 + 1e-8f64).ln()]);
        let (x, t) = (random([3, 4], 0.1, 2.0), random([3, 4], 0.0, 3.0));
        check_gradient(&full, &x, &t);
        check_gradient(&rates, &x, &t);
        check_refusals(&PoissonNll::new());
    }

    #[test]
    fn gaussian_nll_takes_a_variance_an_element_or_a_sample() {
        let (x, t) = (Var::from(Tensor::from([[1.0f64, 3.0]])), Tensor::from([[0.0f64, 1.0]]));
        let loss = |var: Tensor| values(GaussianNll::new().reduction(Reduction::None).loss(&x, &t, &var.into()));
        let (four, two) = (4f64.ln(), 2f64.ln());
        all_near(&loss(Tensor::from([[2.0f64, 4.0]])), &[(two + 0.5) / 2.0, (four + 1.0) / 2.0]);
        for var in [Tensor::from([[4.0f64]]), Tensor::from([4.0f64])] {
            all_near(&loss(var), &[(four + 0.25) / 2.0, (four + 1.0) / 2.0]);
        }
        all_near(&loss(Tensor::from([0.0f64])), &[(1e-6f64.ln() + 1e6) / 2.0, (1e-6f64.ln() + 4e6) / 2.0]);
        let full = GaussianNll::new().full(true).loss(&x, &t, &Tensor::from([4.0f64]).into());
        near(value(full), (four + 0.625 + TAU.ln()) / 2.0);
        for shape in [&[3usize, 2][..], &[3, 1], &[3]] {
            let var = random([3, 2], 0.5, 2.0).slice(1, 0, *shape.get(1).unwrap_or(&1)).unwrap();
            let var = var.reshape(maplet_tensor::Shape::new(shape).unwrap()).unwrap();
            let t = random([3, 2], 0.0, 1.0);
            gradcheck(|v| Ok(gaussian_nll(&v[0], &t, &v[1])?), &[random([3, 2], -1.0, 1.0), var]).unwrap();
        }
    }

    #[test]
    fn gaussian_nll_refuses_what_is_no_variance() {
        let (x, t) = (Var::from(Tensor::from([[1.0f32, 3.0]])), Tensor::from([[0.0f32, 1.0]]));
        let found = |var: Tensor| text(gaussian_nll(&x, &t, &var.into()));
        let expected = "gaussian_nll: a variance is -2; help: use exp or softplus for the output";
        assert_eq!(found(Tensor::from([[1.0f32, -2.0]])), expected);
        let expected = "gaussian_nll: the output is [1, 2], the variance [2]; \
                        help: give one for each element or each sample";
        assert_eq!(found(Tensor::from([1.0f32, 2.0])), expected);
        let zero = GaussianNll::new().eps(0.0).loss(&x, &t, &Tensor::from([1.0f32]).into());
        assert_eq!(text(zero), "gaussian_nll: eps is 0; help: use a small positive number");
    }
}
