//! Writing a container: the plan of what goes where, then one walk from front to back.

use super::codec;
use super::elements::{TYPES, write_elements};
use super::{
    ALIGN, BlobEntry, Container, ContainerError, Fault, Header, MAGIC, PRELUDE, TRAILER, TensorEntry, VERSION,
};
use std::collections::HashSet;
use std::io::{self, Write};

/// A container together with its encoded header: the lengths are known before the first byte is written, so that the
/// writer need not seek.
pub(super) struct Plan<'a> {
    container: &'a Container,
    header: Vec<u8>,
    len: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(container: &'a Container) -> Result<Self, ContainerError> {
        let malformed = |what| ContainerError::save(Fault::Malformed(what));
        let mut names = HashSet::new();
        if let Some((name, _)) = container.tensors.iter().find(|(name, _)| !names.insert(name)) {
            return Err(malformed(format!("two tensors have the name `{name}`")));
        }
        let blobs = container.meta.iter().map(|(name, blob)| BlobEntry { name, bytes: blob.len() as u64 }).collect();
        let tensors = container.tensors.iter().map(|(name, tensor)| TensorEntry {
            name,
            dtype: TYPES.iter().find(|(dtype, _)| *dtype == tensor.dtype()).map_or("?", |(_, name)| name),
            shape: tensor.shape().iter().map(|&size| size as u64).collect(),
        });
        let header = Header { kind: &container.kind, blobs, tensors: tensors.collect() };
        let header = codec::encode(&header).map_err(malformed)?;
        let blobs = container.meta.values().map(|blob| blob.len() as u64);
        let tensors = container.tensors.iter().map(|(_, tensor)| (tensor.len() * tensor.dtype().bytes()) as u64);
        let len = file_len(header.len() as u64, blobs.chain(tensors)).expect("what is in memory fits in a file");
        Ok(Self { container, header, len })
    }

    pub(super) fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let lengths = [(self.header.len() as u64).to_le_bytes(), self.len.to_le_bytes()].concat();
        let mut out = Summed { out, crc: crc32fast::Hasher::new(), written: 0 };
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&header_crc(&lengths, &self.header).to_le_bytes())?;
        out.write_all(&lengths)?;
        out.write_all(&self.header)?;
        for blob in self.container.meta.values() {
            out.align()?;
            out.write_all(blob)?;
        }
        for (_, tensor) in &self.container.tensors {
            out.align()?;
            write_elements(&mut out, tensor)?;
        }
        let crc = out.crc.clone().finalize();
        out.write_all(&crc.to_le_bytes())?;
        debug_assert_eq!(out.written, self.len);
        out.flush()
    }
}

/// The length of a file with parts of these lengths; `None` if no file is that long.
pub(super) fn file_len(header: u64, parts: impl Iterator<Item = u64>) -> Option<u64> {
    let front = header.checked_add(PRELUDE as u64)?;
    let body = parts.into_iter().try_fold(front, |at, part| at.checked_next_multiple_of(ALIGN)?.checked_add(part))?;
    body.checked_add(TRAILER as u64)
}

pub(super) fn header_crc(lengths: &[u8], header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(lengths);
    crc.update(header);
    crc.finalize()
}

/// A writer that counts and sums what goes through it.
struct Summed<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
    written: u64,
}

impl Summed<'_> {
    /// Zeros up to the next multiple of [`ALIGN`].
    fn align(&mut self) -> io::Result<()> {
        let zeros = self.written.next_multiple_of(ALIGN) - self.written;
        self.write_all(&[0; ALIGN as usize][..zeros as usize])
    }
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.crc.update(&bytes[..taken]);
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
