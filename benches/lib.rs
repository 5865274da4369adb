//! Workloads that the benchmarks time.

#![forbid(unsafe_code)]
