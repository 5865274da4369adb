//! Attention: one fused op in three layouts, its composition of plain ops, and the weights alone.

use crate::{Result, Var, record_fused};
use maplet_tensor::{Attend, DType, Heads, Rng, Shape, Tensor, Trans};

const OP: &str = "scaled_dot_product_attention";

/// Who looks at whom, and how sharply; by default everyone at everyone, with scale `1 / √d`.
///
/// ```
/// use maplet_autograd::{AttentionOptions, Tensor, Var};
///
/// let x = Var::from(Tensor::from([[1.0f32, 0.0], [0.0, 1.0]]));
/// let y = x.scaled_dot_product_attention(&x, &x, &AttentionOptions::new().causal())?;
/// assert_eq!(y.value().slice(0, 0, 1)?, Tensor::from([[1.0f32, 0.0]])); // the first looks at itself alone
/// # Ok::<(), maplet_autograd::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    mask: Option<Var>,
    causal: Option<usize>,
    dropout: f64,
    scale: Option<f64>,
}

impl AttentionOptions {
    /// No mask, no dropout.
    pub fn new() -> Self {
        Self::default()
    }

    /// A mask that broadcasts to `[.., heads, t_q, t_k]`: of type `u8`, a query looks at a key where it is 1; of the
    /// queries' type, it is added to the scores.
    pub fn mask(mut self, mask: impl Into<Var>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// Query `i` looks at the keys up to `i`. Together with a mask, both must allow.
    pub fn causal(self) -> Self {
        self.causal_from(0)
    }

    /// Query `i` looks at the keys up to `first + i`: the first query's position, where earlier keys come from a cache.
    pub fn causal_from(mut self, first: usize) -> Self {
        self.causal = Some(first);
        self
    }

    /// In training, sets each weight to zero with probability `p` and divides the others by `1 − p`.
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// What the scores are multiplied by instead of `1 / √d`.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// The number on the scores of heads with `d` features.
    fn scale_of(&self, d: usize) -> f64 {
        self.scale.unwrap_or(1.0 / (d.max(1) as f64).sqrt())
    }
}

/// Attention. Its memory is linear in the number of positions, forward and backward: scores exist a block at a time,
/// and the backward pass computes them again, with the same dropout.
///
/// A mask that wants a gradient (a learned bias) takes the composition of plain ops, as second derivatives do: memory
/// `O(t_q · t_k)`.
///
/// # Errors
/// Shapes that do not fit, types that differ, a dropout outside `[0, 1)`.
///
/// # Numerics
/// A query that may look at no key gets zeros, and no gradient, as in PyTorch.
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need", eq. 1; Dao, Fu, Ermon, Rudra & Ré (2022), "FlashAttention".
impl Var {
    /// Attention: `softmax(q · kᵀ · scale + mask) · v`, where `self` is `q`.
    ///
    /// PyTorch: `nn.functional.scaled_dot_product_attention`; Keras: `ops.dot_product_attention`.
    ///
    /// # Shapes
    /// `self: [.., heads, t_q, d]`, `k: [.., kv_heads, t_k, d]`, `v: [.., kv_heads, t_k, d_v]` →
    /// `[.., heads, t_q, d_v]`; each head of keys serves `heads / kv_heads` neighboring heads of queries (PyTorch's
    /// `enable_gqa`)
    pub fn scaled_dot_product_attention(&self, k: &Var, v: &Var, options: &AttentionOptions) -> Result<Var> {
        attention([self, k, v], Heads::Axis, options)
    }

    /// As [`scaled_dot_product_attention`](Self::scaled_dot_product_attention), where heads lie side by side in each
    /// row, as projections make them: nothing is permuted.
    ///
    /// # Shapes
    /// `self: [n, t_q, heads · d]`, `k: [n, t_k, kv_heads · d]`, `v: [n, t_k, kv_heads · d_v]` →
    /// `[n, t_q, heads · d_v]`
    pub fn multi_head_attention(&self, k: &Var, v: &Var, heads: usize, options: &AttentionOptions) -> Result<Var> {
        attention([self, k, v], Heads::Joined(heads), options)
    }

    /// As [`multi_head_attention`](Self::multi_head_attention), of queries, keys and values side by side in one value:
    /// the output of one projection.
    ///
    /// # Shapes
    /// `self: [n, t, 3 · heads · d]` → `[n, t, heads · d]`
    pub fn packed_attention(&self, heads: usize, options: &AttentionOptions) -> Result<Var> {
        attention([self, self, self], Heads::Packed(heads), options)
    }

    /// The weights of attention, `softmax(q · kᵀ · scale + mask)`, without dropout; `self` is `q`.
    ///
    /// Takes `O(t_q · t_k)` memory: to look at what attention looks at.
    ///
    /// # Shapes
    /// `self: [.., heads, t_q, d]`, `k: [.., kv_heads, t_k, d]` → `[.., heads, t_q, t_k]`
    pub fn attention_weights(&self, k: &Var, options: &AttentionOptions) -> Result<Var> {
        // The kernel's check of shapes: without values' features it computes nothing.
        let none = Tensor::zeros(k.shape().with_size(k.rank().max(1) - 1, 0), k.dtype());
        Tensor::attention([self.value(), k.value(), &none], Heads::Axis, &attend(options, None))?;
        weights(self, k, options)
    }
}

fn attention(inputs: [&Var; 3], heads: Heads, options: &AttentionOptions) -> Result<Var> {
    let rng = if options.dropout > 0.0 { inputs.iter().find_map(|x| x.rng()) } else { None };
    let attend = attend(options, rng.as_ref());
    let values = inputs.map(|x| x.value().clone());
    let (y, sums) = Tensor::attention(values.each_ref(), heads, &attend)?;
    let saved = y.clone();
    let kernel = move |dy: Tensor, want: [bool; 3]| -> Result<[Option<Tensor>; 3]> {
        Ok(Tensor::attention_grad(values.each_ref(), heads, &attend, [&saved, &sums], &dy, want)?)
    };
    let plain = options.clone();
    let twin = move |inputs: [&Var; 3], mask: Option<Var>| {
        composed(inputs, heads, &AttentionOptions { mask, ..plain.clone() }, rng.as_ref())
    };
    let [q, k, v] = inputs;
    match (&options.mask, heads) {
        (Some(mask), _) if mask.is_recorded() => twin(inputs, Some(mask.clone())),
        (None, Heads::Packed(_)) => {
            let kernel = move |dy, [want]: [bool; 1]| kernel(dy, [want; 3]).map(|[dx, ..]| [dx]);
            record_fused(OP, y, [q], kernel, move |[x]| twin([&x; 3], None))
        }
        (None, _) => record_fused(OP, y, [q, k, v], kernel, move |[q, k, v]| twin([&q, &k, &v], None)),
        (Some(mask), Heads::Packed(_)) => {
            let kernel = move |dy, [want, _]: [bool; 2]| kernel(dy, [want; 3]).map(|[dx, ..]| [dx, None]);
            record_fused(OP, y, [q, mask], kernel, move |[x, mask]| twin([&x; 3], Some(mask)))
        }
        (Some(mask), _) => {
            let kernel = move |dy, [a, b, c, _]: [bool; 4]| kernel(dy, [a, b, c]).map(|[a, b, c]| [a, b, c, None]);
            record_fused(OP, y, [q, k, v, mask], kernel, move |[q, k, v, mask]| twin([&q, &k, &v], Some(mask)))
        }
    }
}

/// What the kernel is asked; outside training, without dropout.
fn attend(options: &AttentionOptions, rng: Option<&Rng>) -> Attend {
    Attend {
        mask: options.mask.as_ref().map(|mask| mask.value().clone()),
        causal: options.causal,
        scale: options.scale,
        // An impossible probability goes on to the kernel, whose error it is.
        dropout: if rng.is_some() || !(0.0..1.0).contains(&options.dropout) { options.dropout } else { 0.0 },
        seed: rng.map_or(0, |rng| rng.clone().next_u64()),
    }
}

/// The same as plain ops.
fn composed(inputs: [&Var; 3], heads: Heads, options: &AttentionOptions, rng: Option<&Rng>) -> Result<Var> {
    let [q, k, v] = match heads {
        Heads::Axis => inputs.map(Var::clone),
        Heads::Joined(count) => {
            let d = inputs[0].size(-1)? / count;
            let kv_heads = inputs[1].size(-1)? / d.max(1);
            [split_heads(inputs[0], count)?, split_heads(inputs[1], kv_heads)?, split_heads(inputs[2], kv_heads)?]
        }
        Heads::Packed(count) => {
            let row = inputs[0].size(-1)? / 3;
            let parts = inputs[0].split(row, -1)?;
            [split_heads(&parts[0], count)?, split_heads(&parts[1], count)?, split_heads(&parts[2], count)?]
        }
    };
    let mut weights = weights(&q, &k, options)?;
    if let Some(rng) = rng {
        let mask = Tensor::dropout_mask(weights.shape(), weights.dtype(), options.dropout, &mut rng.clone())?;
        weights = weights.mul(&weights.constant(mask))?;
    }
    let y = weights.matmul(&repeat_heads(&v, &q)?)?;
    match heads {
        Heads::Axis => Ok(y),
        _ => {
            let [n, heads, t, d] = y.dims(OP)?;
            y.permute(&[0, 2, 1, 3])?.reshape([n, t, heads * d])
        }
    }
}

fn weights(q: &Var, k: &Var, options: &AttentionOptions) -> Result<Var> {
    let scaled = q.mul_scalar(options.scale_of(q.size(-1)?));
    let scores = scaled.matmul_with(&repeat_heads(k, q)?, Trans { a: false, b: true })?;
    let Some(bias) = bias(&scores, options)? else { return scores.softmax(-1) };
    // The rows in which anything may be looked at; the others would be NaN.
    let seen = bias.value().max(-1, true)?.greater(&least(bias.dtype()))?;
    let (seen, zero) = (scores.constant(seen), scores.constant(Tensor::zeros([], scores.dtype())));
    let weights = scores.add(&seen.where_cond(&bias, &zero)?)?.softmax(-1)?;
    seen.where_cond(&weights, &zero)
}

/// What is added to the scores: the mask, and −∞ above the diagonal.
fn bias(scores: &Var, options: &AttentionOptions) -> Result<Option<Var>> {
    let (t_q, t_k, dtype) = (scores.size(-2)?, scores.size(-1)?, scores.dtype());
    let hidden = |may: &Var| {
        let zero = scores.constant(Tensor::zeros([], dtype));
        may.where_cond(&zero, &scores.constant(least(dtype)))
    };
    let mask = match &options.mask {
        Some(mask) if mask.dtype() == DType::U8 => Some(hidden(mask)?),
        mask => mask.clone(),
    };
    let causal = match options.causal {
        Some(first) => {
            let first = first.min(t_k);
            let last = Tensor::arange(first as i64, (first + t_q) as i64, 1)?.reshape([t_q, 1])?;
            Some(hidden(&scores.constant(Tensor::arange(0, t_k as i64, 1)?.less_equal(&last)?))?)
        }
        None => None,
    };
    let bias = match (mask, causal) {
        (Some(mask), Some(causal)) => Some(mask.add(&causal)?),
        (mask, causal) => mask.or(causal),
    };
    Ok(bias.filter(|_| t_k > 0))
}

/// −∞
fn least(dtype: DType) -> Tensor {
    Tensor::scalar(f64::NEG_INFINITY).to_dtype(dtype)
}

/// `[n, t, heads · d]` as `[n, heads, t, d]`.
fn split_heads(x: &Var, heads: usize) -> Result<Var> {
    let [n, t, row] = x.dims(OP)?;
    x.reshape([n, t, heads, row / heads.max(1)])?.permute(&[0, 2, 1, 3])
}

/// Heads of keys or values, repeated for each head of queries that they serve.
fn repeat_heads(x: &Var, q: &Var) -> Result<Var> {
    if q.rank() < 3 || q.size(-3)? == x.size(-3)? {
        return Ok(x.clone());
    }
    let (shape, heads) = (x.shape(), q.size(-3)?);
    let axis = x.rank() - 3;
    let mut apart = shape.to_vec();
    apart.insert(axis + 1, 1);
    let apart = Shape::new(&apart)?;
    let repeated = apart.with_size(axis + 1, heads / shape[axis]);
    x.reshape(apart)?.broadcast_to(repeated)?.reshape(shape.with_size(axis, heads))
}
