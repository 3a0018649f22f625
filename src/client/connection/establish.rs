//! From the dial to a tunnel that is up, on the thread that starts the client.

use std::sync::Arc;
#[cfg(not(feature = "embedded"))]
use std::sync::{Weak, atomic::Ordering};
use std::time::{Duration, Instant};

use host::patience;
use parking_lot::MutexGuard;

use super::{Connection, LEASES, Shared, tunnel};
use crate::client::error::ClientError;
use crate::client::judge::judge;
use crate::client::settings::Settings;
use crate::client::{State, dns, kill_switch};
#[cfg(not(feature = "embedded"))]
use crate::client::{look_up, probe};
use crate::sdk::link::{self, Link};
use crate::sdk::store;
use vpn_core::exchange::{Event, Exchange, Grant};
use vpn_core::lease::Token;

/// How long a node's SDK may take for the stream before the path to a server that accepts connections is suspected to lose
/// full packets. The SDK tries again after 3 s.
#[cfg(not(feature = "embedded"))]
const SUSPICION: Duration = Duration::from_secs(2);

impl Connection {
    /// Connects, and waits until the tunnel is up or a step has failed.
    pub(in crate::client) fn establish(self: &Arc<Self>) -> Result<(), ClientError> {
        log::info!("connecting to {} in network {}", self.server, self.net.name());
        // Not again for each attempt after a loss.
        if !self.origin.is_renewal && self.origin.address.is_none() {
            self.settings.congestion.say();
        }
        self.dial()?;
        let grant = self.await_grant();
        #[cfg(not(feature = "embedded"))]
        let grant = grant.map_err(|error| self.blame_path(error));
        let grant = grant?;
        self.bring_up(&grant)?;
        #[cfg(not(feature = "embedded"))]
        if let Some(address) = self.server_address() {
            look_up::answered(&self.host, address);
        }
        log::info!("{}: the tunnel is up", self.server);
        self.keep_token(grant.token);
        Ok(())
    }

    pub(super) fn dial(self: &Arc<Self>) -> Result<(), ClientError> {
        // A stop that came before the connection was published could not cancel it.
        if self.origin.began.is_stopped() {
            self.cancel();
            return Err(ClientError::Stopped);
        }
        let events = Arc::downgrade(self);
        let handler = Arc::new(move |event: link::Event<'_>| {
            if let Some(connection) = events.upgrade() {
                connection.link_event(event);
            }
        });
        let target = self.target()?;
        #[cfg(not(feature = "embedded"))]
        {
            self.shared.lock().unsuspected = target.parse().ok();
        }
        let link = Link::connect(&self.net, &target, self.port, "RS", handler)
            .ok_or_else(|| ClientError::Connect { server: self.server.clone(), errno: libc::EIO })?;
        self.shared.lock().link = Some(link);
        self.handle(Event::Dialled);
        Ok(())
    }

    /// Returns what the SDK is given to connect to: the name, by which the embedded SDK knows the identity.
    #[cfg(feature = "embedded")]
    fn target(&self) -> Result<String, ClientError> {
        Ok(self.host.clone())
    }

    /// Returns what the SDK is given to connect to: the address. Blocks while the name is looked up.
    #[cfg(not(feature = "embedded"))]
    fn target(&self) -> Result<String, ClientError> {
        let (place, time, before) = ((&*self.host, self.port), self.settings.start_timeout, self.origin.address);
        let is_wanted = || !self.origin.began.is_stopped() && self.shared.lock().exchange.is_alive();
        match kill_switch::way_to(&self.server).filter(|_| look_up::is_name(&self.host)) {
            // No name server can be asked.
            Some(address) => {
                let first = look_up::turn(&self.host).unwrap_or(address);
                look_up::first_to_accept(place, &self.server, first, time, is_wanted)
            }
            None => look_up::target(place, &self.server, before, time, is_wanted),
        }
    }

    pub(super) fn await_grant(&self) -> Result<Grant, ClientError> {
        let mut shared = self.shared.lock();
        while shared.grant.is_none() && shared.exchange.is_alive() {
            match shared.exchange.deadline() {
                Some(deadline) => self.wait_step(&mut shared, deadline),
                // The worker is about to pass the grant on.
                None => self.changed.wait(&mut shared),
            }
        }
        match shared.grant.take().filter(|_| shared.exchange.is_alive()) {
            Some(grant) => Ok(grant),
            None => Err(self.start_error(&shared.exchange)),
        }
    }

    /// Waits for a change in `shared`, and tells the state machine when its time limit has passed. In steps, so that a
    /// pause of this process does not use up the time: what arrived meanwhile has still to be read.
    pub(super) fn wait_step(&self, shared: &mut MutexGuard<'_, Shared>, deadline: Duration) {
        let until = (self.started + deadline).min(Instant::now() + patience::STEP);
        let timed_out = self.changed.wait_until(shared, until).timed_out();
        match patience::pause_since(until) {
            Duration::ZERO if timed_out => shared.exchange.handle(self.now(), Event::Timeout),
            Duration::ZERO => {}
            pause => shared.exchange.handle(self.now(), Event::Paused(pause)),
        }
        #[cfg(not(feature = "embedded"))]
        self.suspect_path(shared);
        self.tell_end(shared);
    }

    /// Makes the path a narrow one if the server accepts connections, and the SDK gets no stream: its handshake has full
    /// packets, and nobody else can reach its socket. What this host then announces makes the server's packets small, too.
    #[cfg(not(feature = "embedded"))]
    fn suspect_path(&self, shared: &mut Shared) {
        if !shared.exchange.awaits_stream() || self.started.elapsed() < SUSPICION {
            return;
        }
        let Some(address) = shared.unsuspected.take() else { return };
        let connection = Weak::clone(&self.weak_self);
        let report = move |reached: Result<(), i32>| {
            let result = reached.map_err(std::io::Error::from_raw_os_error);
            match result.and_then(|()| host::narrow_path::narrow(address)) {
                Ok(()) => {
                    log::debug!("{address} is silent; the path to it is taken for a narrow one");
                    if let Some(connection) = connection.upgrade() {
                        connection.is_narrowed.store(true, Ordering::Release);
                    }
                }
                Err(error) => log::debug!("{address} is silent; the path to it stays as it is: {error}"),
            }
        };
        probe::start(&address.to_string(), self.port, Instant::now() + SUSPICION, report);
    }

    /// Says of a server that could not be reached if the path to it was taken for a narrow one since: that holds for the
    /// next connection alone.
    #[cfg(not(feature = "embedded"))]
    fn blame_path(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Connect { server, .. } if self.is_narrowed.load(Ordering::Acquire) => {
                ClientError::Connect { server, errno: libc::EMSGSIZE }
            }
            error => error,
        }
    }

    /// Creates the device, on the calling thread: the stream's worker has other streams to serve.
    pub(super) fn bring_up(&self, grant: &Grant) -> Result<(), ClientError> {
        let Some(channel) = self.channel() else { return Err(self.start_error(&self.shared.lock().exchange)) };
        if let Err(collision) = judge(grant.offer.subnet(), tunnel::own()) {
            self.handle(Event::OfferCollides(collision.to_string()));
            return Err(self.start_error(&self.shared.lock().exchange));
        }
        let server = self.shared.lock().server_address;
        // Before and after: the device that it lets through is then the new one.
        let raise = || kill_switch::raise(&self.server, server, self.port, &self.settings);
        let create = || tunnel::create(&channel, grant, &self.settings, server).map_err(ClientError::Tunnel);
        if let Err(error) = raise().and_then(|()| create()).and_then(|()| raise()) {
            self.handle(Event::DeviceFailed(error.to_string()));
            return Err(error);
        }
        // In any other state the start was stopped or refused, or the connection lost, meanwhile: the caller deletes
        // the device.
        match self.handle(Event::DeviceMade) {
            State::Up => self.set_name_servers(grant),
            _ => Err(self.start_error(&self.shared.lock().exchange)),
        }
    }

    fn set_name_servers(&self, grant: &Grant) -> Result<(), ClientError> {
        let (Settings { dns, routes, .. }, began) = (&self.settings, self.origin.began);
        let Some(device) = tunnel::own() else { return Ok(()) };
        dns::set(dns, &grant.offer, routes, device.index, began).map_err(ClientError::Tunnel)
    }

    pub(super) fn keep_token(&self, token: Option<Token>) {
        let Some(token) = token else { return };
        if let Err(error) = store::set(LEASES, &self.server, &token) {
            log::warn!("cannot store the lease's token, the next start may get another address: {error}");
        }
    }

    /// Returns why the tunnel is not up.
    pub(super) fn start_error(&self, exchange: &Exchange) -> ClientError {
        ClientError::from_failure(exchange.failure(), &self.server, self.settings.start_timeout)
    }
}
