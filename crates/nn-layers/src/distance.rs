//! [`CosineSimilarity`] and [`PairwiseDistance`]: how alike two values are, sample by sample.

use crate::{Error, Result};
use maplet_autograd::Var;

/// `a · b / (‖a‖ ‖b‖)` along an axis: 1 for one direction, −1 for opposite ones.
///
/// PyTorch: `nn.CosineSimilarity`; Keras: –.
///
/// # Shapes
/// - two values that broadcast to each other; the result lacks the axis
///
/// # Numerics
/// Norms are kept above `eps`, so a zero vector is like nothing: 0.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::cosine_similarity;
///
/// let (a, b) = (Tensor::from([[3.0f32, 4.0], [1.0, 0.0]]), Tensor::from([[6.0f32, 8.0], [0.0, 2.0]]));
/// assert_eq!(cosine_similarity(&Var::from(a), &Var::from(b))?.value(), &Tensor::from([1.0f32, 0.0]));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CosineSimilarity {
    axis: isize,
    eps: f64,
}

/// `(Σ |a − b + eps|^p)^(1/p)` over the last axis.
///
/// PyTorch: `nn.PairwiseDistance`; Keras: –.
///
/// # Shapes
/// - two values that broadcast to each other; the result lacks the last axis, unless that is kept
#[derive(Debug, Clone)]
pub struct PairwiseDistance {
    p: f64,
    eps: f64,
    keepdims: bool,
}

/// [`CosineSimilarity`] along axis 1.
///
/// # Errors
/// As there.
pub fn cosine_similarity(a: &Var, b: &Var) -> Result<Var> {
    CosineSimilarity::new().forward(a, b)
}

/// [`PairwiseDistance`] with its defaults: the Euclidean distance.
///
/// # Errors
/// As there.
pub fn pairwise_distance(a: &Var, b: &Var) -> Result<Var> {
    PairwiseDistance::new().forward(a, b)
}

#[allow(clippy::new_without_default)] // one way to make it: new()
impl CosineSimilarity {
    /// Along axis 1, with `eps` 1e−8.
    pub fn new() -> Self {
        Self { axis: 1, eps: 1e-8 }
    }

    /// The axis of the vectors.
    pub fn axis(self, axis: isize) -> Self {
        Self { axis, ..self }
    }

    /// The least norm.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The similarity of each pair of vectors.
    ///
    /// # Errors
    /// Shapes that do not broadcast, types that differ, no such axis.
    pub fn forward(&self, a: &Var, b: &Var) -> Result<Var> {
        let shape = alike("cosine_similarity", a, b)?;
        let axis = shape.axis("cosine_similarity", self.axis)? as isize - shape.rank() as isize;
        Ok(unit(a, axis, self.eps)?.mul(&unit(b, axis, self.eps)?)?.sum(axis, false)?)
    }
}

#[allow(clippy::new_without_default)] // one way to make it: new()
impl PairwiseDistance {
    /// The Euclidean distance, with `eps` 1e−6.
    pub fn new() -> Self {
        Self { p: 2.0, eps: 1e-6, keepdims: false }
    }

    /// The norm: 2 is Euclid's, 1 the sum, infinity the largest difference, 0 their number.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }

    /// Added to each difference, so that the gradient of equal vectors exists.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Whether the last axis stays, with size 1.
    pub fn keepdims(self, keepdims: bool) -> Self {
        Self { keepdims, ..self }
    }

    /// The distance of each pair of vectors.
    ///
    /// # Errors
    /// Shapes that do not broadcast, types that differ, or a `p` that is not a number.
    pub fn forward(&self, a: &Var, b: &Var) -> Result<Var> {
        alike("pairwise_distance", a, b)?;
        let (size, keep) = (a.sub(b)?.add_scalar(self.eps).abs(), self.keepdims);
        Ok(match self.p {
            1.0 => size.sum(-1, keep)?,
            // Kept above 0, where the root has no slope.
            2.0 => size.square().sum(-1, keep)?.clamp(1e-38, f64::INFINITY).sqrt(),
            f64::INFINITY => size.max(-1, keep)?,
            f64::NEG_INFINITY => size.min(-1, keep)?,
            0.0 => size.sign().sum(-1, keep)?,
            p if p.is_finite() => size.pow_scalar(p).sum(-1, keep)?.pow_scalar(1.0 / p),
            p => return Err(Error::new("pairwise_distance", format!("p is {p}"), "use a number, or infinity")),
        })
    }
}

/// Vectors along an axis, divided by their norms, which are kept above `eps`.
pub(crate) fn unit(x: &Var, axis: isize, eps: f64) -> Result<Var> {
    let norm = x.square().sum(axis, true)?.clamp(eps * eps, f64::INFINITY).sqrt();
    Ok(x.div(&norm)?)
}

/// The shape that both broadcast to.
fn alike(op: &'static str, a: &Var, b: &Var) -> Result<maplet_tensor::Shape> {
    crate::module::expect_float(op, a)?;
    crate::module::expect_float(op, b)?;
    Ok(a.shape().broadcast(op, &b.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maplet_autograd::gradcheck;
    use maplet_tensor::{Rng, Tensor};

    fn near(found: Result<Var>, expected: &[f64]) {
        let found = found.unwrap().value().to_vec::<f64>().unwrap();
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
    }

    fn random(shape: [usize; 2], seed: u64) -> Tensor {
        Tensor::normal(shape, 0.0f64, 1.0, &mut Rng::new(seed))
    }

    #[test]
    fn cosine_similarity_is_that_of_directions() {
        let a = Var::from(Tensor::from([[1.0f64, 1.0], [2.0, 0.0], [0.0, 0.0]]));
        let b = Var::from(Tensor::from([[1.0f64, 0.0]]));
        near(cosine_similarity(&a, &b), &[0.5f64.sqrt(), 1.0, 0.0]);
        near(CosineSimilarity::new().axis(0).forward(&a, &a), &[1.0, 1.0]);
        near(CosineSimilarity::new().axis(-1).eps(10.0).forward(&a, &a), &[0.02, 0.04, 0.0]);
        gradcheck(|v| Ok(cosine_similarity(&v[0], &v[1])?), &[random([3, 4], 1), random([1, 4], 2)]).unwrap();
        gradcheck(
            |v| Ok(cosine_similarity(&v[0], &v[0].constant(Tensor::full([1, 4], 0.5f64)))?),
            &[random([3, 4], 1)],
        )
        .unwrap();
    }

    #[test]
    fn pairwise_distance_in_every_norm() {
        let (a, b) = (Var::from(Tensor::from([[3.0f64, 0.0]])), Var::from(Tensor::from([[0.0f64, 4.0]])));
        let exact = PairwiseDistance::new().eps(0.0);
        near(exact.clone().forward(&a, &b), &[5.0]);
        near(exact.clone().p(1.0).forward(&a, &b), &[7.0]);
        near(exact.clone().p(3.0).forward(&a, &b), &[91f64.cbrt()]);
        near(exact.clone().p(f64::INFINITY).forward(&a, &b), &[4.0]);
        near(exact.clone().p(f64::NEG_INFINITY).forward(&a, &b), &[3.0]);
        near(exact.clone().p(0.0).forward(&a, &b), &[2.0]);
        near(exact.clone().p(-1.0).forward(&a, &b), &[12.0 / 7.0]);
        near(pairwise_distance(&a, &a), &[2f64.sqrt() * 1e-6]);
        assert_eq!(exact.clone().keepdims(true).forward(&a, &b).unwrap().shape(), [1, 1].into());
        for p in [1.0, 2.0, 2.5, f64::INFINITY] {
            let distance = PairwiseDistance::new().p(p);
            gradcheck(|v| Ok(distance.forward(&v[0], &v[1])?), &[random([3, 4], 3), random([1, 4], 4)]).unwrap();
        }
        // Equal vectors without eps: no slope, not a not-a-number.
        let pass = maplet_autograd::Pass::record();
        let x = pass.leaf(a.value());
        let grads = exact.forward(&x, &x.constant(a.value())).unwrap().backward_from(Tensor::from([1.0f64])).unwrap();
        assert_eq!(grads.of(&x), Some(&Tensor::from([[0.0f64, 0.0]])));
    }

    #[test]
    fn misfits_are_explained() {
        let (a, b) = (Var::from(Tensor::from([[3.0f32, 0.0]])), Var::from(Tensor::from([[0.0f32, 4.0, 1.0]])));
        let broadcast = "[1, 2] and [1, 3] do not broadcast: axis 1 is 2 against 3; help: one of them must be 1";
        assert_eq!(cosine_similarity(&a, &b).unwrap_err().to_string(), format!("cosine_similarity: {broadcast}"));
        assert_eq!(pairwise_distance(&a, &b).unwrap_err().to_string(), format!("pairwise_distance: {broadcast}"));
        let found = PairwiseDistance::new().p(f64::NAN).forward(&a, &a).unwrap_err().to_string();
        assert_eq!(found, "pairwise_distance: p is NaN; help: use a number, or infinity");
    }
}
