//! Random noise of training. Outside of training every op here is the identity.

use crate::{Error, Result, Var, record};
use maplet_tensor::{Shape, Tensor};

/// # Errors
/// All return an error for a probability or a standard deviation out of range.
impl Var {
    /// Sets each element to 0 with probability `p` and scales the others by `1 / (1 − p)`; with `p = 1` all are 0.
    ///
    /// # Reference
    /// Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
    pub fn dropout(&self, p: f64) -> Result<Var> {
        self.dropout_leading(p, self.rank())
    }

    /// As [`dropout`](Self::dropout), with one draw for each index of the first `axes` axes: on `[n, c, h, w]`, 2 drops
    /// whole channels, 1 whole samples and 0 the whole batch.
    ///
    /// # Reference
    /// Tompson, Goroshin, Jain, LeCun & Bregler (2015), "Efficient Object Localization Using Convolutional Networks",
    /// §3.2.
    pub fn dropout_leading(&self, p: f64, axes: usize) -> Result<Var> {
        let Some(mask) = self.kept("dropout", p, axes)? else { return Ok(self.clone()) };
        let mask = self.constant(mask);
        record("dropout", self.value().mul(mask.value())?).pull(self, move |dy| dy.mul(&mask)).done()
    }

    /// Sets elements to the value that `selu` saturates at with probability `p`, then
    /// scales and shifts all: mean 0 and variance 1 stay what they are. One draw for each index of the first `axes`
    /// axes; with `p = 1` all are 0.
    ///
    /// # Reference
    /// Klambauer, Unterthiner, Mayr & Hochreiter (2017), "Self-Normalizing Neural Networks", "New Dropout Technique".
    pub fn alpha_dropout(&self, p: f64, axes: usize) -> Result<Var> {
        const SATURATION: f64 = 1.758_099_340_847_376_6; // λα of selu
        let Some(mask) = self.kept("alpha_dropout", p, axes)? else { return Ok(self.clone()) };
        if p == 1.0 {
            return Ok(self.mul_scalar(0.0));
        }
        let scale = 1.0 / ((SATURATION * SATURATION * p + 1.0) * (1.0 - p)).sqrt();
        let kept = mask.mul_scalar(1.0 - p); // 0 or 1
        let shift = kept.add_scalar(p - 1.0).mul_scalar(SATURATION * scale);
        let by = self.constant(kept.mul_scalar(scale));
        record("alpha_dropout", self.value().mul(by.value())?.add(&shift)?).pull(self, move |dy| dy.mul(&by)).done()
    }

    /// Adds normal noise of mean 0 and standard deviation `std`.
    pub fn gaussian_noise(&self, std: f64) -> Result<Var> {
        if !(std >= 0.0 && std.is_finite()) {
            let what = format!("the standard deviation is {std}");
            return Err(Error::new("gaussian_noise", what, "use a finite number, 0 or more"));
        }
        let Some(noise) = self.normal("gaussian_noise", 0.0, std)? else { return Ok(self.clone()) };
        record("gaussian_noise", self.value().add(&noise)?).pull(self, Ok).done()
    }

    /// Multiplies with normal noise of mean 1 and standard deviation `√(p / (1 − p))`: the moments of dropout's noise.
    ///
    /// # Reference
    /// Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", §10.
    pub fn gaussian_dropout(&self, p: f64) -> Result<Var> {
        if !(0.0..1.0).contains(&p) {
            let what = format!("the probability is {p}");
            return Err(Error::new("gaussian_dropout", what, "use 0 or more, and less than 1"));
        }
        let Some(noise) = self.normal("gaussian_dropout", 1.0, (p / (1.0 - p)).sqrt())? else {
            return Ok(self.clone());
        };
        let noise = self.constant(noise);
        record("gaussian_dropout", self.value().mul(noise.value())?).pull(self, move |dy| dy.mul(&noise)).done()
    }

    /// The mask of a dropout, which broadcasts over the axes after the first `axes`; nothing if nothing is dropped.
    fn kept(&self, op: &'static str, p: f64, axes: usize) -> Result<Option<Tensor>> {
        check_probability(op, p)?;
        let Some(mut rng) = self.rng().filter(|_| p > 0.0) else { return Ok(None) };
        let sizes: Vec<usize> = self.shape().iter().enumerate().map(|(i, &n)| if i < axes { n } else { 1 }).collect();
        Ok(Some(Tensor::dropout_mask(Shape::new(&sizes)?, self.dtype(), p, &mut rng)?))
    }

    fn normal(&self, op: &'static str, mean: f64, std: f64) -> Result<Option<Tensor>> {
        if !self.dtype().is_float() {
            let what = format!("expects f32 or f64, got {}", self.dtype());
            return Err(Error::new(op, what, "convert with to_dtype(DType::F32)"));
        }
        let Some(mut rng) = self.rng().filter(|_| std > 0.0) else { return Ok(None) };
        Ok(Some(Tensor::normal(self.shape(), mean, std, &mut rng).to_dtype(self.dtype())))
    }
}

pub(super) fn check_probability(op: &'static str, p: f64) -> Result<()> {
    match p {
        0.0..=1.0 => Ok(()),
        _ => Err(Error::new(op, format!("the probability is {p}"), "use a number from 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_tensor::Tensor;

    #[test]
    fn impossible_deviations_are_refused() {
        for std in [-0.5, f64::NAN, f64::INFINITY] {
            let text = Var::from(Tensor::from([1.0f32])).gaussian_noise(std).unwrap_err().to_string();
            let want = format!("gaussian_noise: the standard deviation is {std}; help: use a finite number, 0 or more");
            assert_eq!(text, want);
        }
    }
}
