//! A hostile IDX file neither panics nor takes memory for more than it holds. Alone in its process: it counts bytes.

use cap::Cap;
use flate2::{Compression, write::GzEncoder};
use maplet_data::idx;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::alloc::System;
use std::io::Write;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What reading any small file may take: the decoder's window, the first step, texts, rounding up to a page.
const FIXED: usize = 256 << 10;

/// All bytes taken while `bytes` are read, given back or not, and whether they could be read.
fn taken(bytes: &[u8]) -> (usize, bool) {
    let before = MEMORY.total_allocated();
    let read = idx::from_bytes("f", bytes).is_ok();
    (MEMORY.total_allocated() - before, read)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Random bytes behind beginnings that get past the first checks.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let element = prop::sample::select(vec![0x08u8, 0x09, 0x0b, 0x0c, 0x0d, 0x0e, 0x0a]);
    let size = prop_oneof![0u32..4, Just(28), Just(60_000), any::<u32>()];
    let header = (element, prop::collection::vec(size, 0..10)).prop_map(|(element, sizes)| {
        let mut bytes = vec![0, 0, element, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes
    });
    let start =
        prop_oneof![Just(vec![]), Just(vec![0x1f, 0x8b]), Just(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]), header,];
    let file = (start, prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(start, rest)| [start, rest].concat());
    (file, any::<bool>()).prop_map(|(file, pack)| if pack { gzip(&file) } else { file })
}

#[test]
fn memory_is_taken_only_for_what_is_there() {
    // A real file first: it takes what it holds, doubling on the way up: 1/16 + 1/8 + 1/4 + 1/2 + 1 of it.
    let whole = gzip(&[&[0, 0, 8, 1, 0, 0x10, 0, 0][..], &vec![7; 1 << 20]].concat());
    let (bytes, read) = taken(&whole);
    assert!(read && (1 << 20..=(2 << 20) + FIXED).contains(&bytes), "{bytes}");

    // A bomb: the header promises 3 bytes, a hundred million follow.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&[0, 0, 8, 1, 0, 0, 0, 3]).unwrap();
    (0..100).for_each(|_| bomb.write_all(&[0; 1_000_000]).unwrap());
    let (bytes, read) = taken(&bomb.finish().unwrap());
    assert!(!read && bytes <= FIXED, "{bytes}");

    // A promise that gzip could keep, and does not: 60 MB, from noise in which 60 MB might hide.
    let mut promise = vec![0, 0, 8, 1, 3, 0x93, 0x87, 0];
    promise.extend((0..70_000u32).map(|i| (i.wrapping_mul(2654435761) >> 11) as u8));
    let (bytes, read) = taken(&gzip(&promise));
    assert!(!read && bytes <= 4 * promise.len() + FIXED, "{bytes}");

    // Anything: 600 bytes, unpacked to at most 1032 times as many.
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) });
    let result = runner.run(&hostile(), |file| {
        let (bytes, _) = taken(&file);
        prop_assert!(bytes <= FIXED, "{bytes} bytes for {} bytes", file.len());
        Ok(())
    });
    result.unwrap();
}
