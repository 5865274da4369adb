//! Reading a container: every length is checked against the file's before memory is taken for it.

use super::elements::{TYPES, read_elements};
use super::write::{file_len, header_crc};
use super::{ALIGN, Container, ContainerError, Fault, Header, MAGIC, PRELUDE, TRAILER, VERSION, codec};
use maplet_tensor::{DType, Shape};
use std::collections::HashSet;
use std::io::{self, Read};

type Result<T> = std::result::Result<T, ContainerError>;

fn fail<T>(fault: Fault) -> Result<T> {
    Err(ContainerError::load(fault))
}

fn malformed<T>(what: impl Into<String>) -> Result<T> {
    fail(Fault::Malformed(what.into()))
}

/// Reads a container from an input of `len` bytes.
pub(super) fn read(input: impl Read, len: u64) -> Result<Container> {
    let mut input = Summed { input, crc: crc32fast::Hasher::new(), taken: 0, len };
    let (header_len, expected_crc, lengths) = read_prelude(&mut input)?;
    let mut header = vec![0; header_len];
    input.fill(&mut header)?;
    let found = header_crc(&lengths, &header);
    if found != expected_crc {
        return fail(Fault::Checksum { part: "header", found, expected: expected_crc });
    }
    let header: Header<'_> = codec::decode(&header).or_else(|what| malformed(format!("header: {what}")))?;
    let tensors = check_entries(&header, header_len as u64, len)?;

    let mut container = Container::new(header.kind);
    for blob in &header.blobs {
        input.align()?;
        let mut bytes = vec![0; blob.bytes as usize];
        input.fill(&mut bytes)?;
        container.meta.insert(blob.name.to_string(), bytes);
    }
    for (entry, (dtype, shape)) in header.tensors.iter().zip(tensors) {
        input.align()?;
        let tensor = read_elements(&mut input, dtype, shape).map_err(|error| input.fault(error))?;
        container.tensors.push((entry.name.to_string(), tensor));
    }
    let found = input.crc.clone().finalize();
    let mut trailer = [0; TRAILER];
    input.fill(&mut trailer)?;
    let expected = u32::from_le_bytes(trailer);
    if found != expected {
        return fail(Fault::Checksum { part: "contents", found, expected });
    }
    Ok(container)
}

/// The header's length, its checksum, and the bytes of the lengths that the checksum covers.
fn read_prelude(input: &mut Summed<impl Read>) -> Result<(usize, u32, [u8; 16])> {
    let mut prelude = Vec::with_capacity(PRELUDE);
    let len = input.len;
    input.take(PRELUDE as u64).read_to_end(&mut prelude)?;
    let magic = &prelude[..prelude.len().min(MAGIC.len())];
    if magic.is_empty() || !MAGIC.starts_with(magic) {
        return fail(Fault::Magic { found: magic.to_vec() });
    }
    let Ok(prelude) = <[u8; PRELUDE]>::try_from(prelude) else {
        return fail(Fault::Truncated { expected: (PRELUDE + TRAILER) as u64, found: len });
    };
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| prelude[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| prelude[at + i]));
    match u32_at(8) {
        VERSION => {}
        0 => return malformed("format version 0"),
        version => return fail(Fault::Newer { version }),
    }
    let (header, file) = (u64_at(16), u64_at(24));
    if file > len {
        return fail(Fault::Truncated { expected: file, found: len });
    }
    if file < len {
        return fail(Fault::Trailing { expected: file, extra: len - file });
    }
    if header > len - (PRELUDE + TRAILER).min(len as usize) as u64 || header > codec::MAX_BYTES as u64 {
        return malformed(format!("a header of {header} bytes in a file of {len}"));
    }
    Ok((header as usize, u32_at(12), std::array::from_fn(|i| prelude[16 + i])))
}

/// The type and shape of each tensor, once everything that the header declares is known to fill the file exactly.
fn check_entries(header: &Header<'_>, header_len: u64, len: u64) -> Result<Vec<(DType, Shape)>> {
    let mut names = HashSet::new();
    if let Some(blob) = header.blobs.iter().find(|blob| !names.insert(blob.name)) {
        return malformed(format!("two parts have the name `{}`", blob.name));
    }
    let mut names = HashSet::new();
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for entry in &header.tensors {
        if !names.insert(entry.name) {
            return malformed(format!("two tensors have the name `{}`", entry.name));
        }
        let Some((dtype, _)) = TYPES.iter().find(|(_, name)| *name == entry.dtype) else {
            return malformed(format!("tensor `{}` has the unknown element type `{}`", entry.name, entry.dtype));
        };
        let sizes: Vec<usize> = entry.shape.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
        let shape = Shape::new(&sizes).or_else(|error| malformed(format!("tensor `{}`: {error}", entry.name)))?;
        tensors.push((*dtype, shape));
    }
    let blobs = header.blobs.iter().map(|blob| blob.bytes);
    let elements = tensors.iter().map(|(dtype, shape)| (shape.elements() * dtype.bytes()) as u64);
    match file_len(header_len, blobs.chain(elements)) {
        Some(needed) if needed == len => Ok(tensors),
        Some(needed) => malformed(format!("its parts need {needed} bytes, the file has {len}")),
        None => malformed("its parts need more bytes than a file can have"),
    }
}

/// A reader that counts and sums what goes through it.
struct Summed<R> {
    input: R,
    crc: crc32fast::Hasher,
    taken: u64,
    len: u64,
}

impl<R: Read> Summed<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.read_exact(bytes).map_err(|error| self.fault(error))
    }

    /// An end that comes too early is the file's fault, everything else is the system's.
    fn fault(&self, error: io::Error) -> ContainerError {
        ContainerError::load(match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Truncated { expected: self.len, found: self.taken },
            _ => Fault::Io(error),
        })
    }

    /// Passes the zeros up to the next multiple of [`ALIGN`]; the checksum covers them.
    fn align(&mut self) -> Result<()> {
        let zeros = self.taken.next_multiple_of(ALIGN) - self.taken;
        self.fill(&mut [0; ALIGN as usize][..zeros as usize])
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let taken = self.input.read(bytes)?;
        self.crc.update(&bytes[..taken]);
        self.taken += taken as u64;
        Ok(taken)
    }
}
