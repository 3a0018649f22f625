//! The monitor: the service's figures by HTTP on an address of this host, for Prometheus, for a page and for programs.
//!
//! - [`Mode`]: the key `monitor`.
//! - `listener`: one thread that serves all connections, within bounds; `connection`: one of them.
//! - `access`: who may ask: the Host header, and the token.
//! - `routes`: the table of paths. A new page adds a row; `message`: what it gets and gives.
//! - `site`: finds the route of a request, and keeps an answer for a moment.
//!
//! Whatever asks here is another program on this host at best, and a hostile one at worst: it costs a bounded amount of
//! memory and, as the thread has a low priority, no time that a worker needs.

mod access;
mod connection;
mod listener;
mod message;
mod routes;
mod settings;
mod site;
mod status;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Server;
use crate::sdk::NOTICE;
use access::Token;
use listener::Listener;
use site::Site;

pub(crate) use settings::Mode;

/// The monitor of a running service.
#[derive(Default)]
pub(super) struct Monitor {
    listener: Mutex<Option<Listener>>,
    address: OnceLock<SocketAddr>,
}

impl Monitor {
    /// Starts listening, unless the operator wants none. A failure is a warning: the tunnel matters more.
    pub(super) fn start(&self, server: &Arc<Server>) {
        let Some(wanted) = server.settings.monitor.address() else { return };
        let token = match Token::draw() {
            Ok(token) => token,
            Err(error) => return log::warn!("no monitor: the kernel has no random numbers for its token: {error}"),
        };
        let site = Site::new(Arc::downgrade(server), token, wanted.ip().is_loopback());
        match Listener::start(wanted, site) {
            Ok(listener) => {
                let address = listener.address();
                let _ = self.address.set(address);
                log::info!(target: NOTICE, "monitor: http://{address}/metrics");
                *self.listener.lock() = Some(listener);
            }
            Err(error) => log::warn!(
                "[srv_vpn] monitor: cannot listen on {wanted}: {error}; the service runs without a monitor; expected an \
                 address of this host and a free port, such as monitor = 127.0.0.1:{}, or off",
                settings::PORT + 1
            ),
        }
    }

    /// Stops listening, and waits until no request is being answered.
    pub(super) fn stop(&self) {
        let listener = self.listener.lock().take();
        drop(listener);
    }
}
