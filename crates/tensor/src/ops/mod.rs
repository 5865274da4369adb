//! Kernels and their adjoints, one file a family.
pub(crate) mod matmul;
