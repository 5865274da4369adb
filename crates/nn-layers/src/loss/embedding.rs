//! Losses of vectors that should be near each other or apart.

use super::margin::together;
use super::{expect_that, loss};
use crate::distance::unit;
use crate::{Error, PairwiseDistance, Result};
use maplet_autograd::Var;
use maplet_tensor::{LabelOptions, Tensor};

loss! {
    /// `1 − cos(a, b)` where the target is 1, else `max(0, cos(a, b) − margin)`.
    ///
    /// PyTorch: `nn.CosineEmbeddingLoss`; Keras: –.
    ///
    /// # Shapes
    /// - vectors `[n, d]` and targets `[n]` of 1 and −1, of any type; or `[d]` and one target
    pub struct CosineEmbedding {
        /// How alike vectors may be that do not belong together, 0.
        margin: f64 = 0.0,
    }
}

impl CosineEmbedding {
    /// The loss of pairs.
    ///
    /// # Errors
    /// Different shapes or types, or a target that is not 1 or −1.
    pub fn loss(&self, a: &Var, b: &Var, targets: &Tensor) -> Result<Var> {
        let op = "cosine_embedding";
        expect_one_shape(op, &[a, b])?;
        // As in PyTorch, which adds 1e−12 to squares here.
        let norm = |x: &Var| -> Result<Var> { Ok(x.square().sum(-1, false)?.add_scalar(1e-12)) };
        let cos = a.mul(b)?.sum(-1, false)?.div(&norm(a)?.mul(&norm(b)?)?.sqrt())?;
        let apart = cos.add_scalar(-self.margin).relu();
        let each = together(op, &cos, targets)?.where_cond(&cos.neg().add_scalar(1.0), &apart)?;
        self.reduction.of(op, &each)
    }
}

/// [`CosineEmbedding`] with its defaults.
///
/// # Errors
/// As there.
pub fn cosine_embedding(a: &Var, b: &Var, targets: &Tensor) -> Result<Var> {
    CosineEmbedding::new().loss(a, b, targets)
}

loss! {
    /// `max(0, d(anchor, positive) − d(anchor, negative) + margin)`.
    ///
    /// PyTorch: `nn.TripletMarginLoss`; Keras: –.
    ///
    /// # Shapes
    /// - three times `[n, d]` or `[d]`
    ///
    /// # Reference
    /// Balntas, Riba, Ponsa & Mikolajczyk (2016), "Learning Local Feature Descriptors with Triplets and Shallow
    /// Convolutional Neural Networks", with the swap of its §3.3.
    ///
    /// # Example
    /// ```
    /// use maplet_autograd::{Tensor, Var};
    /// use maplet_nn_layers::triplet_margin;
    ///
    /// let [anchor, near, far] = [0.0f32, 0.5, 1.0].map(|x| Var::from(Tensor::from([[x, 0.0]])));
    /// let loss = triplet_margin(&anchor, &near, &far)?.item::<f32>()?;
    /// assert!((loss - 0.5).abs() < 1e-5); // 0.5 − 1 + 1
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct TripletMargin {
        /// How much farther the negative should be, 1.
        margin: f64 = 1.0,
        /// The norm of the distance, 2.
        p: f64 = 2.0,
        /// Added to each difference, 1e−6.
        eps: f64 = 1e-6,
        /// Takes the distance from the positive to the negative where it is less than the anchor's.
        swap: bool = false,
    }
}

impl TripletMargin {
    /// The loss of triplets by [`PairwiseDistance`].
    ///
    /// # Errors
    /// Different shapes or types, or a margin that is not positive.
    pub fn loss(&self, anchor: &Var, positive: &Var, negative: &Var) -> Result<Var> {
        let distance = PairwiseDistance::new().p(self.p).eps(self.eps);
        self.loss_with(anchor, positive, negative, |a, b| distance.forward(a, b))
    }

    /// The loss of triplets by any distance.
    ///
    /// # Errors
    /// As [`loss`](Self::loss), and those of the distance.
    pub fn loss_with(
        &self,
        anchor: &Var,
        positive: &Var,
        negative: &Var,
        distance: impl Fn(&Var, &Var) -> Result<Var>,
    ) -> Result<Var> {
        let op = "triplet_margin";
        expect_one_shape(op, &[anchor, positive, negative])?;
        expect_that(self.margin > 0.0, op, format!("margin is {}", self.margin), "use a positive number")?;
        let mut apart = distance(anchor, negative)?;
        if self.swap {
            apart = apart.minimum(&distance(positive, negative)?)?;
        }
        self.reduction.of(op, &distance(anchor, positive)?.sub(&apart)?.add_scalar(self.margin).relu())
    }
}

/// [`TripletMargin`] with its defaults.
///
/// # Errors
/// As there.
pub fn triplet_margin(anchor: &Var, positive: &Var, negative: &Var) -> Result<Var> {
    TripletMargin::new().loss(anchor, positive, negative)
}

/// [`TripletMargin`] with its defaults and any distance; with options, [`TripletMargin::loss_with`].
///
/// PyTorch: `nn.TripletMarginWithDistanceLoss`; Keras: –.
///
/// # Errors
/// As there.
pub fn triplet_margin_with_distance(
    anchor: &Var,
    positive: &Var,
    negative: &Var,
    distance: impl Fn(&Var, &Var) -> Result<Var>,
) -> Result<Var> {
    TripletMargin::new().loss_with(anchor, positive, negative, distance)
}

loss! {
    /// The cross-entropy of finding each query's own key among all keys of the batch, by cosine similarity divided by a
    /// temperature.
    ///
    /// PyTorch: –; Keras: –.
    ///
    /// # Shapes
    /// - queries and keys `[n, d]`; key `i` belongs to query `i`
    ///
    /// # Reference
    /// Van den Oord, Li & Vinyals (2018), "Representation Learning with Contrastive Predictive Coding", eq. 4; Radford
    /// et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision", for both directions.
    pub struct InfoNce {
        /// What similarities are divided by, 0.07 as in CLIP and MoCo.
        temperature: f64 = 0.07,
        /// Whether keys look for their queries as well, the mean of both.
        symmetric: bool = false,
    }
}

impl InfoNce {
    /// The loss of pairs.
    ///
    /// # Errors
    /// Different shapes or types, a rank other than 2, a temperature that is not positive.
    pub fn loss(&self, queries: &Var, keys: &Var) -> Result<Var> {
        let op = "info_nce";
        let n = expect_pairs(op, queries, keys, self.temperature)?;
        let logits = similarities(queries, keys, self.temperature)?;
        let own = Tensor::arange(0, n as i64, 1)?;
        let mut each = logits.softmax_cross_entropy(&own, &LabelOptions::default())?;
        if self.symmetric {
            let back = logits.transpose(0, 1)?.softmax_cross_entropy(&own, &LabelOptions::default())?;
            each = each.add(&back)?.mul_scalar(0.5);
        }
        self.reduction.of(op, &each)
    }
}

/// [`InfoNce`] with its defaults.
///
/// # Errors
/// As there.
pub fn info_nce(queries: &Var, keys: &Var) -> Result<Var> {
    InfoNce::new().loss(queries, keys)
}

loss! {
    /// The cross-entropy of finding each view's other view among all `2n − 1` others, by cosine similarity divided by a
    /// temperature: SimCLR's loss.
    ///
    /// PyTorch: –; Keras: –.
    ///
    /// # Shapes
    /// - two views `[n, d]` of the same samples; `2n` numbers before the reduction
    ///
    /// # Reference
    /// Chen, Kornblith, Norouzi & Hinton (2020), "A Simple Framework for Contrastive Learning of Visual
    /// Representations", eq. 1.
    pub struct NtXent {
        /// What similarities are divided by, 0.5.
        temperature: f64 = 0.5,
    }
}

impl NtXent {
    /// The loss of two views.
    ///
    /// # Errors
    /// Different shapes or types, a rank other than 2, a temperature that is not positive.
    pub fn loss(&self, first: &Var, second: &Var) -> Result<Var> {
        let op = "nt_xent";
        let n = expect_pairs(op, first, second, self.temperature)?;
        let views = Var::concat(&[first, second], 0)?;
        // No view is its own: −1e30 is as good as −∞, and a number.
        let own = Tensor::arange(0, 2 * n as i64, 1)?.one_hot(2 * n)?.to_dtype(views.dtype()).mul_scalar(-1e30);
        let logits = similarities(&views, &views, self.temperature)?.add(&views.constant(own))?;
        let other: Vec<i64> = (n..2 * n).chain(0..n).map(|i| i as i64).collect();
        let each = logits.softmax_cross_entropy(&Tensor::from_vec(other, [2 * n])?, &LabelOptions::default())?;
        self.reduction.of(op, &each)
    }
}

/// [`NtXent`] with its defaults.
///
/// # Errors
/// As there.
pub fn nt_xent(first: &Var, second: &Var) -> Result<Var> {
    NtXent::new().loss(first, second)
}

/// `cos(a_i, b_j) / temperature`
fn similarities(a: &Var, b: &Var, temperature: f64) -> Result<Var> {
    let products = unit(a, -1, 1e-8)?.matmul_with(&unit(b, -1, 1e-8)?, maplet_tensor::Trans { a: false, b: true })?;
    Ok(products.mul_scalar(1.0 / temperature))
}

/// The size of the batch.
fn expect_pairs(op: &'static str, a: &Var, b: &Var, temperature: f64) -> Result<usize> {
    expect_one_shape(op, &[a, b])?;
    let [n, _] = a.dims(op)?;
    expect_that(temperature > 0.0, op, format!("temperature is {temperature}"), "use a positive number")?;
    Ok(n)
}

fn expect_one_shape(op: &'static str, all: &[&Var]) -> Result<()> {
    for x in all {
        crate::module::expect_float(op, x)?;
        if x.shape() != all[0].shape() || x.rank() == 0 {
            let shapes: Vec<String> = all.iter().map(|x| x.shape().to_string()).collect();
            return Err(Error::new(op, format!("the vectors are {}", shapes.join(", ")), "all must have one shape"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_near, near, random, text, value, values};
    use super::*;
    use crate::{Reduction, cosine_similarity};
    use maplet_autograd::gradcheck;

    fn var<const N: usize>(rows: [[f64; 2]; N]) -> Var {
        Tensor::from(rows).into()
    }

    #[test]
    fn cosine_embedding_of_pairs() {
        let (a, b) = (var([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), var([[3.0, 4.0], [3.0, 4.0], [-3.0, 4.0]]));
        let loss = CosineEmbedding::new().reduction(Reduction::None);
        let found = values(loss.clone().loss(&a, &b, &Tensor::from([1i64, -1, -1])));
        assert!(found.iter().zip([0.4, 0.6, 0.0]).all(|(a, b)| (a - b).abs() < 1e-11), "{found:?}"); // PyTorch's 1e−12
        let found = values(loss.margin(0.5).loss(&a, &b, &Tensor::from([-1.0f32, -1.0, 1.0])));
        assert!(found.iter().zip([0.1, 0.1, 1.6]).all(|(a, b)| (a - b).abs() < 1e-11), "{found:?}");
        let targets = Tensor::from([1i64, -1, 1]);
        let inputs = [random([3, 4], -1.0, 1.0), random([3, 4], 0.0, 1.0)];
        gradcheck(|v| Ok(cosine_embedding(&v[0], &v[1], &targets)?), &inputs).unwrap();
        let expected = "cosine_embedding: the output is [3], the targets [2]; \
                        help: reshape one of them: nothing broadcasts in a loss";
        assert_eq!(text(cosine_embedding(&a, &b, &Tensor::from([1i64, 1]))), expected);
        let expected = "cosine_embedding: target 0 is 0; help: use 1 and -1; for t of 0 and 1 that is 2t - 1";
        assert_eq!(text(cosine_embedding(&a, &b, &Tensor::from([0i64, 1, 1]))), expected);
    }

    #[test]
    fn triplets() {
        let (anchor, positive, negative) = (var([[0.0, 0.0]]), var([[3.0, 4.0]]), var([[0.0, 5.5]]));
        let exact = TripletMargin::new().eps(0.0);
        near(value(exact.clone().loss(&anchor, &positive, &negative)), 0.5);
        near(value(exact.clone().margin(0.25).loss(&anchor, &positive, &negative)), 0.0);
        near(value(exact.clone().p(1.0).loss(&anchor, &positive, &negative)), 7.0 - 5.5 + 1.0);
        near(value(exact.clone().swap(true).loss(&anchor, &positive, &negative)), 6.0 - 11.25f64.sqrt());
        let cosine = |a: &Var, b: &Var| Ok(cosine_similarity(a, b)?.neg());
        let (x, y, z) = (var([[1.0, 0.0]]), var([[3.0, 4.0]]), var([[0.0, 1.0]]));
        near(value(triplet_margin_with_distance(&x, &y, &z, cosine)), 0.4);
        let inputs = [random([3, 4], -1.0, 1.0), random([3, 4], 0.0, 1.0), random([3, 4], -1.0, 0.0)];
        for loss in [TripletMargin::new(), TripletMargin::new().swap(true).p(3.0).margin(2.0)] {
            gradcheck(|v| Ok(loss.loss(&v[0], &v[1], &v[2])?), &inputs).unwrap();
        }
        let expected = "triplet_margin: margin is -1; help: use a positive number";
        assert_eq!(text(exact.margin(-1.0).loss(&x, &y, &z)), expected);
        let wide = Var::from(Tensor::from([[1.0f64, 2.0, 3.0]]));
        let expected = "triplet_margin: the vectors are [1, 2], [1, 2], [1, 3]; help: all must have one shape";
        assert_eq!(text(triplet_margin(&x, &y, &wide)), expected);
    }

    #[test]
    fn contrastive_losses() {
        // Orthogonal pairs: similarities 1 to one's own and 0 to all others.
        let (a, b) = (var([[2.0, 0.0], [0.0, 1.0]]), var([[3.0, 0.0], [0.0, 5.0]]));
        let e = (1.0f64 / 0.07).exp();
        near(value(info_nce(&a, &b)), (1.0 + 1.0 / e).ln());
        let found = InfoNce::new().temperature(1.0).symmetric(true).reduction(Reduction::None).loss(&a, &b);
        all_near(&values(found), &[(1.0 + (-1f64).exp()).ln(); 2]);
        // Of three others one is its own.
        let e = 2f64.exp();
        all_near(&values(NtXent::new().reduction(Reduction::None).loss(&a, &b)), &[((e + 2.0) / e).ln(); 4]);
        let inputs = [random([3, 4], -1.0, 1.0), random([3, 4], 0.0, 1.0)];
        gradcheck(|v| Ok(info_nce(&v[0], &v[1])?), &inputs).unwrap();
        gradcheck(|v| Ok(InfoNce::new().symmetric(true).loss(&v[0], &v[1])?), &inputs).unwrap();
        gradcheck(|v| Ok(nt_xent(&v[0], &v[1])?), &inputs).unwrap();
        let expected = "nt_xent: temperature is 0; help: use a positive number";
        assert_eq!(text(NtXent::new().temperature(0.0).loss(&a, &b)), expected);
        let expected = "info_nce: expects 2 axes, got [2] with 1; help: reshape or unsqueeze the input";
        let line = Var::from(Tensor::from([1.0f64, 2.0]));
        assert_eq!(text(info_nce(&line, &line)), expected);
    }
}
