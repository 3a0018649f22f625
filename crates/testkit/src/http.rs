//! One HTTP request on a connection of its own, as the test words it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Returns the value of a header; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(has, _)| has == name).map_or("", |(_, value)| value)
    }
}

/// Sends a request. `headers` are further lines, each with its `\r\n`. Panics if there is no whole answer within `patience`.
pub fn request(at: SocketAddr, method: &str, target: &str, headers: &str, body: &str, patience: Duration) -> Reply {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    let length = body.len();
    let text = format!("{method} {target} HTTP/1.1\r\nHost: {at}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    (&stream).write_all(text.as_bytes()).unwrap();
    let mut lines = BufReader::new(&stream);
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        line.trim_end().to_owned()
    };
    let first = line();
    let status = first.split(' ').nth(1).unwrap_or_else(|| panic!("{method} {target}: {first:?}")).parse().unwrap();
    let mut reply = Reply { status, headers: Vec::new(), body: String::new() };
    while let Some((name, value)) = line().split_once(':') {
        reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = vec![0; reply.header("content-length").parse().unwrap()];
    lines.read_exact(&mut body).unwrap();
    reply.body = String::from_utf8(body).unwrap();
    reply
}

/// Asks for a page.
pub fn get(at: SocketAddr, target: &str, headers: &str) -> Reply {
    request(at, "GET", target, headers, "", Duration::from_secs(10))
}
