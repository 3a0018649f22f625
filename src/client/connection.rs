//! The exchange with one server: connect, request service, get an address, carry packets, notice a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::settings::Settings;
use super::{ClientError, tunnel_part as tunnel};
use crate::sdk::channel::{Channel, ChannelHandler, TYPE_DATA};
use crate::sdk::config::Config;
use crate::sdk::link::{Event, Link};
use crate::sdk::net::Net;
use crate::sdk::types::{dap_stream_ch_t, dap_stream_worker_t};
use crate::sdk::worker::{self, Timer};
use crate::sdk::{Running, store};
use crate::wire::{self, Capabilities, FromServer, Request, ServiceError, Success, op, pkt, problem};

/// The VPN service's number.
const SERVICE: u64 = 1;
/// Where lease tokens are kept, so that a client that returns gets its address back.
const LEASES: &str = "local.vpn_client.leases";
/// Above this many waiting bytes the tunnel is not read any more, until they are sent.
const FULL: usize = 512 * 1024;

/// Where a connection stands. It moves forward only; each step is logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The stream is being made.
    Connecting,
    /// REQUEST is sent, until it is answered.
    Requesting,
    /// Service is granted, the address is asked for.
    AwaitingAddress,
    /// The tunnel is up.
    Up,
    /// The stream is gone.
    Lost,
    /// The connection is being taken down.
    Stopping,
}

/// One connection to one server.
pub(super) struct Connection {
    net: Net,
    host: String,
    port: u16,
    settings: Settings,
    /// What the server is asked for: drawn once, so that a repeated REQUEST is the same one.
    request: Request,
    progress: Mutex<Progress>,
    changed: Condvar,
    /// Held while the link is being made, so that an early event finds it complete.
    link: Mutex<Option<Link>>,
    channel: Mutex<Option<Arc<Channel>>>,
    timer: Mutex<Option<Timer>>,
    usage_id: AtomicU32,
    started: Instant,
    /// Milliseconds since `started` when the server was last heard, and when something was last repeated.
    heard: AtomicU64,
    asked: AtomicU64,
    repeats: AtomicU32,
    _running: Running,
}

struct Progress {
    state: State,
    error: Option<ClientError>,
}

impl Connection {
    pub(super) fn new(net: Net, host: &str, port: u16, running: Running) -> Arc<Connection> {
        let settings = Settings::read(&Config::of_node());
        let request = Request {
            net_id: net.id(),
            tx_cond: random(),
            srv_uid: SERVICE,
            token: [0; 10],
            client_pkey_hash: random(),
            order_hash: settings.order_hash.or_else(|| net.free_order()).unwrap_or([0; 32]),
        };
        Arc::new(Connection {
            net,
            host: host.to_owned(),
            port,
            settings,
            request,
            progress: Mutex::new(Progress { state: State::Connecting, error: None }),
            changed: Condvar::new(),
            link: Mutex::default(),
            channel: Mutex::default(),
            timer: Mutex::default(),
            usage_id: AtomicU32::new(0),
            started: Instant::now(),
            heard: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            repeats: AtomicU32::new(0),
            _running: running,
        })
    }

    pub(super) fn state(&self) -> State {
        self.progress.lock().state
    }

    fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Makes the connection and waits until the tunnel is up, or something failed.
    pub(super) fn establish(self: &Arc<Self>) -> Result<(), ClientError> {
        log::info!("connecting to {} in network {}", self.server(), self.net.name());
        let events = Arc::downgrade(self);
        {
            let mut link = self.link.lock();
            *link = Link::connect(
                &self.net,
                &self.host,
                self.port,
                "RS",
                Arc::new(move |event| {
                    if let Some(connection) = events.upgrade() {
                        connection.event(event);
                    }
                }),
            );
            if link.is_none() {
                return Err(ClientError::Connect { server: self.server(), errno: libc::EIO });
            }
        }
        let mut progress = self.progress.lock();
        let give_up = Instant::now() + self.settings.start_timeout;
        while progress.state < State::Up && progress.error.is_none() {
            if self.changed.wait_until(&mut progress, give_up).timed_out() {
                break;
            }
        }
        match (progress.error.take(), progress.state) {
            (Some(error), _) => Err(error),
            (None, State::Up) => Ok(()),
            (None, State::Stopping) => Err(ClientError::Stopped),
            (None, State::Lost) => Err(ClientError::Connect { server: self.server(), errno: 0 }),
            (None, state) => {
                let waiting_for = match state {
                    State::Connecting => "the connection",
                    State::Requesting => "SUCCESS or ERROR to our REQUEST",
                    _ => "an address",
                };
                Err(ClientError::NoAnswer { server: self.server(), waiting_for, after: self.settings.start_timeout })
            }
        }
    }

    /// Ends a waiting `establish`.
    pub(super) fn cancel(&self) {
        let mut progress = self.progress.lock();
        if progress.state < State::Up && progress.error.is_none() {
            progress.error = Some(ClientError::Stopped);
            self.changed.notify_all();
        }
    }

    /// Closes the stream, and waits until its channel is gone if this thread can wait.
    pub(super) fn end(&self) {
        self.progress.lock().state = State::Stopping;
        *self.timer.lock() = None;
        let link = self.link.lock().take();
        drop(link);
        let give_up = Instant::now() + Duration::from_secs(5);
        while worker::current().is_none() && self.channel.lock().is_some() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn stream_channel(&self) -> *mut dap_stream_ch_t {
        self.channel.lock().as_ref().map_or(std::ptr::null_mut(), |channel| channel.raw())
    }

    pub(super) fn stream_worker(&self) -> *mut dap_stream_worker_t {
        if self.channel.lock().is_none() {
            return std::ptr::null_mut();
        }
        self.link.lock().as_ref().map_or(std::ptr::null_mut(), Link::stream_worker)
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// One step forward. False when the connection is past it already.
    fn advance(&self, to: State) -> bool {
        let mut progress = self.progress.lock();
        if progress.state >= to || progress.error.is_some() {
            return false;
        }
        log::debug!("{}: {:?} -> {to:?}", self.server(), progress.state);
        progress.state = to;
        self.changed.notify_all();
        true
    }

    fn fail(&self, error: ClientError) {
        let mut progress = self.progress.lock();
        if progress.state < State::Up && progress.error.is_none() {
            progress.error = Some(error);
            self.changed.notify_all();
        }
    }

    fn event(self: &Arc<Self>, event: Event<'_>) {
        match event {
            Event::Connected => self.connected(),
            Event::Failed(errno) => self.fail(ClientError::Connect { server: self.server(), errno }),
            Event::Disconnected => self.lost("the stream was closed"),
            Event::ServicePacket { kind, data } => self.service_packet(kind, data),
        }
    }

    fn connected(self: &Arc<Self>) {
        if !self.advance(State::Requesting) {
            return;
        }
        self.heard.store(self.now_ms(), Ordering::Relaxed);
        self.send_request();
        let connection = Arc::downgrade(self);
        let Some(here) = worker::current() else { return };
        *self.timer.lock() = Timer::start(here, Duration::from_millis(250), move || {
            connection.upgrade().is_some_and(|connection| connection.tick())
        });
    }

    fn send_request(&self) {
        self.asked.store(self.now_ms(), Ordering::Relaxed);
        if let Some(link) = self.link.lock().as_ref() {
            link.send(b'R', pkt::REQUEST, &self.request.encode());
        }
    }

    fn service_packet(&self, kind: u8, data: &[u8]) {
        self.heard.store(self.now_ms(), Ordering::Relaxed);
        match kind {
            pkt::SUCCESS => match Success::parse(data) {
                Ok(success) if success.srv_uid == SERVICE => self.granted(success.usage_id),
                Ok(other) => log::debug!("{}: SUCCESS for service {:#x}, ignored", self.server(), other.srv_uid),
                Err(error) => log::debug!("{}: malformed SUCCESS: {error}", self.server()),
            },
            pkt::ERROR => match ServiceError::parse(data) {
                Ok(error) => self.fail(ClientError::Refused {
                    server: self.server(),
                    reason: format!("{} (code {:#x})", wire::error_text(error.code), error.code),
                }),
                Err(error) => log::debug!("{}: malformed ERROR: {error}", self.server()),
            },
            pkt::NOTIFY_STOPPED => {
                log::warn!("{}: the server has stopped the service", self.server());
                self.fail(ClientError::Refused { server: self.server(), reason: "the service was stopped".into() });
            }
            _ => log::trace!("service packet {kind:#x} ignored"),
        }
    }

    fn granted(&self, usage_id: u32) {
        self.usage_id.store(usage_id, Ordering::Relaxed);
        if self.advance(State::AwaitingAddress) {
            log::info!("{}: service granted, usage {usage_id}", self.server());
            self.repeats.store(0, Ordering::Relaxed);
            self.request_address();
        }
    }

    fn request_address(&self) {
        self.asked.store(self.now_ms(), Ordering::Relaxed);
        let token = store::get(LEASES, &self.server()).and_then(|token| token.try_into().ok());
        let caps = Capabilities {
            mtu: Some(self.settings.mtu),
            keep_alive: Some(self.settings.keep_alive.as_secs() as u16),
            resume: token,
            ..Capabilities::default()
        };
        self.send(&wire::encode_addr_request(self.usage_id.load(Ordering::Relaxed), Some(&caps)));
    }

    fn send(&self, packet: &[u8]) -> bool {
        let channel = self.channel.lock().clone();
        channel.is_some_and(|channel| channel.send(TYPE_DATA, packet))
    }

    /// A packet on channel 'S', on its worker.
    pub(super) fn packet(&self, kind: u8, data: &[u8]) {
        self.heard.store(self.now_ms(), Ordering::Relaxed);
        if kind != TYPE_DATA {
            return tunnel::dropped(crate::forward::DropCause::UnexpectedOp);
        }
        match wire::parse_from_server(data) {
            Ok((_, FromServer::Recv(packet))) => tunnel::deliver(&self.channel, packet),
            Ok((_, FromServer::AddrReply(reply))) => self.leased(&reply, data),
            Ok((_, FromServer::Problem(code))) => self.problem(code),
            Ok((_, FromServer::Ping)) => {
                self.send(&wire::encode_control(op::PONG, self.usage_id.load(Ordering::Relaxed), 0));
            }
            Ok((_, FromServer::Pong)) => {}
            Ok((_, FromServer::Bundle(_))) => tunnel::dropped(crate::forward::DropCause::UnexpectedOp),
            Err(error) => tunnel::dropped(error.into()),
        }
    }

    fn leased(&self, reply: &wire::AddrReply, packet: &[u8]) {
        if self.state() != State::AwaitingAddress {
            log::debug!("{}: an address that was not asked for, ignored", self.server());
            return;
        }
        if let Some(token) = reply.caps.as_ref().and_then(|caps| caps.resume)
            && let Err(error) = store::set(LEASES, &self.server(), &token)
        {
            log::warn!("the lease's token is not kept, the next start may get another address: {error}");
        }
        let Some(channel) = self.channel.lock().clone() else { return };
        let usage_id = self.usage_id.load(Ordering::Relaxed);
        match tunnel::create(&channel, usage_id, reply, self.settings.mtu, packet) {
            Ok(()) => {
                if self.advance(State::Up) {
                    log::info!("{}: the tunnel is up", self.server());
                }
            }
            Err(reason) => self.fail(ClientError::Tunnel(reason)),
        }
    }

    fn problem(&self, code: u32) {
        match code {
            problem::NO_FREE_ADDR => {
                self.fail(ClientError::Refused { server: self.server(), reason: "it has no free address".into() })
            }
            problem::TUNNEL_DOWN => {
                self.fail(ClientError::Refused { server: self.server(), reason: "its tunnel is down".into() })
            }
            // Our repeated question crossed its answer.
            problem::ALREADY_ASSIGNED_ADDR => {}
            code => log::debug!("{}: problem {code}", self.server()),
        }
    }

    /// Every 250 ms on the stream's worker: repeats what was not answered, and looks after the server.
    fn tick(&self) -> bool {
        let waited = self.now_ms().saturating_sub(self.asked.load(Ordering::Relaxed));
        // 0.25 s, 0.5 s, 1 s, 2 s, 2 s, ...
        let patience = 250u64 << self.repeats.load(Ordering::Relaxed).min(3);
        match self.state() {
            State::Requesting if waited >= patience => {
                self.repeats.fetch_add(1, Ordering::Relaxed);
                self.send_request();
            }
            State::AwaitingAddress if waited >= patience.max(1000) => {
                self.repeats.fetch_add(1, Ordering::Relaxed);
                self.request_address();
            }
            State::Up => return self.keep_alive(),
            State::Lost | State::Stopping => return false,
            _ => {}
        }
        true
    }

    fn keep_alive(&self) -> bool {
        let silent = self.now_ms().saturating_sub(self.heard.load(Ordering::Relaxed));
        let period = self.settings.keep_alive.as_millis() as u64;
        if silent >= period * 3 {
            self.lost("the server is silent");
            if let Some(channel) = self.channel.lock().clone() {
                channel.close();
            }
            return false;
        }
        let asked = self.now_ms().saturating_sub(self.asked.load(Ordering::Relaxed));
        if silent >= period && asked >= period {
            self.asked.store(self.now_ms(), Ordering::Relaxed);
            self.send(&wire::encode_control(op::PING, self.usage_id.load(Ordering::Relaxed), 0));
        }
        true
    }

    fn lost(&self, why: &str) {
        let was_up = self.state() == State::Up;
        if self.advance(State::Lost) && was_up {
            log::warn!("{}: connection lost: {why}", self.server());
        }
    }
}

/// The client's side of channels 'S': they belong to the connection that is being made.
pub(super) struct Channels;

impl ChannelHandler for Channels {
    fn opened(&self, channel: &Arc<Channel>) {
        let Some(connection) = super::connection() else { return };
        channel.set_data(Arc::clone(&connection) as Arc<_>);
        *connection.channel.lock() = Some(Arc::clone(channel));
        channel.enable();
    }

    fn closed(&self, channel: &Arc<Channel>) {
        if let Some(connection) = channel.data::<Connection>() {
            tunnel::detach();
            *connection.channel.lock() = None;
            connection.lost("the stream was closed");
        }
    }

    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]) {
        if let Some(connection) = channel.data::<Connection>() {
            connection.packet(kind, data);
        }
    }

    fn drained(&self, channel: &Arc<Channel>) {
        channel.wake_on_drain(false);
        tunnel::set_readable(true);
    }
}

#[cfg(feature = "client-tun")]
/// Sends a packet that the tunnel read, on the stream's worker. `filled` starts with room for the VPN header, already
/// written. False: it was not taken.
pub(super) fn send_upstream(channel: &Channel, filled: &[u8]) -> bool {
    if channel.pending().is_none_or(is_full) {
        channel.wake_on_drain(true);
        tunnel::set_readable(false);
    }
    channel.send(TYPE_DATA, filled)
}

#[cfg(feature = "client-tun")]
/// So much waits to be sent that the tunnel should not be read.
pub(super) fn is_full(waiting: usize) -> bool {
    waiting > FULL
}

/// Random bytes that a peer must not be able to guess are not needed here, only ones that differ.
fn random() -> [u8; 32] {
    let mut bytes = [1; 32];
    if rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        log::debug!("no random numbers from the kernel");
    }
    bytes
}
