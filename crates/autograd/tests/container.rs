//! Container files: what was written is read back, and nothing that was not written is.

use maplet_autograd::container::{Container, ContainerError, Fault};
use maplet_autograd::{Error, ErrorKind};
use maplet_tensor::{DType, Rng, Shape, Tensor};
use proptest::prelude::*;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

fn sample() -> Container {
    let mut rng = Rng::new(1);
    let mut container = Container::new("sample");
    container.meta.insert("empty".into(), vec![]);
    container.meta.insert("text".into(), b"a few words".to_vec());
    for (name, tensor) in [
        ("0.weight", Tensor::normal([3, 5], 0.0f32, 1.0, &mut rng)),
        ("0.bias", Tensor::from([f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE])),
        ("step", Tensor::scalar(i64::MIN)),
        ("mean", Tensor::from([[0.1f64, -2.5e300]])),
        ("nothing", Tensor::zeros([0, 7], DType::F32)),
        ("image", Tensor::from([[0u8, 255], [1, 2]])),
    ] {
        container.tensors.push((name.into(), tensor));
    }
    container
}

fn bytes_of(container: &Container) -> Vec<u8> {
    let mut bytes = Vec::new();
    container.write_to(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Container, Error> {
    Container::read_from(bytes, bytes.len() as u64)
}

fn text(result: Result<impl Sized, Error>) -> String {
    result.err().expect("an error").to_string()
}

fn fault(error: &Error) -> &Fault {
    match error.kind() {
        ErrorKind::Container(error) => error.fault(),
        other => panic!("{other}"),
    }
}

/// The bytes with the checksums made right again, to reach the checks behind them.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let header_end = 32 + u64_at(16);
    let end = bytes.len() - 4;
    let header = crc32fast::hash(&bytes[16..header_end]);
    bytes[12..16].copy_from_slice(&header.to_le_bytes());
    let all = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&all.to_le_bytes());
    bytes
}

#[test]
fn every_type_comes_back_bit_for_bit() {
    let container = sample();
    let bytes = bytes_of(&container);
    let again = read(&bytes).unwrap();
    assert!(again == container);
    assert!(bytes_of(&again) == bytes);
}

#[test]
fn a_nan_keeps_its_payload() {
    let bits = 0x7fc1_2345;
    let mut container = Container::new("nan");
    container.tensors.push(("x".into(), Tensor::from([f32::from_bits(bits)])));
    let again = read(&bytes_of(&container)).unwrap();
    assert_eq!(again.tensor("x").unwrap().item::<f32>().unwrap().to_bits(), bits);
}

/// The layout that the documentation promises, read by hand.
#[test]
fn the_layout_is_the_documented_one() {
    let mut container = Container::new("k");
    container.tensors.push(("x".into(), Tensor::from([1.0f32, -2.0])));
    let bytes = bytes_of(&container);
    assert_eq!(&bytes[..12], b"\x89MAPLET\n\x01\0\0\0");
    assert_eq!(&bytes[24..32], (bytes.len() as u64).to_le_bytes());
    assert_eq!(&bytes[32..], {
        // kind; no blobs; one tensor: name, type, shape
        let mut rest = b"\x01k\x00\x01\x01x\x03f32\x01\x02".to_vec();
        rest.resize(64 - 32, 0);
        rest.extend([1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
        let crc = crc32fast::hash(&[&bytes[..32], &rest].concat());
        rest.extend(crc.to_le_bytes());
        rest
    });
}

#[test]
fn every_damage_has_its_text() {
    let bytes = bytes_of(&sample());
    let len = bytes.len();
    let copy = "help: copy the file again, or go back to an earlier one";

    let short = text(read(&bytes[..len - 1]));
    assert_eq!(short, format!("load: truncated: it should have {len} bytes, it has {}; {copy}", len - 1));
    assert_eq!(text(read(&bytes[..20])), format!("load: truncated: it should have 36 bytes, it has 20; {copy}"));
    // Shorter than its own length says, as when a file shrinks under the reader.
    let shrunk = text(Container::read_from(&bytes[..len - 10], len as u64));
    assert_eq!(shrunk, format!("load: truncated: it should have {len} bytes, it has {}; {copy}", len - 10));

    let long = text(read(&[&bytes[..], b"more"].concat()));
    assert_eq!(long, format!("load: 4 bytes follow its end at byte {len}; {copy}"));

    let other = "load: not a Maplet file: it begins with [50, 4b, 03, 04]; help: give a file that Maplet saved";
    assert_eq!(text(read(b"PK\x03\x04")), other);
    assert_eq!(text(read(b"")), "load: not a Maplet file: it begins with []; help: give a file that Maplet saved");

    let mut newer = bytes.clone();
    newer[8] = 7;
    let expected = "load: format version 7, this program reads up to 1; \
                    help: update maplet, or save the file again with this version";
    assert_eq!(text(read(&newer)), expected);

    let mut flipped = bytes.clone();
    flipped[len - 10] ^= 1;
    let (found, expected) = (crc32fast::hash(&flipped[..len - 4]), crc32fast::hash(&bytes[..len - 4]));
    let expected =
        format!("load: damaged: the checksum of its contents is {found:08x}, it should be {expected:08x}; {copy}");
    assert_eq!(text(read(&flipped)), expected);

    let mut flipped = bytes.clone();
    flipped[33] ^= 1;
    assert!(text(read(&flipped)).starts_with("load: damaged: the checksum of its header is "));
}

#[test]
fn contents_that_make_no_sense_have_their_text() {
    let mut container = Container::new("k");
    container.tensors.push(("x".into(), Tensor::from([1.0f32, -2.0])));
    let bytes = bytes_of(&container);
    let with = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        text(read(&sealed(bytes)))
    };
    // The end of the header as spelt out in `the_layout_is_the_documented_one`: 41 is the type's "2", 43 the size.
    assert_eq!(&bytes[38..44], b"\x03f32\x01\x02");
    let help = "help: save the file again";
    assert_eq!(with(41, b'9'), format!("load: malformed: tensor `x` has the unknown element type `f39`; {help}"));
    assert_eq!(with(43, 3), format!("load: malformed: its parts need 80 bytes, the file has 76; {help}"));
    assert_eq!(with(8, 0), format!("load: malformed: format version 0; {help}"));
    assert_eq!(with(32, 40), format!("load: malformed: header: {}; {help}", "UnexpectedEnd { additional: 29 }"));

    // A header that claims more than there is, and tensors that claim what no machine has.
    let mut huge = bytes.clone();
    huge[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    let expected = format!("load: malformed: a header of {} bytes in a file of 76; {help}", u64::MAX);
    assert_eq!(text(read(&huge)), expected);
}

#[test]
fn names_are_unique_and_kinds_are_told_apart() {
    let mut container = Container::new("sample");
    for value in [1.0f32, 2.0] {
        container.tensors.push(("x".into(), Tensor::scalar(value)));
    }
    let twice = "save: malformed: two tensors have the name `x`; help: give each tensor a short name of its own";
    assert_eq!(text(container.write_to(io::sink())), twice);

    // Two parts `a` and `b` of one byte each, of which the second is then called `a` too.
    let mut container = Container::new("k");
    container.meta.extend([("a".to_string(), vec![7]), ("b".into(), vec![9])]);
    let mut bytes = bytes_of(&container);
    let at = 32 + bytes[32..].iter().position(|&byte| byte == b'b').unwrap();
    bytes[at] = b'a';
    let twice = "load: malformed: two parts have the name `a`; help: save the file again";
    assert_eq!(text(read(&sealed(bytes))), twice);

    let kind = "load: a `sample` file, expected a `model` file; help: load it with the function of that kind";
    assert_eq!(text(sample().expect_kind("model")), kind);
    assert!(sample().expect_kind("sample").is_ok());
    assert_eq!(sample().blob("text").unwrap(), b"a few words");
    let part = "load: malformed: there is no part `config`; help: save the file again";
    assert_eq!(text(sample().blob("config")), part);
}

/// A disk with room for so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len().min(self.0) {
            0 if !bytes.is_empty() => Err(io::Error::from(io::ErrorKind::StorageFull)),
            taken => {
                self.0 -= taken;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_strikes() {
    let len = bytes_of(&sample()).len();
    for room in 0..len {
        let error = sample().write_to(Full(room)).unwrap_err();
        assert!(matches!(fault(&error), Fault::Io(error) if error.kind() == io::ErrorKind::StorageFull), "{room}");
        let expected = "save: no storage space; \
                        help: a file that was there before is unchanged; check the folder and the free space";
        assert_eq!(error.to_string(), expected);
    }
    assert!(sample().write_to(Full(len)).is_ok());
}

#[test]
fn a_save_that_fails_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.maplet");
    sample().save(&path).unwrap();
    let result = maplet_autograd::container::write_atomically(&path, |out| {
        out.write_all(b"half of a new fi")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert!(matches!(result.unwrap_err().fault(), Fault::Io(_)));
    assert!(Container::load(&path).unwrap() == sample());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)] // the system's own words
#[test]
fn places_that_cannot_be_written_or_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let save = |path: &Path| text(sample().save(path));
    let help = "help: a file that was there before is unchanged; check the folder and the free space";

    // No permission bit stops root, a path below a regular file stops everybody.
    let below = file.join("model.maplet");
    assert_eq!(save(&below), format!("save: {}: Not a directory (os error 20); {help}", below.display()));
    let absent = folder.path().join("absent/model.maplet");
    assert_eq!(save(&absent), format!("save: {}: No such file or directory (os error 2); {help}", absent.display()));
    let not_a_file = format!("save: {}: not a regular file; help: give the path of a file", folder.path().display());
    assert_eq!(save(folder.path()), not_a_file);

    let load = |path: &Path| text(Container::load(path));
    let help = "help: check that the file is there and may be read";
    assert_eq!(load(&absent), format!("load: {}: No such file or directory (os error 2); {help}", absent.display()));
    let not_a_file = format!("load: {}: not a regular file; help: give the path of a file", folder.path().display());
    assert_eq!(load(folder.path()), not_a_file);
    let magic = "not a Maplet file: it begins with [78]; help: give a file that Maplet saved";
    assert_eq!(load(&file), format!("load: {}: {magic}", file.display()));

    let path = folder.path().join("model.maplet");
    sample().save(&path).unwrap();
    let len = fs::metadata(&path).unwrap().len();
    let expected = format!(
        "load: {}: {len} bytes are more than the limit of 100; help: raise the limit if you trust the file",
        path.display()
    );
    assert_eq!(text(Container::load_at_most(&path, 100)), expected);
    assert!(Container::load_at_most(&path, len).is_ok());
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_a_device_stays_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.maplet"), folder.path().join("link.maplet"));
    fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    sample().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(Container::load(&real).unwrap() == sample());
    assert_eq!(text(sample().save("/dev/null")), "save: /dev/null: not a regular file; help: give the path of a file");
}

proptest! {
    #[test]
    fn any_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = bytes_of(&sample());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_cut_is_noticed(at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&sample());
        prop_assert!(read(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
    }

    /// Garbage behind a right prelude and right checksums: what a stranger who means harm would send.
    #[test]
    fn sealed_garbage_is_refused_or_read_for_what_it_is(
        header in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4, 250u8..], 0..80),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let len = 32 + header.len() + body.len() + 4;
        let mut bytes = b"\x89MAPLET\n\x01\0\0\0\0\0\0\0".to_vec();
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(header);
        bytes.extend(body);
        bytes.extend([0; 4]);
        if let Ok(container) = read(&sealed(bytes)) {
            let held: usize = container.tensors.iter().map(|(_, x)| x.len() * x.dtype().bytes()).sum();
            prop_assert!(held + container.meta.values().map(Vec::len).sum::<usize>() < len);
        }
    }

    #[test]
    fn any_container_comes_back(
        kind in ".{0,20}",
        meta in prop::collection::btree_map(".{0,8}", prop::collection::vec(any::<u8>(), 0..200), 0..4),
        shapes in prop::collection::btree_map("[a-z.0-9]{1,12}", prop::collection::vec(0usize..5, 0..5), 0..6),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let mut container = Container { kind, meta, tensors: vec![] };
        for (name, sizes) in shapes {
            let shape = Shape::new(&sizes).unwrap();
            container.tensors.push((name, Tensor::normal(shape, 0.0f64, 1e3, &mut rng)));
        }
        prop_assert!(read(&bytes_of(&container)).unwrap() == container);
    }
}

#[test]
fn errors_lead_to_the_systems_reason() {
    let error = ContainerError::from(io::Error::from(io::ErrorKind::PermissionDenied));
    let source = std::error::Error::source(&error).expect("a source");
    assert_eq!(source.to_string(), "permission denied");
}
