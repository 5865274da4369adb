//! Attention of a recurrent decoder to the states of its encoder: [`BahdanauAttention`] and [`LuongAttention`].
//!
//! Both turn scores of a query and each key into weights that add up to 1, and return the keys' weighted sum. Attention
//! with heads and projections is in `MultiheadAttention`.

use crate::plan::weight_shape;
use crate::{Error, Linear, Module, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{Rng, Tensor, check_lengths};

/// Additive attention: `score(q, k) = v · tanh(W_q q + W_k k + b)`.
///
/// # Shapes
/// - query `[n, query_size]`, or several `[n, t_q, query_size]`; keys `[n, t_k, key_size]`; mask `[n, t_k]`
/// - context `[n, (t_q,) key_size]` and weights `[n, (t_q,) t_k]`
///
/// # Parameters
/// - `query.weight: [hidden_size, query_size]`, `key.weight: [hidden_size, key_size]`, `key.bias: [hidden_size]` and
///   `score.weight: [1, hidden_size]`, as in [`Linear`]
///
/// # Numerics
/// `O(n · t_q · t_k · hidden_size)` memory.
///
/// # Reference
/// Bahdanau, Cho & Bengio (2015), "Neural Machine Translation by Jointly Learning to Align and Translate", §A.1.2.
///
/// PyTorch: –; Keras: `AdditiveAttention`.
#[derive(Debug, Clone)]
pub struct BahdanauAttention {
    /// Of the query, without a bias.
    pub query: Linear,
    /// Of the keys.
    pub key: Linear,
    /// From the hidden units to the score, without a bias.
    pub score: Linear,
}
fields!(BahdanauAttention: query, key, score);

impl BahdanauAttention {
    const OP: &'static str = "bahdanau_attention";

    /// Attention with random weights.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn new(query_size: usize, key_size: usize, hidden_size: usize, rng: &mut Rng) -> Result<Self> {
        let sizes = [("query_size", query_size), ("key_size", key_size), ("hidden_size", hidden_size)];
        check_sizes(Self::OP, &sizes)?;
        Ok(Self {
            query: Linear::new(query_size, hidden_size, rng)?.without_bias(),
            key: Linear::new(key_size, hidden_size, rng)?,
            score: Linear::new(hidden_size, 1, rng)?.without_bias(),
        })
    }

    /// The context, and the weights of the keys. A mask is 0 where a key takes no part: see [`length_mask`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, query: &Var, keys: &Var, mask: Option<&Var>) -> Result<(Var, Var)> {
        attend(Self::OP, query, keys, mask, |query| {
            let [query, keys] = [self.query.forward(query)?.unsqueeze(2)?, self.key.forward(keys)?.unsqueeze(1)?];
            Ok(self.score.forward(&query.add(&keys)?.tanh())?.squeeze(-1)?)
        })
    }
}

/// Multiplicative attention: a score of query and key in one of three ways.
///
/// - [`dot`](Self::dot): `q · k`
/// - [`general`](Self::general): `q · W k`
/// - [`concat`](Self::concat): `v · tanh(W [q; k])`
///
/// # Shapes
/// As in [`BahdanauAttention`].
///
/// # Parameters
/// - general: `weight: [query_size, key_size]`; concat: `weight: [hidden_size, query_size + key_size]` and
///   `score: [hidden_size]`; all uniform in `±1/√fan_in`, as in [`Linear`]
///
/// # Reference
/// Luong, Pham & Manning (2015), "Effective Approaches to Attention-based Neural Machine Translation", §3.1.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{LuongAttention, length_mask};
/// use maplet_tensor::DType;
///
/// let attention = LuongAttention::dot();
/// let query = Var::from(Tensor::ones([2, 8], DType::F32)); // the decoder's state
/// let keys = Var::from(Tensor::ones([2, 5, 8], DType::F32)); // the encoder's outputs
/// let mask = keys.constant(length_mask(&[5, 3], 5)?);
/// let (context, weights) = attention.forward(&query, &keys, Some(&mask))?;
/// assert_eq!((context.shape(), weights.shape()), ([2, 8].into(), [2, 5].into()));
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
///
/// PyTorch: –; Keras: `Attention`.
#[derive(Debug, Clone)]
pub struct LuongAttention {
    /// Of general and concat.
    pub weight: Option<Param>,
    /// Of concat.
    pub score: Option<Param>,
}
fields!(LuongAttention: weight, score);

impl LuongAttention {
    const OP: &'static str = "luong_attention";

    /// The score is the dot product; queries and keys have one size.
    pub fn dot() -> Self {
        Self { weight: None, score: None }
    }

    /// The score is a bilinear form.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn general(query_size: usize, key_size: usize, rng: &mut Rng) -> Result<Self> {
        let shape = weight_shape(Self::OP, &[("query_size", query_size), ("key_size", key_size)])?;
        let bound = 1.0 / (key_size as f64).sqrt();
        Ok(Self { weight: Some(Param::new(init::uniform(shape, -bound, bound, rng))), score: None })
    }

    /// The score is that of a small network on both.
    ///
    /// # Errors
    /// A size of zero, or more weights than a model can have.
    pub fn concat(query_size: usize, key_size: usize, hidden_size: usize, rng: &mut Rng) -> Result<Self> {
        let sizes = [("query_size", query_size), ("key_size", key_size), ("hidden_size", hidden_size)];
        check_sizes(Self::OP, &sizes)?;
        let mut draw = |shape: &[usize], fan_in: usize| {
            let bound = 1.0 / (fan_in as f64).sqrt();
            Ok::<_, Error>(Param::new(init::uniform(maplet_tensor::Shape::new(shape)?, -bound, bound, rng)))
        };
        let both = query_size + key_size;
        Ok(Self { weight: Some(draw(&[hidden_size, both], both)?), score: Some(draw(&[hidden_size], hidden_size)?) })
    }

    /// The context, and the weights of the keys. A mask is 0 where a key takes no part: see [`length_mask`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, query: &Var, keys: &Var, mask: Option<&Var>) -> Result<(Var, Var)> {
        attend(Self::OP, query, keys, mask, |query| {
            let dot = |query: &Var| query.matmul(&keys.transpose(1, 2)?);
            match (&self.weight, &self.score) {
                (None, _) => Ok(dot(query)?),
                (Some(weight), None) => Ok(dot(&query.matmul(&weight.on(query))?)?),
                (Some(weight), Some(score)) => {
                    // W [q; k] = W_q q + W_k k, so that no pair of query and key is ever put together.
                    let (weight, size) = (weight.on(query), query.size(-1)?);
                    let (for_query, for_key) = (weight.slice(1, 0, size)?, weight.slice(1, size, weight.shape()[1])?);
                    let query = query.matmul(&for_query.transpose(0, 1)?)?.unsqueeze(2)?;
                    let keys = keys.matmul(&for_key.transpose(0, 1)?)?.unsqueeze(1)?;
                    let score = score.on(&query).unsqueeze(1)?;
                    Ok(query.add(&keys)?.tanh().matmul(&score)?.squeeze(-1)?)
                }
            }
        })
    }
}

fn check_sizes(op: &'static str, sizes: &[(&str, usize); 3]) -> Result<()> {
    let [query, key, hidden] = *sizes;
    weight_shape(op, &[hidden, query])?;
    weight_shape(op, &[hidden, key])?;
    Ok(())
}

/// 1 within each sequence, 0 in its padding: `[n, steps]`, of type `u8`, for masks of attention.
///
/// # Errors
/// A length outside `1..=steps`.
pub fn length_mask(lengths: &[usize], steps: usize) -> Result<Tensor> {
    check_lengths("length_mask", lengths, lengths.len(), steps)?;
    let mask = lengths.iter().flat_map(|&length| (0..steps).map(move |step| u8::from(step < length)));
    Ok(Tensor::from_vec(mask.collect(), [lengths.len(), steps])?)
}

/// The keys' sum by the softmax of their scores `[n, t_q, t_k]`, and the softmax; one query has no axis `t_q`.
///
/// A query whose keys are all masked gets zeros.
fn attend(
    op: &'static str,
    query: &Var,
    keys: &Var,
    mask: Option<&Var>,
    scores: impl Fn(&Var) -> Result<Var>,
) -> Result<(Var, Var)> {
    let is_single = query.rank() == 2;
    let query = if is_single { query.unsqueeze(1)? } else { query.clone() };
    let ([batch, _, _], [key_batch, steps, _]) = (query.dims(op)?, keys.dims(op)?);
    if batch != key_batch {
        let what = format!("{batch} queries for {key_batch} sequences of keys");
        return Err(Error::new(op, what, "axis 0 of both is the batch"));
    }
    let scores = scores(&query)?;
    let weights = match mask {
        None => scores.softmax(-1)?,
        Some(mask) if mask.shape() == [batch, steps].into() => {
            let mask = mask.unsqueeze(1)?;
            let lowest = scores.constant(Tensor::scalar(f32::MIN).to_dtype(scores.dtype()));
            mask.where_cond(&scores, &lowest)?.softmax(-1)?.mul(&mask.to_dtype(scores.dtype()))?
        }
        Some(mask) => {
            let what = format!("the mask is {}", mask.shape());
            return Err(Error::new(op, what, format!("it must be [{batch}, {steps}], a number for each key")));
        }
    };
    let context = weights.matmul(keys)?;
    Ok(if is_single { (context.squeeze(1)?, weights.squeeze(1)?) } else { (context, weights) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};
    use maplet_autograd::Visit;
    use maplet_tensor::DType;

    type Forward<A> = fn(&A, &Var) -> Result<Var>;

    /// Attention of a sequence's first row to all of its rows, the last one masked.
    struct ToItself<A> {
        attention: A,
        forward: Forward<A>,
    }
    fields!([A: Visit] ToItself<A>: attention; forward);

    impl<A: Visit + Send + Sync> Module for ToItself<A> {
        fn forward(&self, x: &Var) -> Result<Var> {
            (self.forward)(&self.attention, x)
        }
    }

    fn mask(x: &Var) -> Var {
        let [batch, steps, _] = x.dims("test").unwrap();
        x.constant(length_mask(&vec![steps - 1; batch], steps).unwrap())
    }

    #[test]
    fn behave_as_modules() {
        let mut rng = Rng::new(1);
        let bahdanau: Forward<BahdanauAttention> = |attention, x| Ok(attention.forward(x, x, Some(&mask(x)))?.0);
        let expect = Expect { input: &[2, 4, 3], output: &[2, 4, 3], ..Expect::default() };
        let parameters: &[(&str, &[usize])] = &[
            ("attention.query.weight", &[5, 3]),
            ("attention.key.weight", &[5, 3]),
            ("attention.key.bias", &[5]),
            ("attention.score.weight", &[1, 5]),
        ];
        let layer = BahdanauAttention::new(3, 3, 5, &mut rng).unwrap();
        check_module(&mut ToItself { attention: layer, forward: bahdanau }, &Expect { parameters, ..expect }).unwrap();

        let luong: Forward<LuongAttention> = |attention, x| Ok(attention.forward(x, x, Some(&mask(x)))?.0);
        check_module(&mut ToItself { attention: LuongAttention::dot(), forward: luong }, &expect).unwrap();
        let layer = LuongAttention::general(3, 3, &mut rng).unwrap();
        let parameters: &[(&str, &[usize])] = &[("attention.weight", &[3, 3])];
        check_module(&mut ToItself { attention: layer, forward: luong }, &Expect { parameters, ..expect }).unwrap();
        let layer = LuongAttention::concat(3, 3, 5, &mut rng).unwrap();
        let parameters: &[(&str, &[usize])] = &[("attention.weight", &[5, 6]), ("attention.score", &[5])];
        check_module(&mut ToItself { attention: layer, forward: luong }, &Expect { parameters, ..expect }).unwrap();
    }

    #[test]
    fn weights_are_a_softmax_over_what_is_not_masked() {
        // Scores 0 and ln 3, and a masked key.
        let query = Var::from(Tensor::from([[1.0f64, 0.0]]));
        let keys = Var::from(Tensor::from([[[0.0f64, 8.0], [3f64.ln(), 0.0], [50.0, 50.0]]]));
        let mask = Var::from(length_mask(&[2], 3).unwrap());
        let (context, weights) = LuongAttention::dot().forward(&query, &keys, Some(&mask)).unwrap();
        let near = |x: &Var, want: &[f64]| {
            let x = x.value().to_vec::<f64>().unwrap();
            assert!(x.len() == want.len() && x.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{x:?}");
        };
        near(&weights, &[0.25, 0.75, 0.0]);
        near(&context, &[0.75 * 3f64.ln(), 2.0]);
        let none = Var::from(Tensor::zeros([1, 3], DType::U8));
        let (context, weights) = LuongAttention::dot().forward(&query, &keys, Some(&none)).unwrap();
        near(&weights, &[0.0; 3]);
        near(&context, &[0.0; 2]);
    }

    #[test]
    fn misfits_are_refused() {
        let zeros = |shape: &[usize]| Var::from(Tensor::zeros(maplet_tensor::Shape::new(shape).unwrap(), DType::F32));
        let text = |query: &[usize], mask: Option<&[usize]>| {
            let mask = mask.map(zeros);
            LuongAttention::dot().forward(&zeros(query), &zeros(&[2, 4, 3]), mask.as_ref()).err().unwrap().to_string()
        };
        let found = text(&[5, 3], None);
        assert_eq!(found, "luong_attention: 5 queries for 2 sequences of keys; help: axis 0 of both is the batch");
        let found = text(&[2, 3], Some(&[2, 3]));
        assert_eq!(found, "luong_attention: the mask is [2, 3]; help: it must be [2, 4], a number for each key");
        let found = BahdanauAttention::new(3, 0, 5, &mut Rng::new(1)).err().unwrap().to_string();
        assert_eq!(found, "bahdanau_attention: key_size is 0; help: use 1 or more");
        let found = LuongAttention::concat(3, 3, 0, &mut Rng::new(1)).err().unwrap().to_string();
        assert_eq!(found, "luong_attention: hidden_size is 0; help: use 1 or more");
        let found = length_mask(&[3, 5], 4).err().unwrap().to_string();
        assert_eq!(found, "length_mask: length 5 of sequence 1, which has 4 steps; help: use 1 to 4");
    }
}
