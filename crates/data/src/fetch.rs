//! Fetches published files: several mirrors, resume, and a checksum for every byte.
//!
//! [`fetch`] puts a [`FileSet`] such as [`MNIST`] into a folder; [`Fetch`] is the same with a source of the user's own,
//! a timeout and a progress callback. A file appears under its name only when it is whole and its SHA-256 is right.
//! What the files hold is no concern of this module.

mod sources;
mod transfer;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::sources::Source;
use self::transfer::Failure;
use crate::{Error, Result};

/// A dataset as it was published: its files and the places that serve them.
#[derive(Debug, Clone, Copy)]
pub struct FileSet<'a> {
    /// Name of the dataset and of its folder.
    pub name: &'a str,
    /// The files that make it up.
    pub files: &'a [RemoteFile<'a>],
    /// Base addresses, tried in this order; a file's address is `{mirror}{file}`, so each ends in `/`.
    pub mirrors: &'a [&'a str],
}

/// One published file.
#[derive(Debug, Clone, Copy)]
pub struct RemoteFile<'a> {
    /// File name, on the mirrors and in the folder.
    pub name: &'a str,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
}

/// The MNIST handwritten digits: 60,000 training and 10,000 test images of 28 × 28.
///
/// # Reference
/// LeCun, Bottou, Bengio & Haffner (1998), "Gradient-based learning applied to document recognition".
pub const MNIST: FileSet<'static> = FileSet {
    name: "mnist",
    files: &[
        RemoteFile {
            name: "train-images-idx3-ubyte.gz",
            bytes: 9_912_422,
            sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        },
        RemoteFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes: 28_881,
            sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        },
        RemoteFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes: 1_648_877,
            sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        },
        RemoteFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes: 4_542,
            sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ],
    mirrors: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    ],
};

/// Fashion-MNIST: the form of [`MNIST`], with ten kinds of clothing for the ten digits.
///
/// # Reference
/// Xiao, Rasul & Vollgraf (2017), "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms".
pub const FASHION_MNIST: FileSet<'static> = FileSet {
    name: "fashion-mnist",
    files: &[
        RemoteFile {
            name: "train-images-idx3-ubyte.gz",
            bytes: 26_421_880,
            sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        },
        RemoteFile {
            name: "train-labels-idx1-ubyte.gz",
            bytes: 29_515,
            sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        },
        RemoteFile {
            name: "t10k-images-idx3-ubyte.gz",
            bytes: 4_422_102,
            sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        },
        RemoteFile {
            name: "t10k-labels-idx1-ubyte.gz",
            bytes: 5_148,
            sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ],
    mirrors: &[
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ],
};

/// What happens during a fetch, for a progress bar or a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The file is there already, with the right checksum.
    Present {
        /// File name.
        file: &'a str,
    },
    /// The file is there but is not the published one; it will be replaced once a good copy has arrived.
    Damaged {
        /// File name.
        file: &'a str,
    },
    /// Another process is fetching into the same folder; this one goes on when that one is done.
    Waiting,
    /// A transfer begins, or goes on at byte `done` where an earlier one broke off.
    Started {
        /// File name.
        file: &'a str,
        /// Address or path that it comes from.
        source: &'a str,
        /// Bytes that are there already.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// More bytes have arrived.
    Advanced {
        /// File name.
        file: &'a str,
        /// Bytes that are there now.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// This source did not give the file; the next one is tried, if there is one.
    Failed {
        /// File name.
        file: &'a str,
        /// Address or path that was tried.
        source: &'a str,
        /// Why it failed.
        reason: &'a str,
    },
    /// The file is in place, checked and on disk.
    Finished {
        /// File name.
        file: &'a str,
    },
}

/// Puts the files of `set` into `out/{set.name}`, from its mirrors, and returns that folder.
///
/// Files that are there and right are left alone, without a single request. See [`Fetch`] for options and errors.
///
/// # Example
/// ```no_run
/// let folder = maplet_data::fetch::fetch(&maplet_data::fetch::MNIST, "data")?;
/// assert_eq!(folder, std::path::Path::new("data").join("mnist"));
/// # Ok::<(), maplet_data::Error>(())
/// ```
pub fn fetch(set: &FileSet<'_>, out: impl AsRef<Path>) -> Result<PathBuf> {
    Fetch::new(set).run(out)
}

/// A fetch with options.
///
/// # Example
/// ```no_run
/// use maplet_data::fetch::{FASHION_MNIST, Fetch, Progress};
///
/// let folder = Fetch::new(&FASHION_MNIST)
///     .from("/media/stick/datasets") // or a URL; without this line, the mirrors
///     .on_progress(|event| {
///         if let Progress::Finished { file } = event {
///             eprintln!("{file} is there");
///         }
///     })
///     .run("data")?;
/// # Ok::<(), maplet_data::Error>(())
/// ```
pub struct Fetch<'a> {
    set: FileSet<'a>,
    from: Option<String>,
    timeout: Duration,
    progress: Box<dyn FnMut(Progress<'_>) + 'a>,
}

impl<'a> Fetch<'a> {
    /// A fetch of `set` from its mirrors, with a timeout of 30 s and no progress report.
    pub fn new(set: &FileSet<'a>) -> Self {
        Fetch { set: *set, from: None, timeout: Duration::from_secs(30), progress: Box::new(|_| {}) }
    }

    /// Takes the files from `place` alone: a folder or an `http://` or `https://` address.
    ///
    /// The files lie in `place` itself or in `place/{set.name}`, under their published names and as published: gzip
    /// files are not accepted unpacked, for it is the packed file whose checksum is known.
    pub fn from(mut self, place: impl Into<String>) -> Self {
        self.from = Some(place.into());
        self
    }

    /// Longest wait for a host name, a connection, an answer, or more of a file: not for the whole file.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls `report` with each [`Progress`].
    pub fn on_progress(mut self, report: impl FnMut(Progress<'_>) + 'a) -> Self {
        self.progress = Box::new(report);
        self
    }

    /// Fetches what is missing into `out/{set.name}` and returns that folder.
    ///
    /// A transfer goes to `{file}.part`, which a later run resumes; a whole and right one is synced to disk and
    /// renamed. Runs of several processes at once take turns (by a lock on the empty file `.lock` beside the others).
    ///
    /// # Errors
    /// When no source gives a file (with each source's reason, and how to supply the file by hand), when `place` is
    /// neither a folder nor an address, and when the folder cannot be written. Files fetched before the failure stay.
    pub fn run(mut self, out: impl AsRef<Path>) -> Result<PathBuf> {
        let folder = out.as_ref().join(self.set.name);
        let mut missing = Vec::new();
        for file in self.set.files {
            let path = folder.join(file.name);
            if transfer::is_published(&path, file) {
                (self.progress)(Progress::Present { file: file.name });
                continue;
            }
            if path.exists() {
                (self.progress)(Progress::Damaged { file: file.name });
            }
            missing.push(file);
        }
        if missing.is_empty() {
            return Ok(folder);
        }
        let sources = sources::list(&self.set, self.from.as_deref())?;
        fs::create_dir_all(&folder).map_err(|e| transfer::cannot("create", &folder, e))?;
        let _lock = self.lock(&folder)?;
        for file in missing {
            self.one(file, &folder, &sources)?;
        }
        Ok(folder)
    }

    /// Keeps other processes out of `folder` until the returned file is dropped.
    fn lock(&mut self, folder: &Path) -> Result<File> {
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(|e| transfer::cannot("create", &path, e))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            (self.progress)(Progress::Waiting);
            lock.lock().map_err(|e| transfer::cannot("lock", &path, e))?;
        }
        Ok(lock) // a file system without locks goes on without one
    }

    /// Fetches one file from the first source that has it.
    fn one(&mut self, file: &RemoteFile<'_>, folder: &Path, sources: &[Source]) -> Result<()> {
        if transfer::is_published(&folder.join(file.name), file) {
            (self.progress)(Progress::Present { file: file.name }); // by the process that held the lock
            return Ok(());
        }
        let mut failures = String::new();
        for source in sources {
            let address = source.address(file.name);
            match transfer::transfer(file, folder, source, self.timeout, &mut self.progress) {
                Ok(()) => {
                    (self.progress)(Progress::Finished { file: file.name });
                    return Ok(());
                }
                Err(Failure::Local(error)) => return Err(error),
                Err(Failure::Source(reason)) => {
                    (self.progress)(Progress::Failed { file: file.name, source: &address, reason: &reason });
                    failures += &format!("\n  {address}: {reason}");
                }
            }
        }
        let RemoteFile { name, bytes, sha256 } = file;
        Err(Error::new(
            "fetch",
            format!("no source gave {name} of {}:{failures}", self.set.name),
            format!(
                "put the file ({bytes} bytes, SHA-256 {sha256}) into {} by hand, \
                 or fetch from a folder or URL that has it",
                folder.display()
            ),
        ))
    }
}
