//! Datasets, loaders and readers: from files to batches.
//!
//! A [`Dataset`] has a length and items; a [`Loader`] hands it out in shuffled batches. [`Mnist`] and [`FashionMnist`]
//! read the published files, [`digits()`] draws a dataset where there are none, [`TensorDataset`] holds your own
//! arrays. [`train_validation_split`] cuts one in two, [`Normalizer`] and [`MinMax`] bring it to a common scale.
//!
//! ```
//! use maplet_data::{Loader, Normalizer, digits, train_validation_split};
//!
//! let (train, validation) = train_validation_split(digits(500, 1), 0.2, 42)?;
//! let normalizer = Normalizer::fit(&train)?; // on the training part alone
//! let train = Loader::new(normalizer.clone().on(train), 32)?.shuffle(42);
//! let validation = Loader::new(normalizer.on(validation), 100)?;
//! for batch in train.epoch(0) {
//!     assert_eq!(batch?.inputs.shape()[1..], [1, 28, 28]);
//! }
//! assert_eq!((train.len(), validation.len()), (13, 1));
//! # Ok::<(), maplet_data::Error>(())
//! ```
//!
//! The feature `fetch` adds downloads of published files. This crate needs `maplet-tensor` alone, and knows nothing of
//! models and gradients.

#![forbid(unsafe_code)]

mod error;

mod dataset;
mod loader;
mod normalize;

mod images;
pub mod idx;
mod mnist;
mod digits;

#[cfg(feature = "fetch")]
pub mod fetch;

pub use dataset::{Batch, Dataset, Subset, TensorDataset, train_validation_split};
pub use digits::digits;
pub use error::{Error, ErrorKind, Result};
pub use images::ImageDataset;
pub use loader::{Batches, Loader};
pub use mnist::{FashionMnist, Mnist, Split};
pub use normalize::{MinMax, Normalized, Normalizer};
