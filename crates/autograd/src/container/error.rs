//! What can be wrong with a container, in words.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a container could not be saved or loaded; the text names the file and what to do.
#[derive(Debug)]
pub struct ContainerError {
    op: &'static str,
    path: Option<PathBuf>,
    fault: Fault,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A folder, a device or a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// The magic number is missing.
    #[error("not a Maplet file: it begins with {found:02x?}")]
    Magic {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// Written in a later version of the format.
    #[error("format version {version}, this program reads up to {}", super::VERSION)]
    Newer {
        /// The file's version.
        version: u32,
    },
    /// The file ends too early.
    #[error("truncated: it should have {expected} bytes, it has {found}")]
    Truncated {
        /// The length the file declares, or at least needs.
        expected: u64,
        /// Its real length.
        found: u64,
    },
    /// The file goes on after its end.
    #[error("{extra} bytes follow its end at byte {expected}")]
    Trailing {
        /// The length the file declares.
        expected: u64,
        /// How many bytes follow.
        extra: u64,
    },
    /// Longer than the caller allows.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLong {
        /// The file's length.
        bytes: u64,
        /// What the caller allows.
        limit: u64,
    },
    /// Bytes have changed since the file was written.
    #[error("damaged: the checksum of its {part} is {found:08x}, it should be {expected:08x}")]
    Checksum {
        /// `"header"` or `"contents"`.
        part: &'static str,
        /// The checksum of the bytes that are there.
        found: u32,
        /// The checksum that the file declares.
        expected: u32,
    },
    /// The checksum is right, but the contents make no sense.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A file for another purpose.
    #[error("a `{found}` file, expected a `{expected}` file")]
    Kind {
        /// What the file is for.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
}

impl ContainerError {
    /// An error of loading.
    pub fn load(fault: Fault) -> Self {
        Self { op: "load", path: None, fault }
    }

    /// An error of saving.
    pub fn save(fault: Fault) -> Self {
        Self { op: "save", path: None, fault }
    }

    /// Names the file.
    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    fn help(&self) -> &'static str {
        match (&self.fault, self.op) {
            (Fault::Io(_), "save") => "a file that was there before is unchanged; check the folder and the free space",
            (Fault::Io(_), _) => "check that the file is there and may be read",
            (Fault::NotAFile, _) => "give the path of a file",
            (Fault::Magic { .. }, _) => "give a file that Maplet saved",
            (Fault::Newer { .. }, _) => "update maplet, or save the file again with this version",
            (Fault::Truncated { .. } | Fault::Trailing { .. } | Fault::Checksum { .. }, _) => {
                "copy the file again, or go back to an earlier one"
            }
            (Fault::TooLong { .. }, _) => "raise the limit if you trust the file",
            (Fault::Malformed(_), "save") => "give each tensor a short name of its own",
            (Fault::Malformed(_), _) => "save the file again",
            (Fault::Kind { .. }, _) => "load it with the function of that kind",
        }
    }
}

impl fmt::Display for ContainerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.op)?;
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}; help: {}", self.fault, self.help())
    }
}

impl std::error::Error for ContainerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ContainerError {
    fn from(error: io::Error) -> Self {
        Self::load(Fault::Io(error))
    }
}
