//! The VPN service: a TUN device with a queue for each worker, sessions, leases.
//!
//! - [`settings`](Settings): the operator's configuration, validated first.
//! - `handlers`: what the SDK reports of channels and usages.
//! - `session`: one client, from the opening of its channel to its end; `leases`: which session has which address.
//! - `billing`: what a client pays for; `account`: one session's part in it; `limits`: what is left, by HTTP.
//! - `book`: the account book, which outlasts sessions.
//! - `listing`: the sessions as `vpn_stat` shows them.
//! - `visible`: what C may read of all this.
//! - `figures`: what the service counts besides packets.
//! - `journal`: what the log says of a session.
//! - `lease_store`: the leases that a restart does not end; `static_leases`: those of one client each; `lease_list`: all,
//!   for the operator.
//! - `tunnel`: the device, which is made again when the host takes it away.
//! - `nat`: what the host does with the clients' packets to other networks.
//! - `worker_datapath`: one worker's TUN queue, and its sessions.
//! - `upstream`: handles packets from clients, on the worker of the client's stream.
//! - `downstream`: handles packets from the host, on the worker whose queue they arrived at.
//! - `pulse`: how fast a session is at the moment.
//! - `rates`: the limits of sessions; `limited`: what passes when they allow it.
//! - `reload`: other settings while sessions live; `reread`: out of a node's file.
//! - `deny`: the destinations that clients must not reach.
//! - `exit`: what a process that ends without a stop saves and puts back.
//! - `monitor`: the service's figures by HTTP, for Prometheus, a page and programs.
//! - `mailbox`: packets that cross from one worker to another.
//! - `lifecycle`: start and stop of all this.
//!
//! A process has one service. [`init`] creates it and [`deinit`] removes it.

mod account;
mod billing;
mod book;
mod deny;
mod downstream;
mod exit;
mod figures;
mod handlers;
mod init_error;
mod journal;
pub(crate) mod lease_list;
mod lease_store;
mod leases;
mod lifecycle;
mod limited;
mod limits;
mod listing;
mod mailbox;
pub(crate) mod monitor;
mod nat;
mod pulse;
mod rates;
mod reload;
#[cfg(any(feature = "sdk", test))]
pub(crate) mod reread;
mod session;
mod settings;
mod static_leases;
mod tunnel;
mod upstream;
mod visible;
mod worker_datapath;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

pub(crate) use book::{Filter, History};
pub use init_error::InitError;
pub(crate) use lifecycle::{deinit, init};
pub(crate) use listing::SessionInfo;
pub(crate) use nat::NatError;
#[cfg(feature = "embedded")]
pub use reload::ReloadError;
#[cfg(feature = "embedded")]
pub(crate) use reload::{check, reload};
pub(crate) use settings::{Settings, SettingsError};

use crate::sdk::channel::Channel;
use crate::sdk::service::Service;
use crate::sdk::tun_socket::TunSocket;
use crate::sdk::{Running, worker};
use vpn_core::exchange::{Leases, Terms};
use vpn_core::forward::{Counters, DropCause, Route, Table, Totals};
use vpn_core::lease::{KeyTokens, Subnet};
use vpn_core::meter::{Client, Rest};
use vpn_core::rate::Rates;

use billing::Billing;
use deny::Deny;
use figures::{Figures, Kind};
use lease_store::LeaseStore;
use monitor::Monitor;
use nat::Nat;
use session::Session;
use tunnel::Tunnel;
use worker_datapath::WorkerDatapath;

/// How long [`deinit`] waits for the workers to release a session or a queue.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The running service.
pub(crate) struct Server {
    /// What may change while the service runs, beside what may not.
    settings: ArcSwap<Settings>,
    /// How often the settings have changed.
    generation: AtomicU64,
    /// The inner network, which does not change.
    subnet: Subnet,
    /// What packets need of the settings.
    session_queue: AtomicUsize,
    isolates: AtomicBool,
    /// There are, or were, limits of sessions.
    has_had_rates: AtomicBool,
    datapaths: Vec<Arc<WorkerDatapath>>,
    table: Table,
    deny: Deny,
    billing: Billing,
    leases: Arc<Mutex<Leases<leases::Owner>>>,
    lease_store: LeaseStore,
    /// The tokens of clients that are known by their key alone; `None` if the kernel had no random numbers.
    key_tokens: Option<KeyTokens>,
    /// How often each source asks for addresses.
    address_requests: Mutex<Rates>,
    /// Requests for addresses that wait for the answer of another session.
    waiting_requests: Mutex<Vec<leases::WaitingRequest>>,
    /// The settings that clients receive together with an address.
    terms: ArcSwap<Terms>,
    log_sources: Arc<journal::Sources>,
    counters: Arc<Counters>,
    figures: Figures,
    started: Instant,
    /// How often each worker has run its tick.
    ticks: Box<[AtomicU64]>,
    closing: AtomicBool,
    /// The snapshot of the sessions for C is out of date.
    c_snapshot_is_stale: AtomicBool,
    /// Channels 'S' of clients, with or without a lease, by their places in memory.
    open_channels: Mutex<HashMap<usize, Arc<Channel>>>,
    service: OnceLock<Service>,
    /// Kept until the end: the lists for C show what C may read of them.
    sockets: Mutex<Vec<Arc<TunSocket>>>,
    timers: Mutex<Vec<worker::Timer>>,
    tunnel: Tunnel,
    nat: Nat,
    monitor: Monitor,
    _running: Running,
}

static SERVER: Mutex<Option<Arc<Server>>> = Mutex::new(None);
/// Returns what a client has left, if a session or the table of rests knows it.
fn rest_of(client: &Client) -> Option<Rest> {
    let server = SERVER.lock().clone()?;
    server.live_rest(client).or_else(|| server.billing.store.get(client))
}

/// Returns the sessions that have an address; none if the service does not run.
pub(crate) fn listing() -> Vec<SessionInfo> {
    let server = SERVER.lock().clone();
    server.map(|server| server.listing()).unwrap_or_default()
}

/// Returns what the account book has; `None` if the service does not run, or keeps none.
pub(crate) fn history(filter: &Filter) -> Option<History> {
    let server = SERVER.lock().clone()?;
    server.billing.book.history(filter, &server.live_entries())
}

/// Says why the service carries nothing; `None` while it does, or does not run.
pub(crate) fn outage() -> Option<String> {
    SERVER.lock().as_ref().and_then(|server| server.tunnel.outage())
}

/// Returns why the service's device is gone for good; `None` while it is there, or may be made again in a moment.
pub(crate) fn failure() -> Option<String> {
    SERVER.lock().as_ref().and_then(|server| server.tunnel.failure())
}

/// Returns how often each worker has run the service's tick; nothing if the service does not run.
pub(crate) fn ticks() -> Vec<u64> {
    let of = |server: &Arc<Server>| server.ticks.iter().map(|ticks| ticks.load(Ordering::Relaxed)).collect();
    SERVER.lock().as_ref().map(of).unwrap_or_default()
}

/// Returns how many sessions have an address; 0 if the service does not run.
pub(crate) fn sessions() -> u32 {
    SERVER.lock().as_ref().map_or(0, |server| server.leased())
}

/// Returns traffic and drops since the start; `None` if the service is not running.
pub(crate) fn totals() -> Option<Totals> {
    SERVER.lock().as_ref().map(|server| server.counters.totals())
}

/// Returns what may wait in the queues of each worker, in bytes.
fn queue_memory(settings: &Settings, workers: usize) -> usize {
    (settings.queue_memory / workers.max(1)).max(4 * settings.session_queue)
}

impl Server {
    /// Runs once a second on each worker.
    fn tick(self: &Arc<Self>, worker: u32) {
        let channels = self.channels();
        let (mut kinds, mut queued) = ([0; Kind::ALL.len()], 0);
        for channel in channels.iter().filter(|channel| channel.worker() == Some(worker)) {
            self.check_session(channel);
            if let Some(session) = channel.data::<Session>() {
                kinds[session.kind() as usize] += 1;
                queued += session.queued() as u64;
            }
        }
        self.figures.look(worker, kinds, queued);
        if let Some(datapath) = self.datapaths.get(worker as usize) {
            datapath.trim();
        }
        if worker == 0 {
            let pool = self.leases.lock().pool().occupancy();
            self.figures.look_at_pool(&pool);
            self.billing.keep_gate();
            self.check_device();
            self.nat.tick(&self.tunnel);
            for (kind, number) in self.log_sources.left_out(self.now()) {
                log::info!("{kind}: {number} more, of clients without paid service, in the last minute");
            }
        }
        if worker == 0 && self.c_snapshot_is_stale.swap(false, Ordering::AcqRel) {
            self.publish_c_snapshot();
        }
        // Last: a tick that has panicked does not count.
        if let Some(ticks) = self.ticks.get(worker as usize) {
            ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the open channels 'S'.
    fn channels(&self) -> Vec<Arc<Channel>> {
        self.open_channels.lock().values().cloned().collect()
    }

    /// Returns the settings that are in force now. Not for packets, which have fields of their own.
    fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Returns the bytes that may wait for a client.
    #[inline]
    fn session_queue(&self) -> usize {
        self.session_queue.load(Ordering::Relaxed)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the uptime in whole milliseconds, the resolution in which sessions store when a packet from their client
    /// last arrived.
    fn now(&self) -> Duration {
        Duration::from_millis(self.uptime().as_millis() as u64)
    }

    fn adopt(&self, channel: &Arc<Channel>) -> Option<Route> {
        self.datapaths.get(channel.worker()? as usize)?.adopt(channel, self.session_queue())
    }

    fn disown(&self, route: Route, channel: &Arc<Channel>) {
        if let Some(datapath) = self.datapaths.get(usize::from(route.worker)) {
            let lost = datapath.disown(route, channel);
            self.counters.dropped_all(datapath.worker as usize, DropCause::SessionGone, lost.packets);
        }
    }

    fn leased(&self) -> u32 {
        self.leases.lock().pool().leased()
    }
}
