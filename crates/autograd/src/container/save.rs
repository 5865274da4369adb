//! Files that appear whole or not at all.

use super::{ContainerError, Fault};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file through a temporary one in the same folder, which is synced and then renamed; the folder is synced
/// too.
///
/// Whatever happens on the way, `path` holds what it held before, or everything that `write` wrote. A link is followed.
///
/// # Errors
/// Those of `write`; the folder is missing or cannot be written; `path` is a folder or a device.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), ContainerError> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let not_a_file = fs::metadata(&target).is_ok_and(|found| !found.is_file());
    let Some(name) = target.file_name().filter(|_| !not_a_file) else {
        return Err(ContainerError::save(Fault::NotAFile).at(path));
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let attempt = || -> io::Result<()> {
        let prefix = format!(".{}.", name.to_string_lossy());
        // Opened here and not by `tempfile`, which would let nobody else read the saved file.
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let temporary = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").make_in(folder, create)?;
        let mut file = BufWriter::new(temporary.as_file());
        write(&mut file)?;
        file.flush()?;
        drop(file);
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|error| error.error)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?; // the rename itself must reach the disk
        Ok(())
    };
    attempt().map_err(|error| ContainerError::save(Fault::Io(error)).at(path))
}
