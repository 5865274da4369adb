//! What the examples share: finding data and printing results.

#![forbid(unsafe_code)]
