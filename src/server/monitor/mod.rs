//! The monitor: the service's figures by HTTP on an address of this host, for Prometheus, for a page and for programs.
//!
//! - [`Mode`]: the key `monitor`.
//! - `listener`: one thread that serves all connections, within bounds; `connection`: one of them.
//! - `access`: who may ask: the Host header, and the token.
//! - `routes`: the table of paths. A new page adds a row; `message`: what it gets and gives.
//! - `page`: the status page; `door`: how the operator's browser gets in; `history`: the last hour.
//! - `site`: finds the route of a request, and keeps an answer for a moment.
//! - `metrics`: OpenMetrics for Prometheus, by `family` and `process`; `status`: JSON.
//! - `senses`: what the monitor watches by itself: `probes` of the workers, `speed`, `earnings`, `health`;
//!   `latency`.
//!
//! Whatever asks here is another program on this host at best, and a hostile one at worst: it costs a bounded amount of
//! memory and, as the thread has a low priority, no time that a worker needs.

mod access;
mod connection;
mod door;
mod earnings;
mod family;
mod health;
mod history;
mod latency;
mod listener;
mod message;
mod metrics;
mod page;
mod probes;
mod process;
mod routes;
mod senses;
mod settings;
mod site;
mod speed;
mod status;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Server;
use crate::sdk::NOTICE;
use door::{Door, TokenError};
use history::{History, Reading};
use latency::round_trips;
use listener::Listener;
use senses::Senses;
use site::Site;

pub(crate) use settings::Mode;

/// The monitor of a running service.
pub(super) struct Monitor {
    listener: Mutex<Option<Listener>>,
    address: OnceLock<SocketAddr>,
    senses: Senses,
    /// The token of what names clients.
    door: OnceLock<Arc<Door>>,
    history: Mutex<History>,
}

/// Why the address of the status page cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPage {
    /// There is no service.
    #[error("the VPN service is not running")]
    NotRunning,
    /// The operator wants no monitor.
    #[error("there is no status page: [srv_vpn] monitor = off; expected auto, or an address and a port")]
    NoMonitor,
    /// The operator wants no page.
    #[error("there is no status page: [srv_vpn] status_page = false; expected true")]
    Off,
    /// The monitor did not start.
    #[error("there is no status page: the monitor did not start, and the log says why; is its port in use?")]
    NotListening,
    /// There is no new token, and the former is still the one.
    #[error("the page keeps its token: {0}")]
    NoToken(#[from] TokenError),
}

/// Returns the address of the status page with its token; with `renew`, with another token than before.
pub(crate) fn url(renew: bool) -> Result<String, NoPage> {
    let server = super::SERVER.lock().clone().ok_or(NoPage::NotRunning)?;
    if server.settings().monitor.address().is_none() {
        return Err(NoPage::NoMonitor);
    }
    if !server.settings().status_page {
        return Err(NoPage::Off);
    }
    let monitor = &server.monitor;
    let (address, door) = monitor.address.get().zip(monitor.door.get()).ok_or(NoPage::NotListening)?;
    if renew {
        door.renew()?;
    }
    Ok(door.url(*address))
}

impl Monitor {
    pub(super) fn new() -> Monitor {
        let (listener, address, door) = (Mutex::default(), OnceLock::new(), OnceLock::new());
        Monitor { listener, address, senses: Senses::default(), door, history: Mutex::new(History::new()) }
    }

    /// Starts listening, unless the operator wants none. A failure is a warning: the tunnel matters more.
    pub(super) fn start(&self, server: &Arc<Server>) {
        let Some(wanted) = server.settings().monitor.address() else { return };
        let door = match Door::open() {
            Ok(door) => Arc::clone(self.door.get_or_init(|| Arc::new(door))),
            Err(error) => return log::warn!("no monitor: {error}"),
        };
        let has_page = server.settings().status_page;
        let site = Site::new(Arc::downgrade(server), door, wanted, has_page);
        match Listener::start(wanted, site) {
            Ok(listener) => {
                let address = listener.address();
                let _ = self.address.set(address);
                log::info!(target: NOTICE, "monitor: http://{address}/metrics");
                if has_page {
                    // Not the token: who may read the log may not see the clients.
                    log::info!(target: NOTICE, "status page: `{}` tells its address", door::COMMAND);
                }
                *self.listener.lock() = Some(listener);
            }
            Err(error) => log::warn!(
                "[srv_vpn] monitor: cannot listen on {wanted}: {error}; the service runs without a monitor; expected an \
                 address of this host and a free port, such as monitor = 127.0.0.1:{}, or off",
                settings::PORT + 1
            ),
        }
    }

    /// Takes a sample for the page, on the monitor's thread.
    fn note(&self, server: &Server) {
        self.history.lock().note(server.now(), reading(server));
    }

    /// Stops listening, and waits until no request is being answered.
    pub(super) fn stop(&self) {
        let listener = self.listener.lock().take();
        drop(listener);
    }
}

/// What the history keeps of the counters.
fn reading(server: &Server) -> Reading {
    let totals = server.figures.never_less(server.counters.totals());
    Reading {
        up: totals.up_bytes,
        down: totals.down_bytes,
        drops: totals.all_dropped(),
        sessions: server.figures.pool().leased,
        rtt: round_trips(server).map(|times| times.p50.as_secs_f32() * 1000.0),
    }
}

/// Does something with the head of a request, for the tests of who may ask.
#[cfg(test)]
fn with_head<T>(target: &str, headers: &str, work: impl FnOnce(&vpn_http::Head<'_>) -> T) -> T {
    let text = format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    let vpn_http::Parsed::Whole(head) = vpn_http::parse(text.as_bytes()) else { panic!("{text}") };
    work(&head)
}
