//! The file format of models and checkpoints: named blobs and named tensors behind one checksum.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic: `89 4D 41 50 4C 45 54 0A` (`\x89MAPLET\n`) |
//! | 8..12 | version of the format |
//! | 12..16 | CRC-32 of the lengths and the header |
//! | 16..24, 24..32 | length of the header, length of the whole file |
//! | 32.. | header: kind, name and length of each blob, name, element type and shape of each tensor |
//! | then | each blob and each tensor's elements, little-endian, every one at a multiple of 64 bytes |
//! | last 4 | CRC-32 of everything before |
//!
//! All numbers are little-endian. What a file declares is checked against its real length before memory is taken.

pub mod codec;
mod elements;
mod error;
mod read;
mod save;
mod weights;
mod write;

pub use elements::{read_elements, write_elements};
pub use error::{ContainerError, Fault};
pub use save::write_atomically;
pub use weights::{restore, snapshot};

use maplet_tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

const MAGIC: [u8; 8] = *b"\x89MAPLET\n";
const VERSION: u32 = 1;
const PRELUDE: usize = 32;
const TRAILER: usize = 4;
const ALIGN: u64 = 64;

/// Named bytes and named tensors, as one file.
///
/// `kind` says what the file is for (`"model"`, `"checkpoint"`), so that one is not taken for the other. Structured
/// parts go into `meta`, as JSON or through [`codec`].
///
/// ```
/// use maplet_autograd::container::Container;
/// use maplet_tensor::Tensor;
///
/// let folder = tempfile::tempdir()?;
/// let mut container = Container::new("note");
/// container.meta.insert("text".into(), b"two numbers".to_vec());
/// container.tensors.push(("pair".into(), Tensor::from([1.0f32, 2.0])));
/// container.save(folder.path().join("pair.maplet"))?;
///
/// let again = Container::load(folder.path().join("pair.maplet"))?;
/// assert_eq!(again.tensor("pair"), Some(&Tensor::from([1.0f32, 2.0])));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Container {
    /// What the file is for.
    pub kind: String,
    /// Blobs by name.
    pub meta: BTreeMap<String, Vec<u8>>,
    /// Tensors in the order of the file; every name once.
    pub tensors: Vec<(String, Tensor)>,
}

impl Container {
    /// An empty container.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(it, _)| it == name).map(|(_, tensor)| tensor)
    }

    /// The blob of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn blob(&self, name: &str) -> crate::Result<&[u8]> {
        let blob = self.meta.get(name).map(Vec::as_slice);
        blob.ok_or_else(|| ContainerError::load(Fault::Malformed(format!("there is no part `{name}`"))).into())
    }

    /// This container, if it is of that kind.
    ///
    /// # Errors
    /// It is of another one.
    pub fn expect_kind(self, kind: &'static str) -> crate::Result<Self> {
        if self.kind == kind {
            return Ok(self);
        }
        Err(ContainerError::load(Fault::Kind { found: self.kind, expected: kind }).into())
    }

    /// Writes the file: to a temporary file in the same folder, synced, then renamed.
    ///
    /// Whenever the program or the machine stops, the folder holds the old file whole or the new one whole. (A killed
    /// program may leave its temporary file, `.NAME.xxxxxx.tmp`, behind.)
    ///
    /// # Errors
    /// The folder is missing or cannot be written, the disk is full, `path` is a folder or a device, or two tensors
    /// have one name. The old file is then unchanged.
    pub fn save(&self, path: impl AsRef<Path>) -> crate::Result<()> {
        let path = path.as_ref();
        let plan = write::Plan::new(self).map_err(|error| error.at(path))?;
        Ok(write_atomically(path, |file| plan.write_to(file))?)
    }

    /// Writes the file's bytes, front to back, to any writer.
    ///
    /// # Errors
    /// The writer's, or two tensors have one name.
    pub fn write_to(&self, mut out: impl Write) -> crate::Result<()> {
        let plan = write::Plan::new(self)?;
        Ok(plan.write_to(&mut out).map_err(|error| ContainerError::save(Fault::Io(error)))?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is no container, is newer than this program, truncated, followed by other bytes, or
    /// damaged in any byte.
    pub fn load(path: impl AsRef<Path>) -> crate::Result<Self> {
        Self::load_at_most(path, u64::MAX)
    }

    /// As [`load`](Self::load), but refuses files of more than `limit` bytes: for files that strangers send.
    ///
    /// # Errors
    /// Those of `load`, and a file that is too long.
    pub fn load_at_most(path: impl AsRef<Path>, limit: u64) -> crate::Result<Self> {
        let path = path.as_ref();
        let open = || -> Result<Self, ContainerError> {
            let file = File::open(path)?;
            let found = file.metadata()?;
            if !found.is_file() {
                return Err(ContainerError::load(Fault::NotAFile));
            }
            if found.len() > limit {
                return Err(ContainerError::load(Fault::TooLong { bytes: found.len(), limit }));
            }
            read::read(file, found.len())
        };
        Ok(open().map_err(|error| error.at(path))?)
    }

    /// Reads a container of exactly `len` bytes; no more memory is taken than that.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn read_from(input: impl Read, len: u64) -> crate::Result<Self> {
        Ok(read::read(input, len)?)
    }
}

/// The structured part of the file. Its strings are borrowed from the file's bytes: decoding takes no memory that the
/// file does not fill.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    kind: &'a str,
    #[serde(borrow)]
    blobs: Vec<BlobEntry<'a>>,
    #[serde(borrow)]
    tensors: Vec<TensorEntry<'a>>,
}

#[derive(Serialize, Deserialize)]
struct BlobEntry<'a> {
    name: &'a str,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct TensorEntry<'a> {
    name: &'a str,
    /// `"f32"`, `"f64"`, `"i64"`, `"u8"`.
    dtype: &'a str,
    shape: Vec<u64>,
}
