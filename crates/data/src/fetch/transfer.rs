//! One file from one source: into a `.part` file, checked, synced and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, Proxy};

use super::sources::Source;
use super::{Progress, RemoteFile};
use crate::Error;

/// How often one mirror may break off, each time after it sent something, before the next mirror is tried.
const RESUMES: usize = 5;

/// Why a transfer failed.
pub(super) enum Failure {
    /// The source's fault: another source may do better.
    Source(String),
    /// This machine's fault: no source can help.
    Local(Error),
}

/// An error of the file system: what could not be done, where, and why.
pub(super) fn cannot(verb: &str, path: &Path, cause: io::Error) -> Error {
    Error::new(
        "fetch",
        format!("cannot {verb} {}: {cause}", path.display()),
        "check that the folder can be written and that the disk has room",
    )
}

/// Whether `path` holds the published file, by length first and then by checksum.
pub(super) fn is_published(path: &Path, file: &RemoteFile<'_>) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() == file.bytes)
        && File::open(path)
            .and_then(|mut data| hash(&mut data))
            .is_ok_and(|(sum, bytes)| bytes == file.bytes && hex(sum) == file.sha256)
}

/// Brings `file` from `source` into `folder`.
pub(super) fn transfer(
    file: &RemoteFile<'_>,
    folder: &Path,
    source: &Source,
    timeout: Duration,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Failure> {
    let mut part = Part::open(folder.join(format!("{}.part", file.name)))?;
    if matches!(source, Source::Folder(_)) || part.len > file.bytes {
        part.clear()?;
    }
    let address = source.address(file.name);
    progress(Progress::Started { file: file.name, source: &address, done: part.len, total: file.bytes });
    let mut report = |done| progress(Progress::Advanced { file: file.name, done, total: file.bytes });
    let got = match source {
        Source::Folder(from) => copy(file, from, &mut part, &mut report),
        Source::Url(_) => download(file, &address, timeout, &mut part, &mut report),
    };
    match got {
        Ok(()) => part.publish(&folder.join(file.name)),
        Err(failure) => {
            part.give_up();
            Err(failure)
        }
    }
}

/// Copies from a folder.
fn copy(file: &RemoteFile<'_>, from: &Path, part: &mut Part, report: &mut dyn FnMut(u64)) -> Result<(), Failure> {
    let path = from.join(file.name);
    let mut data = File::open(&path).map_err(|cause| {
        let unpacked = from.join(file.name.trim_end_matches(".gz"));
        Failure::Source(match unpacked != path && unpacked.is_file() {
            true => format!("{cause} (its unpacked form is there, but the checksum is that of the .gz file)"),
            false => cause.to_string(),
        })
    })?;
    let length = data.metadata().map_err(|cause| Failure::Source(cause.to_string()))?.len();
    check_length(file, length)?;
    part.fill(&mut data, file, report)?;
    part.check(file)
}

/// Downloads, resuming what is there and what breaks off.
fn download(
    file: &RemoteFile<'_>,
    url: &str,
    timeout: Duration,
    part: &mut Part,
    report: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let agent = agent(url, timeout);
    let mut breaks = 0;
    loop {
        let start = part.len;
        let result = match start == file.bytes {
            true => Ok(()),
            false => request(file, url, &agent, timeout, part, report),
        };
        match result.and_then(|()| part.check(file)) {
            Ok(()) => return Ok(()),
            // The beginning was somebody else's, or the server cannot resume: once more, from nothing.
            Err(Failure::Source(_)) if start > 0 && part.len == 0 => {}
            // The connection broke on the way: go on from there.
            Err(Failure::Source(_)) if part.len > start && breaks < RESUMES => breaks += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// One request, for what `part` lacks.
fn request(
    file: &RemoteFile<'_>,
    url: &str,
    agent: &Agent,
    timeout: Duration,
    part: &mut Part,
    report: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let mut request = agent.get(url).header(header::ACCEPT_ENCODING, "identity");
    if part.len > 0 {
        request = request.header(header::RANGE, format!("bytes={}-", part.len));
    }
    let mut response = request.call().map_err(|cause| Failure::Source(reason(cause, timeout)))?;
    let start = match response.status() {
        StatusCode::OK => 0, // also the answer of a server that knows no ranges
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(part.len) => part.len,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            part.clear()?;
            return Err(Failure::Source("it does not resume properly".into()));
        }
        status => return Err(Failure::Source(format!("HTTP status {status}"))),
    };
    if let Some(length) = response.body().content_length() {
        check_length(file, start + length)?;
    }
    if start == 0 {
        part.clear()?;
    }
    let mut body = Readable { body: response.body_mut().as_reader(), timeout };
    part.fill(&mut body, file, report)
}

/// First byte of a partial answer: `Content-Range: bytes 100-199/200`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A client whose every wait is bounded; the whole transfer is not, since a slow line is no fault.
fn agent(url: &str, timeout: Duration) -> Agent {
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|host| url.starts_with(host));
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(if local { None } else { Proxy::try_from_env() })
        .timeout_resolve(Some(timeout))
        .timeout_connect(Some(timeout))
        .timeout_recv_response(Some(timeout))
        .timeout_per_read(Some(timeout))
        .build()
        .new_agent()
}

/// A network error in words for people.
fn reason(error: ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Io(cause) => cause.to_string(),
        ureq::Error::Timeout(_) => format!("no answer within {timeout:?}"),
        ureq::Error::HostNotFound => "host not found".into(),
        other => other.to_string(),
    }
}

/// A response body whose errors read like the others.
struct Readable<R> {
    body: R,
    timeout: Duration,
}

impl<R: Read> Read for Readable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).map_err(|cause| io::Error::other(reason(ureq::Error::from(cause), self.timeout)))
    }
}

/// Refuses a source of another length before its bytes are taken.
fn check_length(file: &RemoteFile<'_>, length: u64) -> Result<(), Failure> {
    match length == file.bytes {
        true => Ok(()),
        false => Err(Failure::Source(format!("it has {length} bytes, the published file {}", file.bytes))),
    }
}

/// The beginning of a file, and its checksum so far.
struct Part {
    path: PathBuf,
    data: File,
    sum: Sha256,
    len: u64,
}

impl Part {
    /// Opens what an earlier run has left, or begins anew.
    fn open(path: PathBuf) -> Result<Part, Failure> {
        let open = || {
            let mut data = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let (sum, len) = hash(&mut data)?;
            io::Result::Ok((data, sum, len))
        };
        match open() {
            Ok((data, sum, len)) => Ok(Part { path, data, sum, len }),
            Err(cause) => Err(Failure::Local(cannot("open", &path, cause))),
        }
    }

    fn cannot(&self, verb: &str, cause: io::Error) -> Failure {
        Failure::Local(cannot(verb, &self.path, cause))
    }

    /// Forgets everything.
    fn clear(&mut self) -> Result<(), Failure> {
        let emptied = self.data.set_len(0).and_then(|()| self.data.seek(SeekFrom::Start(0)));
        emptied.map_err(|cause| self.cannot("write", cause))?;
        (self.sum, self.len) = (Sha256::new(), 0);
        Ok(())
    }

    /// Appends all of `from`, up to the length of `file`.
    fn fill(
        &mut self,
        from: &mut impl Read,
        file: &RemoteFile<'_>,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(count) => count,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(self.broke_off(file, &cause.to_string())),
            };
            if count == 0 && self.len < file.bytes {
                return Err(self.broke_off(file, "end of data"));
            }
            if count == 0 {
                return Ok(());
            }
            if self.len + count as u64 > file.bytes {
                self.clear()?;
                return Err(Failure::Source(format!(
                    "it has more than the {} bytes of the published file",
                    file.bytes
                )));
            }
            self.data.write_all(&buffer[..count]).map_err(|cause| self.cannot("write", cause))?;
            self.sum.update(&buffer[..count]);
            self.len += count as u64;
            report(self.len);
        }
    }

    fn broke_off(&self, file: &RemoteFile<'_>, why: &str) -> Failure {
        Failure::Source(format!("broke off after {} of {} bytes: {why}", self.len, file.bytes))
    }

    /// Compares the checksum; a wrong file is forgotten.
    fn check(&mut self, file: &RemoteFile<'_>) -> Result<(), Failure> {
        let found = hex(self.sum.clone());
        if found == file.sha256 {
            return Ok(());
        }
        self.clear()?;
        Err(Failure::Source(format!("SHA-256 is {found}, the published file has {}", file.sha256)))
    }

    /// Puts the checked file under its name, on disk before the name is.
    fn publish(self, path: &Path) -> Result<(), Failure> {
        self.data.sync_all().map_err(|cause| self.cannot("write", cause))?;
        drop(self.data);
        fs::rename(&self.path, path).map_err(|cause| Failure::Local(cannot("create", path, cause)))?;
        if let Some(Ok(folder)) = path.parent().map(File::open) {
            let _ = folder.sync_all(); // only some systems can sync a folder
        }
        Ok(())
    }

    /// Keeps what a later run can resume, and only that.
    fn give_up(self) {
        if self.len == 0 {
            drop(self.data);
            let _ = fs::remove_file(&self.path); // an empty file does no harm
        }
    }
}

/// Checksum and length of what is left in `data`.
fn hash(data: &mut File) -> io::Result<(Sha256, u64)> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut len = 0;
    loop {
        match data.read(&mut buffer)? {
            0 => return Ok((sum, len)),
            count => {
                sum.update(&buffer[..count]);
                len += count as u64;
            }
        }
    }
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
