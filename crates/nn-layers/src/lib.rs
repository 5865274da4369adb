//! Layers, losses, initialisers and Sequential.

#![forbid(unsafe_code)]
