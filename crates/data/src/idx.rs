//! The IDX format, in which MNIST is published: a magic number, the sizes of the axes, then the values.
//!
//! ```text
//! 00 00 TT RR   TT: element type, RR: number of axes
//! SS SS SS SS   the size of each axis, big-endian, RR times
//! ...           the values, row-major, big-endian
//! ```
//!
//! Every file is treated as hostile: memory is taken only for bytes that are really there, and never for more than
//! the header promises.
//!
//! # Reference
//! LeCun, Cortes & Burges, "The MNIST database of handwritten digits", section "The IDX file format".

use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use maplet_tensor::{MAX_RANK, Shape, Tensor};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Reads an IDX file, plain or gzip; which of the two, the content says, not the name.
///
/// Unsigned bytes become `U8`, signed bytes and 16- and 32-bit integers `I64`, floats `F32` and `F64`.
///
/// # Errors
/// A file that cannot be read, is not IDX, or holds more or fewer values than its header promises. The text names
/// the file, what was promised and what was found.
///
/// # Example
/// ```no_run
/// let images = maplet_data::idx::read("data/mnist/t10k-images-idx3-ubyte.gz")?;
/// assert_eq!(images.shape().to_string(), "[10000, 28, 28]");
/// # Ok::<(), maplet_data::Error>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let open = || -> io::Result<_> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let (file, size) = open().map_err(|error| Error::io("idx", path, error))?;
    decode(path, BufReader::new(file), size)
}

/// As [`read`], for bytes in memory; `name` stands for the file in errors.
///
/// # Errors
/// As [`read`].
///
/// # Example
/// ```
/// use maplet_tensor::Tensor;
///
/// let bytes = [0, 0, 0x08, 1, 0, 0, 0, 3, 5, 0, 4];
/// assert_eq!(maplet_data::idx::from_bytes("labels", &bytes)?, Tensor::from([5u8, 0, 4]));
/// # Ok::<(), maplet_data::Error>(())
/// ```
pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Tensor> {
    decode(name.as_ref(), bytes, bytes.len() as u64)
}

/// Reads from a file of `size` bytes.
fn decode(path: &Path, mut input: impl BufRead, size: u64) -> Result<Tensor> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let start = input.fill_buf().map_err(|error| Error::io("idx", path, error))?;
    if start.starts_with(&GZIP) {
        Source { path, input: MultiGzDecoder::new(input), size, gzip: true }.tensor()
    } else {
        Source { path, input, size, gzip: false }.tensor()
    }
}

/// What the header promises.
struct Header {
    element: u8,
    shape: Shape,
    /// Bytes of values.
    bytes: usize,
}

struct Source<'a, R> {
    path: &'a Path,
    input: R,
    /// Bytes of the file itself, packed if it is gzip.
    size: u64,
    gzip: bool,
}

impl<R: Read> Source<'_, R> {
    fn tensor(mut self) -> Result<Tensor> {
        let header = self.header()?;
        let bytes = self.values(&header)?;
        Ok(match header.element {
            0x08 => Tensor::from_vec(bytes, header.shape),
            0x09 => Tensor::from_vec(convert(&bytes, |b| i64::from(i8::from_be_bytes(b))), header.shape),
            0x0b => Tensor::from_vec(convert(&bytes, |b| i64::from(i16::from_be_bytes(b))), header.shape),
            0x0c => Tensor::from_vec(convert(&bytes, |b| i64::from(i32::from_be_bytes(b))), header.shape),
            0x0d => Tensor::from_vec(convert(&bytes, f32::from_be_bytes), header.shape),
            _ => Tensor::from_vec(convert(&bytes, f64::from_be_bytes), header.shape),
        }?)
    }

    fn header(&mut self) -> Result<Header> {
        let magic = self.take(4)?;
        let &[0, 0, element, rank] = magic.as_slice() else {
            let found: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
            let what = format!("begins with {}, expected 00 00, an element type and a number of axes", found.join(" "));
            return Err(self.bad(what, "check that this is an IDX file, plain or gzip"));
        };
        let Some(width) = width(element) else {
            let known = "IDX knows 08 (u8), 09 (i8), 0b (i16), 0c (i32), 0d (f32) and 0e (f64)";
            return Err(self.bad(format!("header has element type {element:02x}"), known));
        };
        if !(1..=MAX_RANK).contains(&rank.into()) {
            return Err(self.bad(format!("header promises {rank} axes"), format!("1 to {MAX_RANK} can be read")));
        }
        let sizes = self.take(4 * usize::from(rank))?;
        let sizes: Vec<usize> = convert(&sizes, |b| u32::from_be_bytes(b) as usize);
        if sizes.contains(&0) {
            return Err(self.bad(format!("header promises {sizes:?}: no values at all"), AGAIN));
        }
        match Shape::new(&sizes) {
            Ok(shape) => Ok(Header { element, shape, bytes: shape.elements() * width }),
            Err(_) => Err(self.bad(format!("header promises {sizes:?}: more than memory can address"), AGAIN)),
        }
    }

    /// The values, exactly as many bytes as the header promises.
    fn values(&mut self, header: &Header) -> Result<Vec<u8>> {
        let promised = header.bytes;
        let room = match self.gzip {
            true => self.size.saturating_mul(GZIP_RATIO),
            false => self.size.saturating_sub(4 + 4 * header.shape.len() as u64),
        };
        let exact = if self.gzip { room >= promised as u64 } else { room == promised as u64 };
        if !exact {
            let most = if self.gzip { "can hold at most" } else { "holds" };
            return Err(self.bad(format!("header promises {promised} bytes of values, the file {most} {room}"), AGAIN));
        }
        let mut bytes = Vec::new();
        let end = self.fill(&mut bytes, promised);
        let held = bytes.len();
        let what = match end {
            Ok(0) if held == promised => return Ok(bytes),
            Ok(0) => format!("header promises {promised} bytes of values, the file holds {held}"),
            Ok(_) => format!("header promises {promised} bytes of values, the file holds more"),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && held < promised => {
                format!("header promises {promised} bytes of values, the file ends after {held}")
            }
            Err(error) => format!("cannot be read on after {held} of {promised} bytes of values: {error}"),
        };
        Err(self.bad(what, AGAIN))
    }

    /// Reads up to `promised` bytes, and says how many more there are: 0, or at least 1.
    fn fill(&mut self, bytes: &mut Vec<u8>, promised: usize) -> io::Result<usize> {
        while bytes.len() < promised {
            // A plain file has the size that was promised; a packed one may still break its promise, so memory for it
            // doubles with what arrives.
            let most = if self.gzip { bytes.len().max(FIRST_STEP) } else { promised };
            let step = most.min(promised - bytes.len());
            bytes.reserve_exact(step);
            if (&mut self.input).take(step as u64).read_to_end(bytes)? < step {
                return Ok(0);
            }
        }
        self.input.read(&mut [0])
    }

    /// The next `count` bytes of the header.
    fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        match (&mut self.input).take(count as u64).read_to_end(&mut bytes) {
            Ok(read) if read == count => Ok(bytes),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Err(self.bad(format!("cannot be read: {error}"), AGAIN))
            }
            _ => Err(self.bad("ends inside the header", AGAIN)),
        }
    }

    fn bad(&self, what: impl Into<String>, help: impl Into<String>) -> Error {
        Error::file("idx", self.path, what, help)
    }
}

const AGAIN: &str = "fetch it again";
/// The most that deflate can grow: 258 bytes from 2 bits.
const GZIP_RATIO: u64 = 1032;
/// The memory taken before the first value has been seen.
const FIRST_STEP: usize = 1 << 16;

/// Bytes of one element.
fn width(element: u8) -> Option<usize> {
    match element {
        0x08 | 0x09 => Some(1),
        0x0b => Some(2),
        0x0c | 0x0d => Some(4),
        0x0e => Some(8),
        _ => None,
    }
}

fn convert<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| one(bytes)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    /// The bytes of an IDX file.
    pub(crate) fn encode(element: u8, sizes: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, element, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        from_bytes("f", bytes).unwrap_err().to_string()
    }

    #[test]
    fn every_element_type_is_read_plain_and_packed() {
        let check = |element, sizes: &[u32], values: &[u8], expected: Tensor| {
            let bytes = encode(element, sizes, values);
            assert_eq!(from_bytes("f", &bytes).unwrap(), expected);
            assert_eq!(from_bytes("f", &gzip(&bytes)).unwrap(), expected);
        };
        check(0x08, &[2, 3], &[0, 1, 2, 3, 4, 255], Tensor::from([[0u8, 1, 2], [3, 4, 255]]));
        check(0x09, &[2], &[0xff, 0x7f], Tensor::from([-1i64, 127]));
        check(0x0b, &[1, 2], &[0xff, 0xfe, 0x01, 0x00], Tensor::from([[-2i64, 256]]));
        check(0x0c, &[1], &[0x80, 0, 0, 0], Tensor::from([-2147483648i64]));
        check(0x0d, &[2], &[0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0], Tensor::from([1.0f32, -2.5]));
        check(0x0e, &[1], &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Tensor::from([1.5f64]));
    }

    #[test]
    fn the_content_says_whether_it_is_packed() {
        let folder = tempfile::tempdir().unwrap();
        let plain = encode(0x08, &[2], &[7, 9]);
        let (named_gz, named_plain) = (folder.path().join("a.gz"), folder.path().join("b"));
        std::fs::write(&named_gz, &plain).unwrap();
        std::fs::write(&named_plain, gzip(&plain)).unwrap();
        for path in [named_gz, named_plain] {
            assert_eq!(read(path).unwrap(), Tensor::from([7u8, 9]));
        }
        let missing = folder.path().join("none");
        let cause = File::open(&missing).unwrap_err();
        assert_eq!(read(&missing).unwrap_err().to_string(), format!("idx: {}: {cause}", missing.display()));
    }

    #[test]
    fn bad_files_are_named_with_what_was_promised_and_found() {
        let file = |sizes: &[u32], count| encode(0x08, sizes, &vec![1; count]);
        let cases: &[(&[u8], &str)] = &[
            (&[], "ends inside the header; help: fetch it again"),
            (&[0, 0, 8], "ends inside the header; help: fetch it again"),
            (&file(&[2, 2], 0)[..9], "ends inside the header; help: fetch it again"),
            (
                b"\x89PNG....",
                "begins with 89 50 4e 47, expected 00 00, an element type and a number of axes; \
                 help: check that this is an IDX file, plain or gzip",
            ),
            (
                &encode(0x0a, &[1], &[0]),
                "header has element type 0a; \
                 help: IDX knows 08 (u8), 09 (i8), 0b (i16), 0c (i32), 0d (f32) and 0e (f64)",
            ),
            (&file(&[], 1), "header promises 0 axes; help: 1 to 8 can be read"),
            (&file(&[1; 9], 1), "header promises 9 axes; help: 1 to 8 can be read"),
            (&file(&[0, 28, 28], 0), "header promises [0, 28, 28]: no values at all; help: fetch it again"),
            (
                &file(&[u32::MAX; 3], 5),
                "header promises [4294967295, 4294967295, 4294967295]: more than memory can address; \
                 help: fetch it again",
            ),
            (
                &file(&[60000, 28, 28], 100),
                "header promises 47040000 bytes of values, the file holds 100; help: fetch it again",
            ),
            (&file(&[2, 3], 7), "header promises 6 bytes of values, the file holds 7; help: fetch it again"),
            (
                &encode(0x0e, &[2], &[0; 15]),
                "header promises 16 bytes of values, the file holds 15; help: fetch it again",
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(text(bytes), format!("idx: f: {expected}"));
        }
    }

    #[test]
    fn bad_packed_files_too() {
        let whole = gzip(&encode(0x08, &[1000], &[1; 1000]));
        let few = text(&gzip(&encode(0x08, &[1000], &[1; 999])));
        assert_eq!(few, "idx: f: header promises 1000 bytes of values, the file holds 999; help: fetch it again");
        let many = text(&gzip(&encode(0x08, &[1000], &[1; 1001])));
        assert_eq!(many, "idx: f: header promises 1000 bytes of values, the file holds more; help: fetch it again");

        let noise: Vec<u8> = (0..1000u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
        let cut = text(&gzip(&encode(0x08, &[1000], &noise))[..500]);
        let promise = "idx: f: header promises 1000 bytes of values, the file ends after ";
        assert!(cut.starts_with(promise) && cut.ends_with("; help: fetch it again"), "{cut}");
        assert_eq!(text(&whole[..12]), "idx: f: ends inside the header; help: fetch it again");

        let packed = gzip(&encode(0x08, &[1 << 30], &[]));
        let most = packed.len() * 1032;
        let bomb = format!("header promises 1073741824 bytes of values, the file can hold at most {most}");
        assert_eq!(text(&packed), format!("idx: f: {bomb}; help: fetch it again"));

        let mut wrong_sum = whole.clone();
        let sum = whole.len() - 8;
        wrong_sum[sum] ^= 1;
        let expected = "idx: f: cannot be read on after 1000 of 1000 bytes of values: \
                        corrupt gzip stream does not have a matching checksum; help: fetch it again";
        assert_eq!(text(&wrong_sum), expected);
        let rubbish_behind = text(&[whole.as_slice(), b"rubbish behind"].concat());
        let expected = "idx: f: cannot be read on after 1000 of 1000 bytes of values: invalid gzip header; \
                        help: fetch it again";
        assert_eq!(rubbish_behind, expected);
    }

    #[test]
    fn gzip_in_several_members_is_one_file() {
        let bytes = encode(0x08, &[4], &[1, 2, 3, 4]);
        let members = [gzip(&bytes[..10]), gzip(&bytes[10..])].concat();
        assert_eq!(from_bytes("f", &members).unwrap(), Tensor::from([1u8, 2, 3, 4]));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_shorter_or_longer(
            sizes in prop::collection::vec(1u32..5, 1..5), seed: u8, cut in 0.0..1.0f64,
        ) {
            let count = sizes.iter().product::<u32>() as usize;
            let values: Vec<u8> = (0..count).map(|i| (i as u8).wrapping_add(seed)).collect();
            let bytes = encode(0x08, &sizes, &values);
            let tensor = from_bytes("f", &bytes).unwrap();
            prop_assert_eq!(tensor.as_slice::<u8>().unwrap(), &values[..]);
            prop_assert!(tensor.shape().iter().map(|&size| size as u32).eq(sizes));
            let short = &bytes[..(cut * bytes.len() as f64) as usize];
            let long = [&bytes[..], &[0]].concat();
            for wrong in [short, &long] {
                prop_assert!(from_bytes("f", wrong).is_err() && from_bytes("f", &gzip(wrong)).is_err());
            }
        }
    }
}
