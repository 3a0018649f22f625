//! Connecting: name look-up and TCP in short-lived threads, TLS on a worker.

use super::client::NodeClient;
use super::config;
use super::reactor::Load;
use super::reactor::Reactor;
use super::stream::client_end::ClientEnd;
use super::stream::conn::Conn;
use super::stream::prepare_socket;
use super::threads;
use super::timeouts;
use super::tls;
use super::tls::pin::{self, PinVerifier};
use super::tls::session::TlsSession;
use crossbeam::channel::{self, RecvTimeoutError};
use host::descriptors::above_stdio;
use host::threads::{Permit, Permits};
use libc::{EAGAIN, ECANCELED, ECONNREFUSED, EHOSTUNREACH, EIO, ENOENT, EPROTO, ETIMEDOUT};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustix::time::Timespec;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for all addresses of a host together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The minimum share of it for one of several addresses.
const ADDRESS_MIN: Duration = Duration::from_millis(250);
/// How soon a connecting thread notices that the connection is no longer wanted.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Most connecting threads at once.
const THREADS_MAX: usize = 64;

static PERMITS: Permits = Permits::new(THREADS_MAX);

/// Why a connection attempt could not start.
#[derive(thiserror::Error, Debug)]
pub enum DialError {
    /// Too many attempts are running.
    #[error("{THREADS_MAX} connection attempts are already running")]
    TooMany,
    /// The system refused a thread.
    #[error("cannot start a connecting thread: {0}")]
    Thread(#[from] io::Error),
}

/// Starts to connect; the client's callbacks report the result.
pub(crate) fn start(reactor: &Arc<Reactor>, client: &Arc<NodeClient>) -> Result<(), DialError> {
    let permit = PERMITS.take().ok_or(DialError::TooMany)?;
    let (reactor, client) = (Arc::clone(reactor), Arc::clone(client));
    threads::spawn("vpn-dial", move || {
        let permit = Arc::new(permit);
        if let Err(errno) = dial(&reactor, &client, &permit) {
            client.dial_failed(errno);
        }
    })?;
    Ok(())
}

fn dial(reactor: &Arc<Reactor>, client: &Arc<NodeClient>, permit: &Arc<Permit>) -> Result<(), i32> {
    let config = config::current();
    let address = client.address();
    let expected = pin::expected(&config, &address).map_err(|error| {
        log::error!("cannot connect to {address}: {error}");
        EIO
    })?;
    let pin = PinVerifier::new(address, expected);
    let tls = tls::client_config(tls::provider(), &pin).and_then(TlsSession::client).map_err(|error| {
        log::error!("cannot start TLS: {error}");
        EPROTO
    })?;
    let addresses = look_up(client.host(), client.port(), permit, || client.is_dialling())?;
    let (io, peer) = connect_to_one(&addresses, || client.is_dialling())?;
    prepare_socket(&io).map_err(Errno::raw_os_error)?;
    let worker = reactor.least_loaded().ok_or(EAGAIN)?;
    let end: Arc<dyn ClientEnd> = client.clone();
    let conn = Conn::dialled(io, peer, end, pin, tls, Load::new(worker));
    let stream = conn.uuid;
    if client.join(stream) {
        reactor.set_owner(stream, worker.index);
        let deadline = Instant::now() + timeouts::current().handshake;
        worker.post(Box::new(move |worker| conn.install(worker, deadline)));
    }
    Ok(())
}

/// Looks a host's addresses up. The C library's look-up cannot be interrupted: a thread of its own waits for it, and is
/// left to itself when the connection is no longer wanted.
fn look_up(host: &str, port: u16, permit: &Arc<Permit>, is_wanted: impl Fn() -> bool) -> Result<Vec<SocketAddr>, i32> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (found, result) = channel::bounded(1);
    let (name, permit) = (host.to_owned(), Arc::clone(permit));
    let looking = threads::spawn("vpn-look-up", move || {
        // The receiver is gone if nobody waits any more.
        let _ = found.send((name.as_str(), port).to_socket_addrs().map(Iterator::collect));
        drop(permit);
    });
    looking.map_err(|error| error.raw_os_error().unwrap_or(EAGAIN))?;
    loop {
        match result.recv_timeout(CHECK_INTERVAL) {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(error)) => {
                log::debug!("{host}: {error}");
                return Err(ENOENT);
            }
            Err(RecvTimeoutError::Timeout) if is_wanted() => {}
            Err(RecvTimeoutError::Timeout) => return Err(ECANCELED),
            Err(RecvTimeoutError::Disconnected) => return Err(EIO),
        }
    }
}

/// Tries one address after the other, each with its share of the remaining time.
fn connect_to_one(addresses: &[SocketAddr], is_wanted: impl Fn() -> bool) -> Result<(TcpStream, SocketAddr), i32> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut last = ENOENT;
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = (left / others).max(ADDRESS_MIN);
        match connect_to(*address, share, &is_wanted) {
            Ok(io) => return Ok((io, *address)),
            Err(error) => {
                log::debug!("{address}: {error}");
                last = errno_of(error);
            }
        }
        if !is_wanted() {
            break;
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<TcpStream, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = above_stdio(socket_with(family, SocketType::STREAM, flags, None)?)?;
    match connect(&socket, &address) {
        Ok(()) => return Ok(TcpStream::from(socket)),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + wait;
    while is_wanted() {
        let step = CHECK_INTERVAL.min(deadline.saturating_duration_since(Instant::now()));
        if step.is_zero() {
            return Err(Errno::TIMEDOUT);
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: step.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return sockopt::socket_error(&socket)?.map(|()| TcpStream::from(socket)),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::CANCELED)
}

/// Maps a system error to the codes that the `error` callback documents.
fn errno_of(error: Errno) -> i32 {
    match error {
        Errno::CONNREFUSED => ECONNREFUSED,
        Errno::TIMEDOUT => ETIMEDOUT,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => EHOSTUNREACH,
        other => other.raw_os_error(),
    }
}
