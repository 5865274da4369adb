//! A deep-learning framework from scratch: everything is a mapping.
//!
//! A layer maps tensors to tensors, a model is a composition of mappings, and learning adjusts a mapping by the
//! pullback of its loss. This crate is the front door: it re-exports the framework's crates, each behind a feature of
//! its name (all on by default), and has no code of its own. `use maplet::prelude::*` brings what most programs need.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tensor`] | dense arrays and the kernels on them |
//! | [`autograd`] | values that remember how they were made, and gradients |
//! | [`nn`] | layers, losses, initialisers, `Sequential` |
//! | [`optim`] | optimizers, schedules, clipping |
//! | [`data`] | datasets, loaders, readers |
//! | [`train`] | compile, fit, evaluate, predict |
//! | [`models`] | known networks, model files, PyTorch's weights |
//!
//! ```
//! use maplet::prelude::*;
//!
//! let model = Sequential::input([1, 28, 28]).flatten().linear(32).relu().linear(10).build(42)?;
//! let mut trainer = model.compile(Adam::new(1e-3), cross_entropy, Accuracy::new());
//! trainer.fit(&digits(1000, 1), FitOptions::new().epochs(2).progress(Progress::none()))?;
//! let result = trainer.evaluate(&digits(200, 2))?;
//! assert!(result.get("accuracy").is_some_and(|accuracy| accuracy > 0.5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The feature `fetch`, off by default, adds an HTTP client to `data` for published datasets.

#![forbid(unsafe_code)]

#[cfg(feature = "autograd")]
pub use maplet_autograd as autograd;
#[cfg(feature = "data")]
pub use maplet_data as data;
#[cfg(feature = "models")]
pub use maplet_models as models;
#[cfg(feature = "nn")]
pub use maplet_nn_layers as nn;
#[cfg(feature = "optim")]
pub use maplet_optim as optim;
#[cfg(feature = "tensor")]
pub use maplet_tensor as tensor;
#[cfg(feature = "train")]
pub use maplet_train as train;

/// What most programs need: `use maplet::prelude::*`.
pub mod prelude {
    #[cfg(feature = "autograd")]
    pub use maplet_autograd::{
        AttentionOptions, Grads, Param, Pass, State, Var, Visit, fields, gradcheck, hessian, jacobian, params,
        params_mut,
    };
    #[cfg(feature = "data")]
    pub use maplet_data::{
        Batch, Dataset, FashionMnist, ImageDataset, Loader, MinMax, Mnist, Normalizer, Split, TensorDataset, digits,
        train_validation_split,
    };
    #[cfg(feature = "models")]
    pub use maplet_models::{ModelFile, load_safetensors, mlp, mnist_cnn, save_safetensors};
    #[cfg(feature = "nn")]
    pub use maplet_nn_layers::{
        AdaptiveAvgPool2d, AttentionMasks, AvgPool2d, BatchNorm1d, BatchNorm2d, BatchNorm3d, Checkpoint, Conv1d,
        Conv2d, Conv3d, ConvTranspose2d, CrossEntropy, Dropout, Dropout2d, Embedding, Flatten, Frozen, Gelu,
        GlobalAvgPool, GroupNorm, Gru, Identity, KvCache, LayerNorm, LeakyRelu, LearnedPositions, Linear, Loss, Lstm,
        MaxPool2d, Module, ModuleDict, ModuleList, MultiheadAttention, Parallel, RecurrentOptions, Relu, Reshape,
        Residual, RmsNorm, Rnn, RotaryEmbedding, Sequential, Session, Sigmoid, Silu, SinusoidalPositions, Softmax,
        Tanh, Transformer, TransformerConfig, TransformerMasks, Upsample2d, bce_with_logits, cross_entropy, func, init,
        l1, mse,
    };
    #[cfg(feature = "optim")]
    pub use maplet_optim::{
        Accumulate, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Asgd, Chained, Constant, Cosine, CosineRestarts,
        Cycle, Cyclic, Ema, ExponentialDecay, Group, Lamb, Lbfgs, LineSearch, LinearRamp, Lion, Lookahead,
        MultiStepDecay, Muon, Nadam, Noam, OneCycle, Optimizer, Partition, PolynomialDecay, Radam, ReduceOnPlateau,
        Rmsprop, Rprop, Sam, Schedule, Sequence, Sgd, StepDecay, Swa,
    };
    #[cfg(feature = "tensor")]
    pub use maplet_tensor::{
        Activation, Axes, DType, Element, Interpolation, Pool, Rng, Shape, Tensor, Trans, Window1d, Window2d, Window3d,
    };
    #[cfg(feature = "train")]
    pub use maplet_train::{
        Accuracy, Average, AverageWeights, Callback, Compile, ConfusionMatrix, EarlyStopping, F1, FitOptions, History,
        Metric, ModelCheckpoint, Precision, Progress, Recall, ReduceLrOnPlateau, StopSignal, TopK, Trainer,
    };
}

/// The code in the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
