//! Datasets, loaders and readers.

#![forbid(unsafe_code)]
