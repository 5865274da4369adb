//! A mirror on the loopback interface that serves one file, well or badly, and writes down what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// How a mirror answers.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// As it should, ranges included.
    Good,
    /// Always with the whole file, as servers do that know no ranges.
    NoRanges,
    /// With a partial answer that begins at the wrong byte, if a range is asked.
    WrongRange,
    /// With status 416, if a range is asked.
    Refuses,
    /// With status 404.
    Missing,
    /// With the right length and one wrong bit.
    Corrupt,
    /// With so many bytes more, and says so or (`false`) leaves the length open.
    Longer(usize, bool),
    /// The connection breaks after so many bytes of the answer.
    Breaks(usize),
    /// Says nothing more after so many bytes of the answer.
    Stalls(usize),
}

/// A server that ends with the process of the test.
pub(crate) struct Mirror {
    /// Base address, ends in `/`.
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    /// Serves `content` under every name that ends in `name`, `manner` by `manner`, the last one again and again.
    pub(crate) fn new(name: &'static str, content: &'static [u8], manners: &'static [Manner]) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        thread::spawn(move || {
            for (turn, stream) in listener.incoming().enumerate() {
                let manner = manners[turn.min(manners.len() - 1)];
                // A client that hangs up is no fault of the server.
                let _ = stream.and_then(|stream| answer(stream, name, content, manner, &log));
            }
        });
        Mirror { url, requests }
    }

    /// What was asked so far: `/path`, or `/path bytes=N-` with a range.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic in the server").clone()
    }
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}/", listener.local_addr().expect("an address")) // the port is closed again here
}

fn answer(
    mut stream: TcpStream,
    name: &str,
    content: &[u8],
    manner: Manner,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let path = lines.next().transpose()?.unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if let Some(value) = line.to_lowercase().strip_prefix("range: ") {
            range = Some(value.to_owned());
        }
    }
    log.lock().expect("no panic in the server").push(match &range {
        Some(range) => format!("{path} {range}"),
        None => path.clone(),
    });
    let start: Option<usize> = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());

    let mut body = content.to_vec();
    let mut announced = true;
    match manner {
        Manner::Corrupt => body[content.len() / 2] ^= 1,
        Manner::Longer(more, says) => {
            body.extend(vec![0; more]);
            announced = says;
        }
        _ => {}
    }
    let total = body.len();
    let (status, from) = match (manner, start) {
        _ if !path.ends_with(name) => return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        (Manner::Missing, _) => return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        (Manner::Refuses, Some(_)) => {
            return stream.write_all(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
        }
        (Manner::NoRanges, _) | (_, None) => ("200 OK", 0),
        (Manner::WrongRange, Some(start)) => ("206 Partial Content", start / 2),
        (_, Some(start)) => ("206 Partial Content", start),
    };
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if announced {
        head += &format!("Content-Length: {}\r\n", total - from);
    }
    if status.starts_with("206") {
        head += &format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let body = &body[from..];
    match manner {
        Manner::Breaks(after) => stream.write_all(&body[..after.min(body.len())]),
        Manner::Stalls(after) => {
            stream.write_all(&body[..after.min(body.len())])?;
            stream.read(&mut [0]).map(|_| ()) // until the client has had enough
        }
        _ => stream.write_all(body),
    }
}
