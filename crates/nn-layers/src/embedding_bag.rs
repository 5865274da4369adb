//! [`EmbeddingBag`]: one vector for each bag of ids.

use crate::embedding::Table;
use crate::plan::{Draft, Plan, batched, weight_shape};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Rng, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// How the vectors of a bag become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BagMode {
    /// Their sum.
    Sum,
    /// Their mean, PyTorch's default.
    #[default]
    Mean,
    /// The largest of each of their elements.
    Max,
}

/// Looks up a trained vector for each id of a bag, and takes their sum, mean or maximum; an empty bag gives zeros.
///
/// The vectors of single ids take no memory, unlike those of an [`Embedding`](crate::Embedding) that is summed.
///
/// PyTorch: `nn.EmbeddingBag`; Keras: –.
///
/// # Shapes
/// - `forward`: ids `[n, l]` of type `i64`, bags of equal length; output `[n, embedding_dim]`
/// - `forward_bags`: ids `[count]`, offsets `[bags]`; output `[bags, embedding_dim]`
///
/// # Parameters
/// - `weight: [num_embeddings, embedding_dim]`, normal with mean 0 and variance 1
///
/// # Example
/// ```
/// use maplet_nn_layers::{BagMode, EmbeddingBag};
/// use maplet_tensor::{Rng, Tensor};
///
/// let layer = EmbeddingBag::new(1000, 8, &mut Rng::new(42))?.mode(BagMode::Sum);
/// let (ids, offsets) = (Tensor::from([5i64, 7, 3, 3]), Tensor::from([0i64, 1])); // the bags 5 and 7, 3, 3
/// assert_eq!(layer.forward_bags(&ids.into(), Some(&offsets), None)?.shape(), [2, 8].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddingBag {
    /// `[num_embeddings, embedding_dim]`
    pub weight: Param,
    table: Table,
    mode: BagMode,
    include_last_offset: bool,
}
fields!(EmbeddingBag: weight; table, mode, include_last_offset);

const OP: &str = "embedding_bag";

impl EmbeddingBag {
    /// A layer with random vectors that takes means.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn new(num_embeddings: usize, embedding_dim: usize, rng: &mut Rng) -> Result<Self> {
        let (weight, table) = Table::new(OP, num_embeddings, embedding_dim, rng)?;
        Ok(Self { weight, table, mode: BagMode::Mean, include_last_offset: false })
    }

    /// A layer with given vectors, which are not trained, that takes means.
    ///
    /// # Errors
    /// Vectors that are no float matrix, or a `padding_idx` that is none of their rows.
    pub fn from_pretrained(weight: Tensor, padding_idx: Option<usize>) -> Result<Self> {
        let (weight, table) = Table::pretrained(OP, weight, padding_idx)?;
        Ok(Self { weight, table, mode: BagMode::Mean, include_last_offset: false })
    }

    /// How the vectors of a bag become one.
    pub fn mode(self, mode: BagMode) -> Self {
        Self { mode, ..self }
    }

    /// Passes this id over, as if it were not in the bag; its vector is zeros and not trained.
    ///
    /// # Errors
    /// An id that is not there.
    pub fn padding_idx(mut self, id: usize) -> Result<Self> {
        self.table.pad(&mut self.weight, id)?;
        Ok(self)
    }

    /// Shortens the vectors that are looked up to this length: see [`Embedding::max_norm`](crate::Embedding::max_norm).
    ///
    /// # Errors
    /// A number that is not above 0.
    pub fn max_norm(mut self, max_norm: f64) -> Result<Self> {
        self.table = self.table.max_norm(max_norm)?;
        Ok(self)
    }

    /// The `p` of the `p`-norm that `max_norm` bounds, 2 unless it is set.
    ///
    /// # Errors
    /// A number that is not above 0.
    pub fn norm_type(mut self, norm_type: f64) -> Result<Self> {
        self.table = self.table.norm_type(norm_type)?;
        Ok(self)
    }

    /// Divides the gradient of each vector by the number of times that it was looked up. Then the vectors of single ids
    /// take memory; there is no such gradient in mode `Max`.
    pub fn scale_grad_by_freq(mut self) -> Self {
        self.table.scale_grad_by_freq = true;
        self
    }

    /// The last offset is the number of ids, where the last bag ends: as in the CSR format.
    pub fn include_last_offset(self) -> Self {
        Self { include_last_offset: true, ..self }
    }

    /// The output for ids `[count]` with the place where each bag begins, or for ids `[n, l]` without. In mode `Sum`,
    /// vectors are multiplied with `per_sample_weights`, of the shape of the ids.
    ///
    /// # Errors
    /// Shapes that do not fit, offsets that do not rise from 0, weights in another mode.
    pub fn forward_bags(&self, ids: &Var, offsets: Option<&Tensor>, per_sample_weights: Option<&Var>) -> Result<Var> {
        let starts = self.starts(ids, offsets)?;
        let weights = self.weights(ids, per_sample_weights)?;
        let weight = self.table.on(&self.weight, ids)?;
        let Kept { ids, starts, weights } = self.kept(ids, starts, weights)?;
        if self.mode == BagMode::Max {
            if self.table.scale_grad_by_freq {
                return Err(Error::new(OP, "scale_grad_by_freq was asked of the mode Max", "use another mode"));
            }
            return Ok(weight.embedding_bag_max(&ids, &starts)?);
        }
        let coefficients = match weights {
            Some(weights) => weights,
            None => ids.constant(self.coefficients(&starts)?.to_dtype(weight.dtype())),
        };
        if self.table.scale_grad_by_freq {
            let rows = weight.embedding(&ids, None, true)?;
            let places = ids.constant(Tensor::arange(0, ids.len() as i64, 1)?);
            return Ok(rows.embedding_bag(&places, &starts, &coefficients)?);
        }
        Ok(weight.embedding_bag(&ids, &starts, &coefficients)?)
    }

    /// Where each bag begins, and where the last one ends.
    fn starts(&self, ids: &Var, offsets: Option<&Tensor>) -> Result<Vec<usize>> {
        match (ids.shape().sizes(), offsets) {
            (&[bags, length], None) => Ok((0..=bags).map(|bag| bag * length).collect()),
            (&[count], Some(offsets)) => {
                let numbers = offsets.as_slice::<i64>()?;
                let mut starts: Vec<usize> =
                    numbers.iter().map(|&at| usize::try_from(at).unwrap_or(usize::MAX)).collect();
                if !self.include_last_offset {
                    starts.push(count);
                }
                if starts.is_sorted() && starts.first() == Some(&0) && starts.last() == Some(&count) {
                    return Ok(starts);
                }
                let end = if self.include_last_offset { "" } else { "at most " };
                let what = format!("the offsets {numbers:?} do not rise from 0 to {end}{count}");
                Err(Error::new(OP, what, "give the place of each bag's first id"))
            }
            (sizes, offsets) => {
                let given = if offsets.is_some() { "offsets" } else { "no offsets" };
                let what = format!("got ids {sizes:?} and {given}");
                Err(Error::new(OP, what, "give ids [n, l], or ids [count] with offsets"))
            }
        }
    }

    fn weights(&self, ids: &Var, weights: Option<&Var>) -> Result<Option<Var>> {
        let Some(weights) = weights else { return Ok(None) };
        if self.mode != BagMode::Sum {
            let what = format!("per_sample_weights were given in the mode {:?}", self.mode);
            return Err(Error::new(OP, what, "use mode(BagMode::Sum)"));
        }
        if weights.shape() != ids.shape() {
            let what = format!("per_sample_weights are {}, the ids {}", weights.shape(), ids.shape());
            return Err(Error::new(OP, what, "give one number for each id"));
        }
        Ok(Some(weights.reshape(weights.len())?))
    }

    /// The ids in a row, without the padding.
    fn kept(&self, ids: &Var, starts: Vec<usize>, weights: Option<Var>) -> Result<Kept> {
        let all = ids.reshape(ids.len())?;
        let numbers = all.value().as_slice::<i64>()?;
        let padding = self.table.padding_idx.map(|id| id as i64);
        let mut kept = Vec::with_capacity(numbers.len());
        let mut begins = vec![0];
        for ends in starts.windows(2) {
            kept.extend((ends[0]..ends[1]).filter(|&i| Some(numbers[i]) != padding).map(|i| i as i64));
            begins.push(kept.len());
        }
        if kept.len() == numbers.len() {
            return Ok(Kept { ids: all, starts: begins, weights });
        }
        let places = ids.constant(Tensor::from_slice(&kept, kept.len())?);
        let weights = weights.map(|weights| weights.select_rows(&places)).transpose()?;
        Ok(Kept { ids: all.select_rows(&places)?, starts: begins, weights })
    }

    /// One for each id, divided by the number of ids in its bag for a mean.
    fn coefficients(&self, starts: &[usize]) -> Result<Tensor> {
        let share = |count: usize| if self.mode == BagMode::Mean { 1.0 / count as f64 } else { 1.0 };
        let bags = starts.windows(2).map(|ends| ends[1] - ends[0]);
        let shares: Vec<f64> = bags.flat_map(|count| vec![share(count); count]).collect();
        Ok(Tensor::from_slice(&shares, shares.len())?)
    }
}

struct Kept {
    ids: Var,
    starts: Vec<usize>,
    weights: Option<Var>,
}

impl Module for EmbeddingBag {
    fn forward(&self, ids: &Var) -> Result<Var> {
        self.forward_bags(ids, None, None)
    }
}

/// An [`EmbeddingBag`] in a [`Sequential`](crate::Sequential), whose input is then of type `i64`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingBagConfig {
    /// The number of ids.
    pub num_embeddings: usize,
    /// The size of a vector.
    pub embedding_dim: usize,
    /// How the vectors of a bag become one.
    #[serde(default)]
    pub mode: BagMode,
}

impl Spec for EmbeddingBagConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { num_embeddings: rows, embedding_dim: width, mode } = *self;
        Plan::new(format!("EmbeddingBag {rows} → {width}"), || {
            let weight = weight_shape(OP, &[("num_embeddings", rows), ("embedding_dim", width)])?;
            let &[length] = input.sizes() else {
                let what = format!("expects [n, l], got {}", batched(input));
                return Err(Error::new(OP, what, "put reshape([l]) before it"));
            };
            let flops = length as u64 * width as u64;
            Ok(Draft::new(Shape::from(width), flops)
                .trained(weight.elements() as u64, move |rng| Ok(EmbeddingBag::new(rows, width, rng)?.mode(mode))))
        })
    }
}

impl Builder {
    /// [`EmbeddingBag`]: the mean of the vectors of a sample's ids.
    pub fn embedding_bag(self, num_embeddings: usize, embedding_dim: usize) -> Self {
        self.step(EmbeddingBagConfig { num_embeddings, embedding_dim, mode: BagMode::Mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_autograd::Pass;

    fn layer() -> EmbeddingBag {
        EmbeddingBag::new(5, 3, &mut Rng::new(1)).unwrap()
    }

    #[test]
    fn behaves_as_a_module() {
        let rank = "embedding_bag: got ids [3] and no offsets; help: give ids [n, l], or ids [count] with offsets";
        let expect = Expect {
            input: &[2, 4],
            output: &[2, 3],
            parameters: &[("weight", &[5, 3])],
            refuses: &[(&[3], rank)],
            ids: 5,
            ..Expect::default()
        };
        for mode in [BagMode::Sum, BagMode::Mean, BagMode::Max] {
            check_module(&mut layer().mode(mode), &expect).unwrap();
        }
        let model = Sequential::input([4]).embedding_bag(5, 3).linear(2).build(1).unwrap();
        let y = model.forward(&Tensor::from([[1i64, 4, 0, 0]]).into()).unwrap();
        assert_eq!(y.shape(), [1, 2].into());
    }

    /// The padding counts as absent: in the mean's divisor, for the maximum, and for its gradient.
    #[test]
    fn padding_is_passed_over() {
        let table = Tensor::from([[8.0f32], [-2.0], [-6.0]]);
        for (mode, expected) in
            [(BagMode::Sum, [-8.0f32, 0.0]), (BagMode::Mean, [-4.0, 0.0]), (BagMode::Max, [-2.0, 0.0])]
        {
            let mut layer = EmbeddingBag::from_pretrained(table.clone(), Some(0)).unwrap().mode(mode);
            layer.weight.set_trainable(true);
            let ids = Pass::train(0).input(Tensor::from([[0i64, 1, 2], [0, 0, 0]]));
            let y = layer.forward(&ids).unwrap();
            assert_eq!(y.value(), &Tensor::from_slice(&expected, [2, 1]).unwrap());
            let grads = y.sum(.., false).unwrap().backward().unwrap();
            assert_eq!(grads.of(&layer.weight).unwrap().as_slice::<f32>().unwrap()[0], 0.0);
        }
    }

    #[test]
    fn misfits_are_explained() {
        let ids = Var::from(Tensor::from([1i64, 2, 3]));
        let text = |layer: EmbeddingBag, offsets: &[i64], weights: Option<Tensor>| {
            let offsets = Tensor::from_slice(offsets, offsets.len()).unwrap();
            let weights = weights.map(Var::from);
            layer.forward_bags(&ids, Some(&offsets), weights.as_ref()).err().unwrap().to_string()
        };
        let rise = |offsets: &[i64], end: &str| {
            format!(
                "embedding_bag: the offsets {offsets:?} do not rise from 0 to {end}; \
                 help: give the place of each bag's first id"
            )
        };
        for offsets in [&[1i64, 2][..], &[0, 4], &[0, 2, 1], &[0, -1], &[]] {
            assert_eq!(text(layer(), offsets, None), rise(offsets, "at most 3"));
        }
        for offsets in [&[1i64, 3][..], &[0, 2], &[0, 2, 1, 3]] {
            assert_eq!(text(layer().include_last_offset(), offsets, None), rise(offsets, "3"));
        }
        let mode = "embedding_bag: per_sample_weights were given in the mode Mean; help: use mode(BagMode::Sum)";
        assert_eq!(text(layer(), &[0], Some(Tensor::from([1.0f32, 1.0, 1.0]))), mode);
        let count = "embedding_bag: per_sample_weights are [1], the ids [3]; help: give one number for each id";
        assert_eq!(text(layer().mode(BagMode::Sum), &[0], Some(Tensor::from([1.0f32]))), count);
        let text = layer().forward_bags(&Tensor::from([[1i64]]).into(), Some(&Tensor::from([0i64])), None);
        let want = "embedding_bag: got ids [1, 1] and offsets; help: give ids [n, l], or ids [count] with offsets";
        assert_eq!(text.err().unwrap().to_string(), want);
        let max = layer().mode(BagMode::Max).scale_grad_by_freq().forward(&Tensor::from([[1i64]]).into());
        let want = "embedding_bag: scale_grad_by_freq was asked of the mode Max; help: use another mode";
        assert_eq!(max.err().unwrap().to_string(), want);
        let padding = layer().padding_idx(9).err().unwrap().to_string();
        assert_eq!(padding, "embedding_bag: padding_idx is 9, and there are 5 embeddings; help: use 0 to 4");
    }
}
