//! The VPN client: one connection at a time, from [`start`] to [`stop`].
//!
//! The files are layers, from the highest to the lowest. Each uses the layers below it:
//!
//! - this one: start, stop and status; holds the only connection.
//! - `renewal`: the change to another connection with another transaction, while the tunnel is up.
//! - `connection`: one connection to one server, the IO around the state machine
//!   [`Exchange`](vpn_core::exchange::Exchange).
//! - `tunnel_part`: the tunnel as a connection uses it, [`device`] or the legacy C file in its place.
//! - [`device`]: creates and removes the TUN device; passes its packets to the two below.
//! - `uplink`: packets from the device to the server, with back-pressure; `downlink`: from the server to the device.
//!   Neither uses the other.
//! - `request`: what a connection asks for. `payer`: the thread that signs a connection's receipts. `payment`: which
//!   order a connection uses, and the transaction that pays it.
//! - `error`: why a start failed; `settings`: the user's configuration.
//!
//! These need no tunnel: [`check`], a check of a server, with `probe`, a TCP connection of its own; [`orders`] and [`wallet`], the offered services and the means
//! of payment.

pub(crate) mod check;
mod connection;
#[cfg(feature = "client-tun")]
pub(crate) mod device;
#[cfg(feature = "client-tun")]
mod downlink;
mod error;
pub(crate) mod orders;
mod payer;
mod payment;
mod probe;
mod renewal;
mod request;
mod settings;
mod tunnel_part;
#[cfg(feature = "client-tun")]
mod uplink;
pub(crate) mod wallet;

use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::sdk::channel::{self, Role};
use crate::sdk::config::Config;
use crate::sdk::net::Net;
use crate::sdk::types::{dap_stream_ch_t, dap_stream_worker_t};
use crate::sdk::{NotRunning, Running, command, parts, settle, worker};
use connection::Connection;
pub use error::ClientError;
use settings::Settings;
pub(crate) use vpn_core::exchange::State;
use vpn_core::forward::Totals;

/// The usage text of the command `vpn_client`.
const USAGE: &CStr = c"vpn_client [start -addr <server_address> -port <server_port>|stop|status] -net <net_name>\n\
vpn_client init -w <wallet_name> -token <token_name> -value <value> -net <net_name>\n\
vpn_client stop -net <net_name>\n\
vpn_client status -net <net_name>\n\
vpn_client check -addr <ip_addr> -port <port> -net <net_name>\n\
vpn_client check result -net <net_name> [-H hex(default)|base58]\n";

/// The client's status, as C sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The client was never started, or its last start failed.
    NotStarted,
    /// The tunnel is up.
    Started,
    /// `stop` ended the client after a `start`; also while a connection is being established or closed.
    Stopped,
    /// The connection was lost.
    ConnectionLost,
}

/// The result of a successful start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// This call started the client.
    Now,
    /// The client was already started.
    Already,
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

/// The last command that the client received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastCommand {
    None,
    Start,
    Stop,
}

struct Client {
    connection: Option<Arc<Connection>>,
    last_command: LastCommand,
    last_error: Option<ClientError>,
    /// Keeps the SDK running from `init` to `deinit`, so that the command can be called.
    registered: Option<Running>,
    /// The configuration that `init` received; `None` for the node's.
    config: Option<Arc<Config>>,
}

static CLIENT: Mutex<Client> = Mutex::new(Client {
    connection: None,
    last_command: LastCommand::None,
    last_error: None,
    registered: None,
    config: None,
});
/// Serialises the blocking functions: start, stop, deinit.
static CHANGE: Mutex<()> = Mutex::new(());
/// A stop waits for a start that has no connection yet.
static IS_CANCELLED: AtomicBool = AtomicBool::new(false);
/// The message for a worker, which must not wait for another thread's change.
const BUSY: &str = "another thread is starting or stopping the VPN client; a worker must not wait for it";

fn connection() -> Option<Arc<Connection>> {
    CLIENT.lock().connection.clone()
}

/// Registers the command `vpn_client`, and keeps the configuration for later starts.
pub(crate) fn init(config: Config) -> Result<(), NotRunning> {
    let mut running = Some(Running::retain()?);
    let is_first = {
        let mut client = CLIENT.lock();
        client.config = Some(Arc::new(config));
        let is_first = client.registered.is_none();
        if is_first {
            client.registered = running.take();
        }
        is_first
    };
    if is_first {
        command::add(c"vpn_client", parts::VPN_CLIENT, c"VPN client control", USAGE);
    }
    Ok(())
}

/// Stops the client and unregisters the command; does nothing if the client was not initialised.
pub(crate) fn deinit() {
    stop_now();
    let (registered, config) = {
        // With the lock, no start is still reading the configuration.
        let Some(_change) = worker::serialise(&CHANGE) else { return log::warn!("{BUSY}") };
        let mut client = CLIENT.lock();
        (client.registered.take(), client.config.take())
    };
    // Dropping the configuration lets C close it.
    drop(config);
    if registered.is_some() {
        command::remove(c"vpn_client");
    }
    drop(registered);
    settle();
}

/// Connects and brings the tunnel up; blocks until it is up or has failed. An invalid argument changes nothing.
///
/// Must not be called on a worker: it would wait for actions that only the worker can do.
pub(crate) fn start(net: &Net, host: &str, port: u16) -> Result<Started, ClientError> {
    let result = match worker::current() {
        None => check_target(host, port).and_then(|()| start_anew(net, host, port)),
        Some(_) => Err(ClientError::OnWorker),
    };
    CLIENT.lock().last_error = result.as_ref().err().cloned();
    if let Err(error) = &result {
        log::error!("VPN client not started: {error}");
        settle();
    }
    result
}

fn start_anew(net: &Net, host: &str, port: u16) -> Result<Started, ClientError> {
    let _change = CHANGE.lock();
    IS_CANCELLED.store(false, Ordering::Relaxed);
    if let Some(old) = connection() {
        if !old.is_lost() {
            return Ok(Started::Already);
        }
        // The old device stays until the new one exists, so that the host's packets do not leave around the tunnel.
        end_connection(&old);
    }
    CLIENT.lock().last_command = LastCommand::Start;
    connect(net, host, port).map(|()| Started::Now)
}

fn connect(net: &Net, host: &str, port: u16) -> Result<(), ClientError> {
    let running = Running::retain().map_err(|_| ClientError::NotRunning)?;
    let settings = settings();
    let contract = payment::contract(net, (host, port), &settings, &|| IS_CANCELLED.load(Ordering::Relaxed))?;
    let place = (host, port);
    let connection = Connection::new(net.clone(), place, settings, &contract, false, renewal::switch, running);
    channel::set_handler(Role::Client, Some(Arc::new(connection::Channels)));
    CLIENT.lock().connection = Some(Arc::clone(&connection));
    let had_device = tunnel_part::exists();
    let result = connection.establish();
    if result.is_err() {
        end_connection(&connection);
        if !had_device {
            tunnel_part::delete();
        }
    }
    result
}

fn settings() -> Settings {
    let config = CLIENT.lock().config.clone().unwrap_or_else(|| Arc::new(Config::of_node()));
    Settings::read(&config)
}

/// Chooses wallet, token and value, and makes the conditional transaction that pays. Blocks.
pub(crate) fn update(net: &Net, wallet: &str, token: &str, value: u64) -> Result<(), wallet::WalletError> {
    let settings = settings();
    let preferences = wallet::Preferences { order: settings.order_hash, tx_fee: settings.tx_fee };
    wallet::update(net, wallet, token, value, &preferences)
}

/// Ends a connection, and waits until its channel is closed.
fn end_connection(connection: &Arc<Connection>) {
    connection.end();
    let mut client = CLIENT.lock();
    if client.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
        client.connection = None;
    }
}

/// Removes the tunnel and closes the connection, even while `start` is still waiting.
pub(crate) fn stop() {
    stop_now();
    settle();
}

fn stop_now() {
    IS_CANCELLED.store(true, Ordering::Relaxed);
    if let Some(connecting) = connection() {
        connecting.cancel();
    }
    let Some(_change) = worker::serialise(&CHANGE) else { return log::warn!("{BUSY}") };
    let running = connection();
    if let Some(connection) = &running {
        end_connection(connection);
    }
    // A device that C created without a start is C's to delete.
    if CLIENT.lock().last_command == LastCommand::Start {
        tunnel_part::delete();
        CLIENT.lock().last_command = LastCommand::Stop;
    }
    if running.is_some() {
        log::info!("VPN client stopped");
    }
}

/// Returns the client's status.
pub(crate) fn status() -> Status {
    let client = CLIENT.lock();
    match (&client.connection, client.last_command) {
        (None, LastCommand::Stop) => Status::Stopped,
        (None, LastCommand::None | LastCommand::Start) => Status::NotStarted,
        (Some(connection), _) if connection.is_started() => Status::Started,
        (Some(connection), _) if connection.is_lost() => Status::ConnectionLost,
        (Some(_), _) => Status::Stopped,
    }
}

/// Returns the lease and the device; `None` while the tunnel is not up.
pub(crate) fn lease() -> Option<LeaseInfo> {
    connection().filter(|connection| connection.state() == State::Up).and_then(|_| tunnel_part::lease())
}

/// Returns why the connection was lost, or why the last start failed.
pub(crate) fn last_error() -> Option<ClientError> {
    let (connection, failed) = {
        let client = CLIENT.lock();
        (client.connection.clone(), client.last_error.clone())
    };
    connection.and_then(|connection| connection.loss()).or(failed)
}

/// Returns traffic and drops since the tunnel was created.
pub(crate) fn totals() -> Totals {
    tunnel_part::totals()
}

/// Returns the SDK's channel 'S' of the running connection, or NULL.
pub(crate) fn stream_channel() -> *mut dap_stream_ch_t {
    connection().map_or(ptr::null_mut(), |connection| connection.stream_channel())
}

/// Returns the SDK's stream worker of the running connection, or NULL.
pub(crate) fn stream_worker() -> *mut dap_stream_worker_t {
    connection().map_or(ptr::null_mut(), |connection| connection.stream_worker())
}

/// Handles a packet of channel 'S', on its worker.
pub(crate) fn packet_in(kind: u8, data: &[u8]) {
    if let Some(connection) = connection() {
        connection.packet(kind, data);
    }
}

/// Checks that the host name or address, and the port, are valid targets.
fn check_target(host: &str, port: u16) -> Result<(), ClientError> {
    if host.is_empty() || host.len() > 253 || host.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(ClientError::Argument("the host is no name or address of 1 to 253 characters"));
    }
    if port == 0 {
        return Err(ClientError::Argument("the port is 0, 1 to 65535 is expected"));
    }
    Ok(())
}
