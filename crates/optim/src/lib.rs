//! Optimizers, schedules and gradient clipping.

#![forbid(unsafe_code)]
