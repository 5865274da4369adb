//! The model zoo and model files.

#![forbid(unsafe_code)]
