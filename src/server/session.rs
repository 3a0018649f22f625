//! One client's session, from the opening of its channel to its end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::sdk::NOTICE;
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::usage::UsageState;
use crate::sdk::worker;
use vpn_core::exchange::{self, SessionAction, UsageChange};
use vpn_core::forward::{DropCause, Peer, Route};
use vpn_core::meter::Carried;
use vpn_core::rate::Budget;
use vpn_core::source::Source;
use vpn_core::wire::{self, FromClient, op, problem};

use super::account::{Account, Stage};
use super::figures::Kind;
use super::journal::{Journal, Who};
use super::pulse::Pulse;
use super::{Server, Settings};

/// The requests for an address that a session may send in a second. A client repeats one after a second.
const ADDRESS_REQUESTS: u32 = 4;

/// The server's data of a channel. The channel's worker writes it, except in a take-over.
#[derive(Debug)]
pub(super) struct Session {
    /// The state machine that decides whether the client is allowed, alive and using the service. Data packets do not
    /// lock it.
    pub(super) state: Mutex<exchange::Session>,
    /// The billing side allows this client to use the service.
    allowed: AtomicBool,
    /// The service is paid, not in grace and not free.
    paid: AtomicBool,
    /// The service waits for its payment.
    in_grace: AtomicBool,
    /// The client pays, is in grace, or has a lease: its stream keeps its place.
    keeps_place: AtomicBool,
    /// Where the client comes from.
    pub(super) source: Source,
    /// The sum of bytes of inner packets, as of the last look.
    carried_before: AtomicU64,
    /// When an inner packet was last carried, in milliseconds on the server's clock, as of the last look; from the lease
    /// on.
    used: AtomicU64,
    usage_id: AtomicU32,
    /// The leased inner address as a number in host order; 0 without a lease. Written under the lock of the leases.
    address: AtomicU32,
    /// Another session has taken the lease over, or the operator has dropped this session: it has to be closed.
    evicted: AtomicBool,
    /// What the client sends waits for a rate limit.
    limited_up: AtomicBool,
    /// The number of the settings that the session's queues have.
    settings_seen: AtomicU64,
    /// The bytes that waited for the client and from it at the last look, once a second.
    queued: AtomicUsize,
    pub(super) pulse: Pulse,
    /// The session's route in the forwarding table; `None` without a lease, and while the stream moves.
    pub(super) route: Mutex<Option<Route>>,
    /// When the last packet from the client arrived, in milliseconds on the server's clock.
    heard: AtomicU64,
    /// When the client's TCP last gave a sign of life, on the same clock, as far as another client's claim to the
    /// address has made the server look; for clients that do not answer pings.
    acknowledged: AtomicU64,
    /// The largest bundle that the client accepts, in bytes; 0 for none.
    bundle: AtomicUsize,
    /// The largest inner packet that the client agreed to, in bytes, if it is smaller than the device's MTU; else 0.
    inner_mtu: AtomicU16,
    /// The log already has a warning that no address was free for this client.
    pub(super) warned_pool_exhausted: AtomicBool,
    /// How often it may still ask for an address.
    pub(super) address_requests: Mutex<Budget>,
    /// The client's dealings with the billing.
    pub(super) account: Mutex<Account>,
    /// The bytes of inner packets that were forwarded.
    pub(super) carried: Carried,
    /// The number of the usage that the client is told while the SDK has none; 0 for none.
    grace_id: AtomicU32,
    /// The hash of the key that the client named in its last REQUEST, which may be another's.
    client_key: Mutex<Option<[u8; 32]>>,
    /// The hash of the key that it has last signed a receipt with.
    proved_key: Mutex<Option<[u8; 32]>>,
    pub(super) journal: Journal,
}

impl Session {
    pub(super) fn new(now: Duration, source: Source, account: Account, journal: Journal) -> Session {
        Session {
            state: Mutex::new(exchange::Session::new(now)),
            allowed: AtomicBool::new(false),
            paid: AtomicBool::new(false),
            in_grace: AtomicBool::new(false),
            keeps_place: AtomicBool::new(false),
            source,
            carried_before: AtomicU64::new(0),
            used: AtomicU64::new(now.as_millis() as u64),
            usage_id: AtomicU32::new(0),
            address: AtomicU32::new(0),
            evicted: AtomicBool::new(false),
            limited_up: AtomicBool::new(false),
            settings_seen: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            pulse: Pulse::default(),
            route: Mutex::default(),
            heard: AtomicU64::new(now.as_millis() as u64),
            acknowledged: AtomicU64::new(0),
            bundle: AtomicUsize::new(0),
            inner_mtu: AtomicU16::new(0),
            warned_pool_exhausted: AtomicBool::new(false),
            address_requests: Mutex::new(Budget::per_second(ADDRESS_REQUESTS)),
            account: Mutex::new(account),
            carried: Carried::default(),
            grace_id: AtomicU32::new(0),
            client_key: Mutex::default(),
            proved_key: Mutex::default(),
            journal,
        }
    }

    pub(super) fn leased(&self) -> Option<Ipv4Addr> {
        let address = self.address.load(Ordering::Relaxed);
        (address != 0).then(|| Ipv4Addr::from(address))
    }

    /// Sets the address. Like [`Session::evict`], it needs the lock of the leases.
    pub(super) fn set_address(&self, address: Ipv4Addr) {
        self.address.store(u32::from(address), Ordering::Relaxed);
    }

    /// Takes this address away from the session, because another client has it now. Returns false if the session no
    /// longer had it.
    pub(super) fn evict(&self, address: Ipv4Addr, why: &'static str) -> bool {
        let (had, none) = (u32::from(address), 0);
        let evicted = self.address.compare_exchange(had, none, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if evicted {
            self.journal.ends(why);
            self.evicted.store(true, Ordering::Relaxed);
        }
        evicted
    }

    /// Gives up the address, and returns it.
    pub(super) fn take_address(&self) -> Option<Ipv4Addr> {
        let address = self.address.swap(0, Ordering::Relaxed);
        (address != 0).then(|| Ipv4Addr::from(address))
    }

    /// Returns whether the service is paid, as of the last look.
    pub(super) fn is_paid(&self) -> bool {
        self.paid.load(Ordering::Relaxed)
    }

    /// Records that the lease was used, or has begun.
    pub(super) fn use_address(&self, now: Duration) {
        self.used.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Looks whether an inner packet was carried since the last look. So a packet does not cost the storing of a time.
    fn look_for_use(&self, now: Duration) {
        let carried = self.carried.total();
        if self.carried_before.swap(carried, Ordering::Relaxed) != carried {
            self.use_address(now);
        }
    }

    /// Returns since when no inner packet was carried; `None` if the client pays.
    pub(super) fn idle_since(&self) -> Option<Duration> {
        let is_idle = self.carried_before.load(Ordering::Relaxed) == self.carried.total();
        (is_idle && !self.is_paid()).then(|| Duration::from_millis(self.used.load(Ordering::Relaxed)))
    }

    /// When the last packet from the client arrived, on the server's clock.
    pub(super) fn heard(&self) -> Duration {
        Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Records that a packet from the client has arrived.
    pub(super) fn hear(&self, now: Duration) {
        self.heard.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Looks whether the TCP of a client that does not answer pings is alive, on the channel's worker.
    pub(super) fn look_for_life(&self, channel: &Channel, now: Duration) {
        let answers_pings = self.state.lock().answers_pings();
        if let Some(silent) = channel.silence().filter(|_| !answers_pings) {
            self.acknowledged.fetch_max(now.saturating_sub(silent).as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Returns when the client last gave a sign of life, as far as a claim to its address is concerned.
    pub(super) fn shown_life(&self) -> Duration {
        self.heard().max(Duration::from_millis(self.acknowledged.load(Ordering::Relaxed)))
    }

    /// Has the session's stream closed when it arrives at a worker, if it is moving between two.
    pub(super) fn drop_on_arrival(&self) {
        self.evicted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Tells the SDK whether the stream keeps its place, if that has changed. A free service is anybody's: its client
    /// keeps a place from its lease on.
    pub(super) fn show_place(&self, channel: &Channel, keeps_place: bool) {
        if self.keeps_place.swap(keeps_place, Ordering::Relaxed) != keeps_place {
            channel.serve(keeps_place);
        }
    }

    pub(super) fn keeps_place(&self) -> bool {
        self.keeps_place.load(Ordering::Relaxed)
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Whether what the client sends waits for a rate limit.
    pub(super) fn is_limited_up(&self) -> bool {
        self.limited_up.load(Ordering::Relaxed)
    }

    /// Sets that. Returns whether it has changed.
    pub(super) fn limit_up(&self, is_limited: bool) -> bool {
        self.limited_up.swap(is_limited, Ordering::Relaxed) != is_limited
    }

    /// The number of the settings that the session's queues have.
    pub(super) fn settings_seen(&self) -> u64 {
        self.settings_seen.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub(super) fn see_settings(&self, generation: u64) {
        self.settings_seen.store(generation, Ordering::Relaxed);
    }

    /// The bytes that wait in the session's queues and its stream, as of the last look.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Sets them.
    pub(super) fn set_queued(&self, bytes: usize) {
        self.queued.store(bytes, Ordering::Relaxed);
    }

    /// How the client is served, as of the last look.
    pub(super) fn kind(&self) -> Kind {
        match (self.is_allowed(), self.is_paid()) {
            (false, _) => Kind::Unserved,
            (true, true) => Kind::Paid,
            (true, false) if self.in_grace.load(Ordering::Relaxed) => Kind::Grace,
            (true, false) => Kind::Free,
        }
    }

    pub(super) fn bundle(&self) -> usize {
        self.bundle.load(Ordering::Relaxed)
    }

    pub(super) fn set_bundle(&self, largest: u16) {
        self.bundle.store(usize::from(largest), Ordering::Relaxed);
    }

    /// Returns the largest inner packet, in bytes, of a client that agreed to a smaller one than the device's.
    pub(super) fn inner_mtu(&self) -> Option<u16> {
        let mtu = self.inner_mtu.load(Ordering::Relaxed);
        (mtu != 0).then_some(mtu)
    }

    /// Sets the largest inner packet from the client's and the server's offer. A client without an offer gets all that
    /// the device carries.
    pub(super) fn set_inner_mtu(&self, asked: Option<u16>, settings: &Settings) {
        let agreed = asked.map(|theirs| exchange::agreed_mtu(theirs, settings.mtu));
        let smaller = agreed.filter(|mtu| *mtu < settings.device_mtu);
        self.inner_mtu.store(smaller.unwrap_or(0), Ordering::Relaxed);
    }

    /// Describes the client as the receiver of downstream packets.
    pub(super) fn as_peer(&self) -> Peer {
        let (bundle_op, plain_op) = (op::BUNDLE_RECV, op::VPN_RECV);
        Peer { bundle_op, plain_op, usage_id: self.usage_id(), largest: self.bundle() }
    }

    /// Returns when the client last gave a sign of life, on the server's clock.
    pub(super) fn alive(&self) -> Duration {
        self.heard().max(self.account.lock().alive())
    }

    /// Draws the number of the usage that the client is told while the SDK has none.
    pub(super) fn set_grace_id(&self) {
        let mut id = [0; 4];
        // Without random numbers every such usage has the number 1: it only labels packets.
        let _ = rustix::rand::getrandom(id.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
        self.grace_id.store(u32::from_ne_bytes(id).max(1), Ordering::Relaxed);
    }

    /// Returns the hash of the key that the client named in its last REQUEST. Nothing proves that the key is its own.
    pub(super) fn client_key(&self) -> Option<[u8; 32]> {
        *self.client_key.lock()
    }

    /// Remembers the hash of the key that REQUEST names; zeros name none.
    pub(super) fn set_client_key(&self, key: [u8; 32]) {
        *self.client_key.lock() = (key != [0; 32]).then_some(key);
    }

    /// Remembers that the client has signed a receipt with this key.
    pub(super) fn prove_key(&self, key: [u8; 32]) {
        *self.proved_key.lock() = Some(key);
    }

    /// Returns whether the client has shown that it has this key.
    pub(super) fn has_proved(&self, key: &[u8; 32]) -> bool {
        self.proved_key.lock().as_ref() == Some(key)
    }

    /// Names the client in the log.
    pub(super) fn who(&self) -> Who<'_> {
        self.journal.who(self.client_key(), self.usage_id())
    }

    pub(super) fn usage_id(&self) -> u32 {
        self.usage_id.load(Ordering::Relaxed)
    }
}

impl Server {
    pub(super) fn vpn_packet(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        worker: u32,
        data: &[u8],
    ) -> Result<(), DropCause> {
        let (header, message) = wire::parse_from_client(data)?;
        match message {
            FromClient::Send(packet) => self.upstream(channel, session, worker, packet),
            FromClient::AddrRequest(caps) => {
                self.may_ask_for_address(session)?;
                self.address_request(channel, session, header.sock_id, &caps)
            }
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

    /// Sends a VPN packet without data, unless the client's send queue is full.
    pub(super) fn control(&self, channel: &Channel, op: u32, value: u32) -> Result<(), DropCause> {
        let usage_id = channel.data::<Session>().map_or(0, Session::usage_id);
        let fits_queue = channel.pending().is_some_and(|waiting| waiting <= self.session_queue());
        let sent = fits_queue && channel.send(TYPE_DATA, &wire::encode_control(op, usage_id, value));
        if sent { Ok(()) } else { Err(DropCause::OutputFull) }
    }

    /// Reads from the billing side whether this client may use the service: its meter decides, or a free usage.
    pub(super) fn refresh(&self, channel: &Channel) {
        let Some(session) = channel.data::<Session>() else { return };
        let usage = channel.usage();
        let is_free =
            usage.as_ref().is_some_and(|usage| usage.is_active && usage.role_serves && usage.state == UsageState::Free);
        let (allowed, is_metered, is_paid) = {
            let account = session.account.lock();
            let is_metered = account.metered.is_some();
            let is_paid = is_metered && !matches!(account.stage, Stage::Grace { .. });
            (account.allows().unwrap_or(is_free), is_metered, is_paid)
        };
        session.paid.store(is_paid, Ordering::Relaxed);
        session.in_grace.store(is_metered && !is_paid, Ordering::Relaxed);
        if is_paid {
            session.journal.pays();
        }
        let usage_id = usage.map_or(session.grace_id.load(Ordering::Relaxed), |usage| usage.id);
        let had_id = session.usage_id.swap(usage_id, Ordering::Relaxed);
        let was_allowed = session.allowed.swap(allowed, Ordering::Relaxed);
        if (had_id, was_allowed) != (usage_id, allowed) {
            channel.show_usage(usage_id, allowed);
        }
        session.show_place(channel, allowed && (is_metered || session.leased().is_some()));
        let change = session.state.lock().set_allowed(self.now(), allowed);
        match change {
            UsageChange::Begins => {
                self.figures.serve(session.journal.age(self.uptime()));
                session.journal.served();
                self.note_service(channel, session);
                let kind = match session.account.lock() {
                    account if account.metered.is_none() => "free",
                    account if matches!(account.stage, Stage::Grace { .. }) => "in grace",
                    _ => "paid",
                };
                let level = session.journal.level(self.now(), "service starts");
                log::log!(target: NOTICE, level, "service starts: {}, {kind}", session.who());
            }
            UsageChange::Ends => {
                let level = session.journal.level(self.now(), "service ends");
                log::log!(target: NOTICE, level, "service ends: {}", session.who());
            }
            UsageChange::None => {}
        }
    }

    /// Checks a session periodically, on its worker.
    pub(super) fn check_session(&self, channel: &Arc<Channel>) {
        self.refresh(channel);
        self.apply_rates(channel);
        self.show_billing(channel);
        let Some(session) = channel.data::<Session>() else { return };
        self.note_progress(session);
        session.look_for_use(self.now());
        let (is_leased, pending) = (session.leased().is_some(), channel.pending().unwrap_or(0));
        session.set_queued(pending + self.waiting(session));
        let path = is_leased.then(|| self.figures.is_watched(self.now()).then(|| channel.path())).flatten().flatten();
        session.pulse.look(self.now(), session.carried.both_ways(), path.map(|path| path.rtt));
        let action = {
            let mut state = session.state.lock();
            let keep_alive = self.settings().keep_alive;
            let action = state.check(self.now(), session.heard(), pending, is_leased, keep_alive);
            // A send queue that drains shows life only of a client whose answer to a ping may wait behind the data. The
            // connection of another one may be dead, and the queue drains into the kernel.
            if state.answers_pings() {
                session.heard.fetch_max(state.heard().as_millis() as u64, Ordering::Relaxed);
            }
            action
        };
        match action {
            SessionAction::None => {}
            SessionAction::Ping => {
                if let Err(cause) = self.control(channel, op::PING, 0) {
                    log::trace!("PING not sent: {}", cause.name());
                }
            }
            SessionAction::CloseUnused => {
                session.journal.ends("it did not use the service");
                channel.close();
            }
            SessionAction::CloseSilent(silent) => {
                session.journal.ends(format!("silent for {} s", silent.as_secs()));
                session.account.lock().set_vanished();
                channel.close();
            }
        }
    }

    /// Tells every client with a lease that the device is gone for good.
    pub(super) fn tell_tunnel_down(self: &Arc<Self>) {
        self.c_snapshot_is_stale.store(true, Ordering::Release);
        let channels = self.channels();
        for channel in channels {
            let server = Arc::clone(self);
            let Some(owner) = channel.worker() else { continue };
            worker::exec(owner, move || {
                let leased = channel.data::<Session>().and_then(Session::leased);
                if leased.is_some() && server.control(&channel, op::PROBLEM, problem::TUNNEL_DOWN).is_err() {
                    channel
                        .data::<Session>()
                        .into_iter()
                        .for_each(|session| session.journal.ends("the device is gone"));
                    channel.close();
                }
            });
        }
    }
}
