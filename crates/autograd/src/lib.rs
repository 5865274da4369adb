//! Reverse-mode differentiation: values that remember how they were made.

#![forbid(unsafe_code)]
