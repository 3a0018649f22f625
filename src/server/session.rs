//! One client's session: from the opening of its channel to its end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::sdk::channel::{Channel, ChannelHandler, TYPE_DATA, UsageState};
use crate::sdk::service::{ServiceHandler, ShownSession};
use crate::sdk::worker;
use vpn_core::forward::{DropCause, Peer, Route};
use vpn_core::lease::Lease;
use vpn_core::wire::{self, AddrReply, Capabilities, FromClient, MAX_BUNDLE, op, problem};

use super::Server;

/// What the server keeps with a channel. Written on the channel's worker.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The billing side lets this client use the service.
    allowed: AtomicBool,
    usage_id: AtomicU32,
    /// Leased inner address as a number, host order; 0 without a lease.
    address: AtomicU32,
    /// Number of the lease.
    lease: AtomicU64,
    /// Another session has taken the lease over: this one is to be closed.
    evicted: AtomicBool,
    /// Where the forwarding table leads; None without a lease, and while the stream moves.
    pub(super) route: Mutex<Option<Route>>,
    /// Milliseconds on the server's clock when the client was last heard.
    pub(super) heard: AtomicU64,
    /// When it was asked whether it still is there, on behalf of who wants its lease; 0: never.
    pub(super) asked: AtomicU64,
    /// Bytes that waited for the client at the last look: fewer at the next one are a sign of life.
    waiting: AtomicUsize,
    /// Milliseconds on the server's clock since when the client may, or may not, use the service.
    allowed_since: AtomicU64,
    /// The client said that it answers pings.
    answers_pings: AtomicBool,
    /// Largest bundle that the client takes, bytes; 0: none.
    bundle: AtomicUsize,
    /// The log has a line on that no address was free for this client.
    told_exhausted: AtomicBool,
}

/// How long a lease outlives the right to use the service, and this right a client that asks for no address: as long as
/// a payment may reasonably take.
const UNUSED: Duration = Duration::from_secs(60);

/// What C may see of a session: those with a lease.
pub(super) fn shown(channel: Arc<Channel>) -> Option<ShownSession> {
    let session = channel.data::<Session>()?;
    let (address, usage_id, is_allowed) = (session.leased()?, session.usage_id(), session.is_allowed());
    Some(ShownSession { usage_id, address, is_allowed, channel })
}

impl Session {
    pub(super) fn leased(&self) -> Option<Ipv4Addr> {
        let address = self.address.load(Ordering::Relaxed);
        (address != 0).then(|| Ipv4Addr::from(address))
    }

    /// Under the pool's lock, as [`Session::evict`].
    pub(super) fn set_lease(&self, address: Ipv4Addr, id: u64) {
        self.lease.store(id, Ordering::Relaxed);
        self.address.store(u32::from(address), Ordering::Relaxed);
    }

    /// Takes the address away if it is this one.
    pub(super) fn evict(&self, address: Ipv4Addr) -> bool {
        let (had, none) = (u32::from(address), 0);
        let evicted = self.address.compare_exchange(had, none, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if evicted {
            self.evicted.store(true, Ordering::Relaxed);
        }
        evicted
    }

    /// Gives the lease up: its address and number.
    pub(super) fn take_lease(&self) -> Option<(Ipv4Addr, u64)> {
        let address = self.address.swap(0, Ordering::Relaxed);
        (address != 0).then(|| (Ipv4Addr::from(address), self.lease.load(Ordering::Relaxed)))
    }

    fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.allowed.load(Ordering::Relaxed)
    }

    pub(super) fn bundle(&self) -> usize {
        self.bundle.load(Ordering::Relaxed)
    }

    /// What goes down to it.
    pub(super) fn as_peer(&self) -> Peer {
        let (bundle_op, plain_op) = (op::BUNDLE_RECV, op::VPN_RECV);
        Peer { bundle_op, plain_op, usage_id: self.usage_id(), largest: self.bundle() }
    }

    pub(super) fn usage_id(&self) -> u32 {
        self.usage_id.load(Ordering::Relaxed)
    }
}

impl ChannelHandler for Server {
    fn opened(&self, channel: &Arc<Channel>) {
        let session = Session::default();
        session.heard.store(self.now_ms(), Ordering::Relaxed);
        channel.set_data(Arc::new(session));
        channel.show_service(self.service_raw(), self.tun_visible(channel.worker()));
        self.open_channels.lock().push(Arc::clone(channel));
        // A peer may have been accepted on 'R' before it opened 'S'.
        self.refresh(channel);
        if self.is_closing() {
            channel.close();
        }
    }

    fn closed(&self, channel: &Arc<Channel>) {
        self.end_lease(channel);
        self.open_channels.lock().retain(|other| !Arc::ptr_eq(other, channel));
    }

    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]) {
        let (Some(session), Some(worker)) = (channel.data::<Session>(), channel.worker()) else { return };
        session.heard.store(self.now_ms(), Ordering::Relaxed);
        let result = match kind {
            TYPE_DATA => self.vpn_packet(channel, session, worker, data),
            _ => Err(DropCause::UnexpectedOp),
        };
        if let Err(cause) = result {
            self.count_drop(channel, worker, cause, data.len());
        }
    }

    fn drained(&self, _channel: &Arc<Channel>) {}

    fn leaving(&self, channel: &Arc<Channel>) {
        // What the next worker writes must not overtake it.
        if let Some(lane) = channel.worker().and_then(|worker| self.lanes.get(worker as usize)) {
            lane.flush_tun();
        }
        self.withdraw_route(channel);
    }

    fn arrived(&self, channel: &Arc<Channel>, worker: u32) {
        channel.show_service(self.service_raw(), self.tun_visible(Some(worker)));
        self.announce_route(channel);
        // It was between two workers when the streams were closed, or when its lease was taken over.
        if self.is_closing() || channel.data::<Session>().is_some_and(Session::is_evicted) {
            channel.close();
        }
    }
}

impl ServiceHandler for Server {
    fn requested(&self, _usage_id: u32) -> i32 {
        if self.is_closing() { -1 } else { 0 }
    }

    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32 {
        let Some(channel) = channel else {
            log::debug!("usage {usage_id}: the client asks for the VPN without a channel 'S', refused");
            return -2;
        };
        channel.activate_usage();
        channel.enable();
        // A repeated REQUEST, which a client sends until it has an answer, and a next receipt change nothing.
        if self.refresh(channel) {
            log::info!("usage {usage_id}: VPN service begins for {}", channel.peer());
        }
        0
    }

    fn refused(&self, usage_id: u32, code: u32) {
        log::debug!("usage {usage_id}: refused with code {code:#x} ({})", wire::error_text(code));
    }
}

impl Server {
    fn vpn_packet(&self, channel: &Arc<Channel>, session: &Session, worker: u32, data: &[u8]) -> Result<(), DropCause> {
        let (header, message) = wire::parse_from_client(data)?;
        match message {
            FromClient::Send(packet) => self.upstream(channel, session, worker, packet),
            FromClient::AddrRequest(caps) => self.address_request(channel, session, header.sock_id, &caps),
            FromClient::Ping => {
                channel.touch();
                self.control(channel, op::PONG, 0)
            }
            FromClient::Pong => {
                channel.touch();
                Ok(())
            }
            FromClient::Bundle(data) => self.bundle_upstream(channel, session, worker, data),
        }
    }

    /// Sends a packet of no data, unless the client does not read what it was sent before.
    fn control(&self, channel: &Channel, op: u32, value: u32) -> Result<(), DropCause> {
        let usage_id = channel.data::<Session>().map_or(0, Session::usage_id);
        let has_room = channel.pending().is_some_and(|waiting| waiting <= self.settings.session_queue);
        let sent = has_room && channel.send(TYPE_DATA, &wire::encode_control(op, usage_id, value));
        if sent { Ok(()) } else { Err(DropCause::OutputFull) }
    }

    fn address_request(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        sock_id: i32,
        caps: &Capabilities,
    ) -> Result<(), DropCause> {
        // The usage may have ended since the last look.
        self.refresh(channel);
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        if self.tunnel_down.load(Ordering::Acquire) {
            return self.control(channel, op::PROBLEM, problem::TUNNEL_DOWN);
        }
        if session.leased().is_some() {
            return self.control(channel, op::PROBLEM, problem::ALREADY_ASSIGNED_ADDR);
        }
        let lease = match self.give_lease(channel, session, caps.resume.as_ref()) {
            Ok(Some(lease)) => lease,
            // The client asks again in a second.
            Ok(None) => return Ok(()),
            Err(error) => {
                if !session.told_exhausted.swap(true, Ordering::Relaxed) {
                    log::warn!("no address for {}: {error}", channel.peer());
                }
                return self.control(channel, op::PROBLEM, problem::NO_FREE_ADDR);
            }
        };
        session.answers_pings.store(caps.keep_alive.is_some(), Ordering::Relaxed);
        let bundle = caps.bundle.filter(|_| self.takes_bundles());
        session.bundle.store(usize::from(bundle.unwrap_or(0)), Ordering::Relaxed);
        channel.set_inner_address(Some(lease.addr));
        let usage_id = session.usage_id();
        log::info!("usage {usage_id}: lease given ({} in use)", self.leased());
        log::debug!("usage {usage_id}: {}, {:?}", lease.addr, lease.origin);
        channel.send(TYPE_DATA, &self.address_reply(session, &lease, caps).encode(usage_id, sock_id));
        Ok(())
    }

    /// The reply to a client that announced nothing is the one of old, to the byte.
    fn address_reply(&self, session: &Session, lease: &Lease, asked: &Capabilities) -> AddrReply {
        let gateway = self.settings.subnet.gateway();
        if *asked == Capabilities::default() {
            return AddrReply { addr: lease.addr, gateway, netmask: None, caps: None };
        }
        let accepted = Capabilities {
            bundle: (session.bundle() > 0).then_some(MAX_BUNDLE as u16),
            mtu: asked.mtu.map(|theirs| theirs.min(self.settings.mtu)),
            dns: self.settings.dns.clone(),
            keep_alive: asked.keep_alive.map(|_| self.settings.keep_alive.as_secs() as u16),
            resume: Some(lease.token),
        };
        AddrReply { addr: lease.addr, gateway, netmask: Some(self.settings.subnet.mask()), caps: Some(accepted) }
    }

    /// Takes the billing side's word anew: whether this client may use the service. True when it may from now on.
    pub(super) fn refresh(&self, channel: &Channel) -> bool {
        let Some(session) = channel.data::<Session>() else { return false };
        let usage = channel.usage();
        let allowed = usage.is_some_and(|usage| {
            usage.is_active
                && usage.role_serves
                && matches!(usage.state, UsageState::Free | UsageState::Grace | UsageState::Normal)
        });
        let usage_id = usage.map_or(0, |usage| usage.id);
        let had_id = session.usage_id.swap(usage_id, Ordering::Relaxed);
        let was_allowed = session.allowed.swap(allowed, Ordering::Relaxed);
        if (had_id, was_allowed) != (usage_id, allowed) {
            channel.show_usage(usage_id, allowed);
        }
        if was_allowed != allowed {
            session.allowed_since.store(self.now_ms(), Ordering::Relaxed);
        }
        if was_allowed && !allowed {
            log::info!("usage {usage_id}: VPN service ends");
        }
        allowed && !was_allowed
    }

    /// The periodic look at a session, on its worker.
    pub(super) fn look_after(&self, channel: &Arc<Channel>) {
        self.refresh(channel);
        let Some(session) = channel.data::<Session>() else { return };
        let unchanged = self.now_ms().saturating_sub(session.allowed_since.load(Ordering::Relaxed));
        // Service without a lease, or a lease without service.
        if session.leased().is_some() != session.is_allowed() && unchanged >= UNUSED.as_millis() as u64 {
            log::info!("usage {}: {} does not use the service, dropped", session.usage_id(), channel.peer());
            return channel.close();
        }
        // A client that takes what waits for it lives, also when its answer to a ping waits behind as much.
        let waiting = channel.pending().unwrap_or(0);
        if waiting < session.waiting.swap(waiting, Ordering::Relaxed) {
            session.heard.store(self.now_ms(), Ordering::Relaxed);
        }
        let silent = self.now_ms().saturating_sub(session.heard.load(Ordering::Relaxed));
        let period = self.settings.keep_alive.as_millis() as u64;
        if !session.answers_pings.load(Ordering::Relaxed) || silent < period {
            return;
        }
        if silent >= period * 3 {
            log::info!("usage {}: {} is silent for {} s, dropped", session.usage_id(), channel.peer(), silent / 1000);
            channel.close();
        } else if let Err(cause) = self.control(channel, op::PING, 0) {
            log::trace!("no ping: {}", cause.name());
        }
    }

    /// The device is gone or broken: every client with a lease is told, and nobody gets one any more.
    pub(super) fn tunnel_failed(self: &Arc<Self>) {
        if self.tunnel_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let channels = self.open_channels.lock().clone();
        for channel in channels {
            let server = Arc::clone(self);
            let Some(owner) = channel.worker() else { continue };
            worker::exec(owner, move || {
                let leased = channel.data::<Session>().and_then(Session::leased);
                if leased.is_some() && server.control(&channel, op::PROBLEM, problem::TUNNEL_DOWN).is_err() {
                    channel.close();
                }
            });
        }
    }
}
