//! What the examples share: finding data ([`DataArgs`]) and making a picture look like a training image ([`picture`]).

mod dataset;
pub mod picture;

pub use dataset::{DataArgs, data_folder};

/// What an example returns: any error, told as a sentence.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
