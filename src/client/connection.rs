//! One connection to one server: the IO around [`Exchange`], which decides what to send and when.
//!
//! Events come from the stream's worker, the thread in `start`, and the thread that stops the client. One lock guards
//! the state machine. Its actions are performed without the lock, because they call the SDK. Data packets take no lock.

mod channels;
mod establish;
mod incoming;
mod paying;
mod ways;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub(super) use channels::Channels;
pub use paying::Paid;
pub(super) use ways::open_ways;

use super::payer::{Job, Payer};
use super::payment::{Contract, Means};
use super::settings::Settings;
use super::stops::Began;
use super::watch::{Finding, Watch};
use super::{State, request, tunnel_part as tunnel};
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::link::Link;
use crate::sdk::net::Net;
use crate::sdk::types::{dap_stream_ch_t, dap_stream_worker_t};
use crate::sdk::worker::{self, Timer};
use crate::sdk::{Running, store};
use vpn_core::exchange::{Action, Event, Exchange, Grant, Notice, REQUEST_TICK, TICK};
use vpn_core::names;
use vpn_core::wire::pkt;

/// The store's group of lease tokens. With its token a returning client gets its address back.
const LEASES: &str = "local.vpn_client.leases";
/// How long [`Connection::end`] waits for the channel to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The keys under which an earlier version may have kept the token: it took the name as the user typed it. The SDK lists
/// no group's keys, so these are the likely ones; the program `cellframe-vpn` moves all at its start.
fn old_keys(host: &str, port: u16) -> [String; 4] {
    let (lower, upper) = (host.to_ascii_lowercase(), host.to_ascii_uppercase());
    let with_dot = format!("{}.", lower.trim_end_matches('.'));
    [host, &lower, &upper, &with_dot].map(|host| format!("{host}:{port}"))
}

/// Continues a connection with other means, on a new connection; returns false if that has to be tried again.
pub(super) type Switch = fn(&Arc<Connection>, Box<Means>) -> bool;

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// When its start began, or that of the connection that it continues.
    pub(super) began: Began,
    /// Whether it continues a connection whose transaction is used up.
    pub(super) is_renewal: bool,
    /// The address that the server's name had in the connection before; the embedded SDK knows it by itself.
    pub(super) address: Option<IpAddr>,
    pub(super) switch: Switch,
}

/// One connection to one server.
pub(super) struct Connection {
    /// For the timer, which does not keep the connection alive.
    weak_self: Weak<Connection>,
    net: Net,
    /// host:port, for the log and the store.
    server: String,
    host: String,
    port: u16,
    settings: Settings,
    /// Signs receipts; `None` for a free order.
    payer: Option<Payer>,
    /// The token that pays; empty for a free order.
    token: String,
    origin: Origin,
    shared: Mutex<Shared>,
    /// Wakes the thread in `start` after a change in `shared`.
    changed: Condvar,
    /// Wakes the thread that waits for the connection's end.
    ended: Condvar,
    started: Instant,
    // For data packets, which read and write these without the lock:
    /// The connection is lost or stopping.
    is_over: AtomicBool,
    /// The path to the server was taken for a narrow one.
    #[cfg(not(feature = "embedded"))]
    is_narrowed: AtomicBool,
    /// Both sides have announced bundles.
    bundles: AtomicBool,
    /// When the last packet from the server arrived, in milliseconds since `started`.
    heard: AtomicU64,
    _running: Running,
}

struct Shared {
    exchange: Exchange,
    /// Passes the grant from the worker that received it to the thread that creates the device.
    grant: Option<Grant>,
    /// The server's outer address, as the stream's socket has it.
    server_address: Option<IpAddr>,
    /// The address that a node's SDK connects to, until its path is suspected.
    #[cfg(not(feature = "embedded"))]
    unsuspected: Option<IpAddr>,
    link: Option<Arc<Link>>,
    channel: Option<Arc<Channel>>,
    timers: Vec<Timer>,
}

impl Connection {
    /// Creates a connection that is not dialled yet. One that continues another holds its REQUEST back until
    /// [`proceed`](Self::proceed).
    pub(super) fn new(
        net: Net,
        (host, port): (&str, u16),
        settings: Settings,
        contract: &Contract,
        origin: Origin,
        running: Running,
    ) -> Arc<Connection> {
        let server = names::server(host, port);
        // Read here, because the stream's worker, which requests the address, must not wait for the store.
        let resume = store::get(LEASES, &server)
            .or_else(|| old_keys(host, port).iter().find_map(|key| store::get(LEASES, key)))
            .and_then(|token| token.try_into().ok());
        let exchange = Exchange::new(request::exchange(&settings, &net, contract, resume, origin.is_renewal));
        Arc::new_cyclic(|weak_self| Connection {
            weak_self: Weak::clone(weak_self),
            payer: paying::payer(&net, contract, &settings, weak_self),
            token: if let Contract::Paid(means) = contract { means.order.token.clone() } else { String::new() },
            net,
            server,
            host: host.to_owned(),
            port,
            settings,
            origin,
            shared: Mutex::new(Shared {
                exchange,
                grant: None,
                server_address: None,
                #[cfg(not(feature = "embedded"))]
                unsuspected: None,
                link: None,
                channel: None,
                timers: Vec::new(),
            }),
            changed: Condvar::new(),
            ended: Condvar::new(),
            started: Instant::now(),
            is_over: AtomicBool::new(false),
            #[cfg(not(feature = "embedded"))]
            is_narrowed: AtomicBool::new(false),
            bundles: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            _running: running,
        })
    }

    /// host:port, in the name's one spelling.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn state(&self) -> State {
        self.shared.lock().exchange.state()
    }

    /// Whether the client connects again after a loss.
    pub(super) fn reconnects(&self) -> bool {
        self.settings.reconnect
    }

    /// The server's outer address, once the stream is up.
    pub(super) fn server_address(&self) -> Option<IpAddr> {
        self.shared.lock().server_address
    }

    /// The time since the connection was begun.
    pub(super) fn lasted(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until the connection is lost, refused or stopped.
    pub(super) fn await_end(&self) {
        let mut shared = self.shared.lock();
        while shared.exchange.is_alive() {
            self.ended.wait(&mut shared);
        }
    }

    /// Makes a waiting `establish` return.
    pub(super) fn cancel(&self) {
        self.handle(Event::Cancel);
    }

    /// Closes the stream. Waits until its channel is closed, unless the caller is a worker.
    pub(super) fn end(&self) {
        self.handle(Event::Stop);
        let timers = std::mem::take(&mut self.shared.lock().timers);
        // Dropping them calls the SDK: not under the lock.
        drop(timers);
        self.hang_up();
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while worker::current().is_none() && self.channel().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Gives the stream up. A node's SDK would open a lost one again by itself, for nobody, beside the client's own attempts.
    fn hang_up(&self) {
        let link = self.shared.lock().link.take();
        // Dropping it calls the SDK: not under the lock.
        drop(link);
    }

    pub(super) fn stream_channel(&self) -> *mut dap_stream_ch_t {
        self.shared.lock().channel.as_ref().map_or(std::ptr::null_mut(), |channel| channel.raw())
    }

    pub(super) fn stream_worker(&self) -> *mut dap_stream_worker_t {
        let link = {
            let shared = self.shared.lock();
            shared.channel.as_ref().and_then(|_| shared.link.clone())
        };
        link.map_or(std::ptr::null_mut(), |link| link.stream_worker())
    }

    fn channel(&self) -> Option<Arc<Channel>> {
        self.shared.lock().channel.clone()
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms())
    }

    /// Passes an event to the state machine and performs the resulting actions. Returns the state after the event.
    fn handle(&self, event: Event<'_>) -> State {
        let (state, actions) = {
            let mut shared = self.shared.lock();
            shared.exchange.handle(self.now(), event);
            let state = shared.exchange.state();
            self.is_over.store(state > State::Up, Ordering::Release);
            (state, std::iter::from_fn(|| shared.exchange.next_action()).collect::<Vec<_>>())
        };
        for action in actions {
            self.perform(action);
        }
        if state == State::Lost {
            self.hang_up();
        }
        self.changed.notify_all();
        self.tell_end(&self.shared.lock());
        state
    }

    /// Wakes the thread that waits for the end, if that is it.
    fn tell_end(&self, shared: &Shared) {
        if !shared.exchange.is_alive() {
            self.ended.notify_all();
        }
    }

    fn perform(&self, action: Action) {
        match action {
            Action::SendRequest(request) => {
                let link = self.shared.lock().link.clone();
                if let Some(link) = link {
                    link.send(b'R', pkt::REQUEST, &request);
                }
            }
            Action::SendReceipt(receipt) => {
                let link = self.shared.lock().link.clone();
                if let Some(link) = link {
                    link.send(b'R', pkt::SIGN_RESPONSE, &receipt);
                }
            }
            Action::AskLedger => self.want(Job::AskLedger),
            Action::Sign(bytes) => self.want(Job::Sign(bytes)),
            Action::Renew => self.want(Job::Renew),
            Action::SendPacket(packet) => {
                if let Some(channel) = self.channel() {
                    channel.send(TYPE_DATA, &packet);
                }
            }
            Action::StartTicks => self.start_ticks(),
            Action::MakeDevice(grant) => {
                if let Some(channel) = self.channel() {
                    channel.set_inner_address(Some(grant.offer.addr));
                }
                self.bundles.store(grant.offer.bundle > 0, Ordering::Relaxed);
                self.shared.lock().grant = Some(grant);
            }
            Action::CloseStream => {
                if let Some(channel) = self.channel() {
                    channel.close();
                }
            }
            Action::Report(notice) => self.report(&notice),
        }
    }

    /// Starts the ticks, on the stream's worker.
    fn start_ticks(&self) {
        let Some(here) = worker::current() else { return };
        let server = self.server_address();
        let start = |interval, last: State, server| {
            let connection = Weak::clone(&self.weak_self);
            let mut watch = Watch::new(server);
            let tick = move || connection.upgrade().is_some_and(|connection| connection.tick(&mut watch) <= last);
            Timer::start(here, interval, tick)
        };
        let timers: Vec<Timer> = [start(TICK, State::Up, server), start(REQUEST_TICK, State::Requesting, None)]
            .into_iter()
            .flatten()
            .collect();
        let mut shared = self.shared.lock();
        if shared.exchange.is_alive() {
            shared.timers = timers;
        } else {
            // The connection was stopped meanwhile. Dropping the timers calls the SDK: not under the lock.
            drop(shared);
            drop(timers);
        }
    }

    /// Handles a tick, on the stream's worker. Returns the state that follows.
    fn tick(&self, watch: &mut Watch) -> State {
        let pending = self.channel().and_then(|channel| channel.pending()).unwrap_or(0);
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        let state = self.handle(Event::Tick { heard, pending });
        if state != State::Up {
            return state;
        }
        tunnel::trim();
        let finding = watch.device(tunnel::has_failed(), tunnel::health);
        match finding.or_else(|| watch.path()) {
            Some(Finding::Broken(why)) => self.handle(Event::Broken(why)),
            Some(Finding::Doubtful) => self.handle(Event::Doubted),
            None => state,
        }
    }

    fn report(&self, notice: &Notice) {
        if let (Notice::Granted(usage_id), Some(channel)) = (notice, self.channel()) {
            channel.show_usage(*usage_id, true);
        }
        let level = match notice {
            Notice::Granted(_) | Notice::Signed(_) | Notice::UsedUp | Notice::AskedToRenew(_) => log::Level::Info,
            Notice::Lost(_) | Notice::Refused(_) | Notice::Unagreed | Notice::CannotSign(_) => log::Level::Warn,
            Notice::ServicePacketIgnored(_) => log::Level::Trace,
            _ => log::Level::Debug,
        };
        log::log!(level, "{}: {notice}", self.server);
    }
}

#[cfg(test)]
mod tests {
    use super::old_keys;
    use vpn_core::names;

    #[test]
    fn likely_old_spellings_of_a_server_are_its_own() {
        let keys = old_keys("Vpn.Test", 1);
        assert_eq!(keys, ["Vpn.Test:1", "vpn.test:1", "VPN.TEST:1", "vpn.test.:1"]);
        assert!(keys.iter().all(|key| names::of_key(key) == Some(names::server("Vpn.Test", 1))));
    }
}
