//! A program that is killed while it saves leaves the old file whole.

#![cfg(unix)]

use maplet_autograd::container::Container;
use maplet_tensor::Tensor;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "MAPLET_TEST_KILLED_SAVE";
const ELEMENTS: usize = 4 << 20;
const BYTES: u64 = 4 * ELEMENTS as u64;

/// A model of 16 MiB whose every byte follows from its `version`.
fn model(version: u32) -> Container {
    let mut container = Container::new("model");
    container.meta.insert("version".into(), version.to_le_bytes().to_vec());
    container.tensors.push(("weight".into(), Tensor::full([ELEMENTS], version as f32)));
    container
}

fn load(path: &Path) -> u32 {
    let container = Container::load(path).expect("the file is whole");
    let version = u32::from_le_bytes(container.blob("version").unwrap().try_into().unwrap());
    assert!(container == model(version));
    version
}

/// The temporary file that a save is writing, and its length now.
fn temporary(folder: &Path) -> Option<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = entries.into_iter().find(|path| path.extension().is_some_and(|it| it == "tmp"))?;
    let len = fs::metadata(&path).ok()?.len();
    Some((path, len))
}

/// A program that does not outlive the test, whatever happens to the test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL
        let _ = self.0.wait();
    }
}

#[test]
fn the_old_file_stays_whole() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // This is the program that gets killed.
        let path = Path::new(&folder).join("model.maplet");
        for version in 2.. {
            model(version).save(&path).unwrap();
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.maplet");
    model(1).save(&path).unwrap();
    // The kill has to strike while the temporary file is half written, which is a race: three such hits will do.
    let mut hits = 0;
    for _ in 0..50 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_old_file_stays_whole"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (mut victim, start) = (Victim(child), Instant::now());
        while !temporary(folder.path()).is_some_and(|(_, len)| (1..BYTES).contains(&len)) {
            assert!(victim.0.try_wait().unwrap().is_none(), "the program ended by itself");
            assert!(start.elapsed() < Duration::from_secs(60), "the program writes no temporary file");
            std::thread::yield_now();
        }
        drop(victim);
        assert!(load(&path) >= 1);
        if let Some((left, len)) = temporary(folder.path()) {
            hits += u32::from(len < BYTES && Container::load(&left).is_err());
            fs::remove_file(left).unwrap();
        }
        if hits == 3 {
            return;
        }
    }
    panic!("only {hits} of 50 kills struck in the middle of a save");
}
