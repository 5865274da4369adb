//! compile, fit, evaluate, predict: training with metrics, callbacks and checkpoints.

#![forbid(unsafe_code)]
