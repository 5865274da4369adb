//! A deep-learning framework from scratch: everything is a mapping.

#![forbid(unsafe_code)]
