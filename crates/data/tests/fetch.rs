//! Fetching against mirrors on the loopback interface: good ones, bad ones and none.

#![cfg(feature = "fetch")]
#![forbid(unsafe_code)]

#[path = "support/mirror.rs"]
mod mirror;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use maplet_data::Result;
use maplet_data::fetch::{FASHION_MNIST, Fetch, FileSet, MNIST, Progress, RemoteFile, fetch};
use mirror::Manner::*;
use mirror::{Manner, Mirror, nobody};
use tempfile::TempDir;

/// The file of these tests. Its checksum was worked out by Python's hashlib over
/// `bytes(((i * 2654435761 & 0xffffffff) >> 13) & 255 for i in range(200000))`.
const NOISE: RemoteFile<'static> = RemoteFile {
    name: "noise.gz",
    bytes: 200_000,
    sha256: "b979e17a4e147685e5c2df66ad2d316b7665ddb2896ff60fcab25cea0675b048",
};
/// The same with one bit flipped in the middle, as [`Manner::Corrupt`] does it, by the same hashlib.
const CORRUPT_SHA256: &str = "7640df657c07a194c370d989e6bf6132ce9a7428196cd6143c8cb61dee898ea6";

static CONTENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect());

fn mirror(manners: &'static [Manner]) -> Mirror {
    Mirror::new("noise.gz", &CONTENT, manners)
}

/// A fresh folder, the place of the file in it, and the place of its beginning.
fn folder() -> (TempDir, PathBuf, PathBuf) {
    let out = tempfile::tempdir().expect("a folder for temporary files");
    let (whole, part) = (out.path().join("noises/noise.gz"), out.path().join("noises/noise.gz.part"));
    (out, whole, part)
}

fn run(mirrors: &[&str], out: &Path) -> Result<PathBuf> {
    let set = FileSet { name: "noises", files: &[NOISE], mirrors };
    Fetch::new(&set).timeout(Duration::from_millis(300)).run(out)
}

/// The error of a fetch from one mirror, which gives `reason` and leaves no file.
fn assert_fails(manners: &'static [Manner], reason: &str, left: usize) {
    let (out, whole, part) = folder();
    let mirror = mirror(manners);
    let error = run(&[&mirror.url], out.path()).expect_err("the mirror is bad");
    let expected = format!(
        "fetch: no source gave noise.gz of noises:\n  {}noise.gz: {reason}; help: put the file (200000 bytes, \
         SHA-256 {}) into {} by hand, or fetch from a folder or URL that has it",
        mirror.url,
        NOISE.sha256,
        out.path().join("noises").display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(!whole.exists(), "a bad file took the name of a good one");
    assert_eq!(fs::metadata(part).map_or(0, |meta| meta.len()), left as u64, "bytes left to resume");
}

#[test]
fn puts_the_file_in_place() {
    let (out, whole, part) = folder();
    let mirror = mirror(&[Good]);
    assert_eq!(run(&[&mirror.url], out.path()).unwrap(), out.path().join("noises"));
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
    assert!(!part.exists());
    assert_eq!(mirror.requests(), ["/noise.gz"]);
}

#[test]
fn what_is_there_is_not_asked_for() {
    let (out, whole, _) = folder();
    fs::create_dir(out.path().join("noises")).unwrap();
    fs::write(&whole, &*CONTENT).unwrap();
    let mirror = mirror(&[Good]);
    run(&[&mirror.url], out.path()).unwrap();
    assert_eq!(mirror.requests(), [""; 0]);
    assert_eq!(fs::read_dir(out.path().join("noises")).unwrap().count(), 1, "a no-op writes nothing, not even a lock");
}

#[test]
fn what_is_there_and_wrong_is_replaced_only_by_a_good_one() {
    let (out, whole, _) = folder();
    fs::create_dir(out.path().join("noises")).unwrap();
    let mut wrong = CONTENT.clone();
    wrong[7] ^= 1;
    fs::write(&whole, &wrong).unwrap();
    run(&[&mirror(&[Corrupt]).url], out.path()).unwrap_err();
    assert_eq!(fs::read(&whole).unwrap(), wrong);
    run(&[&mirror(&[Good]).url], out.path()).unwrap();
    assert_eq!(fs::read(&whole).unwrap(), *CONTENT);
}

#[test]
fn the_next_mirror_is_tried_whatever_the_first_one_does() {
    let bad: [&'static [Manner]; 7] = [
        &[Missing],
        &[Corrupt],
        &[Longer(3, true)],
        &[Longer(3, false)],
        &[Breaks(0)],
        &[Stalls(0)],
        &[Breaks(1000), Missing],
    ];
    for manners in bad {
        let (out, whole, _) = folder();
        let (first, second) = (mirror(manners), mirror(&[Good]));
        run(&[&first.url, &second.url], out.path()).unwrap();
        assert_eq!(fs::read(whole).unwrap(), *CONTENT);
        assert!(!first.requests().is_empty() && second.requests().len() == 1);
    }
    let (out, whole, _) = folder();
    run(&[&nobody(), &mirror(&[Good]).url], out.path()).unwrap();
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
}

#[test]
fn resumes_from_every_kind_of_beginning() {
    for start in [1, 2, 65_536, 100_000, 199_999] {
        let (out, whole, part) = folder();
        fs::create_dir(out.path().join("noises")).unwrap();
        fs::write(&part, &CONTENT[..start]).unwrap();
        let mirror = mirror(&[Good]);
        run(&[&mirror.url], out.path()).unwrap();
        assert_eq!(fs::read(whole).unwrap(), *CONTENT);
        assert_eq!(mirror.requests(), [format!("/noise.gz bytes={start}-")]);
        assert!(!part.exists());
    }
}

#[test]
fn a_whole_part_needs_no_request() {
    let (out, whole, part) = folder();
    fs::create_dir(out.path().join("noises")).unwrap();
    fs::write(&part, &*CONTENT).unwrap();
    let mirror = mirror(&[Missing]);
    run(&[&mirror.url], out.path()).unwrap();
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
    assert_eq!(mirror.requests(), [""; 0]);
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let (out, whole, _) = folder();
    let mirror = mirror(&[Breaks(70_000), Stalls(30_000), Good]);
    run(&[&mirror.url], out.path()).unwrap();
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
    assert_eq!(mirror.requests(), ["/noise.gz", "/noise.gz bytes=70000-", "/noise.gz bytes=100000-"]);
}

#[test]
fn the_next_mirror_goes_on_where_the_first_broke_off() {
    let (out, whole, _) = folder();
    let (first, second) = (mirror(&[Breaks(70_000), Missing]), mirror(&[Good]));
    run(&[&first.url, &second.url], out.path()).unwrap();
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
    assert_eq!(second.requests(), ["/noise.gz bytes=70000-"]);
}

#[test]
fn a_beginning_that_cannot_be_used_is_dropped() {
    let wrong = vec![9; 1000];
    let too_long = vec![9; 300_000];
    let wrong_whole = vec![9; 200_000];
    let right = CONTENT[..1000].to_vec();
    let cases: [(&[u8], &'static [Manner], usize); 6] = [
        (&wrong, &[Good], 2),    // the checksum tells; then from nothing
        (&too_long, &[Good], 1), // the length tells
        (&wrong_whole, &[Good], 1),
        (&right, &[NoRanges], 1), // the whole file comes anyway
        (&right, &[WrongRange], 2),
        (&right, &[Refuses], 2),
    ];
    for (index, (beginning, manners, requests)) in cases.into_iter().enumerate() {
        let (out, whole, part) = folder();
        fs::create_dir(out.path().join("noises")).unwrap();
        fs::write(&part, beginning).unwrap();
        let mirror = mirror(manners);
        run(&[&mirror.url], out.path()).unwrap();
        assert_eq!(fs::read(whole).unwrap(), *CONTENT, "case {index}");
        assert_eq!(mirror.requests().len(), requests, "case {index}");
    }
}

#[test]
fn a_missing_file_is_an_error() {
    assert_fails(&[Missing], "HTTP status 404 Not Found", 0);
}

#[test]
fn a_wrong_checksum_is_an_error_and_leaves_nothing() {
    let reason = format!("SHA-256 is {CORRUPT_SHA256}, the published file has {}", NOISE.sha256);
    assert_fails(&[Corrupt], &reason, 0);
}

#[test]
fn a_wrong_length_is_an_error_and_leaves_nothing() {
    assert_fails(&[Longer(3, true)], "it has 200003 bytes, the published file 200000", 0);
    assert_fails(&[Longer(3, false)], "it has more than the 200000 bytes of the published file", 0);
}

#[test]
fn a_truncated_file_is_an_error_that_a_later_run_resumes() {
    assert_fails(&[Breaks(50_000), Breaks(0)], "broke off after 50000 of 200000 bytes: Peer disconnected", 50_000);
}

#[test]
fn a_silent_mirror_is_an_error_after_the_timeout() {
    assert_fails(&[Stalls(50_000), Stalls(0)], "broke off after 50000 of 200000 bytes: no answer within 300ms", 50_000);
}

#[test]
fn without_a_network_each_mirror_is_named() {
    let (out, whole, part) = folder();
    let (one, two) = (nobody(), nobody());
    let refused = TcpStream::connect(one.trim_start_matches("http://").trim_end_matches('/')).unwrap_err();
    let error = run(&[&one, &two], out.path()).unwrap_err().to_string();
    let expected = format!(
        "fetch: no source gave noise.gz of noises:\n  {one}noise.gz: {refused}\n  {two}noise.gz: {refused}; help: "
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(!whole.exists() && !part.exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_any_request() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let cause = fs::create_dir_all(file.join("noises")).unwrap_err();
    let mirror = mirror(&[Good]);
    let expected = format!(
        "fetch: cannot create {}: {cause}; help: check that the folder can be written and that the disk has room",
        file.join("noises").display()
    );
    assert_eq!(run(&[&mirror.url], &file).unwrap_err().to_string(), expected);
    assert_eq!(mirror.requests(), [""; 0]);
}

#[test]
fn a_part_that_cannot_be_written_is_not_the_mirrors_fault() {
    let (out, _, part) = folder();
    fs::create_dir_all(&part).unwrap(); // a folder bars the way
    let mirror = mirror(&[Good]);
    let error = run(&[&mirror.url, &mirror.url], out.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("fetch: cannot open {}: ", part.display())), "{error}");
    assert!(error.ends_with("; help: check that the folder can be written and that the disk has room"), "{error}");
    assert_eq!(mirror.requests(), [""; 0]);
}

/// A fetch of the set from a place of the user's own; the mirrors must not be asked.
fn run_from(place: &str, out: &Path) -> Result<PathBuf> {
    let set = FileSet { name: "noises", files: &[NOISE], mirrors: &["http://no.such.host.invalid/"] };
    Fetch::new(&set).from(place).run(out)
}

#[test]
fn from_a_folder_or_the_folder_above() {
    for inner in ["", "noises"] {
        let (out, whole, part) = folder();
        let own = tempfile::tempdir().unwrap();
        fs::create_dir_all(own.path().join(inner)).unwrap();
        fs::write(own.path().join(inner).join("noise.gz"), &*CONTENT).unwrap();
        run_from(own.path().to_str().unwrap(), out.path()).unwrap();
        assert_eq!(fs::read(whole).unwrap(), *CONTENT);
        assert!(!part.exists());
    }
}

#[test]
fn from_an_address_with_or_without_the_name_of_the_set() {
    let (out, whole, _) = folder();
    let mirror = Mirror::new("/own/noises/noise.gz", &CONTENT, &[Good]);
    run_from(&format!("{}own", mirror.url), out.path()).unwrap();
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
    assert_eq!(mirror.requests(), ["/own/noise.gz", "/own/noises/noise.gz"]);
}

#[test]
fn from_a_folder_with_bad_files_says_which_and_why() {
    let (out, whole, part) = folder();
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("noise.gz");
    let absent = fs::File::open(&path).unwrap_err();
    let fails = |reason: &str| {
        let error = run_from(own.path().to_str().unwrap(), out.path()).unwrap_err().to_string();
        let expected = format!("fetch: no source gave noise.gz of noises:\n  {}: {reason}; help: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(!whole.exists() && !part.exists());
    };
    fails(&absent.to_string());
    fs::write(own.path().join("noise"), "unpacked").unwrap();
    fails(&format!("{absent} (its unpacked form is there, but the checksum is that of the .gz file)"));
    fs::write(&path, &CONTENT[..70]).unwrap();
    fails("it has 70 bytes, the published file 200000");
    let mut corrupt = CONTENT.clone();
    corrupt[100_000] ^= 1;
    fs::write(&path, corrupt).unwrap();
    fails(&format!("SHA-256 is {CORRUPT_SHA256}, the published file has {}", NOISE.sha256));
}

#[test]
fn from_nowhere_is_an_error() {
    let (out, ..) = folder();
    for place in ["no/such/folder", "ftp://example.org/mnist"] {
        assert_eq!(
            run_from(place, out.path()).unwrap_err().to_string(),
            format!(
                "fetch: `{place}` is neither a folder nor a URL; help: name a folder that has noise.gz \
                 (or noises/noise.gz), or an http:// or https:// address"
            )
        );
    }
}

#[test]
fn progress_tells_the_whole_story() {
    let (out, ..) = folder();
    let (first, second) = (mirror(&[Breaks(70_000), Missing]), mirror(&[Good]));
    let mirrors = [first.url.as_str(), second.url.as_str()];
    let set = FileSet { name: "noises", files: &[NOISE], mirrors: &mirrors };
    let mut told = Vec::new();
    let mut reached = 0;
    let mut report = |event: Progress<'_>| match event {
        Progress::Advanced { file, done, total } => {
            assert!(file == "noise.gz" && done > reached && total == 200_000);
            reached = done;
        }
        other => told.push(format!("{other:?}")),
    };
    Fetch::new(&set).on_progress(&mut report).run(out.path()).unwrap();
    Fetch::new(&set).on_progress(&mut report).run(out.path()).unwrap();
    assert_eq!(reached, 200_000);
    let started = |source: &str, done: u64| {
        format!("Started {{ file: \"noise.gz\", source: \"{source}noise.gz\", done: {done}, total: 200000 }}")
    };
    let failed = format!(
        "Failed {{ file: \"noise.gz\", source: \"{}noise.gz\", reason: \"HTTP status 404 Not Found\" }}",
        first.url
    );
    let finished = "Finished { file: \"noise.gz\" }".to_owned();
    let present = "Present { file: \"noise.gz\" }".to_owned();
    assert_eq!(told, [started(&first.url, 0), failed, started(&second.url, 70_000), finished, present]);
}

#[test]
fn two_at_once_take_turns() {
    let (out, whole, _) = folder();
    let mirror = mirror(&[Good]);
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| run(&[&mirror.url], out.path())));
        for one in both {
            one.join().unwrap().unwrap();
        }
    });
    assert_eq!(fs::read(whole).unwrap(), *CONTENT);
    assert_eq!(mirror.requests(), ["/noise.gz"], "the second one finds the file of the first");
}

#[test]
fn the_known_sets_are_whole() {
    let sizes = |set: FileSet<'_>| set.files.iter().map(|file| file.bytes).sum::<u64>();
    assert_eq!((sizes(MNIST), sizes(FASHION_MNIST)), (11_594_722, 30_878_645)); // the sums of the published sizes
    for set in [MNIST, FASHION_MNIST] {
        assert_eq!(set.files.len(), 4);
        assert!(set.files.iter().all(|file| file.sha256.len() == 64 && file.name.ends_with("-ubyte.gz")));
        assert!(set.mirrors.len() >= 2 && set.mirrors.iter().all(|url| url.starts_with("http") && url.ends_with('/')));
    }
}

/// The published files themselves, where the machine has them.
#[test]
fn real_files_pass_the_check() {
    let Some(data) = std::env::var_os("MAPLET_DATA").map(PathBuf::from) else { return };
    for set in [MNIST, FASHION_MNIST].iter().filter(|set| data.join(set.name).is_dir()) {
        let mut present = 0;
        Fetch::new(set)
            .on_progress(|event| present += i32::from(matches!(event, Progress::Present { .. })))
            .run(&data)
            .unwrap();
        assert_eq!(present, 4, "{}", set.name);
        let out = tempfile::tempdir().unwrap();
        let folder = Fetch::new(set).from(data.to_str().expect("a path in Unicode")).run(out.path()).unwrap();
        assert_eq!(fetch(set, out.path()).unwrap(), folder);
    }
}
