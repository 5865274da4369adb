//! The model zoo and model files.
//!
//! - [`mnist_cnn`], [`mlp`], [`AlexNet`] and [`ResNet`] are untrained networks.
//! - [`ModelFile`] keeps a network with all it needs to be used: architecture, weights, normalisation and class names.
//!   It loads without the code that wrote it.
//! - [`save_safetensors`] and [`load_safetensors`] exchange weights with PyTorch, under PyTorch's names.
//!
//! ```
//! use maplet_models::{ModelFile, mnist_cnn};
//! use maplet_tensor::{DType, Tensor};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("digits.maplet");
//! ModelFile::new(mnist_cnn(42)?).class_names(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"])?.save(&path)?;
//!
//! let file = ModelFile::load(&path)?; // knows its own architecture
//! let guess = file.classify(&Tensor::zeros([1, 1, 28, 28], DType::F32))?;
//! let (name, probability) = &guess.top(0, 1)[0];
//! assert!(*probability >= 0.1 && name.len() == 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod alexnet;
mod classify;
mod error;
mod file;
mod mlp;
mod mnist_cnn;
mod resnet;
mod safetensors;

pub use self::alexnet::AlexNet;
pub use self::classify::Classes;
pub use self::error::{Error, ErrorKind, Result};
pub use self::file::ModelFile;
pub use self::mlp::mlp;
pub use self::mnist_cnn::mnist_cnn;
pub use self::resnet::{BasicBlock, ResNet};
pub use self::safetensors::{load_safetensors, read_safetensors, save_safetensors, write_safetensors};
