//! Every layer, loss, optimizer and schedule against PyTorch.
//!
//! | | |
//! |---|---|
//! | `python/FAMILY.py` | runs PyTorch in float64 on small cases (`python/reference.py` has the methods) |
//! | `references/FAMILY.safetensors` | what went in and what came out: committed, so that tests need no Python |
//! | `src/FAMILY.rs` | for each entry, how the same thing is built and called here |
//!
//! Each case is run in F64 and in F32, and compared with the float64 values: outputs, input gradients, parameter
//! gradients, running statistics. Parameters are loaded by PyTorch's names, all of them or the case fails. A difference
//! is measured against the largest element of its tensor, in units of the tolerance: 1e-5 in F32 (1e-4 for long
//! recurrences), 1e-10 in F64.
//!
//! To add a family: the two files and one word in `families!` below. Make its reference file with
//! `python parity/python/make.py --out parity/references FAMILY` (PyTorch of `python/requirements.txt`), and run
//! `cargo test -p maplet-parity FAMILY`. `cargo xtask parity` does all of it for all families and writes
//! `docs/parity.md`.

#![forbid(unsafe_code)]

mod case;
mod entry;
mod compare;

pub use case::Case;
pub use compare::{Outcome, check};
pub use entry::Entry;

/// Any error.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// A result with any error.
pub type Result<T> = std::result::Result<T, Error>;

/// Things of the catalogue that have no entry here, each with its reason.
pub const WITHOUT: &[(&str, &str)] = &[
    ("detect_anomaly", "it computes nothing; its texts are tested in crates/autograd"),
    ("record", "it is the way to write ops; every op here is written with it"),
    ("DropPath", "it is torchvision's, and random; its moments are tested in crates/nn-layers"),
    ("Func", "it computes what its closure does"),
    ("GaussianDropout", "random, and not in PyTorch; its moments are tested in crates/nn-layers"),
    ("GaussianNoise", "random, and not in PyTorch; its moments are tested in crates/nn-layers"),
    ("LastStep", "not in PyTorch: it takes one step of a sequence; tested in crates/nn-layers"),
    ("LearnedPositions", "not in PyTorch: it adds rows of its weight; tested in crates/nn-layers"),
    ("depthwise", "it is a convolution with as many groups as channels, which Conv1d to Conv3d are compared with"),
    ("Accumulate", "not in PyTorch: sums of gradients; tested in crates/optim and crates/train"),
    ("Partition", "not in PyTorch: two optimizers, each compared by itself"),
];

/// A file of entries.
pub struct Family {
    /// The name of its files.
    pub name: &'static str,
    /// Its entries.
    pub entries: fn() -> Vec<Entry>,
}

/// Declares the families: a module, an element of [`FAMILIES`] and a test for each.
macro_rules! families {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*

        /// All families.
        pub const FAMILIES: &[Family] = &[$(Family { name: stringify!($name), entries: $name::entries }),*];

        #[cfg(test)]
        mod tests {
            $(#[test]
            fn $name() {
                super::compare::assert_family(stringify!($name), &super::$name::entries());
            })*
        }
    };
}

families!(
    activations,
    attention,
    convolutions,
    embeddings,
    gradients,
    initializers,
    linear,
    losses,
    noise,
    norms,
    optimizers,
    pool,
    recurrent,
    schedules,
    upsample,
    wrappers,
);
