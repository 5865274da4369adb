//! Asking a training to stop, from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A flag that ends a `fit` after its current step, with everything saved.
///
/// Clones are the same flag; hand one to [`FitOptions::stop_signal`](crate::FitOptions::stop_signal) and keep another.
///
/// ```
/// use maplet_train::StopSignal;
///
/// let signal = StopSignal::new();
/// let another_thread = signal.clone();
/// another_thread.request();
/// assert!(signal.is_requested());
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// A flag that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag.
    pub fn request(&self) {
        self.0.store(true, SeqCst);
    }

    /// Lowers the flag, so that the next `fit` runs.
    pub fn clear(&self) {
        self.0.store(false, SeqCst);
    }

    /// Whether the flag is up.
    pub fn is_requested(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// The flag that Ctrl-C raises; every call returns the same one.
    ///
    /// The first call installs the process's handler. A second Ctrl-C, while the flag is still up, ends the process at
    /// once with the status 130: that is the one place where this library exits, and it is the user who asks for it.
    /// A process that was started with Ctrl-C ignored (`nohup`, or a script's `&`) gets a flag that only
    /// [`request`](Self::request) raises; this is noticed on Linux alone.
    ///
    /// # Errors
    /// The program has installed a handler of its own.
    #[cfg(feature = "ctrlc")]
    pub fn on_ctrl_c() -> crate::Result<Self> {
        static SIGNAL: std::sync::Mutex<Option<StopSignal>> = std::sync::Mutex::new(None);
        let mut installed = SIGNAL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(signal) = &*installed {
            return Ok(signal.clone());
        }
        let signal = Self::new();
        if ctrl_c_is_ignored() {
            return Ok(installed.insert(signal).clone());
        }
        ctrlc::try_set_handler({
            let signal = signal.clone();
            move || match signal.is_requested() {
                true => std::process::exit(130),
                false => signal.request(),
            }
        })
        .map_err(|error| {
            let help = "call StopSignal::request from your own handler";
            crate::Error::new("on_ctrl_c", error.to_string(), help)
        })?;
        Ok(installed.insert(signal).clone())
    }
}

/// Whether whoever started this process had it ignore interrupts, as the kernel's list of ignored signals says.
#[cfg(feature = "ctrlc")]
fn ctrl_c_is_ignored() -> bool {
    const INTERRUPT: u64 = 1 << (2 - 1); // signal 2 has bit 1
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|signals| signals & INTERRUPT != 0)
}
