//! Dense tensors: buffers, shapes, kernels and their adjoints.
//!
//! A [`Tensor`] is a [`Shape`] over dense row-major memory, with its element type known at run time. Every operation
//! that takes shapes returns a [`Result`] whose error names the operation, the shapes and what to do. Kernels and
//! their adjoints stand side by side, one file a family, under `ops`. This crate knows nothing of gradients.
//!
//! ```
//! use maplet_tensor::Tensor;
//!
//! let x = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
//! let y = (&x * 2.0).add(&Tensor::from([10.0f32, 20.0]))?; // broadcasts over rows
//! assert_eq!(y, Tensor::from([[12.0f32, 24.0], [16.0, 28.0]]));
//! assert_eq!(x.matmul(&y)?.sum(.., false)?.item::<f32>()?, 408.0);
//! # Ok::<(), maplet_tensor::Error>(())
//! ```
//!
//! Results never depend on the number of threads. `MAPLET_SIMD=plain|avx2` holds the vector instructions down.

mod tensor;
mod shape;
mod dtype;
mod error;
mod buffer;
mod window;
mod rng;
mod panels;
mod team;
pub mod par;
mod simd;
mod lanes;
mod tile;
mod pooled_tile;
mod product;
mod library_product;
mod right;
mod vector_product;
mod turn;
mod scratch;
mod array;
mod display;
mod serde;
mod math;
mod ops;
pub mod frozen;
#[doc(hidden)] // for the benchmarks alone
pub mod peak;

pub use buffer::{pool_idle_bytes, set_pool_limit};
pub use dtype::{DType, Element, Float};
pub use error::{Error, ErrorKind, Result};
pub use ops::activation_smooth::SELU;
pub use ops::attention::{Attend, Heads};
pub use ops::conv_pool::Winners;
pub use ops::ctc::CtcTargets;
pub use ops::finite::NotFinite;
pub use ops::hidden::{Bend, Hidden};
pub use ops::loss::LabelOptions;
pub use ops::matmul::{Activation, Trans};
pub use ops::optim;
pub use ops::padding::PadMode;
pub use ops::recurrence::{Cell, Recurrence, RecurrentWeights, check_lengths};
pub use ops::recurrent::RecurrentRun;
pub use ops::resample::{Interpolation, Resize, Taps};
pub use ops::windows::{OutputSize, Pool};
pub use rng::Rng;
pub use shape::{Axes, MAX_RANK, Shape};
pub use simd::{Simd, simd};
pub use tensor::Tensor;
pub use window::{Sizes, Window, Window1d, Window2d, Window3d};
