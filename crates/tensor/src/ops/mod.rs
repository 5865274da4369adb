//! Kernels and their adjoints, one file a family.
pub(crate) mod matmul;
pub(crate) mod conv;
pub(crate) mod accumulate;
pub(crate) mod pool;
pub(crate) mod conv_pool;
pub(crate) mod optim;
