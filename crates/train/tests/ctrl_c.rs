//! A real Ctrl-C, sent by the system: the first stops a training after its step, the second ends the process.
#![cfg(all(unix, feature = "ctrlc"))]

mod common;

use common::{quiet, trainer, twos};
use maplet_train::{Callback, Context, Result, StopSignal};
use std::process::{Command, id};
use std::time::{Duration, Instant};

const CHILD: &str = "MAPLET_TEST_PRESSES_TWICE";

/// Sends this process what a terminal sends at Ctrl-C.
fn press() {
    assert!(Command::new("sh").args(["-c", &format!("kill -INT {}", id())]).status().unwrap().success());
}

/// Whether these tests were themselves started with Ctrl-C ignored: then nothing can be pressed.
fn ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| mask.trim().ends_with(['2', '3', '6', '7', 'a', 'b', 'e', 'f'])) // bit 1
}

struct PressAt(usize);

impl Callback for PressAt {
    fn on_epoch_begin(&mut self, context: &mut Context<'_>) -> Result<()> {
        if context.epoch == self.0 {
            press();
        }
        Ok(())
    }
}

#[test]
fn the_first_ctrl_c_ends_the_training() {
    if std::env::var_os(CHILD).is_some() || ignored() {
        return;
    }
    let signal = StopSignal::on_ctrl_c().unwrap();
    let mut trainer = trainer(0.25, ());
    // The signal arrives when the system likes: some of these many epochs later, in one or between two.
    let options = quiet(10_000_000).callback(PressAt(3)).stop_signal(signal.clone());
    let history = trainer.fit(&twos(2), options).unwrap();
    let why = history.stopped.unwrap();
    assert!(why.starts_with("stopped in epoch ") || why.starts_with("stopped before epoch "), "{why}");
    assert!(trainer.steps() >= 3 && signal.is_requested());
    signal.clear();
    assert!(!StopSignal::on_ctrl_c().unwrap().is_requested()); // the same flag
}

/// As `nohup` and a script's `&` start it.
#[cfg(target_os = "linux")]
#[test]
fn where_ctrl_c_is_ignored_the_flag_stays_down() {
    if std::env::var_os(CHILD).is_none() {
        let name = "where_ctrl_c_is_ignored_the_flag_stays_down";
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' INT; exec \"$0\" --exact \"$1\""]).arg(std::env::current_exe().unwrap()).arg(name);
        let output = shell.env(CHILD, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let signal = StopSignal::on_ctrl_c().unwrap();
    press();
    assert!(!signal.is_requested());
}

#[test]
fn the_second_ctrl_c_ends_the_process() {
    if ignored() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        let name = "the_second_ctrl_c_ends_the_process";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        return;
    }
    let signal = StopSignal::on_ctrl_c().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    press();
    while !signal.is_requested() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    press();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
}
