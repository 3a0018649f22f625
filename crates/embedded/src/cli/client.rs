//! The client's side of the socket: asks a running node to run a command.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{REQUEST_MAX, Reply};
use crate::deadline::Timed;

/// `vpn_client start` may take ten seconds, a name look-up longer.
const REPLY_TIME: Duration = Duration::from_secs(60);
/// `vpn_stat` of a full /16 is some 25 MB.
const REPLY_MAX: u64 = 64 << 20;

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No process listens on the socket.
    #[error("no node answers on {}: {source}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The command line is too long for one request.
    #[error("the command line is longer than a request of {REQUEST_MAX} bytes")]
    TooLong,
    /// The connection broke, or the time limit passed without a reply.
    #[error("no reply from the node: {0}")]
    Io(#[from] io::Error),
    /// The process that answered does not speak this protocol.
    #[error("the process that answers on {} is not a node", .0.display())]
    BadReply(PathBuf),
}

/// Sends a command line, the command's name first, to the node behind `socket`, and waits for its reply.
pub fn call(socket: &Path, argv: &[&str]) -> Result<Reply, CliError> {
    let request = format!("{}\n", json!({ "argv": argv }));
    if request.len() > REQUEST_MAX {
        return Err(CliError::TooLong);
    }
    let connection =
        UnixStream::connect(socket).map_err(|source| CliError::NotRunning { path: socket.to_owned(), source })?;
    let mut timed = Timed::new(&connection, REPLY_TIME);
    // A node that refuses at once may already have closed its end; its reply says more than this error.
    let sent = timed.write_all(request.as_bytes());
    let mut line = Vec::new();
    timed.take(REPLY_MAX).read_to_end(&mut line)?;
    if line.is_empty() {
        sent?;
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    parse(&line).ok_or_else(|| CliError::BadReply(socket.to_owned()))
}

fn parse(line: &[u8]) -> Option<Reply> {
    let reply: Value = serde_json::from_slice(line).ok()?;
    let code = reply.get("code")?.as_i64()?.try_into().ok()?;
    Some(Reply { code, text: reply.get("reply")?.as_str()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn strangers_are_recognised() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let stranger = std::thread::spawn(move || {
            for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"{\"code\":4294967296,\"reply\":\"\"}", b""] {
                (&listener.accept().unwrap().0).write_all(answer).unwrap();
            }
        });
        assert!(matches!(call(&path, &["help"]), Err(CliError::BadReply(_) | CliError::Io(_))));
        assert!(matches!(call(&path, &["help"]), Err(CliError::BadReply(_) | CliError::Io(_))));
        assert!(matches!(call(&path, &["help"]), Err(CliError::Io(_))));
        stranger.join().unwrap();
        assert!(matches!(call(&path, &["help"]), Err(CliError::NotRunning { .. })));
        assert!(matches!(call(&path, &[&"x".repeat(REQUEST_MAX)]), Err(CliError::TooLong)));
    }

    #[test]
    fn replies_parse() {
        let reply = parse(br#"{"code":-2,"reply":"no"}"#).unwrap();
        assert_eq!(reply, Reply { code: -2, text: "no".into() });
        assert_eq!(parse(br#"{"code":-2}"#), None);
    }
}
