//! How many times faster than a peer we mean to be, with the same number of threads.

use super::peers::Peer;

const GOALS: [(&str, Peer, f64); 25] = [
    ("mnist_cnn_b32", Peer::Torch, 6.0),
    ("mnist_cnn_b128", Peer::Torch, 6.0),
    ("mnist_cnn_b480", Peer::Torch, 6.0),
    ("mlp_b64", Peer::Torch, 1.35),
    ("tiny_mlp_b32", Peer::Torch, 15.0),
    ("lstm_b64", Peer::Torch, 1.5),
    ("gru_b64", Peer::Torch, 2.2),
    ("transformer_lm_b16", Peer::Torch, 1.6),
    ("resnet20_b32", Peer::Torch, 1.35),
    ("resnet18_b4", Peer::Torch, 1.15),
    ("alexnet_b8", Peer::Torch, 1.1),
    ("conv_128_256_k4_b64", Peer::Torch, 1.0),
    ("mnist_cnn_frozen_1", Peer::Torch, 4.0),
    ("mnist_cnn_frozen_1000", Peer::Torch, 8.0),
    ("mnist_cnn_b32", Peer::Jax, 2.3),
    ("mlp_b64", Peer::Jax, 1.1),
    ("resnet20_b32", Peer::Jax, 2.5),
    ("mnist_cnn_frozen_1000", Peer::Onnxruntime, 1.5),
    ("mnist_cnn_frozen_1", Peer::Onnxruntime, 1.0),
    ("mnist_cnn_b32", Peer::Burn, 5.0),
    ("mnist_cnn_b128", Peer::Burn, 5.0),
    ("mnist_cnn_b480", Peer::Burn, 5.0),
    ("mnist_cnn_b32", Peer::Candle, 10.0),
    ("mnist_cnn_b128", Peer::Candle, 10.0),
    ("mnist_cnn_b480", Peer::Candle, 10.0),
];

/// The least ratio of their time to ours.
pub(crate) fn goal(workload: &str, peer: Peer) -> Option<f64> {
    GOALS.iter().find(|(name, of, _)| *name == workload && *of == peer).map(|(_, _, goal)| *goal)
}
