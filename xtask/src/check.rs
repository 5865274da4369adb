//! Checks of the project that no tool brings along. Each gives a list of findings, empty when all is well.

pub(crate) mod catalogue;
pub(crate) mod graph;
pub(crate) mod licenses;
pub(crate) mod tidy;

mod code;
