//! Layers, losses, initialisers and [`Sequential`].
//!
//! Everything is a [`Module`]: a mapping from one [`Var`](maplet_autograd::Var) to another. A model is a struct of
//! layers with [`fields!`](maplet_autograd::fields), or a [`Sequential`], whose steps are data. What the data is part
//! of (see [`Pass`](maplet_autograd::Pass)) decides whether anything is recorded and whether dropout drops; layers have
//! no modes.
//!
//! ```
//! use maplet_autograd::{Pass, Tensor};
//! use maplet_nn_layers::{Module, Sequential, cross_entropy};
//!
//! let model = Sequential::input([2]).linear(8).tanh().linear(2).build(42)?;
//! let x = Pass::train(0).input(Tensor::from([[0.0f32, 1.0], [1.0, 1.0]]));
//! let loss = cross_entropy(&model.forward(&x)?, &Tensor::from([1i64, 0]))?;
//! let grads = loss.backward()?; // one gradient for each of the four parameters
//! assert_eq!(grads.len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Defaults are PyTorch's. This crate knows nothing of optimizers, data or files.

#![forbid(unsafe_code)]

mod module;
mod error;
mod linear;
mod conv;
mod conv_transpose;
mod separable_conv;
mod unfold;
mod padding;
mod pool;
mod adaptive_pool;
mod fractional_max_pool;
mod max_unpool;
mod upsample;
mod reshape;
mod shuffle;
mod activation;
mod activation_smooth;
mod activation_piecewise;
mod prelu;
mod softmax;
mod gated;
mod adaptive_softmax;
mod dropout;
mod gaussian;
mod norm;
mod batch_norm;
mod instance_norm;
mod group_norm;
mod layer_norm;
mod transformer;
mod positions;
mod rotary;
pub mod recurrent;
mod rms_norm;
mod local_response_norm;
mod bilinear;
mod embedding;
mod embedding_bag;
mod parametrized;
mod weight_norm;
mod spectral_norm;
mod func;
mod containers;
mod branches;
pub mod init;
mod distance;
mod loss;
mod checkpoint;
mod sequential;
mod builder;
mod step;
mod plan;
mod fusion;
mod freeze;
mod table;
mod check;

pub use activation::{Gelu, GeluTanh, LeakyRelu, Relu, Sigmoid, Silu, Silu as Swish, Tanh};
pub use activation_piecewise::{Hardshrink, Hardsigmoid, Hardswish, Hardtanh, Relu6, Softshrink, Threshold};
pub use activation_smooth::{Celu, Elu, LogSigmoid, Mish, Selu, Softplus, Softsign, Tanhshrink};
pub use adaptive_pool::{AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, GlobalAvgPool};
pub use adaptive_pool::{AdaptiveMaxPool, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d, GlobalMaxPool};
pub use adaptive_softmax::{AdaptiveLogSoftmaxConfig, AdaptiveLogSoftmaxWithLoss};
pub use batch_norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, BatchNormConfig};
pub use bilinear::Bilinear;
pub use branches::{Parallel, Residual};
pub use builder::Builder;
pub use check::{Expect, Named, check_module};
pub use checkpoint::Checkpoint;
pub use containers::{ModuleDict, ModuleList};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, ConvConfig};
pub use conv_transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, ConvTransposeConfig};
pub use distance::{CosineSimilarity, PairwiseDistance, cosine_similarity, pairwise_distance};
pub use dropout::{
    AlphaDropout, ChannelDropout, DropPath, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout,
};
pub use embedding::{Embedding, EmbeddingConfig};
pub use embedding_bag::{BagMode, EmbeddingBag, EmbeddingBagConfig};
pub use error::{Error, Result};
pub use fractional_max_pool::{FractionalMaxPool, FractionalMaxPool2d, FractionalMaxPool3d};
pub use freeze::{Frozen, Session};
#[doc(hidden)]
pub use freeze::{Graph, Value};
pub use func::{Func, Identity, func};
#[doc(hidden)]
pub use fusion::{Activates, Part};
pub use gated::{GeGlu, Glu, ReGlu, SwiGlu};
pub use gaussian::{GaussianDropout, GaussianNoise};
pub use group_norm::{GroupNorm, GroupNormConfig};
pub use instance_norm::{InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, InstanceNormConfig};
pub use layer_norm::{LayerNorm, LayerNormConfig};
pub use linear::{Linear, LinearConfig};
pub use local_response_norm::LocalResponseNorm;
pub use loss::*;
pub use max_unpool::{MaxUnpool, MaxUnpool1d, MaxUnpool2d, MaxUnpool3d};
pub use module::{Module, cast};
pub use padding::{
    Around, CircularPad, CircularPad1d, CircularPad2d, CircularPad3d, ConstantPad, ConstantPad1d, ConstantPad2d,
    ConstantPad3d, Cropping, Cropping1d, Cropping2d, Cropping3d, ReflectionPad, ReflectionPad1d, ReflectionPad2d,
    ReflectionPad3d, ReplicationPad, ReplicationPad1d, ReplicationPad2d, ReplicationPad3d, ZeroPad, ZeroPad1d,
    ZeroPad2d, ZeroPad3d,
};
pub use parametrized::{Parametrization, Parametrized, Weighted};
pub use plan::{MAX_ACTIVATION, MAX_PARAMETERS};
pub use pool::{AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, LpPool, LpPool1d, LpPool2d, LpPool3d};
pub use pool::{MaxPool, MaxPool1d, MaxPool2d, MaxPool3d};
pub use positions::{
    LearnedPositions, LearnedPositionsConfig, SinusoidalPositions, SinusoidalPositionsConfig, alibi, alibi_slopes,
};
pub use prelu::{Prelu, PreluConfig, Rrelu};
pub use recurrent::{
    BahdanauAttention, Bidirectional, ConvLstm, ConvLstm1d, ConvLstm2d, ConvLstm3d, Gru, GruCell, LastStep, Lstm,
    LstmCell, LuongAttention, Merge, Recurrent, RecurrentCell, RecurrentConfig, RecurrentOptions, Rnn, RnnCell,
    TimeDistributed, length_mask,
};
pub use reshape::{Flatten, FlattenAxes, Reshape, Unflatten};
pub use rms_norm::{RmsNorm, RmsNormConfig};
pub use rotary::{RotaryEmbedding, RotaryPairs};
pub use separable_conv::{SeparableConv, SeparableConv1d, SeparableConv2d, SeparableConv3d, SeparableConvConfig};
pub use sequential::{Row, Sequential};
pub use shuffle::{ChannelShuffle, PixelShuffle, PixelUnshuffle};
pub use softmax::{LogSoftmax, Softmax, Softmax2d, Softmin};
pub use spectral_norm::{Spectral, SpectralNorm};
pub use step::{Custom, SequentialConfig, Step};
pub use transformer::{
    AttentionMasks, DecoderCache, FeedForward, KvCache, MultiheadAttention, MultiheadAttentionConfig, Transformer,
    TransformerConfig, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
    TransformerMasks, causal_mask,
};
pub use unfold::{Fold, Unfold};
pub use upsample::{Upsample, Upsample1d, Upsample2d, Upsample3d};
pub use weight_norm::{LengthAndDirection, WeightNorm};
