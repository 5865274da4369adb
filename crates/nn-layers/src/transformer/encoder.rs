//! [`TransformerEncoderLayer`] and [`TransformerEncoder`]: positions that look at each other.

use super::cache::Caches;
use super::{AttentionMasks, Block, KvCache, MultiheadAttention, TransformerConfig};
use crate::plan::{Draft, Plan, batched};
use crate::step::Spec;
use crate::{Builder, Error, LayerNorm, Linear, Module, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::{Rng, Shape};

/// Self-attention and two linear layers, each with a residual connection and a norm.
///
/// PyTorch: `nn.TransformerEncoderLayer`; Keras: `keras_hub.layers.TransformerEncoder`.
///
/// Post-norm: `x = norm1(x + attention(x))`, `x = norm2(x + linear2(activation(linear1(x))))`; pre-norm (`norm_first`):
/// `x = x + attention(norm1(x))`, `x = x + linear2(activation(linear1(norm2(x))))`. With causal masks it is also the
/// layer of decoder-only models, and [`decode`](Self::decode) runs it step by step.
///
/// # Shapes
/// - input and output `[n, t, d_model]`
///
/// # Parameters
/// - `self_attn`: [`MultiheadAttention`]; `linear1`, `linear2`: [`Linear`]; `norm1`, `norm2`: [`LayerNorm`]
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need", §3.1; pre-norm: Xiong et al. (2020), "On Layer Normalization in
/// the Transformer Architecture".
#[derive(Debug, Clone)]
pub struct TransformerEncoderLayer {
    /// The attention.
    pub self_attn: MultiheadAttention,
    /// `d_model → dim_feedforward`
    pub linear1: Linear,
    /// `dim_feedforward → d_model`
    pub linear2: Linear,
    /// The attention's norm.
    pub norm1: LayerNorm,
    /// The linear layers' norm.
    pub norm2: LayerNorm,
    block: Block,
}
fields!(TransformerEncoderLayer: self_attn, linear1, linear2, norm1, norm2; block);

impl TransformerEncoderLayer {
    /// A layer with random weights.
    ///
    /// # Errors
    /// Sizes or a dropout that are not possible.
    pub fn new(config: &TransformerConfig, rng: &mut Rng) -> Result<Self> {
        Ok(Self {
            self_attn: config.attention(rng)?,
            linear1: config.linear(config.d_model, config.dim_feedforward, rng)?,
            linear2: config.linear(config.dim_feedforward, config.d_model, rng)?,
            norm1: config.norm()?,
            norm2: config.norm()?,
            block: config.block(),
        })
    }

    /// The output, with masks.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn forward_with(&self, x: &Var, masks: &AttentionMasks) -> Result<Var> {
        self.layer(x, |x| self.self_attn.self_attend(x, masks))
    }

    /// The output for the next positions of a sequence: see [`MultiheadAttention::decode`].
    ///
    /// # Errors
    /// Shapes that do not fit. The cache stays as it was.
    pub fn decode(&self, x: &Var, cache: &mut KvCache) -> Result<Var> {
        cache.undo_on_error(|cache| self.layer(x, |x| self.self_attn.decode(x, cache)))
    }

    fn layer(&self, x: &Var, attention: impl FnOnce(&Var) -> Result<Var>) -> Result<Var> {
        let x = self.block.residual(x, &self.norm1, attention)?;
        let linears = [&self.linear1, &self.linear2];
        self.block.residual(&x, &self.norm2, |x| self.block.feed_forward(x, linears))
    }
}

/// Without masks.
impl Module for TransformerEncoderLayer {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.forward_with(x, &AttentionMasks::new())
    }
}

/// Encoder layers one after the other, and perhaps a norm.
///
/// PyTorch: `nn.TransformerEncoder`; Keras: –.
///
/// Each layer has random weights of its own; PyTorch copies one layer, so that all begin with the same.
///
/// # Shapes
/// - input and output `[n, t, d_model]`
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{AttentionMasks, KvCache, TransformerConfig};
/// use maplet_tensor::{DType, Rng};
///
/// let config = TransformerConfig { num_encoder_layers: 2, dim_feedforward: 32, ..TransformerConfig::new(16, 2) };
/// let model = config.encoder(&mut Rng::new(42))?.norm(config.norm()?);
/// let x = Tensor::normal([1, 3, 16], 0.0f32, 1.0, &mut Rng::new(1));
/// let all = model.forward_with(&Var::from(&x), &AttentionMasks::new().causal())?;
///
/// let mut caches = model.caches(); // the same, token by token
/// for t in 0..3 {
///     let y = model.decode(&x.slice(1, t, t + 1)?.into(), &mut caches)?;
///     let apart = y.value().sub(&all.value().slice(1, t, t + 1)?)?.abs().max(.., false)?;
///     assert!(apart.item::<f32>()? < 1e-5);
/// }
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TransformerEncoder {
    /// The layers in order.
    pub layers: Vec<TransformerEncoderLayer>,
    /// After the last layer.
    pub norm: Option<LayerNorm>,
}
fields!(TransformerEncoder: layers, norm);

impl TransformerEncoder {
    /// A stack of layers, without a norm after the last.
    pub fn new(layers: Vec<TransformerEncoderLayer>) -> Self {
        Self { layers, norm: None }
    }

    /// With a norm after the last layer: pre-norm layers need one.
    pub fn norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }

    /// The output, with masks.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn forward_with(&self, x: &Var, masks: &AttentionMasks) -> Result<Var> {
        let y = self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward_with(&x, masks))?;
        finish(&self.norm, y)
    }

    /// One empty cache a layer, for [`decode`](Self::decode).
    pub fn caches(&self) -> Vec<KvCache> {
        vec![KvCache::new(); self.layers.len()]
    }

    /// The output for the next positions of a sequence: what [`forward_with`](Self::forward_with) gives for them under
    /// a causal mask.
    ///
    /// # Errors
    /// Shapes that do not fit, or another number of caches than of layers. The caches stay as they were.
    pub fn decode(&self, x: &Var, caches: &mut [KvCache]) -> Result<Var> {
        check_caches(caches.len(), self.layers.len())?;
        caches.undo_on_error(|caches| {
            let mut pairs = self.layers.iter().zip(caches);
            let y = pairs.try_fold(x.clone(), |x, (layer, cache)| layer.decode(&x, cache))?;
            finish(&self.norm, y)
        })
    }
}

/// Without masks.
impl Module for TransformerEncoder {
    fn forward(&self, x: &Var) -> Result<Var> {
        self.forward_with(x, &AttentionMasks::new())
    }
}

/// A [`TransformerEncoder`] in a [`Sequential`](crate::Sequential): `num_encoder_layers` layers, without masks.
impl Spec for TransformerConfig {
    fn plan(&self, input: &Shape) -> Plan {
        let config = self.clone();
        let Self { d_model, nhead, num_encoder_layers: layers, dim_feedforward, .. } = config;
        Plan::new(format!("TransformerEncoder {layers} × {d_model}, {nhead} heads"), || {
            let &[t, d] = input.sizes() else {
                let what = format!("expects [n, t, {d_model}], got {}", batched(input));
                return Err(Error::new("transformer_encoder", what, "put embeddings or reshape([t, d]) before it"));
            };
            if d != d_model || !config.batch_first {
                let what = format!("expects [n, t, {d_model}] with the batch first, got {}", batched(input));
                return Err(Error::new(
                    "transformer_encoder",
                    what,
                    format!("use d_model = {d} and batch_first = true"),
                ));
            }
            config.check()?;
            let [t, d, between] = [t, d, dim_feedforward].map(|size| size as u64);
            let bias = u64::from(config.bias);
            let matrices = 4 * d * d + 2 * d * between;
            let parameters = matrices + 2 * d + bias * (4 * d + between + d + 2 * d);
            let flops = 2 * t * matrices + 4 * t * t * d;
            let layers = layers as u64;
            Ok(Draft::new(*input, layers * flops).trained(layers * parameters, move |rng| config.encoder(rng)))
        })
    }
}

impl Builder {
    /// A [`TransformerEncoder`] of `config.num_encoder_layers` layers, without masks; pre-norm stacks want a
    /// [`layer_norm`](Self::layer_norm) after it.
    pub fn transformer_encoder(self, config: TransformerConfig) -> Self {
        self.step(config)
    }
}

/// The last norm, if there is one.
pub(super) fn finish(norm: &Option<LayerNorm>, y: Var) -> Result<Var> {
    match norm {
        Some(norm) => norm.forward(&y),
        None => Ok(y),
    }
}

pub(super) fn check_caches(caches: usize, layers: usize) -> Result<()> {
    if caches == layers {
        return Ok(());
    }
    Err(Error::new("decode", format!("{caches} caches for {layers} layers"), "take those that caches() makes"))
}
