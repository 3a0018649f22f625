//! The listening sockets: `[server] listen_address`.

mod pending;

use crate::config::{self, Config};
use crate::reactor::{self, Load, Reactor, Ready, Source, Worker};
use crate::stream::limiter::{ConnectionLimiter, Limits};
use crate::stream::prepare_socket;
use crate::tls::{self, IdentityError, fingerprint_text, identity};
use host::descriptors::above_stdio;
use parking_lot::Mutex;
use pending::{Accepted, PendingConnection};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustls::ServerConfig;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The listen address if the configuration gives none.
const DEFAULT_ADDRESS: &str = "0.0.0.0:8079";
/// Most connections accepted in one turn of the loop.
const BATCH: usize = 64;
/// Most connections that wait for accept in the kernel.
const BACKLOG: i32 = 1024;
/// Pause before the next accept after the process ran out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the server does not listen.
#[derive(thiserror::Error, Debug)]
pub enum ListenError {
    /// The SDK is not retained.
    #[error("the embedded SDK is not running")]
    NotRunning,
    /// A security key cannot be read.
    #[error(transparent)]
    Config(#[from] config::BadValue),
    /// The configuration disables the server.
    #[error("[server] enabled is false")]
    Disabled,
    /// Invalid listen address.
    #[error("[server] listen_address={address}: expected host:port ({source})")]
    Address {
        /// The configured address.
        address: String,
        /// Why the address is invalid.
        source: io::Error,
    },
    /// The system refuses the address.
    #[error("[server] listen_address={address}: cannot listen there: {source}")]
    Bind {
        /// The configured address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The node's identity cannot be read or created.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// TLS rejects the identity.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The addresses on which the process listens; empty if it does not listen.
static ADDRESSES: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
/// What admits connections to all of them.
static LIMITER: Mutex<Weak<ConnectionLimiter>> = Mutex::new(Weak::new());

/// Listens on the configured addresses, unless the process already listens. Logs an error. Any thread.
pub fn ensure_started() -> Result<(), ListenError> {
    let result = start();
    match &result {
        Err(ListenError::Disabled) => log::info!("the server does not listen: [server] enabled is false"),
        Err(error) => log::error!("the server cannot listen: {error}"),
        Ok(()) => {}
    }
    result
}

/// The addresses on which the process listens, with the port that the system chose for port 0.
pub fn addresses() -> Vec<SocketAddr> {
    ADDRESSES.lock().clone()
}

/// Takes the limits of a configuration for the connections that come from now on.
pub(crate) fn reload(config: &Config) {
    if let Some(limiter) = LIMITER.lock().upgrade() {
        limiter.change(Limits::read(config));
    }
}

/// Called by the last release; the worker of the sockets closes them.
pub(crate) fn stop() {
    *ADDRESSES.lock() = Vec::new();
}

fn start() -> Result<(), ListenError> {
    let reactor = reactor::active().ok_or(ListenError::NotRunning)?;
    let config = config::current();
    // It may have been set after the start of the SDK.
    config.check()?;
    if !config.get_bool("server", "enabled", true) {
        return Err(ListenError::Disabled);
    }
    let mut addresses = ADDRESSES.lock();
    if !addresses.is_empty() {
        return Ok(());
    }
    let identity = identity::load(&config)?;
    let tls = tls::server_config(tls::provider(), &identity)?;
    // All or none: every socket is bound before any of them accepts.
    let sockets = bind_all(&config)?;
    let worker = reactor.workers.first().ok_or(ListenError::NotRunning)?;
    let fingerprint = fingerprint_text(&identity::fingerprint(&identity.spki));
    let limiter = ConnectionLimiter::new(Limits::read(&config));
    *LIMITER.lock() = Arc::downgrade(&limiter);
    log::debug!("the server accepts at most {} streams", limiter.streams_max());
    for socket in sockets {
        if let Ok(address) = socket.local_addr() {
            log::info!("listening on {address}, identity {fingerprint}");
            addresses.push(address);
        }
        let (tls, limiter) = (Arc::clone(&tls), Arc::clone(&limiter));
        worker.post(Box::new(move |worker| Listener::install(worker, socket, tls, limiter)));
    }
    Ok(())
}

fn bind_all(config: &Config) -> Result<Vec<TcpListener>, ListenError> {
    let mut configured = config.get_list("server", "listen_address");
    if configured.is_empty() {
        configured.push(DEFAULT_ADDRESS.to_owned());
    }
    let mut resolved = Vec::new();
    for address in configured {
        match address.to_socket_addrs() {
            Ok(all) => resolved.extend(all.map(|one| (address.clone(), one))),
            Err(source) => return Err(ListenError::Address { address, source }),
        }
    }
    let mut sockets = Vec::new();
    for (address, one) in &resolved {
        // An IPv6 socket accepts IPv4 too, unless IPv4 has its own socket.
        let ipv4_too = !resolved.iter().any(|(_, other)| other.is_ipv4() && other.port() == one.port());
        match bind(*one, ipv4_too) {
            Ok(socket) => sockets.push(socket),
            Err(source) => return Err(ListenError::Bind { address: address.clone(), source }),
        }
    }
    Ok(sockets)
}

fn bind(address: SocketAddr, ipv4_too: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = above_stdio(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !ipv4_too)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// A listening socket on its worker.
pub(crate) struct Listener {
    uuid: u64,
    socket: TcpListener,
    tls: Arc<ServerConfig>,
    limiter: Arc<ConnectionLimiter>,
    warned: Cell<bool>,
}

impl Listener {
    fn install(worker: &Rc<Worker>, socket: TcpListener, tls: Arc<ServerConfig>, limiter: Arc<ConnectionLimiter>) {
        if worker.reactor.is_stopping() {
            return;
        }
        let uuid = reactor::next_uuid();
        let listener = Rc::new(Listener { uuid, socket, tls, limiter, warned: Cell::new(false) });
        let source = Rc::clone(&listener) as Rc<dyn Source>;
        if let Err(error) = worker.add_source(uuid, &listener.socket, EventFlags::IN, source) {
            log::error!("cannot add a listening socket to the worker's epoll: {error}");
        }
    }

    /// Sends a new connection to the worker with the fewest streams.
    fn dispatch(&self, reactor: &Arc<Reactor>, io: TcpStream, peer: SocketAddr) {
        let io = Arc::new(io);
        let permit = match self.limiter.take(peer.ip(), &io) {
            Ok(permit) => permit,
            Err(why) => return ConnectionLimiter::reject(peer, why),
        };
        if let Err(error) = prepare_socket(&io) {
            return log::debug!("{peer}: {error}");
        }
        let Some(worker) = reactor.least_loaded() else { return };
        let accepted = Accepted { io, peer, tls: Arc::clone(&self.tls), permit, load: Load::new(worker) };
        worker.post(Box::new(move |worker| PendingConnection::install(worker, accepted)));
    }

    /// The connection stays in the kernel's queue: without a pause the loop would spin.
    fn pause(self: &Rc<Self>, worker: &Rc<Worker>, error: &io::Error) {
        if !self.warned.replace(true) {
            host::log_bounded!(Warn, "accept failed, new connections are delayed: {error}");
        }
        worker.watch(self.uuid, &self.socket, EventFlags::empty());
        let paused = Rc::downgrade(self);
        worker.timers.once(PAUSE, move |worker| {
            if let Some(listener) = paused.upgrade() {
                worker.watch(listener.uuid, &listener.socket, EventFlags::IN);
            }
        });
    }
}

impl Source for Listener {
    fn on_ready(self: Rc<Self>, worker: &Rc<Worker>, _ready: Ready) {
        for _ in 0..BATCH {
            match self.socket.accept().and_then(|(io, peer)| Ok((above_stdio(io)?, peer))) {
                Ok((io, peer)) => self.dispatch(&worker.reactor, io, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_exhaustion(&error) => return self.pause(worker, &error),
                // The connection has already gone.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    fn tear_down(&self, worker: &Rc<Worker>) {
        worker.remove_source(self.uuid, &self.socket);
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
