//! The exchange with one server: connect, request service, get an address, carry packets, notice a loss.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::offer::Offer;
use super::settings::Settings;
use super::{ClientError, tunnel_part as tunnel};
use crate::sdk::channel::{Channel, ChannelHandler, TYPE_DATA};
use crate::sdk::config::Config;
use crate::sdk::link::{Event, Link};
use crate::sdk::net::Net;
use crate::sdk::types::{dap_stream_ch_t, dap_stream_worker_t};
use crate::sdk::worker::{self, Timer};
use crate::sdk::{Running, store};
use vpn_core::forward::DropCause;
use vpn_core::wire::{self, Capabilities, FromServer, MAX_BUNDLE, Request, ServiceError, Success, op, pkt, problem};

/// The VPN service's number.
const SERVICE: u64 = 1;
/// Where lease tokens are kept, so that a client that returns gets its address back.
const LEASES: &str = "local.vpn_client.leases";
/// Where a connection stands. It moves forward only; each step is logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The stream is being made.
    Connecting,
    /// REQUEST is sent, until it is answered.
    Requesting,
    /// Service is granted, the address is asked for.
    AwaitingAddress,
    /// The address is there, the device is being made.
    MakingTunnel,
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
    /// The token of the last lease from this server, read before the stream's worker has to ask for an address.
    resume: Option<[u8; 16]>,
    progress: Mutex<Progress>,
    /// Lost or stopping: what packets ask, without the lock.
    is_over: AtomicBool,
    /// Both sides have said that they take bundles.
    bundles: AtomicBool,
    changed: Condvar,
    link: Mutex<Option<Arc<Link>>>,
    channel: Mutex<Option<Arc<Channel>>>,
    timer: Mutex<Option<Timer>>,
    usage_id: AtomicU32,
    /// Milliseconds of the server's silence before a ping.
    ping_after: AtomicU64,
    started: Instant,
    /// Milliseconds since `started` when the server was last heard, and when something was last repeated.
    heard: AtomicU64,
    asked: AtomicU64,
    /// Bytes that waited for the server at the last look.
    waiting: AtomicUsize,
    repeats: AtomicU32,
    _running: Running,
}

struct Progress {
    state: State,
    error: Option<ClientError>,
    /// From the worker that got it to the thread that makes the device.
    lease: Option<Lease>,
}

/// What came with ADDR_REPLY.
struct Lease {
    offer: Offer,
    /// To be offered to this server next time.
    token: Option<[u8; 16]>,
    /// The whole packet, for a legacy part.
    packet: Vec<u8>,
}

impl Connection {
    pub(super) fn new(net: Net, host: &str, port: u16, config: &Config, running: Running) -> Arc<Connection> {
        let settings = Settings::read(config);
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
            ping_after: AtomicU64::new(settings.keep_alive.as_millis() as u64),
            settings,
            request,
            resume: store::get(LEASES, &lease_key(host, port)).and_then(|token| token.try_into().ok()),
            progress: Mutex::new(Progress { state: State::Connecting, error: None, lease: None }),
            is_over: AtomicBool::new(false),
            bundles: AtomicBool::new(false),
            changed: Condvar::new(),
            link: Mutex::default(),
            channel: Mutex::default(),
            timer: Mutex::default(),
            usage_id: AtomicU32::new(0),
            started: Instant::now(),
            heard: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            repeats: AtomicU32::new(0),
            _running: running,
        })
    }

    pub(super) fn state(&self) -> State {
        self.progress.lock().state
    }

    fn server(&self) -> String {
        lease_key(&self.host, self.port)
    }

    /// Makes the connection and waits until the tunnel is up, or something failed.
    pub(super) fn establish(self: &Arc<Self>) -> Result<(), ClientError> {
        log::info!("connecting to {} in network {}", self.server(), self.net.name());
        self.dial()?;
        let lease = self.await_lease()?;
        self.bring_up(&lease)?;
        log::info!("{}: the tunnel is up", self.server());
        self.keep_token(lease.token);
        Ok(())
    }

    fn dial(self: &Arc<Self>) -> Result<(), ClientError> {
        let events = Arc::downgrade(self);
        let handler = Arc::new(move |event: Event<'_>| {
            if let Some(connection) = events.upgrade() {
                connection.event(event);
            }
        });
        let link = Link::connect(&self.net, &self.host, self.port, "RS", handler)
            .ok_or_else(|| ClientError::Connect { server: self.server(), errno: libc::EIO })?;
        *self.link.lock() = Some(link);
        Ok(())
    }

    fn await_lease(&self) -> Result<Lease, ClientError> {
        let mut progress = self.progress.lock();
        let give_up = Instant::now() + self.settings.start_timeout;
        while progress.state < State::MakingTunnel && progress.error.is_none() {
            if self.changed.wait_until(&mut progress, give_up).timed_out() {
                break;
            }
        }
        match (progress.error.is_none(), progress.lease.take()) {
            (true, Some(lease)) => Ok(lease),
            _ => Err(self.why_not(&mut progress)),
        }
    }

    /// Makes the device, here and not on the stream's worker, which others need meanwhile.
    fn bring_up(&self, lease: &Lease) -> Result<(), ClientError> {
        let Some(channel) = self.channel() else { return Err(self.why_not(&mut self.progress.lock())) };
        let usage_id = self.usage_id.load(Ordering::Relaxed);
        tunnel::create(&channel, usage_id, &lease.offer, &self.settings, &lease.packet).map_err(ClientError::Tunnel)?;
        // Stopped, refused or lost meanwhile: who waits for the result takes the device down again.
        if self.advance(State::Up).is_none() {
            return Err(self.why_not(&mut self.progress.lock()));
        }
        Ok(())
    }

    fn keep_token(&self, token: Option<[u8; 16]>) {
        let Some(token) = token else { return };
        if let Err(error) = store::set(LEASES, &self.server(), &token) {
            log::warn!("the lease's token is not kept, the next start may get another address: {error}");
        }
    }

    /// Why the tunnel is not up.
    fn why_not(&self, progress: &mut Progress) -> ClientError {
        if let Some(error) = progress.error.take() {
            return error;
        }
        let waiting_for = match progress.state {
            State::Stopping => return ClientError::Stopped,
            State::Up | State::Lost => return ClientError::Connect { server: self.server(), errno: 0 },
            State::Connecting => "the connection",
            State::Requesting => "SUCCESS or ERROR to our REQUEST",
            State::AwaitingAddress | State::MakingTunnel => "an address",
        };
        ClientError::NoAnswer { server: self.server(), waiting_for, after: self.settings.start_timeout }
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
        self.is_over.store(true, Ordering::Release);
        // Both call the SDK when they are dropped: not under their locks.
        let timer = self.timer.lock().take();
        drop(timer);
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
        let link = self.link.lock().clone();
        link.map_or(std::ptr::null_mut(), |link| link.stream_worker())
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// One step forward, and where it was before. None when the connection is past it already.
    fn advance(&self, to: State) -> Option<State> {
        let mut progress = self.progress.lock();
        if progress.state >= to || progress.error.is_some() {
            return None;
        }
        log::debug!("{}: {:?} -> {to:?}", self.server(), progress.state);
        self.changed.notify_all();
        if to > State::Up {
            self.is_over.store(true, Ordering::Release);
        }
        Some(std::mem::replace(&mut progress.state, to))
    }

    /// Has the start fail. False when the tunnel is up already, or was.
    fn fail(&self, error: ClientError) -> bool {
        let mut progress = self.progress.lock();
        let is_starting = progress.state < State::Up;
        if is_starting && progress.error.is_none() {
            progress.error = Some(error);
            self.changed.notify_all();
        }
        is_starting
    }

    /// The server does not serve: the start fails, or the connection is lost.
    fn refused(&self, reason: String) {
        if !self.fail(ClientError::Refused { server: self.server(), reason: reason.clone() }) {
            self.give_up(&reason);
        }
    }

    fn event(self: &Arc<Self>, event: Event<'_>) {
        match event {
            Event::Connected(link) => self.connected(link),
            Event::Failed(errno) => {
                self.fail(ClientError::Connect { server: self.server(), errno });
            }
            Event::Disconnected => {
                self.lost("the stream was closed");
            }
            Event::ServicePacket { kind, data } => self.service_packet(kind, data),
        }
    }

    fn connected(self: &Arc<Self>, link: &Arc<Link>) {
        if self.advance(State::Requesting).is_none() {
            return;
        }
        if !self.bind(link) {
            self.fail(ClientError::Tunnel("channel 'S' of the stream is served by another part of the node".into()));
            return;
        }
        self.heard.store(self.now_ms(), Ordering::Relaxed);
        self.send_request(link);
        let connection = Arc::downgrade(self);
        let Some(here) = worker::current() else { return };
        *self.timer.lock() = Timer::start(here, Duration::from_millis(250), move || {
            connection.upgrade().is_some_and(|connection| connection.tick())
        });
    }

    /// Takes the channel 'S' of this link, and of no other: a stream whose connection was stopped while it was being
    /// made may open its channels when the next connection is there.
    fn bind(self: &Arc<Self>, link: &Link) -> bool {
        let raw = link.channel(b'S');
        let found = OPEN.lock().iter().find(|channel| !raw.is_null() && channel.raw() == raw).cloned();
        let Some(channel) = found else { return false };
        channel.set_data(Arc::clone(self) as Arc<_>);
        *self.channel.lock() = Some(Arc::clone(&channel));
        channel.enable();
        true
    }

    fn send_request(&self, link: &Link) {
        self.asked.store(self.now_ms(), Ordering::Relaxed);
        link.send(b'R', pkt::REQUEST, &self.request.encode());
    }

    fn repeat_request(&self) {
        let link = self.link.lock().clone();
        if let Some(link) = link {
            self.send_request(&link);
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
                Ok(error) => self.refused(format!("{} (code {:#x})", wire::error_text(error.code), error.code)),
                Err(error) => log::debug!("{}: malformed ERROR: {error}", self.server()),
            },
            pkt::NOTIFY_STOPPED => self.refused("the server has stopped the service".into()),
            _ => log::trace!("service packet {kind:#x} ignored"),
        }
    }

    fn granted(&self, usage_id: u32) {
        self.usage_id.store(usage_id, Ordering::Relaxed);
        if self.advance(State::AwaitingAddress).is_some() {
            if let Some(channel) = self.channel() {
                channel.show_usage(usage_id, true);
            }
            log::info!("{}: service granted, usage {usage_id}", self.server());
            self.repeats.store(0, Ordering::Relaxed);
            self.request_address();
        }
    }

    fn request_address(&self) {
        self.asked.store(self.now_ms(), Ordering::Relaxed);
        let caps = Capabilities {
            bundle: self.settings.offload.then_some(MAX_BUNDLE as u16),
            mtu: Some(self.settings.mtu),
            keep_alive: Some(self.settings.keep_alive.as_secs() as u16),
            resume: self.resume,
            ..Capabilities::default()
        };
        self.send(&wire::encode_addr_request(self.usage_id.load(Ordering::Relaxed), Some(&caps)));
    }

    fn channel(&self) -> Option<Arc<Channel>> {
        self.channel.lock().clone()
    }

    fn send(&self, packet: &[u8]) -> bool {
        self.channel().is_some_and(|channel| channel.send(TYPE_DATA, packet))
    }

    /// A packet on channel 'S', on its worker.
    pub(super) fn packet(&self, kind: u8, data: &[u8]) {
        self.heard.store(self.now_ms(), Ordering::Relaxed);
        if kind != TYPE_DATA {
            return tunnel::dropped(DropCause::UnexpectedOp);
        }
        match wire::parse_from_server(data) {
            // A connection that is over must not reach the next one's device.
            Ok((_, FromServer::Recv(_) | FromServer::Bundle(_))) if self.is_over.load(Ordering::Acquire) => {
                tunnel::dropped(DropCause::SessionGone)
            }
            Ok((_, FromServer::Recv(packet))) => tunnel::deliver(packet),
            Ok((_, FromServer::Bundle(data))) if self.bundles.load(Ordering::Relaxed) => {
                tunnel::deliver_all(wire::records(data))
            }
            Ok((_, FromServer::AddrReply(reply))) => self.leased(&reply, data),
            Ok((_, FromServer::Problem(code))) => self.problem(code),
            Ok((_, FromServer::Ping)) => {
                self.send(&wire::encode_control(op::PONG, self.usage_id.load(Ordering::Relaxed), 0));
            }
            Ok((_, FromServer::Pong)) => {}
            Ok((_, FromServer::Bundle(_))) => tunnel::dropped(DropCause::UnexpectedOp),
            Err(error) => tunnel::dropped(error.into()),
        }
    }

    fn leased(&self, reply: &wire::AddrReply, packet: &[u8]) {
        if self.state() != State::AwaitingAddress {
            log::debug!("{}: an address that was not asked for, ignored", self.server());
            return;
        }
        let Some(channel) = self.channel() else { return };
        let outer = channel.peer().parse().map(|peer: SocketAddr| peer.ip()).or_else(|_| self.host.parse()).ok();
        let mut offer = match Offer::judge(reply, outer) {
            Ok(offer) => offer,
            Err(error) => return self.refused(format!("its address cannot be used: {error}")),
        };
        channel.set_inner_address(Some(offer.addr));
        let caps = reply.caps.as_ref();
        if let Some(seconds @ 1..=3600) = caps.and_then(|caps| caps.keep_alive) {
            self.ping_after.fetch_min(u64::from(seconds) * 1000, Ordering::Relaxed);
        }
        if !self.settings.offload {
            // Answered unasked.
            offer.bundle = 0;
        }
        self.bundles.store(offer.bundle > 0, Ordering::Relaxed);
        let token = caps.and_then(|caps| caps.resume);
        self.progress.lock().lease = Some(Lease { offer, token, packet: packet.to_vec() });
        self.advance(State::MakingTunnel);
    }

    fn problem(&self, code: u32) {
        match code {
            problem::NO_FREE_ADDR if self.state() < State::MakingTunnel => {
                self.refused("it has no free address".into())
            }
            problem::TUNNEL_DOWN => self.refused("its tunnel is down".into()),
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
                self.repeat_request();
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
        // A server that takes what waits for it lives, also when our ping waits behind as much.
        let waiting = self.channel().and_then(|channel| channel.pending()).unwrap_or(0);
        if waiting < self.waiting.swap(waiting, Ordering::Relaxed) {
            self.heard.store(self.now_ms(), Ordering::Relaxed);
        }
        let silent = self.now_ms().saturating_sub(self.heard.load(Ordering::Relaxed));
        if silent >= self.settings.keep_alive.as_millis() as u64 * 3 {
            self.give_up("the server is silent");
            return false;
        }
        let period = self.ping_after.load(Ordering::Relaxed);
        let asked = self.now_ms().saturating_sub(self.asked.load(Ordering::Relaxed));
        if silent >= period && asked >= period {
            self.asked.store(self.now_ms(), Ordering::Relaxed);
            self.send(&wire::encode_control(op::PING, self.usage_id.load(Ordering::Relaxed), 0));
        }
        true
    }

    /// Loses a connection whose stream still stands: closes that.
    fn give_up(&self, why: &str) {
        if self.lost(why)
            && let Some(channel) = self.channel()
        {
            channel.close();
        }
    }

    /// False when it was over already.
    fn lost(&self, why: &str) -> bool {
        let before = self.advance(State::Lost);
        if before == Some(State::Up) {
            log::warn!("{}: connection lost: {why}", self.server());
        }
        before.is_some()
    }
}

fn lease_key(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// Channels 'S' of the streams that this node has opened, while they are open. To which connection one belongs is known
/// when its link is up.
static OPEN: Mutex<Vec<Arc<Channel>>> = Mutex::new(Vec::new());

/// The client's side of channels 'S'.
pub(super) struct Channels;

impl ChannelHandler for Channels {
    fn opened(&self, channel: &Arc<Channel>) {
        OPEN.lock().push(Arc::clone(channel));
    }

    fn closed(&self, channel: &Arc<Channel>) {
        OPEN.lock().retain(|open| !Arc::ptr_eq(open, channel));
        if let Some(connection) = channel.data::<Connection>() {
            // First lost, then detached: a device that is being made meanwhile either sees the one or gets the other.
            connection.lost("the stream was closed");
            tunnel::detach(channel);
            *connection.channel.lock() = None;
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

/// Random bytes that a peer must not be able to guess are not needed here, only ones that differ.
fn random() -> [u8; 32] {
    let mut bytes = [1; 32];
    if rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        log::debug!("no random numbers from the kernel");
    }
    bytes
}
