//! Positions that are added: sinusoidal, learned, and ALiBi's bias of attention scores. (Rotation is in `rotary.rs`.)

use crate::module::expect_float;
use crate::plan::{Draft, Plan, batched, weight_shape};
use crate::step::Spec;
use crate::{Builder, Error, Module, Result, init};
use maplet_autograd::{Param, Var, fields};
use maplet_tensor::{DType, Rng, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Adds to each position a vector of sines and cosines of it, with wavelengths from 2π to 10000 · 2π.
///
/// `y[t][2i] = x[t][2i] + sin(t / 10000^(2i/d))`, `y[t][2i + 1] = x[t][2i + 1] + cos(t / 10000^(2i/d))`
///
/// PyTorch: –; Keras: `keras_hub.layers.SinePositionEncoding`.
///
/// # Shapes
/// - input and output `[.., t, d]`
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need", §3.5.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{Module, SinusoidalPositions};
/// use maplet_tensor::DType;
///
/// let positions = SinusoidalPositions::new(512, 4)?;
/// let y = positions.forward(&Var::from(Tensor::zeros([1, 1, 4], DType::F32)))?;
/// assert_eq!(y.value(), &Tensor::from([[[0.0f32, 1.0, 0.0, 1.0]]])); // sines and cosines of 0
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SinusoidalPositions {
    /// `[max_len, d]`
    table: Tensor,
}
fields!(SinusoidalPositions: ; table);

impl SinusoidalPositions {
    /// A table of `max_len` positions for vectors of `d` features.
    ///
    /// # Errors
    /// A size of zero, or more numbers than a model can have.
    pub fn new(max_len: usize, d: usize) -> Result<Self> {
        weight_shape("sinusoidal_positions", &[("max_len", max_len), ("d", d)])?;
        let angles = angles(max_len, d, 10000.0)?;
        let pairs = Tensor::stack(&[&angles.sin(), &angles.cos()], -1)?;
        Ok(Self { table: pairs.reshape([max_len, 2 * d.div_ceil(2)])?.slice(-1, 0, d)? })
    }

    /// The output for the positions from `first` on: for the next step of a decoder.
    ///
    /// # Errors
    /// Another number of features, or positions beyond the table.
    pub fn forward_from(&self, x: &Var, first: usize) -> Result<Var> {
        expect_float("sinusoidal_positions", x)?;
        let rows = check_positions("sinusoidal_positions", x, first, &self.table.shape())?;
        let table = self.table.slice(0, first, first + rows)?.to_dtype(x.dtype());
        Ok(x.add(&x.constant(table))?)
    }
}

impl Module for SinusoidalPositions {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.forward_from(x, 0)
    }
}

/// [`SinusoidalPositions`] in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinusoidalPositionsConfig {
    /// The positions in the table.
    pub max_len: usize,
}

impl Spec for SinusoidalPositionsConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let max_len = self.max_len;
        Plan::new(format!("SinusoidalPositions {max_len}"), || {
            let d = check_sample("sinusoidal_positions", input, max_len)?;
            weight_shape("sinusoidal_positions", &[("max_len", max_len), ("d", d)])?;
            let draft = Draft::new(*input, input.elements() as u64);
            Ok(draft.trained(0, move |_| SinusoidalPositions::new(max_len, d)))
        })
    }
}

/// Adds to each position a vector that is trained.
///
/// PyTorch: –; Keras: `keras_hub.layers.PositionEmbedding`.
///
/// # Shapes
/// - input and output `[.., t, d]`
///
/// # Parameters
/// - `weight: [max_len, d]`, normal with mean 0 and standard deviation 1, as PyTorch's `nn.Embedding`
///
/// # Reference
/// Gehring, Auli, Grangier, Yarats & Dauphin (2017), "Convolutional Sequence to Sequence Learning", §3.1.
#[derive(Debug, Clone)]
pub struct LearnedPositions {
    /// `[max_len, d]`
    pub weight: Param,
}
fields!(LearnedPositions: weight);

impl LearnedPositions {
    /// Random vectors for `max_len` positions of `d` features.
    ///
    /// # Errors
    /// A size of zero, or more numbers than a model can have.
    pub fn new(max_len: usize, d: usize, rng: &mut Rng) -> Result<Self> {
        let shape = weight_shape("learned_positions", &[("max_len", max_len), ("d", d)])?;
        Ok(Self { weight: Param::new(init::normal(shape, 0.0, 1.0, rng)) })
    }

    /// The output for the positions from `first` on: for the next step of a decoder.
    ///
    /// # Errors
    /// Another number of features, or positions beyond the table.
    pub fn forward_from(&self, x: &Var, first: usize) -> Result<Var> {
        let rows = check_positions("learned_positions", x, first, &self.weight.shape())?;
        Ok(x.add(&self.weight.on(x).slice(0, first, first + rows)?)?)
    }
}

impl Module for LearnedPositions {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.forward_from(x, 0)
    }
}

/// [`LearnedPositions`] in a [`Sequential`](crate::Sequential).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedPositionsConfig {
    /// The positions in the table.
    pub max_len: usize,
}

impl Spec for LearnedPositionsConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let max_len = self.max_len;
        Plan::new(format!("LearnedPositions {max_len}"), || {
            let d = check_sample("learned_positions", input, max_len)?;
            let weight = weight_shape("learned_positions", &[("max_len", max_len), ("d", d)])?;
            let draft = Draft::new(*input, input.elements() as u64);
            Ok(draft.trained(weight.elements() as u64, move |rng| LearnedPositions::new(max_len, d, rng)))
        })
    }
}

impl Builder {
    /// [`SinusoidalPositions`], a table of `max_len` of them.
    pub fn sinusoidal_positions(self, max_len: usize) -> Self {
        self.step(SinusoidalPositionsConfig { max_len })
    }

    /// [`LearnedPositions`], a table of `max_len` of them.
    pub fn learned_positions(self, max_len: usize) -> Self {
        self.step(LearnedPositionsConfig { max_len })
    }
}

/// The features of a sample `[.., t, d]` whose positions the table has.
fn check_sample(op: &'static str, sample: &Shape, max_len: usize) -> Result<usize> {
    let &[.., t, d] = sample.sizes() else {
        return Err(Error::new(op, format!("expects [n, .., t, d], got {}", batched(sample)), "add the missing axis"));
    };
    check_reach(op, 0, t, max_len)?;
    Ok(d)
}

/// How fast attention falls off with distance in each head: `2^(−8 · i / heads)` for `i` from 1, if heads are a power
/// of two; else those of the next lower power, and every other one of twice as many.
///
/// # Reference
/// Press, Smith & Lewis (2022), "Train Short, Test Long: Attention with Linear Biases Enables Input Length
/// Extrapolation", §3, and its published code for other numbers of heads.
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let of_power = |power: usize| (1..=power).map(move |i| 2f64.powf(-8.0 * i as f64 / power as f64));
    let lower = if heads == 0 { 0 } else { 1 << heads.ilog2() };
    of_power(lower).chain(of_power(2 * lower).step_by(2)).take(heads).collect()
}

/// ALiBi: what is added to attention's scores instead of positions to its inputs, `−slope · distance`, to be used as a
/// mask. The last query stands at the last key.
///
/// PyTorch: –; Keras: `keras_hub.layers.AlibiBias`.
///
/// # Shapes
/// - output `[heads, t_q, t_k]`
///
/// # Errors
/// More queries than keys, or more numbers than memory can address.
///
/// # Reference
/// As [`alibi_slopes`].
///
/// # Example
/// ```
/// use maplet_autograd::{AttentionOptions, Tensor, Var};
/// use maplet_nn_layers::alibi;
/// use maplet_tensor::DType;
///
/// let x = Var::from(Tensor::ones([1, 4, 6, 8], DType::F32)); // one sample, four heads, six positions
/// let options = AttentionOptions::new().causal().mask(alibi(4, [6, 6], DType::F32)?);
/// assert_eq!(x.scaled_dot_product_attention(&x, &x, &options)?.shape(), [1, 4, 6, 8].into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn alibi(heads: usize, [t_q, t_k]: [usize; 2], dtype: DType) -> Result<Tensor> {
    let Some(before) = t_k.checked_sub(t_q) else {
        let help = "the last query stands at the last key";
        return Err(Error::new("alibi", format!("{t_q} queries have only {t_k} keys"), help));
    };
    let slopes = Tensor::from_vec(alibi_slopes(heads), [heads, 1, 1])?;
    let queries = Tensor::arange(before as f64, t_k as f64, 1.0)?.reshape([t_q, 1])?;
    let distances = Tensor::arange(0.0, t_k as f64, 1.0)?.sub(&queries)?.abs();
    Ok(slopes.mul(&distances)?.mul_scalar(-1.0).to_dtype(dtype))
}

/// `position · base^(−2i/d)` for all positions and pairs of features, in `f64`: `[len, ⌈d/2⌉]`.
pub(crate) fn angles(len: usize, d: usize, base: f64) -> Result<Tensor> {
    let rates = Tensor::arange(0.0, d as f64, 2.0)?.mul_scalar(-base.ln() / d as f64).exp();
    Ok(Tensor::arange(0.0, len as f64, 1.0)?.reshape([len, 1])?.mul(&rates)?)
}

/// The number of positions in `x: [.., t, d]`, which a table `[max_len, d]` must have from `first` on.
fn check_positions(op: &'static str, x: &Var, first: usize, table: &Shape) -> Result<usize> {
    let (&[len, d], &[.., t, features]) = (table.sizes(), x.shape().sizes()) else {
        return Err(Error::new(op, format!("expects [.., t, d], got {}", x.shape()), "add the missing axis"));
    };
    if features != d {
        let what = format!("the input {} has {features} features, the table {table}", x.shape());
        return Err(Error::new(op, what, format!("the last axis must be {d}")));
    }
    check_reach(op, first, t, len)?;
    Ok(t)
}

pub(crate) fn check_reach(op: &'static str, first: usize, t: usize, len: usize) -> Result<()> {
    match first.checked_add(t) {
        Some(end) if end <= len => Ok(()),
        _ => {
            let what = format!("position {} is beyond the table of {len}", first.saturating_add(t) - 1);
            Err(Error::new(op, what, "make max_len larger or the sequence shorter"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, check_module};

    #[test]
    fn sinusoidal_is_the_formula() {
        for d in [6, 5] {
            let mut layer = SinusoidalPositions::new(50, d).unwrap();
            let y = layer.forward_from(&Tensor::zeros([2, 3, d], DType::F64).into(), 40).unwrap();
            for (at, &y) in y.value().as_slice::<f64>().unwrap().iter().enumerate() {
                let (t, i) = (40 + at / d % 3, at % d);
                let angle = t as f64 / 10000f64.powf((i / 2 * 2) as f64 / d as f64);
                let want = if i % 2 == 0 { angle.sin() } else { angle.cos() };
                assert!((y - want).abs() < 1e-13, "{t} {i}: {y} {want}"); // sines of numbers below 50
            }
            let (input, beyond) = ([2, 50, d], [2, 51, d]);
            let text = "sinusoidal_positions: position 50 is beyond the table of 50; \
                        help: make max_len larger or the sequence shorter";
            let expect = Expect { input: &input, output: &input, refuses: &[(&beyond, text)], ..Expect::default() };
            check_module(&mut layer, &expect).unwrap();
        }
    }

    #[test]
    fn learned_adds_rows_of_its_weight() {
        let mut layer = LearnedPositions::new(5, 3, &mut Rng::new(1)).unwrap();
        let y = layer.forward_from(&Tensor::zeros([2, 2, 3], DType::F32).into(), 3).unwrap();
        let rows = layer.weight.value().slice(0, 3, 5).unwrap();
        assert_eq!(y.value(), &Tensor::stack(&[&rows, &rows], 0).unwrap());
        let text = layer.forward_from(&Tensor::zeros([2, 2, 3], DType::F32).into(), 4).unwrap_err().to_string();
        let beyond = "learned_positions: position 5 is beyond the table of 5; \
                      help: make max_len larger or the sequence shorter";
        assert_eq!(text, beyond);
        let features = "learned_positions: the input [2, 4, 2] has 2 features, the table [5, 3]; \
                        help: the last axis must be 3";
        let rank = "learned_positions: expects [.., t, d], got [3]; help: add the missing axis";
        let expect = Expect {
            input: &[2, 4, 3],
            output: &[2, 4, 3],
            parameters: &[("weight", &[5, 3])],
            refuses: &[(&[2, 4, 2], features), (&[3], rank)],
            ..Expect::default()
        };
        check_module(&mut layer, &expect).unwrap();
        let text = LearnedPositions::new(0, 3, &mut Rng::new(1)).err().unwrap().to_string();
        assert_eq!(text, "learned_positions: max_len is 0; help: use 1 or more");
    }

    /// §3: "for 8 heads, the slopes are 1/2, 1/4, …, 1/256", "for 16 heads, 1/2^0.5, 1/2^1, …".
    #[test]
    fn slopes_are_the_papers() {
        assert_eq!(alibi_slopes(8), [1, 2, 3, 4, 5, 6, 7, 8].map(|i| 2f64.powi(-i)));
        assert_eq!(alibi_slopes(16)[..3], [2f64.powf(-0.5), 0.5, 2f64.powf(-1.5)]);
        // The published code, for 3 heads: two of 2, then the first of 4.
        assert_eq!(alibi_slopes(3), [2f64.powi(-4), 2f64.powi(-8), 2f64.powi(-2)]);
        assert!(alibi_slopes(0).is_empty());
    }

    #[test]
    fn alibi_grows_with_distance() {
        let bias = alibi(2, [2, 3], DType::F64).unwrap();
        let [a, b] = [2f64.powi(-4), 2f64.powi(-8)];
        let want = Tensor::from([[[-a, 0.0, -a], [-2.0 * a, -a, 0.0]], [[-b, 0.0, -b], [-2.0 * b, -b, 0.0]]]);
        assert_eq!(bias, want);
        let text = alibi(2, [3, 2], DType::F32).unwrap_err().to_string();
        assert_eq!(text, "alibi: 3 queries have only 2 keys; help: the last query stands at the last key");
    }
}
