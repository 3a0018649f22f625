//! The HTTP listener's second half: requests to registered paths, each answered on a thread of its own.
//!
//! Made for a status page or two, next to the streams on the same port: HTTP/1.1, one request a connection.

mod connection;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::RwLock;

use crate::connection_threads::{ConnectionThreads, Refused};

/// Longest path and longest query, in bytes: what C's buffers of 1024 hold.
pub const URL_PART_MAX: usize = 1023;
/// Requests at once; one more gets 503.
const CONNECTIONS_MAX: usize = 16;
/// What stopping grants to requests that are being answered.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A request to a registered path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As sent, without the query.
    pub path: String,
    /// As sent, what is behind the `?`; empty when there is none.
    pub query: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 and so on.
    pub status: u16,
    /// The Content-Type.
    pub mime: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What answers the requests to a path. It is called on threads of the HTTP server, several at once.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// Registers the handler of the requests to `path`, replacing any earlier one. From any thread.
pub fn register(path: &str, handler: Box<Handler>) {
    HANDLERS.write().insert(path.to_owned(), handler.into());
}

/// Unregisters the handler of `path`; false if there is none. A request that is being answered goes on.
pub fn unregister(path: &str) -> bool {
    HANDLERS.write().remove(path).is_some()
}

/// Answers the one request of a connection and closes it, on a thread of its own: returns at once.
pub fn serve(stream: TcpStream) {
    let stream = Arc::new(stream);
    match THREADS.start(&stream, connection::serve) {
        Ok(()) => {}
        Err(Refused::Full) => refuse(&stream),
        Err(Refused::Io(error)) => {
            log::debug!("HTTP: cannot start a thread: {error}");
            refuse(&stream);
        }
    }
}

/// Waits until the requests that are being answered are done; their peers cannot send any more. For after the listener
/// stopped.
pub fn stop() {
    THREADS.stop(STOP_TIMEOUT);
    THREADS.reopen();
}

static HANDLERS: RwLock<BTreeMap<String, Arc<Handler>>> = RwLock::new(BTreeMap::new());
static THREADS: LazyLock<Arc<ConnectionThreads>> =
    LazyLock::new(|| ConnectionThreads::new("vpn-http", CONNECTIONS_MAX));

fn handler(path: &str) -> Option<Arc<Handler>> {
    HANDLERS.read().get(path).cloned()
}

/// 503 without a thread: this runs on the listener's, which must not wait for the peer.
fn refuse(mut stream: &TcpStream) {
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    // Closing with bytes unread would reset the connection before the answer is read.
    let _ = stream.read(&mut [0; 2048]);
    let _ = stream.write(connection::refusal(503).as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}
