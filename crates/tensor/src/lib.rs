//! Dense tensors: buffers, shapes, kernels and their adjoints.


