//! [`TransformerDecoderLayer`] and [`TransformerDecoder`]: positions that look at each other and at a memory.

use super::cache::Caches;
use super::encoder::{check_caches, finish};
use super::{AttentionMasks, Block, KvCache, MultiheadAttention, TransformerConfig, TransformerMasks};
use crate::{LayerNorm, Linear, Result};
use maplet_autograd::{Var, fields};
use maplet_tensor::Rng;

/// Self-attention, attention to a memory and two linear layers, each with a residual connection and a norm.
///
/// PyTorch: `nn.TransformerDecoderLayer`; Keras: `keras_hub.layers.TransformerDecoder`.
///
/// Post-norm: `x = norm1(x + self_attn(x))`, `x = norm2(x + multihead_attn(x, memory))`, `x = norm3(x +
/// linear2(activation(linear1(x))))`; pre-norm (`norm_first`): `x = x + self_attn(norm1(x))`, and so on.
///
/// # Shapes
/// - target and output `[n, t, d_model]`, memory `[n, t_memory, d_model]`
///
/// # Parameters
/// - `self_attn`, `multihead_attn`: [`MultiheadAttention`]; `linear1`, `linear2`: [`Linear`]; `norm1`, `norm2`,
///   `norm3`: [`LayerNorm`]
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need", §3.1.
#[derive(Debug, Clone)]
pub struct TransformerDecoderLayer {
    /// The attention to the target itself.
    pub self_attn: MultiheadAttention,
    /// The attention to the memory.
    pub multihead_attn: MultiheadAttention,
    /// `d_model → dim_feedforward`
    pub linear1: Linear,
    /// `dim_feedforward → d_model`
    pub linear2: Linear,
    /// The self-attention's norm.
    pub norm1: LayerNorm,
    /// The norm of the attention to the memory.
    pub norm2: LayerNorm,
    /// The linear layers' norm.
    pub norm3: LayerNorm,
    block: Block,
}
fields!(TransformerDecoderLayer: self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3; block);

impl TransformerDecoderLayer {
    /// A layer with random weights.
    ///
    /// # Errors
    /// Sizes or a dropout that are not possible.
    pub fn new(config: &TransformerConfig, rng: &mut Rng) -> Result<Self> {
        Ok(Self {
            self_attn: config.attention(rng)?,
            multihead_attn: config.attention(rng)?,
            linear1: config.linear(config.d_model, config.dim_feedforward, rng)?,
            linear2: config.linear(config.dim_feedforward, config.d_model, rng)?,
            norm1: config.norm()?,
            norm2: config.norm()?,
            norm3: config.norm()?,
            block: config.block(),
        })
    }

    /// The output for a target and a memory; of the masks `tgt` and `memory` apply.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn forward(&self, tgt: &Var, memory: &Var, masks: &TransformerMasks) -> Result<Var> {
        self.layer(
            tgt,
            |x| self.self_attn.self_attend(x, &masks.tgt),
            |x| self.multihead_attn.attend(x, memory, memory, &masks.memory),
        )
    }

    /// The output for the next positions of the target: see [`TransformerDecoder::decode`].
    ///
    /// # Errors
    /// Shapes that do not fit. The cache stays as it was.
    pub fn decode(&self, tgt: &Var, memory: &Var, masks: &AttentionMasks, cache: &mut DecoderCache) -> Result<Var> {
        cache.undo_on_error(|DecoderCache { own, memory: kept }| {
            self.layer(
                tgt,
                |x| self.self_attn.decode(x, own),
                |x| self.multihead_attn.decode_memory(x, memory, masks, kept),
            )
        })
    }

    fn layer(
        &self,
        x: &Var,
        own: impl FnOnce(&Var) -> Result<Var>,
        memory: impl FnOnce(&Var) -> Result<Var>,
    ) -> Result<Var> {
        let x = self.block.residual(x, &self.norm1, own)?;
        let x = self.block.residual(&x, &self.norm2, memory)?;
        let linears = [&self.linear1, &self.linear2];
        self.block.residual(&x, &self.norm3, |x| self.block.feed_forward(x, linears))
    }
}

/// What one decoder layer remembers: the target so far, and the projections of the memory.
#[derive(Debug, Clone, Default)]
pub struct DecoderCache {
    /// The target so far.
    pub own: KvCache,
    /// The memory, from the first step on.
    pub memory: KvCache,
}

impl Caches for DecoderCache {
    fn each(&mut self) -> Vec<&mut KvCache> {
        vec![&mut self.own, &mut self.memory]
    }
}

/// Decoder layers one after the other, and perhaps a norm.
///
/// PyTorch: `nn.TransformerDecoder`; Keras: –.
///
/// # Shapes
/// - target and output `[n, t, d_model]`, memory `[n, t_memory, d_model]`
#[derive(Debug, Clone)]
pub struct TransformerDecoder {
    /// The layers in order.
    pub layers: Vec<TransformerDecoderLayer>,
    /// After the last layer.
    pub norm: Option<LayerNorm>,
}
fields!(TransformerDecoder: layers, norm);

impl TransformerDecoder {
    /// A stack of layers, without a norm after the last.
    pub fn new(layers: Vec<TransformerDecoderLayer>) -> Self {
        Self { layers, norm: None }
    }

    /// With a norm after the last layer: pre-norm layers need one.
    pub fn norm(mut self, norm: LayerNorm) -> Self {
        self.norm = Some(norm);
        self
    }

    /// The output for a target and a memory; of the masks `tgt` and `memory` apply.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn forward(&self, tgt: &Var, memory: &Var, masks: &TransformerMasks) -> Result<Var> {
        let y = self.layers.iter().try_fold(tgt.clone(), |x, layer| layer.forward(&x, memory, masks))?;
        finish(&self.norm, y)
    }

    /// One empty cache a layer, for [`decode`](Self::decode).
    pub fn caches(&self) -> Vec<DecoderCache> {
        vec![DecoderCache::default(); self.layers.len()]
    }

    /// The output for the next positions of the target: what [`forward`](Self::forward) gives for them under a causal
    /// mask. `masks` are the memory's; the memory is projected at the first call.
    ///
    /// # Errors
    /// Shapes that do not fit, or another number of caches than of layers. The caches stay as they were.
    pub fn decode(&self, tgt: &Var, memory: &Var, masks: &AttentionMasks, caches: &mut [DecoderCache]) -> Result<Var> {
        check_caches(caches.len(), self.layers.len())?;
        caches.undo_on_error(|caches| {
            let mut pairs = self.layers.iter().zip(caches);
            let y = pairs.try_fold(tgt.clone(), |x, (layer, cache)| layer.decode(&x, memory, masks, cache))?;
            finish(&self.norm, y)
        })
    }
}
