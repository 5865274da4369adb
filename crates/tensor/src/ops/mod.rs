//! Kernels and their adjoints, one file a family.
