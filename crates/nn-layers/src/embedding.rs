//! [`Embedding`]: a trained vector for each id.

use crate::plan::{Draft, Plan, weight_shape};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Rng, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Looks up a trained vector for each id.
///
/// PyTorch: `nn.Embedding`; Keras: `Embedding`.
///
/// # Shapes
/// - input `[ids..]`, of type `i64`; output `[ids.., embedding_dim]`
///
/// # Parameters
/// - `weight: [num_embeddings, embedding_dim]`, normal with mean 0 and variance 1
///
/// # Reference
/// Bengio, Ducharme, Vincent & Jauvin (2003), "A Neural Probabilistic Language Model", §2, the matrix `C`.
///
/// # Example
/// ```
/// use maplet_nn_layers::{Embedding, Module};
/// use maplet_tensor::{Rng, Tensor};
///
/// let layer = Embedding::new(1000, 8, &mut Rng::new(42))?.padding_idx(0)?;
/// let y = layer.forward(&Tensor::from([[5i64, 7, 0], [3, 0, 0]]).into())?;
/// assert_eq!(y.shape(), [2, 3, 8].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[num_embeddings, embedding_dim]`
    pub weight: Param,
    table: Table,
}
fields!(Embedding: weight; table);

/// How a table of vectors is looked up in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) op: &'static str,
    pub(crate) padding_idx: Option<usize>,
    max_norm: Option<f64>,
    norm_type: f64,
    pub(crate) scale_grad_by_freq: bool,
}

impl Table {
    /// Random vectors.
    pub(crate) fn new(op: &'static str, rows: usize, width: usize, rng: &mut Rng) -> Result<(Param, Self)> {
        let shape = weight_shape(op, &[("num_embeddings", rows), ("embedding_dim", width)])?;
        Ok((Param::new(init::normal(shape, 0.0, 1.0, rng)), Self::plain(op)))
    }

    /// Given vectors, which stay as they are.
    pub(crate) fn pretrained(op: &'static str, weight: Tensor, padding_idx: Option<usize>) -> Result<(Param, Self)> {
        if weight.rank() != 2 || !weight.dtype().is_float() {
            let what = format!("the vectors are {} {}", weight.dtype(), weight.shape());
            return Err(Error::new(op, what, "give floating-point numbers [num_embeddings, embedding_dim]"));
        }
        let table = Self::plain(op).padded(weight.shape()[0], padding_idx)?;
        let mut weight = Param::new(weight);
        weight.set_trainable(false);
        Ok((weight, table))
    }

    fn plain(op: &'static str) -> Self {
        Self { op, padding_idx: None, max_norm: None, norm_type: 2.0, scale_grad_by_freq: false }
    }

    fn padded(self, rows: usize, padding_idx: Option<usize>) -> Result<Self> {
        match padding_idx {
            Some(id) if id >= rows => {
                let what = format!("padding_idx is {id}, and there are {rows} embeddings");
                Err(Error::new(self.op, what, format!("use 0 to {}", rows.max(1) - 1)))
            }
            _ => Ok(Self { padding_idx, ..self }),
        }
    }

    /// Makes the vector of an id zeros, which are not trained.
    pub(crate) fn pad(&mut self, weight: &mut Param, id: usize) -> Result<()> {
        let [rows, _] = weight.value().dims(self.op)?;
        *self = self.padded(rows, Some(id))?;
        let others = Tensor::arange(0i64, rows as i64, 1)?.not_equal(&Tensor::scalar(id as i64))?;
        let zero = Tensor::zeros([], weight.dtype());
        Ok(weight.set_value(others.reshape([rows, 1])?.where_cond(weight.value(), &zero)?)?)
    }

    pub(crate) fn max_norm(self, max_norm: f64) -> Result<Self> {
        if max_norm > 0.0 && max_norm.is_finite() {
            return Ok(Self { max_norm: Some(max_norm), ..self });
        }
        Err(Error::new(self.op, format!("max_norm is {max_norm}"), "use a number above 0"))
    }

    pub(crate) fn norm_type(self, norm_type: f64) -> Result<Self> {
        if norm_type > 0.0 {
            return Ok(Self { norm_type, ..self });
        }
        Err(Error::new(self.op, format!("norm_type is {norm_type}"), "use a number above 0"))
    }

    /// The vectors, none of those that `ids` name longer than `max_norm`.
    pub(crate) fn on(&self, weight: &Param, ids: &Var) -> Result<Var> {
        match self.max_norm {
            None => Ok(weight.on(ids)),
            Some(max_norm) => {
                let bounded = weight.latest(ids).renorm_rows(ids.value(), self.norm_type, max_norm)?;
                Ok(weight.on_with(ids, bounded)?)
            }
        }
    }
}

impl Embedding {
    /// A layer with random vectors.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn new(num_embeddings: usize, embedding_dim: usize, rng: &mut Rng) -> Result<Self> {
        let (weight, table) = Table::new(OP, num_embeddings, embedding_dim, rng)?;
        Ok(Self { weight, table })
    }

    /// A layer with given vectors, which are not trained (see [`Param::set_trainable`]) and all stay as they are, that
    /// of the padding too.
    ///
    /// # Errors
    /// Vectors that are no float matrix, or a `padding_idx` that is none of their rows.
    pub fn from_pretrained(weight: Tensor, padding_idx: Option<usize>) -> Result<Self> {
        let (weight, table) = Table::pretrained(OP, weight, padding_idx)?;
        Ok(Self { weight, table })
    }

    /// Makes the vector of this id zeros, which are not trained.
    ///
    /// # Errors
    /// An id that is not there.
    pub fn padding_idx(mut self, id: usize) -> Result<Self> {
        self.table.pad(&mut self.weight, id)?;
        Ok(self)
    }

    /// Shortens the vectors that are looked up to this length, where they are longer.
    ///
    /// PyTorch shortens them in its forward pass, for good. Here a forward pass changes nothing: the shorter vectors
    /// travel with the pass, and the optimizer's step puts them into the layer before it changes them. The numbers are
    /// the same; as in PyTorch, gradients are those of the shorter vectors.
    ///
    /// # Errors
    /// A number that is not above 0.
    pub fn max_norm(mut self, max_norm: f64) -> Result<Self> {
        self.table = self.table.max_norm(max_norm)?;
        Ok(self)
    }

    /// The `p` of the `p`-norm that `max_norm` bounds, 2 unless it is set; infinity for the largest element.
    ///
    /// # Errors
    /// A number that is not above 0.
    pub fn norm_type(mut self, norm_type: f64) -> Result<Self> {
        self.table = self.table.norm_type(norm_type)?;
        Ok(self)
    }

    /// Divides the gradient of each vector by the number of times that it was looked up.
    pub fn scale_grad_by_freq(mut self) -> Self {
        self.table.scale_grad_by_freq = true;
        self
    }

    /// The vectors of `ids` in another table than the layer's own.
    pub(crate) fn look_up(&self, ids: &Var, weight: &Var) -> Result<Var> {
        Ok(weight.embedding(ids, self.table.padding_idx, self.table.scale_grad_by_freq)?)
    }
}

const OP: &str = "embedding";

impl Module for Embedding {
    fn forward(&self, ids: &Var) -> Result<Var> {
        self.look_up(ids, &self.table.on(&self.weight, ids)?)
    }
}

/// An [`Embedding`] in a [`Sequential`](crate::Sequential), whose input is then of type `i64`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// The number of ids.
    pub num_embeddings: usize,
    /// The size of a vector.
    pub embedding_dim: usize,
    /// An id whose vector is zeros and not trained.
    #[serde(default)]
    pub padding_idx: Option<usize>,
}

impl Spec for EmbeddingConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { num_embeddings: rows, embedding_dim: width, padding_idx } = *self;
        Plan::new(format!("Embedding {rows} → {width}"), || {
            let weight = weight_shape(OP, &[("num_embeddings", rows), ("embedding_dim", width)])?;
            Table::plain(OP).padded(rows, padding_idx)?;
            let output = Shape::new(&[input.sizes(), &[width]].concat())?;
            Ok(Draft::new(output, 0).trained(weight.elements() as u64, move |rng| {
                let layer = Embedding::new(rows, width, rng)?;
                padding_idx.map_or(Ok(layer.clone()), |id| layer.padding_idx(id))
            }))
        })
    }
}

impl Builder {
    /// [`Embedding`]: a vector of `embedding_dim` numbers for each of `num_embeddings` ids.
    pub fn embedding(self, num_embeddings: usize, embedding_dim: usize) -> Self {
        self.step(EmbeddingConfig { num_embeddings, embedding_dim, padding_idx: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, Sequential, check_module};
    use maplet_autograd::Pass;
    use maplet_tensor::DType;

    fn layer() -> Embedding {
        Embedding::new(5, 3, &mut Rng::new(1)).unwrap()
    }

    #[test]
    fn behaves_as_a_module() {
        let expect = Expect {
            input: &[2, 4],
            output: &[2, 4, 3],
            parameters: &[("weight", &[5, 3])],
            ids: 5,
            ..Expect::default()
        };
        check_module(&mut layer(), &expect).unwrap();
        let model = Sequential::input([4]).embedding(5, 3).flatten().linear(2).build(1).unwrap();
        let y = model.forward(&Tensor::from([[1i64, 4, 0, 0]]).into()).unwrap();
        assert_eq!(y.shape(), [1, 2].into());
    }

    #[test]
    fn the_padding_is_zeros_and_not_trained() {
        let layer = layer().padding_idx(2).unwrap();
        let pass = Pass::train(0);
        let y = layer.forward(&pass.input(Tensor::from([2i64, 1, 2, 1]))).unwrap();
        assert_eq!(y.value().slice(0, 0, 1).unwrap(), Tensor::zeros([1, 3], DType::F32));
        let grads = y.sum(.., false).unwrap().backward().unwrap();
        let mut expected = [0.0f32; 15];
        expected[3..6].fill(2.0);
        assert_eq!(grads.of(&layer.weight), Some(&Tensor::from_slice(&expected, [5, 3]).unwrap()));

        // Given vectors stay, that of the padding too, and are frozen.
        let given = Tensor::from([[1.0f32], [2.0]]);
        let layer = Embedding::from_pretrained(given.clone(), Some(0)).unwrap();
        assert!(layer.weight.value() == &given && !layer.weight.is_trainable());
        let y = layer.forward(&Tensor::from([0i64]).into()).unwrap();
        assert_eq!(y.value(), &Tensor::from([[1.0f32]]));
    }

    #[test]
    fn a_frequent_vector_gets_the_mean_of_its_gradients() {
        let layer = layer().scale_grad_by_freq().padding_idx(0).unwrap();
        let y = layer.forward(&Pass::train(0).input(Tensor::from([2i64, 1, 2, 0]))).unwrap();
        let dy = Tensor::from([[1.0f32; 3], [2.0; 3], [5.0; 3], [7.0; 3]]);
        let grads = y.backward_from(dy).unwrap();
        let expected = Tensor::from([[0.0f32; 3], [2.0; 3], [3.0; 3], [0.0; 3], [0.0; 3]]);
        assert_eq!(grads.of(&layer.weight), Some(&expected));
    }

    /// Row 0 is 3, 4, of length 5; it is brought to length 1.
    #[test]
    fn long_vectors_are_shortened_for_the_pass_and_at_the_step() {
        let table = Tensor::from([[3.0f64, 4.0], [0.0, 0.1], [6.0, 8.0]]);
        let mut layer = Embedding { weight: Param::new(table.clone()), table: Table::plain(OP) }.max_norm(1.0).unwrap();
        let ids = Tensor::from([0i64, 1, 0]);
        let x = Pass::train(0).input(&ids);
        let y = layer.forward(&x).unwrap();
        let near = |found: &Tensor, want: &[f64]| {
            let found = found.to_vec::<f64>().unwrap();
            assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}"); // the 1e-7 of the factor
        };
        near(y.value(), &[0.6, 0.8, 0.0, 0.1, 0.6, 0.8]);
        assert_eq!(layer.weight.value(), &table);
        near(layer.forward(&ids.clone().into()).unwrap().value(), &[0.6, 0.8, 0.0, 0.1, 0.6, 0.8]);
        assert_eq!(layer.weight.value(), &table);

        let grads = y.sum(.., false).unwrap().backward().unwrap();
        assert_eq!(grads.of(&layer.weight).unwrap(), &Tensor::from([[2.0f64, 2.0], [1.0, 1.0], [0.0, 0.0]]));
        grads.apply_states(&mut layer).unwrap();
        near(layer.weight.value(), &[0.6, 0.8, 0.0, 0.1, 6.0, 8.0]);
        let largest = layer.norm_type(f64::INFINITY).unwrap().max_norm(2.0).unwrap();
        near(largest.forward(&Tensor::from([2i64]).into()).unwrap().value(), &[1.5, 2.0]);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let text = |layer: Result<Embedding>| layer.err().unwrap().to_string();
        let none = Embedding::new(0, 3, &mut Rng::new(1));
        assert_eq!(text(none), "embedding: num_embeddings is 0; help: use 1 or more");
        let padding = "embedding: padding_idx is 5, and there are 5 embeddings; help: use 0 to 4";
        assert_eq!(text(layer().padding_idx(5)), padding);
        assert_eq!(text(layer().max_norm(0.0)), "embedding: max_norm is 0; help: use a number above 0");
        assert_eq!(text(layer().norm_type(-1.0)), "embedding: norm_type is -1; help: use a number above 0");
        let given =
            "embedding: the vectors are i64 [2]; help: give floating-point numbers [num_embeddings, embedding_dim]";
        assert_eq!(text(Embedding::from_pretrained(Tensor::from([1i64, 2]), None)), given);
        let step = EmbeddingConfig { num_embeddings: 5, embedding_dim: 3, padding_idx: Some(5) };
        let found = Sequential::input([2]).step(step).build(1).err().unwrap().to_string();
        assert_eq!(found, format!("layer 0 (Embedding 5 → 3): {padding}"));
        let outside = layer().forward(&Tensor::from([5i64]).into()).err().unwrap().to_string();
        assert_eq!(outside, "select_rows: index 5 (element 0 of [1]) is outside a size of 5; help: use 0 to 4");
    }
}
