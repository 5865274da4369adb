//! [`AttentionMasks`]: who may look at whom, in PyTorch's terms; and [`causal_mask`].

use crate::{Error, Result};
use maplet_autograd::{AttentionOptions, Var};
use maplet_tensor::{DType, Shape, Tensor};

/// What positions may not look at; nothing by default.
///
/// The masks of a [`MultiheadAttention`](crate::MultiheadAttention) and of the transformers are PyTorch's: a mask of
/// type `u8` *hides* where it is not 0, a mask of the data's type is added to the scores (−∞ hides). All that are given
/// apply. (The masks of [`Var::scaled_dot_product_attention`] are PyTorch's too, and *show* where they are not 0.)
///
/// # Shapes
/// - attention mask: `[t_q, t_k]`, or `[n · heads, t_q, t_k]`; also `[heads, t_q, t_k]` and whatever broadcasts to
///   `[n, heads, t_q, t_k]`
/// - key padding mask: `[n, t_k]`, `[t_k]` for data without a batch
///
/// # Example
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::AttentionMasks;
///
/// // Two samples, of three words and of one.
/// let padding = Tensor::from([[0u8, 0, 0], [0, 1, 1]]);
/// let masks = AttentionMasks::new().key_padding(padding).causal();
/// ```
#[derive(Debug, Clone, Default)]
pub struct AttentionMasks {
    attention: Option<Var>,
    key_padding: Option<Var>,
    causal: bool,
}

impl AttentionMasks {
    /// Hides nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// PyTorch's `attn_mask` (`mask`, `tgt_mask`, …): for each query the keys that it may not look at, or what is added
    /// to their scores. One that wants a gradient gets it.
    pub fn attention(mut self, mask: impl Into<Var>) -> Self {
        self.attention = Some(mask.into());
        self
    }

    /// PyTorch's `key_padding_mask`: for each sample the keys that nobody may look at.
    pub fn key_padding(mut self, mask: impl Into<Var>) -> Self {
        self.key_padding = Some(mask.into());
        self
    }

    /// Hides from query `i` all keys after `i`. Unlike PyTorch's `is_causal`, which is a hint about a mask that must be
    /// given as well, this needs no other mask, and no memory.
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// The same as options of the fused op, for `sizes` of `[n, heads, t_q, t_k]`; after the `t_k` keys come `extra`
    /// that everyone may look at.
    pub(crate) fn options(&self, like: &Var, sizes: [usize; 4], extra: usize) -> Result<AttentionOptions> {
        let mut masks = Vec::new();
        if let Some(mask) = &self.attention {
            masks.push(attention_mask(mask, sizes)?);
        }
        if let Some(mask) = &self.key_padding {
            masks.push(padding_mask(mask, sizes)?);
        }
        if self.causal && extra > 0 {
            masks.push(like.constant(above_diagonal(sizes[2], sizes[3])?));
        }
        let options = AttentionOptions::new();
        let options = if self.causal && extra == 0 { options.causal() } else { options };
        let mut all: Option<Var> = None;
        let only_hide = masks.iter().all(|mask| mask.dtype() == DType::U8);
        for mask in masks {
            let around: Vec<(usize, usize)> =
                (1..=mask.rank()).map(|axis| (0, if axis == mask.rank() { extra } else { 0 })).collect();
            let mask = if extra > 0 { mask.pad(&around, 0.0)? } else { mask };
            let mask = if only_hide { mask } else { as_bias(&mask, like)? };
            all = Some(match all {
                None => mask,
                Some(all) if only_hide => all.maximum(&mask)?,
                Some(all) => all.add(&mask)?,
            });
        }
        Ok(match all {
            None => options,
            Some(hidden) if only_hide => options.mask(hidden.equal(&like.constant(Tensor::scalar(0u8)))?),
            Some(bias) => options.mask(bias),
        })
    }
}

fn attention_mask(mask: &Var, [n, heads, t_q, t_k]: [usize; 4]) -> Result<Var> {
    let whole = Shape::new(&[n, heads, t_q, t_k])?;
    match *mask.shape() {
        [every, q, k] if (every, q, k) == (n * heads, t_q, t_k) && n > 1 => Ok(mask.reshape(whole)?),
        [.., q, k] if (q, k) == (t_q, t_k) && mask.shape().broadcast("", &whole).is_ok_and(|shape| shape == whole) => {
            Ok(mask.clone())
        }
        _ => {
            let help = format!(
                "it must be [{t_q}, {t_k}], or [{}, {t_q}, {t_k}]: one for each head of each sample",
                n * heads
            );
            Err(Error::new("multihead_attention", format!("the attention mask is {}", mask.shape()), help))
        }
    }
}

fn padding_mask(mask: &Var, [n, _, _, t_k]: [usize; 4]) -> Result<Var> {
    if mask.shape() == Shape::from([n, t_k]) || (n == 1 && mask.shape() == Shape::from([t_k])) {
        return Ok(mask.reshape([n, 1, 1, t_k])?);
    }
    let what = format!("the key padding mask is {}", mask.shape());
    Err(Error::new("multihead_attention", what, format!("it must be [{n}, {t_k}]")))
}

/// −∞ where the mask hides.
fn as_bias(mask: &Var, like: &Var) -> Result<Var> {
    if mask.dtype() != DType::U8 {
        return Ok(mask.clone());
    }
    let number = |x: f64| like.constant(Tensor::scalar(x).to_dtype(like.dtype()));
    Ok(mask.where_cond(&number(f64::NEG_INFINITY), &number(0.0))?)
}

/// 1 where the key comes after the query.
fn above_diagonal(t_q: usize, t_k: usize) -> Result<Tensor> {
    let queries = Tensor::arange(0, t_q as i64, 1)?.reshape([t_q, 1])?;
    Ok(Tensor::arange(0, t_k as i64, 1)?.greater(&queries)?)
}

/// The mask `[t, t]` that hides what comes later: −∞ above the diagonal, 0 elsewhere.
///
/// [`AttentionMasks::causal`] does the same without a mask.
///
/// PyTorch: `nn.Transformer.generate_square_subsequent_mask`; Keras: –.
///
/// # Panics
/// `dtype` is not a floating-point type, or `t · t` is more than memory can address.
///
/// ```
/// use maplet_autograd::Tensor;
/// use maplet_nn_layers::causal_mask;
/// use maplet_tensor::DType;
///
/// assert_eq!(causal_mask(2, DType::F32), Tensor::from([[0.0f32, f32::NEG_INFINITY], [0.0, 0.0]]));
/// ```
#[doc(alias = "generate_square_subsequent_mask")]
pub fn causal_mask(t: usize, dtype: DType) -> Tensor {
    let number = |x: f64| Tensor::scalar(x).to_dtype(dtype);
    let mask = above_diagonal(t, t).and_then(|later| Ok(later.where_cond(&number(f64::NEG_INFINITY), &number(0.0))?));
    mask.unwrap_or_else(|error| panic!("{error}"))
}
