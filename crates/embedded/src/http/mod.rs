//! The HTTP half of the listener: requests to registered paths, each answered on its own thread.
//!
//! Made for a few status pages, next to the streams on the same port: HTTP/1.1, one request per connection.

mod connection;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::budget::Account;
use crate::connection_threads::{ConnectionThreads, Refused};
use crate::places::Places;
use crate::timeouts;

/// Most bytes of a path, and of a query: what C's buffers of 1024 hold.
pub const URL_PART_MAX: usize = vpn_http::PART_MAX;
/// Most requests at once; one more pushes out the oldest of the source with most of them.
const CONNECTIONS_MAX: usize = 32;
/// Most of them from one IPv4 address or IPv6 /64; one more gets 503. A browser asks for six things at once.
const CONNECTIONS_MAX_PER_SOURCE: usize = 8;
/// Threads for them: a request that was pushed out keeps its thread until its handler returns.
const THREADS_MAX: usize = 2 * CONNECTIONS_MAX;
/// Time that a stop grants to running requests.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A request to a registered path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As sent, without the query.
    pub path: String,
    /// As sent, the part after the `?`; empty if there is none.
    pub query: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// The Content-Type.
    pub mime: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Answers the requests to a path. It is called on threads of the HTTP server, several at once.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// Registers the handler of the requests to `path`, replacing any previous one. Any thread.
pub fn register(path: &str, handler: Box<Handler>) {
    HANDLERS.write().insert(path.to_owned(), handler.into());
}

/// Unregisters the handler of `path`; false if there is none. A running request continues to its end.
pub fn unregister(path: &str) -> bool {
    HANDLERS.write().remove(path).is_some()
}

/// Answers the one request of a connection and closes it, on a separate thread; returns at once.
pub fn serve(stream: TcpStream) {
    match stream.peer_addr() {
        Ok(peer) => serve_for(Arc::new(stream), peer.ip(), ()),
        Err(error) => log::debug!("HTTP: {error}"),
    }
}

/// Like [`serve`], for a connection with `peer`. `permit` is dropped when the connection ends.
pub(crate) fn serve_for(stream: Arc<TcpStream>, peer: IpAddr, permit: impl Send + 'static) {
    let Ok(place) = PLACES.take(peer, &stream) else { return refuse(&stream) };
    let deadline = Instant::now() + timeouts::current().request;
    let work = move |stream: &TcpStream| {
        connection::serve(stream, deadline, &Account::of(peer));
        drop((place, permit));
    };
    match THREADS.start(&stream, work) {
        Ok(()) => {}
        Err(Refused::Full) => refuse(&stream),
        Err(Refused::Io(error)) => {
            log::debug!("HTTP: cannot start a thread: {error}");
            refuse(&stream);
        }
    }
}

/// Shuts down the peers' sending and waits until the running requests are answered. Call it after the listener has
/// stopped.
pub fn stop() {
    THREADS.stop(STOP_TIMEOUT);
    THREADS.reopen();
}

static HANDLERS: RwLock<BTreeMap<String, Arc<Handler>>> = RwLock::new(BTreeMap::new());
static THREADS: LazyLock<Arc<ConnectionThreads>> = LazyLock::new(|| ConnectionThreads::new("vpn-http", THREADS_MAX));
static PLACES: LazyLock<Arc<Places>> = LazyLock::new(|| Places::new(CONNECTIONS_MAX, CONNECTIONS_MAX_PER_SOURCE));

fn handler(path: &str) -> Option<Arc<Handler>> {
    HANDLERS.read().get(path).cloned()
}

/// Sends 503 without a thread: this runs on the listener's thread, which must not wait for the peer.
fn refuse(mut stream: &TcpStream) {
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    // Closing with unread bytes would reset the connection before the peer reads the answer.
    let _ = stream.read(&mut [0; 2048]);
    let _ = stream.write(connection::refusal(503).as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}
