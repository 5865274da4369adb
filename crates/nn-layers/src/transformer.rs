//! Transformers: multi-head attention, encoder and decoder layers, their stacks, and the whole. Here: what all layers
//! have in common ([`TransformerConfig`]), and [`Transformer`].

mod masks;
mod cache;
mod attention;
mod encoder;
mod decoder;
#[cfg(test)]
mod tests;

pub use attention::{MultiheadAttention, MultiheadAttentionConfig};
pub use cache::KvCache;
pub use decoder::{DecoderCache, TransformerDecoder, TransformerDecoderLayer};
pub use encoder::{TransformerEncoder, TransformerEncoderLayer};
pub use masks::{AttentionMasks, causal_mask};

use crate::init::{self, Gain};
use crate::plan::weight_shape;
use crate::{LayerNorm, Linear, Module, Result};
use maplet_autograd::{Var, fields, params_mut};
use maplet_tensor::{Bend, Rng};
use serde::{Deserialize, Serialize};

/// The function between the two linear layers of a transformer's layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeedForward {
    /// `max(x, 0)`
    #[default]
    Relu,
    /// The exact GELU, `x · Φ(x)`.
    Gelu,
}

/// The sizes and options of a transformer and of its layers, with PyTorch's names and defaults.
///
/// ```
/// use maplet_nn_layers::{FeedForward, TransformerConfig};
/// use maplet_tensor::Rng;
///
/// let config = TransformerConfig {
///     dim_feedforward: 512,
///     dropout: 0.0,
///     activation: FeedForward::Gelu,
///     norm_first: true,
///     ..TransformerConfig::new(128, 4)
/// };
/// let encoder = config.encoder(&mut Rng::new(42))?; // six layers
/// assert_eq!(encoder.layers.len(), 6);
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// The features of each position, 512.
    pub d_model: usize,
    /// The heads of attention, 8.
    pub nhead: usize,
    /// 6.
    pub num_encoder_layers: usize,
    /// 6.
    pub num_decoder_layers: usize,
    /// The features between the two linear layers, 2048.
    pub dim_feedforward: usize,
    /// The probability of dropout: of attention's weights, between the linear layers, and of each part's output; 0.1.
    pub dropout: f64,
    /// ReLU.
    pub activation: FeedForward,
    /// Keeps the norms' roots away from zero, 1e-5.
    pub layer_norm_eps: f64,
    /// Whether data is `[n, t, d_model]`; true, unlike in PyTorch: see [`MultiheadAttention`].
    pub batch_first: bool,
    /// Whether each part's input is normalized (pre-norm), or the sum of its input and output (post-norm, as here).
    pub norm_first: bool,
    /// Whether linear layers, attention and norms add a bias; true.
    pub bias: bool,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            d_model: 512,
            nhead: 8,
            num_encoder_layers: 6,
            num_decoder_layers: 6,
            dim_feedforward: 2048,
            dropout: 0.1,
            activation: FeedForward::Relu,
            layer_norm_eps: init::NORM_EPS,
            batch_first: true,
            norm_first: false,
            bias: true,
        }
    }
}

impl TransformerConfig {
    /// The defaults, with these features and heads.
    pub fn new(d_model: usize, nhead: usize) -> Self {
        Self { d_model, nhead, ..Self::default() }
    }

    /// A stack of `num_encoder_layers` layers, without a norm after the last.
    ///
    /// # Errors
    /// Sizes or a dropout that are not possible.
    pub fn encoder(&self, rng: &mut Rng) -> Result<TransformerEncoder> {
        let layers = (0..self.num_encoder_layers).map(|_| TransformerEncoderLayer::new(self, rng));
        Ok(TransformerEncoder::new(layers.collect::<Result<_>>()?))
    }

    /// A stack of `num_decoder_layers` layers, without a norm after the last.
    ///
    /// # Errors
    /// Sizes or a dropout that are not possible.
    pub fn decoder(&self, rng: &mut Rng) -> Result<TransformerDecoder> {
        let layers = (0..self.num_decoder_layers).map(|_| TransformerDecoderLayer::new(self, rng));
        Ok(TransformerDecoder::new(layers.collect::<Result<_>>()?))
    }

    /// An error unless layers can be made of it; no memory is taken for their matrices.
    fn check(&self) -> Result<()> {
        MultiheadAttention::check(self.d_model, self.nhead)?;
        attention::check_dropout("transformer", self.dropout)?;
        weight_shape("linear", &[("out_features", self.dim_feedforward), ("in_features", self.d_model)])?;
        self.norm().map(drop)
    }

    fn attention(&self, rng: &mut Rng) -> Result<MultiheadAttention> {
        let attention = MultiheadAttention::new(self.d_model, self.nhead, rng)?;
        let attention = attention.dropout(self.dropout)?.batch_first(self.batch_first);
        Ok(if self.bias { attention } else { attention.without_bias() })
    }

    fn linear(&self, in_features: usize, out_features: usize, rng: &mut Rng) -> Result<Linear> {
        let linear = Linear::new(in_features, out_features, rng)?;
        Ok(if self.bias { linear } else { linear.without_bias() })
    }

    /// A norm over the features.
    ///
    /// # Errors
    /// No features, or an epsilon that is none.
    pub fn norm(&self) -> Result<LayerNorm> {
        let norm = LayerNorm::new(self.d_model)?.eps(self.layer_norm_eps)?;
        Ok(if self.bias { norm } else { norm.without_bias() })
    }

    fn block(&self) -> Block {
        Block { activation: self.activation, dropout: self.dropout, norm_first: self.norm_first }
    }
}

/// What the parts of a layer are put together with.
#[derive(Debug, Clone, Copy)]
struct Block {
    activation: FeedForward,
    dropout: f64,
    norm_first: bool,
}

impl Block {
    /// `x + part(norm(x))`, or `norm(x + part(x))`.
    fn residual(&self, x: &Var, norm: &LayerNorm, part: impl FnOnce(&Var) -> Result<Var>) -> Result<Var> {
        match self.norm_first {
            true => Ok(x.add_to(self.dropped(part(&norm.forward(x)?)?)?)?),
            false => norm.forward(&x.add_to(self.dropped(part(x)?)?)?),
        }
    }

    /// Drops elements of a part's output; it is given away, so that a sum may take its memory if nothing is dropped.
    fn dropped(&self, y: Var) -> Result<Var> {
        Ok(y.dropout(self.dropout)?)
    }

    /// `linear2(dropout(activation(linear1(x))))`
    fn feed_forward(&self, x: &Var, layers: [&Linear; 2]) -> Result<Var> {
        let bend = match self.activation {
            FeedForward::Relu => Bend::Relu,
            FeedForward::Gelu => Bend::Gelu,
        };
        let weights = layers.map(|layer| layer.weight.on(x));
        let biases = layers.map(|layer| layer.bias.as_ref().map(|bias| bias.on(x)));
        Ok(x.feed_forward(weights.each_ref(), biases.each_ref().map(Option::as_ref), bend, self.dropout)?)
    }
}

/// The masks of a [`Transformer`] or of its decoder; nothing is hidden by default.
#[derive(Debug, Clone, Default)]
pub struct TransformerMasks {
    /// The source's, looked at by itself; the whole transformer uses it, its decoder does not.
    pub src: AttentionMasks,
    /// The target's, looked at by itself: usually [`causal`](AttentionMasks::causal).
    pub tgt: AttentionMasks,
    /// The encoder's output, looked at by the target: usually the source's padding.
    pub memory: AttentionMasks,
}

/// An encoder, and a decoder that looks at its output. Both end in a norm.
///
/// PyTorch: `nn.Transformer`; Keras: –.
///
/// # Shapes
/// - source `[n, t_src, d_model]`, target and output `[n, t_tgt, d_model]`; see
///   [`TransformerConfig::batch_first`]
///
/// # Parameters
/// - those of its layers, as in PyTorch; every matrix is drawn by Xavier's uniform
///
/// # Reference
/// Vaswani et al. (2017), "Attention Is All You Need".
///
/// # Example
/// ```
/// use maplet_autograd::{Tensor, Var};
/// use maplet_nn_layers::{AttentionMasks, Transformer, TransformerConfig, TransformerMasks};
/// use maplet_tensor::{DType, Rng};
///
/// let config = TransformerConfig { num_encoder_layers: 2, num_decoder_layers: 1, ..TransformerConfig::new(16, 2) };
/// let model = Transformer::new(&config, &mut Rng::new(42))?;
/// let [src, tgt] = [7, 5].map(|t| Var::from(Tensor::ones([2, t, 16], DType::F32)));
/// let masks = TransformerMasks { tgt: AttentionMasks::new().causal(), ..TransformerMasks::default() };
/// assert_eq!(model.forward(&src, &tgt, &masks)?.shape(), [2, 5, 16].into());
/// # Ok::<(), maplet_nn_layers::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Transformer {
    /// Reads the source.
    pub encoder: TransformerEncoder,
    /// Writes the target.
    pub decoder: TransformerDecoder,
}
fields!(Transformer: encoder, decoder);

impl Transformer {
    /// A transformer with random weights.
    ///
    /// # Errors
    /// Sizes or a dropout that are not possible.
    pub fn new(config: &TransformerConfig, rng: &mut Rng) -> Result<Self> {
        let (encoder, decoder) = (config.encoder(rng)?, config.decoder(rng)?);
        let mut model = Self { encoder: encoder.norm(config.norm()?), decoder: decoder.norm(config.norm()?) };
        for (_, param) in params_mut(&mut model) {
            if param.shape().rank() > 1 {
                param.set_value(init::xavier_uniform(param.shape(), 1, Gain::Linear, rng)?)?;
            }
        }
        Ok(model)
    }

    /// The output for a source and a target.
    ///
    /// # Errors
    /// Shapes that do not fit, types that differ.
    pub fn forward(&self, src: &Var, tgt: &Var, masks: &TransformerMasks) -> Result<Var> {
        let memory = self.encoder.forward_with(src, &masks.src)?;
        self.decoder.forward(tgt, &memory, masks)
    }
}
