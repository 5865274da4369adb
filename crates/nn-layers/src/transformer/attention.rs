//! [`MultiheadAttention`]: attention between projections, several heads side by side.

use super::cache::Caches;
use super::{AttentionMasks, KvCache};
use crate::init::{self, Gain};
use crate::plan::{Draft, Plan, batched, weight_shape};
use crate::step::{Spec, yes};
use crate::{Builder, Error, Linear, Module, Result};
use maplet_autograd::{AttentionOptions, Param, Var, fields};
use maplet_tensor::{Activation, Rng, Shape, Tensor};
use serde::{Deserialize, Serialize};

const OP: &str = "multihead_attention";

/// Lets each position look at others: `out_proj(concat of heads softmax(qᵢ · kᵢᵀ / √d) · vᵢ)` with projections `q`, `k`
/// and `v` of its inputs.
///
/// PyTorch: `nn.MultiheadAttention`; Keras: `MultiHeadAttention`.
///
/// As a [`Module`] it is self-attention without masks; [`attend`](Self::attend) takes all three inputs and masks. The
/// attention itself is one op with memory linear in the number of positions, unless
/// [its weights](Self::attend_with_weights) are wanted.
///
/// # Shapes
/// - queries `[n, t_q, embed_dim]`, keys `[n, t_k, kdim]`, values `[n, t_k, vdim]`, output `[n, t_q, embed_dim]`; all
///   without `n` for one sample. The batch is axis 0 as everywhere in this crate, which is PyTorch's
///   `batch_first=True`; [`batch_first(false)`](Self::batch_first) exchanges `n` and `t`.
///
/// # Parameters
/// - `in_proj_weight: [3 · embed_dim, embed_dim]` for queries, keys and values, Xavier's uniform; or, if keys or values
///   have another size, `q_proj_weight: [embed_dim, embed_dim]`, `k_proj_weight: [embed_dim, kdim]` and
///   `v_proj_weight: [embed_dim, vdim]`
/// - `in_proj_bias: [3 · embed_dim]`, zeros; `out_proj`: a [`Linear`] with bias zeros
/// - with [`bias_kv`](Self::bias_kv): `bias_k` and `bias_v: [1, 1, embed_dim]`, Xavier's normal
///
/// # Numerics
/// A query that may look at no key gets the output projection of zeros, with and without weights. (PyTorch gives NaN
/// with `need_weights=True` and the same as here without.)
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need", §3.2.2.
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{AttentionMasks, MultiheadAttention};
/// use maplet_tensor::{DType, Rng};
///
/// let attention = MultiheadAttention::new(16, 4, &mut Rng::new(42))?;
/// let x = Var::from(Tensor::ones([2, 5, 16], DType::F32));
/// let memory = Var::from(Tensor::ones([2, 7, 16], DType::F32));
/// let y = attention.attend(&x, &memory, &memory, &AttentionMasks::new())?;
/// assert_eq!(y.shape(), [2, 5, 16].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "MultiHeadAttention")]
pub struct MultiheadAttention {
    /// `[3 · embed_dim, embed_dim]`, if queries, keys and values have one size.
    pub in_proj_weight: Option<Param>,
    /// `[embed_dim, embed_dim]`, else.
    pub q_proj_weight: Option<Param>,
    /// `[embed_dim, kdim]`
    pub k_proj_weight: Option<Param>,
    /// `[embed_dim, vdim]`
    pub v_proj_weight: Option<Param>,
    /// `[3 · embed_dim]`
    pub in_proj_bias: Option<Param>,
    /// A key `[1, 1, embed_dim]` that comes after those of the data.
    pub bias_k: Option<Param>,
    /// Its value.
    pub bias_v: Option<Param>,
    /// The projection of the heads' outputs.
    pub out_proj: Linear,
    num_heads: usize,
    dropout: f64,
    add_zero_attn: bool,
    batch_first: bool,
}
fields!(MultiheadAttention:
    in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias, bias_k, bias_v, out_proj;
    num_heads, dropout, add_zero_attn, batch_first);

impl MultiheadAttention {
    /// Attention with `num_heads` heads of `embed_dim / num_heads` features each.
    ///
    /// # Errors
    /// A size of zero, more weights than a model can have, or heads that do not divide the features.
    pub fn new(embed_dim: usize, num_heads: usize, rng: &mut Rng) -> Result<Self> {
        let shape = Self::check(embed_dim, num_heads)?;
        let weight = init::xavier_uniform(shape, 1, Gain::Linear, rng)?;
        Self::with(embed_dim, num_heads, [Some(weight), None, None, None], rng)
    }

    /// As [`new`](Self::new), for keys with `kdim` features and values with `vdim`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_dims(embed_dim: usize, num_heads: usize, [kdim, vdim]: [usize; 2], rng: &mut Rng) -> Result<Self> {
        if [kdim, vdim] == [embed_dim; 2] {
            return Self::new(embed_dim, num_heads, rng);
        }
        Self::check(embed_dim, num_heads)?;
        let mut weight = |name, size| -> Result<Option<Tensor>> {
            let shape = weight_shape(OP, &[("embed_dim", embed_dim), (name, size)])?;
            Ok(Some(init::xavier_uniform(shape, 1, Gain::Linear, rng)?))
        };
        let weights = [None, weight("embed_dim", embed_dim)?, weight("kdim", kdim)?, weight("vdim", vdim)?];
        Self::with(embed_dim, num_heads, weights, rng)
    }

    fn with(embed_dim: usize, num_heads: usize, weights: [Option<Tensor>; 4], rng: &mut Rng) -> Result<Self> {
        let mut out_proj = Linear::new(embed_dim, embed_dim, rng)?;
        out_proj.bias = Some(Param::new(init::zeros([embed_dim])));
        let [in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight] =
            weights.map(|weight| weight.map(Param::new));
        Ok(Self {
            in_proj_weight,
            q_proj_weight,
            k_proj_weight,
            v_proj_weight,
            in_proj_bias: Some(Param::new(init::zeros([3 * embed_dim]))),
            bias_k: None,
            bias_v: None,
            out_proj,
            num_heads,
            dropout: 0.0,
            add_zero_attn: false,
            batch_first: true,
        })
    }

    /// The shape of the common projection, if it is possible.
    pub(super) fn check(embed_dim: usize, num_heads: usize) -> Result<Shape> {
        for (name, size) in [("embed_dim", embed_dim), ("num_heads", num_heads)] {
            if size == 0 {
                return Err(Error::new(OP, format!("{name} is 0"), "use 1 or more"));
            }
        }
        if !embed_dim.is_multiple_of(num_heads) {
            let what = format!("embed_dim {embed_dim} does not divide into {num_heads} heads");
            return Err(Error::new(OP, what, "num_heads must divide embed_dim"));
        }
        weight_shape(OP, &[("3 · embed_dim", embed_dim.saturating_mul(3)), ("embed_dim", embed_dim)])
    }

    /// In training, drops weights of attention with probability `p`.
    ///
    /// # Errors
    /// A `p` outside `[0, 1)`.
    pub fn dropout(mut self, p: f64) -> Result<Self> {
        check_dropout(OP, p)?;
        self.dropout = p;
        Ok(self)
    }

    /// Projections without biases.
    pub fn without_bias(mut self) -> Self {
        self.in_proj_bias = None;
        self.out_proj = self.out_proj.without_bias();
        self
    }

    /// With a trained key and its value behind those of the data (PyTorch's `add_bias_kv`).
    ///
    /// # Errors
    /// Never: the sizes were checked by [`new`](Self::new).
    pub fn bias_kv(mut self, rng: &mut Rng) -> Result<Self> {
        let shape = [1, 1, self.embed_dim()];
        self.bias_k = Some(Param::new(init::xavier_normal(shape, 1, Gain::Linear, rng)?));
        self.bias_v = Some(Param::new(init::xavier_normal(shape, 1, Gain::Linear, rng)?));
        Ok(self)
    }

    /// With a key and a value of zeros behind all others, so that a query can look at nothing.
    pub fn add_zero_attn(mut self) -> Self {
        self.add_zero_attn = true;
        self
    }

    /// Whether data is `[n, t, features]`, as by default, or `[t, n, features]`, PyTorch's default.
    pub fn batch_first(mut self, batch_first: bool) -> Self {
        self.batch_first = batch_first;
        self
    }

    /// The features of queries and of the output.
    pub fn embed_dim(&self) -> usize {
        self.out_proj.weight.shape()[0]
    }

    /// The output for queries that look at keys and take their values.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn attend(&self, q: &Var, k: &Var, v: &Var, masks: &AttentionMasks) -> Result<Var> {
        let [queries, keys, values] = [self.batched(q)?, self.batched(k)?, self.batched(v)?];
        let q_proj = self.project_queries(&queries)?;
        let [k_proj, v_proj] = self.project_memory(&keys, &values)?;
        self.finish(q, &self.look(&q_proj, [&k_proj, &v_proj], masks)?)
    }

    /// The output for a sequence that looks at itself: [`attend`](Self::attend) with one input, which is projected at
    /// once.
    ///
    /// # Errors
    /// A shape that does not fit, types that differ.
    pub fn self_attend(&self, x: &Var, masks: &AttentionMasks) -> Result<Var> {
        let Some(weight) = self.in_proj_weight.as_ref().filter(|_| self.extra() == 0) else {
            return self.attend(x, x, x, masks);
        };
        let rows = self.batched(x)?;
        let bias = self.in_proj_bias.as_ref().map(|bias| bias.on(x));
        let packed = rows.linear(&weight.on(x), bias.as_ref(), Activation::Identity)?;
        let options = masks.options(x, [rows.shape()[0], self.num_heads, rows.shape()[1], rows.shape()[1]], 0)?;
        self.finish(x, &packed.packed_attention(self.num_heads, &options.dropout(self.dropout))?)
    }

    /// As [`attend`](Self::attend), also with the weights of attention, after dropout: `[n, t_q, t_k]`, the mean of all
    /// heads, or `[n, num_heads, t_q, t_k]` if not `averaged`. Takes memory for all of them.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn attend_with_weights(
        &self,
        q: &Var,
        k: &Var,
        v: &Var,
        masks: &AttentionMasks,
        averaged: bool,
    ) -> Result<(Var, Var)> {
        let [queries, keys, values] = [self.batched(q)?, self.batched(k)?, self.batched(v)?];
        let q_proj = self.project_queries(&queries)?;
        let [k_proj, v_proj] = self.project_memory(&keys, &values)?;
        let (kv, options) = self.surroundings(&q_proj, [&k_proj, &v_proj], masks)?;
        let heads = |x: &Var| -> Result<Var> {
            let [n, t, row] = x.dims(OP)?;
            Ok(x.reshape([n, t, self.num_heads, row / self.num_heads])?.permute(&[0, 2, 1, 3])?)
        };
        let weights = heads(&q_proj)?.attention_weights(&heads(&kv[0])?, &options)?.dropout(self.dropout)?;
        let y = weights.matmul(&heads(&kv[1])?)?.permute(&[0, 2, 1, 3])?.reshape(q_proj.shape())?;
        let weights = if averaged { weights.mean(1, false)? } else { weights };
        let weights = if q.rank() == 2 { weights.squeeze(0)? } else { weights };
        Ok((self.finish(q, &y)?, weights))
    }

    /// The output for the next positions of a sequence, which look at themselves and at all earlier ones in `cache`.
    /// Token by token, or with any other cut, this gives the outputs of [`AttentionMasks::causal`] on all at once.
    ///
    /// # Errors
    /// Shapes that do not fit, or extra keys ([`bias_kv`](Self::bias_kv), [`add_zero_attn`](Self::add_zero_attn)). The
    /// cache stays as it was.
    pub fn decode(&self, x: &Var, cache: &mut KvCache) -> Result<Var> {
        if self.extra() > 0 {
            let what = "keys that come after those of the data have no place in a cache";
            return Err(Error::new("decode", what, "build the layer without bias_kv and add_zero_attn"));
        }
        let rows = self.batched(x)?;
        let first = cache.len();
        let q = self.project_queries(&rows)?;
        let [k, v] = self.project_memory(&rows, &rows)?;
        let options = AttentionOptions::new().causal_from(first).dropout(self.dropout);
        cache.undo_on_error(|cache| {
            let [k, v] = cache.append(k, v)?;
            self.finish(x, &q.multi_head_attention(&k, &v, self.num_heads, &options)?)
        })
    }

    /// As [`attend`](Self::attend) with `memory` as keys and values, whose projections are made at the first call and
    /// kept in `cache`.
    ///
    /// # Errors
    /// Shapes that do not fit. The cache stays as it was.
    pub fn decode_memory(&self, x: &Var, memory: &Var, masks: &AttentionMasks, cache: &mut KvCache) -> Result<Var> {
        let q = self.project_queries(&self.batched(x)?)?;
        cache.undo_on_error(|cache| {
            let [k, v] = cache.once(|| {
                let memory = self.batched(memory)?;
                self.project_memory(&memory, &memory)
            })?;
            self.finish(x, &self.look(&q, [&k, &v], masks)?)
        })
    }

    /// Keys that come after those of the data.
    fn extra(&self) -> usize {
        usize::from(self.bias_k.is_some()) + usize::from(self.add_zero_attn)
    }

    /// `[n, t, features]`
    fn batched(&self, x: &Var) -> Result<Var> {
        match x.rank() {
            2 => Ok(x.unsqueeze(0)?),
            3 if self.batch_first => Ok(x.clone()),
            3 => Ok(x.transpose(0, 1)?),
            _ => {
                let what = format!("expects [n, t, features] or [t, features], got {}", x.shape());
                Err(Error::new(OP, what, "reshape the input"))
            }
        }
    }

    /// The projection of the heads' outputs `[n, t, features]`, in the layout of the queries `like`.
    fn finish(&self, like: &Var, y: &Var) -> Result<Var> {
        let y = self.out_proj.forward(y)?;
        match like.rank() {
            2 => Ok(y.squeeze(0)?),
            _ if self.batch_first => Ok(y),
            _ => Ok(y.transpose(0, 1)?),
        }
    }

    fn project_queries(&self, q: &Var) -> Result<Var> {
        self.project(q, 0, &self.q_proj_weight)
    }

    fn project_memory(&self, k: &Var, v: &Var) -> Result<[Var; 2]> {
        Ok([self.project(k, 1, &self.k_proj_weight)?, self.project(v, 2, &self.v_proj_weight)?])
    }

    /// The projection to queries, keys or values, by the part's own weight or its rows of the common one.
    fn project(&self, x: &Var, part: usize, own: &Option<Param>) -> Result<Var> {
        let features = self.embed_dim();
        let rows = |param: &Param| param.on(x).slice(0, part * features, (part + 1) * features);
        let weight = match (own, &self.in_proj_weight) {
            (Some(own), _) => own.on(x),
            (None, Some(all)) => rows(all)?,
            (None, None) => return Err(Error::new(OP, "the layer has no weights", "make it with new or with_dims")),
        };
        let bias = self.in_proj_bias.as_ref().map(rows).transpose()?;
        Ok(x.linear(&weight, bias.as_ref(), Activation::Identity)?)
    }

    fn look(&self, q: &Var, kv: [&Var; 2], masks: &AttentionMasks) -> Result<Var> {
        let ([k, v], options) = self.surroundings(q, kv, masks)?;
        Ok(q.multi_head_attention(&k, &v, self.num_heads, &options.dropout(self.dropout))?)
    }

    /// Keys and values with those that come after the data's, and the masks for them.
    fn surroundings(&self, q: &Var, [k, v]: [&Var; 2], masks: &AttentionMasks) -> Result<([Var; 2], AttentionOptions)> {
        let ([n, t_q, _], [_, t_k, features]) = (q.dims(OP)?, k.dims(OP)?);
        let options = masks.options(q, [n, self.num_heads, t_q, t_k], self.extra())?;
        let mut longer = [k.clone(), v.clone()];
        for (x, bias) in longer.iter_mut().zip([&self.bias_k, &self.bias_v]) {
            if let Some(bias) = bias {
                *x = Var::concat(&[x, &bias.on(q).broadcast_to([n, 1, features])?], 1)?;
            }
            if self.add_zero_attn {
                *x = Var::concat(&[x, &q.constant(Tensor::zeros([n, 1, features], q.dtype()))], 1)?;
            }
        }
        Ok((longer, options))
    }
}

/// Self-attention without masks.
impl Module for MultiheadAttention {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.self_attend(x, &AttentionMasks::new())
    }
}

/// A [`MultiheadAttention`] in a [`Sequential`](crate::Sequential), where each sample looks at itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiheadAttentionConfig {
    /// The number of heads.
    pub num_heads: usize,
    /// The probability that a weight of attention is dropped.
    #[serde(default)]
    pub dropout: f64,
    /// Whether projections add a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

impl Spec for MultiheadAttentionConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let Self { num_heads, dropout, bias } = *self;
        Plan::new(format!("MultiheadAttention {num_heads} heads"), || {
            let &[t, d] = input.sizes() else {
                let what = format!("expects [n, t, features], got {}", batched(input));
                return Err(Error::new(OP, what, "put reshape([t, features]) before it"));
            };
            check_dropout(OP, dropout)?;
            let weight = MultiheadAttention::check(d, num_heads)?.elements() as u64;
            let (t, d) = (t as u64, d as u64);
            let parameters = weight + d * d + if bias { 4 * d } else { 0 };
            Ok(Draft::new(*input, 8 * t * d * d + 4 * t * t * d).trained(parameters, move |rng| {
                let layer = MultiheadAttention::new(d as usize, num_heads, rng)?.dropout(dropout)?;
                Ok(if bias { layer } else { layer.without_bias() })
            }))
        })
    }

    fn drop_bias(&mut self) -> bool {
        std::mem::take(&mut self.bias)
    }
}

impl Builder {
    /// [`MultiheadAttention`] of each sample to itself, without masks and dropout.
    pub fn multihead_attention(self, num_heads: usize) -> Self {
        self.step(MultiheadAttentionConfig { num_heads, dropout: 0.0, bias: true })
    }
}

pub(super) fn check_dropout(op: &'static str, p: f64) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::new(op, format!("dropout is {p}"), "use a probability from 0 to below 1"))
}
