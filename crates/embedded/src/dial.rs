//! Connecting: name look-up and TCP in short-lived threads, TLS on a worker.

use super::addresses;
use super::client::NodeClient;
use super::config;
use super::reactor::Load;
use super::reactor::Reactor;
use super::stream::client_end::ClientEnd;
use super::stream::conn::Conn;
use super::stream::{prepare_socket, set_patience};
use super::threads;
use super::timeouts;
use super::tls;
use super::tls::pin::{self, PinVerifier};
use super::tls::session::TlsSession;
use host::look_up::{self, Missing};
use host::nft::kill_switch;
use host::patience::Patience;
use host::threads::{Permit, Permits};
use libc::{EAGAIN, ECANCELED, EIO, ENOENT, EPROTO, ETIMEDOUT};
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vpn_core::names;

/// Time for all addresses of a host together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The share of the time for a handshake after which another address is tried, if there is one.
const SHARE: u32 = 3;
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

/// Looks a host up and connects by TCP; fails with an errno. Blocks for at most some seconds.
pub(crate) fn reach(host: &str, port: u16) -> Result<TcpStream, i32> {
    let permit = Arc::new(PERMITS.take().ok_or(EAGAIN)?);
    let began = Instant::now();
    let addresses = look_up(host, port, &permit, || began.elapsed() < CONNECT_TIMEOUT)
        .map_err(|errno| if errno == ECANCELED { ETIMEDOUT } else { errno })?;
    host::dial::connect(&addresses, CONNECT_TIMEOUT, || true).map(|(io, _)| io)
}

fn dial(reactor: &Arc<Reactor>, client: &Arc<NodeClient>, permit: &Arc<Permit>) -> Result<(), i32> {
    let addresses = look_up(client.host(), client.port(), permit, || client.is_dialling())?;
    connect(reactor, client, permit, addresses)
}

/// Connects to one of the addresses. When that one accepts TCP and then says nothing, the others are tried.
fn connect(
    reactor: &Arc<Reactor>,
    client: &Arc<NodeClient>,
    permit: &Arc<Permit>,
    mut addresses: Vec<SocketAddr>,
) -> Result<(), i32> {
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
    let (io, peer) = host::dial::connect(&addresses, CONNECT_TIMEOUT, || client.is_dialling())?;
    prepare_socket(&io).map_err(Errno::raw_os_error)?;
    // The client's own questions end the connection with a dead server earlier.
    set_patience(&io, true);
    let worker = reactor.least_loaded().ok_or(EAGAIN)?;
    let end: Arc<dyn ClientEnd> = client.clone();
    let conn = Conn::dialled(io, peer, end, pin, tls, Load::new(worker));
    addresses.retain(|address| *address != peer);
    let handshake = timeouts::current().handshake;
    let patience = Patience::new(if addresses.is_empty() { handshake } else { handshake / SHARE });
    if !addresses.is_empty() {
        let (reactor, permit) = (Arc::clone(reactor), Arc::clone(permit));
        client.set_another(Box::new(move |client| {
            log::debug!("{peer} does not answer as a node; the other addresses are tried");
            let spawned = threads::spawn("vpn-dial", move || {
                if let Err(errno) = connect(&reactor, &client, &permit, addresses) {
                    client.dial_failed(errno);
                }
            });
            spawned.is_ok()
        }));
    }
    let stream = conn.uuid;
    if client.join(stream) {
        reactor.set_owner(stream, worker.index);
        worker.post(Box::new(move |worker| conn.install(worker, patience)));
    }
    Ok(())
}

/// Returns the addresses that the name had, and says why they are used. After a crash the kill switch that is still up has
/// one.
fn remembered(host: &str, port: u16, why: &str) -> Option<Vec<SocketAddr>> {
    let known = addresses::known(host, port);
    if let Some((first, others)) = known.split_first() {
        let others = if others.is_empty() { "" } else { ", then its other addresses" };
        log::info!("{host}: {why}; {}, which answered last, is tried{others}", first.ip());
        return Some(known);
    }
    let peer = kill_switch::standing().ok()??.address_of(&names::server(host, port))?;
    log::info!("{host}: {why}; {}, which the kill switch lets through, is tried", peer.ip());
    Some(vec![peer])
}

/// Looks a host's addresses up. The look-up holds the permit until its end, also when nobody waits for it any more.
fn look_up(host: &str, port: u16, permit: &Arc<Permit>, is_wanted: impl Fn() -> bool) -> Result<Vec<SocketAddr>, i32> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (name, permit) = (host.to_owned(), Arc::clone(permit));
    let resolve = move || {
        let _permit = permit;
        let addresses: Vec<_> = (name.as_str(), port).to_socket_addrs()?.collect();
        addresses::learn(&name, port, &addresses);
        Ok(addresses)
    };
    let instead = |why: &str| {
        log::debug!("{host}: {why}");
        remembered(host, port, why)
    };
    look_up::look_up(resolve, None, instead, is_wanted).map_err(|missing| match missing {
        Missing::Unknown | Missing::NoAnswer => ENOENT,
        Missing::Unwanted => ECANCELED,
        Missing::Failed(errno) => errno,
    })
}
