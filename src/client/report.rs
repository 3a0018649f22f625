//! What the client says of itself: its status, its lease, what is in force on the host.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
pub use super::connection::Paid;
use super::error::ClientError;
use super::watch::{self, Health};
use super::{CLIENT, LastCommand, State, connection, kill_switch, tunnel_part};
use vpn_core::forward::Totals;
use vpn_core::lease::Subnet;

/// The client's status, as C sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The client was never started, or its last start failed; it has no device.
    NotStarted,
    /// The tunnel is up.
    Started,
    /// `stop` ended the client after a `start`; also while a connection is being established or closed.
    Stopped,
    /// The connection was lost. The client connects again, unless `[vpn_client] reconnect` is false or time alone heals
    /// nothing. The device stays until `stop` or a connection that has its own.
    ConnectionLost,
}

/// The lease and the device of the running tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// This host's inner address.
    pub addr: Ipv4Addr,
    /// The server's inner address.
    pub gateway: Ipv4Addr,
    /// The largest inner packet, in bytes.
    pub mtu: u16,
    /// The name of the TUN device.
    pub device: String,
}

/// What a connection that is up is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The server as host:port.
    pub server: String,
    /// For how long the connection has had its device.
    pub lasted: Duration,
    /// The time that the path of the stream takes to the server and back, with what waits on it, as TCP measures it
    /// (`tcpi_rtt` of TCP_INFO); `None` until it is known.
    pub round_trip: Option<Duration>,
}

/// What is routed into the tunnel's device beside its subnet, as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    /// The networks that the user has asked for.
    pub networks: Vec<Subnet>,
    /// The number of the IPv4 routes for them, which leave out the server and what the host routes itself.
    pub routes: usize,
    /// Whether the host's IPv6 is routed into the device, where it is answered with "unreachable".
    pub blocks_ipv6: bool,
}

/// Returns whether the client connects again after a loss. It stops that when time alone heals nothing.
pub(crate) fn reconnects() -> bool {
    CLIENT.lock().target.is_some()
}

/// Returns how often the client has connected.
pub(crate) fn connects() -> u64 {
    CLIENT.lock().connects
}

/// Returns the client's status.
pub(crate) fn status() -> Status {
    let (connection, last_command, is_starting, is_reconnecting) = {
        let client = CLIENT.lock();
        let between = client.connection.is_none() && client.target.is_some();
        (client.connection.clone(), client.last_command, client.starts > 0, client.is_reconnecting || between)
    };
    match (&connection, last_command) {
        // The connection looks after its device at its ticks; the kernel knows earlier that it is gone.
        (Some(connection), _) if connection.is_started() => match tunnel_part::health() {
            Health::Gone => Status::ConnectionLost,
            Health::Up | Health::Down(_) => Status::Started,
        },
        (Some(connection), _) if connection.is_lost() || is_reconnecting => Status::ConnectionLost,
        (Some(_), _) => Status::Stopped,
        (None, _) if is_starting => Status::Stopped,
        (None, _) if is_reconnecting => Status::ConnectionLost,
        // The device of a lost connection: the start after it has failed.
        (None, _) if tunnel_part::is_clients() => Status::ConnectionLost,
        (None, LastCommand::Stop) => Status::Stopped,
        (None, LastCommand::None | LastCommand::Start) => Status::NotStarted,
    }
}

/// Returns the lease and the device; `None` while the tunnel is not up.
pub(crate) fn lease() -> Option<LeaseInfo> {
    connection().filter(|connection| connection.state() == State::Up).and_then(|_| tunnel_part::lease())
}

/// Returns what the connection is like; `None` while the tunnel is not up.
pub(crate) fn details() -> Option<Details> {
    let connection = connection().filter(|connection| connection.state() == State::Up)?;
    let (lasted, round_trip) = tunnel_part::measured()?;
    Some(Details { server: connection.server().to_owned(), lasted, round_trip })
}

/// Returns what the connection pays; `None` for a free order, and while the tunnel is not up.
pub(crate) fn paid() -> Option<Paid> {
    connection().filter(|connection| connection.state() == State::Up)?.paid()
}

/// Returns what is routed into the device beside its subnet; `None` without a device. Reads the kernel's tables.
pub(crate) fn routed() -> Option<Routed> {
    tunnel_part::routed()
}

/// Returns whether a kill switch is up, also one that a run before has left: packets leave the host through the tunnel
/// alone. Asks the kernel.
pub(crate) fn has_kill_switch() -> bool {
    kill_switch::is_up()
}

/// Returns why the connection was lost, or why the last start failed.
pub(crate) fn last_error() -> Option<ClientError> {
    let (connection, failed) = {
        let client = CLIENT.lock();
        (client.connection.clone(), client.last_error.clone())
    };
    let loss = |connection: Arc<Connection>| {
        let is_gone = || connection.is_started() && tunnel_part::health() == Health::Gone;
        connection.loss().or_else(|| is_gone().then(|| connection.lost_for(watch::GONE)))
    };
    connection.and_then(loss).or(failed)
}

/// Returns traffic and drops since the tunnel was created.
pub(crate) fn totals() -> Totals {
    tunnel_part::totals()
}
