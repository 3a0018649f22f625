//! The VPN client: one connection at a time, from [`start`] to [`stop`].
//!
//! The files are layers, from the highest to the lowest. Each uses the layers below it:
//!
//! - this one: start and stop; holds the only connection.
//! - `report`: what the client says of itself.
//! - `reconnect`: connects again after a loss.
//! - `renewal`: the change to another connection with another transaction, while the tunnel is up.
//! - `connect`: one attempt to connect.
//! - `connection`: one connection to one server, the IO around the state machine
//!   [`Exchange`](vpn_core::exchange::Exchange).
//! - `tunnel_part`: the tunnel as a connection uses it, [`device`] or the legacy C file in its place.
//! - [`device`]: creates and removes the TUN device; passes its packets to the two below.
//! - `uplink`: packets from the device to the server, with back-pressure; `downlink`: from the server to the device.
//!   Neither uses the other.
//! - [`judge`]: whether an offered subnet collides with what this host uses.
//! - `kill_switch`: what may leave this host while the client is not stopped.
//! - `look_up`: the address of the server's name, on a node.
//! - `dns`: the host's name servers while the tunnel is up.
//! - `watch`: whether the device is still there. `request`: what a connection asks for. `payer`: the thread that signs a
//!   connection's receipts. `payment`: which order a connection uses, and the transaction that pays it.
//! - `stops`: how a stop ends the starts before it. `error`: why a start failed; `settings`: the user's configuration;
//!   `target`: what the user may name as a server.
//!
//! These need no tunnel: [`check`], a check of a server, with `probe`, a TCP connection of its own; [`orders`] and [`wallet`], the offered services and the means
//! of payment.

pub(crate) mod check;
mod connect;
mod connection;
#[cfg(feature = "client-tun")]
pub(crate) mod device;
pub(crate) mod dns;
#[cfg(feature = "client-tun")]
mod downlink;
mod error;
pub(crate) mod judge;
mod kill_switch;
#[cfg(any(not(feature = "embedded"), test))]
mod look_up;
pub(crate) mod orders;
mod payer;
mod payment;
mod probe;
mod reconnect;
mod renewal;
pub(crate) mod report;
mod request;
mod settings;
mod stops;
mod target;
mod tunnel_part;
#[cfg(feature = "client-tun")]
mod uplink;
pub(crate) mod wallet;
mod watch;

use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::sdk::config::{BadValue, Config};
use crate::sdk::net::Net;
use crate::sdk::types::{dap_stream_ch_t, dap_stream_worker_t};
use crate::sdk::{NotRunning, Running, command, parts, settle, worker};
use connect::connect;
use connection::Connection;
pub use error::ClientError;
use reconnect::Target;
pub(crate) use report::Routed;
pub use report::{LeaseInfo, Status};
use settings::Settings;
use stops::Began;
use target::check_target;
pub(crate) use vpn_core::exchange::State;
use vpn_core::names;
use watch::Health;

/// The usage text of the command `vpn_client`.
const USAGE: &CStr = c"vpn_client [start -addr <server_address> -port <server_port>|stop|status] -net <net_name>\n\
vpn_client init -w <wallet_name> -token <token_name> -value <value> -net <net_name>\n\
vpn_client stop -net <net_name>\n\
vpn_client status -net <net_name> [-json]\n\
vpn_client check -addr <ip_addr> -port <port> -net <net_name>\n\
vpn_client check result -net <net_name> [-H hex(default)|base58]\n";

/// The result of a successful start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// This call started the client.
    Now,
    /// The client was already started.
    Already,
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
    /// The connection that is being prepared to continue `connection`.
    next: Option<Arc<Connection>>,
    /// How many threads are in [`start`].
    starts: usize,
    /// What to connect to again after a loss, from a start that succeeded on.
    target: Option<Target>,
    /// The thread that does.
    keeper: Option<JoinHandle<()>>,
    /// It is connecting.
    is_reconnecting: bool,
    /// How often the client has connected.
    connects: u64,
    last_command: LastCommand,
    last_error: Option<ClientError>,
    /// Keeps the SDK running from `init` to `deinit`, so that the command can be called.
    registered: Option<Running>,
    /// The configuration that `init` received; `None` for the node's.
    config: Option<Config>,
}

static CLIENT: Mutex<Client> = Mutex::new(Client {
    connection: None,
    next: None,
    starts: 0,
    target: None,
    keeper: None,
    is_reconnecting: false,
    connects: 0,
    last_command: LastCommand::None,
    last_error: None,
    registered: None,
    config: None,
});
/// Serialises the blocking functions: start, stop, deinit.
static CHANGE: Mutex<()> = Mutex::new(());
/// How often a stop that waits for a start also ends the starts that have begun meanwhile.
const STOP_INTERVAL: Duration = Duration::from_millis(20);
/// The message for a worker, which must not wait for another thread's change.
const BUSY: &str = "another thread is starting or stopping the VPN client; a worker must not wait for it";

fn connection() -> Option<Arc<Connection>> {
    CLIENT.lock().connection.clone()
}

/// Registers the command `vpn_client`, and keeps the configuration for later starts. Puts the name servers back that a
/// killed client has changed: a node that starts again may not start its client.
pub(crate) fn init(config: Config) -> Result<(), NotRunning> {
    let mut running = Some(Running::retain()?);
    let is_first = {
        let mut client = CLIENT.lock();
        client.config = Some(config);
        let is_first = client.registered.is_none();
        if is_first {
            client.registered = running.take();
        }
        is_first
    };
    if is_first {
        dns::undo_leftovers();
        command::add(c"vpn_client", parts::VPN_CLIENT, c"VPN client control", USAGE);
    }
    Ok(())
}

/// Stops the client and unregisters the command; does nothing if the client was not initialised. C may close the
/// configuration afterwards.
pub(crate) fn deinit() {
    let registered = {
        let Some(_change) = stop_starts() else { return log::warn!("{BUSY}") };
        // Only a stop takes the kill switch of a tunnel that was lost down.
        let was_up = report::status() == Status::Started;
        stop_connection();
        if was_up {
            kill_switch::lower()
        } else {
            kill_switch::leave()
        }
        let mut client = CLIENT.lock();
        client.config = None;
        client.registered.take()
    };
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
        None => check_target(host, port).and_then(|host| start_anew(net, host, port)),
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
    let (began, _starting) = (Began::now(), Starting::new());
    let server = names::server(host, port);
    let _change = CHANGE.lock();
    if began.is_stopped() {
        return Err(ClientError::Stopped);
    }
    if let Some(old) = connection() {
        // The periodic look at the device may still be to come.
        if !old.is_lost() && (!old.is_started() || tunnel_part::health() == Health::Up) {
            let is_to_it = old.server() == server;
            return if is_to_it { Ok(Started::Already) } else { Err(ClientError::Elsewhere(old.server().to_owned())) };
        }
        // The old device stays until the new one exists, so that the host's packets do not leave around the tunnel.
        old.end();
        forget(&old);
    }
    {
        let mut client = CLIENT.lock();
        client.last_command = LastCommand::Start;
        // Whatever comes of this start, another server is not wanted any more.
        client.target.take_if(|target| target.server != server);
    }
    let connection = connect(net, (host, port), began, None)?;
    if connection.reconnects() {
        let mut client = CLIENT.lock();
        client.target = Some(Target { server, net: net.clone(), host: host.to_owned(), port });
        if client.keeper.is_none() {
            client.keeper = reconnect::start(began);
        }
    }
    Ok(Started::Now)
}

/// A thread in [`start_anew`].
struct Starting;

impl Starting {
    fn new() -> Starting {
        CLIENT.lock().starts += 1;
        Starting
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        CLIENT.lock().starts -= 1;
    }
}

/// Reads settings as a start does.
#[cfg(feature = "embedded")]
pub(crate) fn check_settings(config: &Config) -> Result<(), BadValue> {
    Settings::read(config).map(drop)
}

/// Reads the configuration. With the lock, so that [`deinit`] returns only when nobody reads it.
fn settings() -> Result<Settings, BadValue> {
    match &CLIENT.lock().config {
        Some(config) => Settings::read(config),
        None => Settings::read(&Config::of_node()),
    }
}

/// Returns the networks in which a server may give a subnet, beside the private ones.
#[cfg(feature = "client-tun")]
pub(crate) fn allowed_subnets() -> Result<Vec<vpn_core::lease::Subnet>, BadValue> {
    match &CLIENT.lock().config {
        Some(config) => settings::allowed_subnets(config),
        None => settings::allowed_subnets(&Config::of_node()),
    }
}

/// Chooses wallet, token and value, and makes the conditional transaction that pays. Blocks.
pub(crate) fn update(net: &Net, wallet: &str, token: &str, value: u64) -> Result<(), wallet::WalletError> {
    let settings = settings()?;
    let preferences = wallet::Preferences { order: settings.order_hash, tx_fee: settings.tx_fee };
    wallet::update(net, wallet, token, value, &preferences)
}

/// Forgets a connection that has ended.
fn forget(connection: &Arc<Connection>) {
    let ended = CLIENT.lock().connection.take_if(|current| Arc::ptr_eq(current, connection));
    // Its drop may call the SDK: not under the lock.
    drop(ended);
}

/// Removes the tunnel and closes the connection. Ends every start that waits, whatever it waits for. Takes down the kill
/// switch that an earlier process has left, too.
pub(crate) fn stop() {
    match stop_starts() {
        Some(_change) => {
            stop_connection();
            // Last: until here something might leave around the tunnel.
            kill_switch::lower();
            kill_switch::undo_leftovers();
        }
        None => log::warn!("{BUSY}"),
    }
    settle();
}

/// Returns how often the client was stopped, so that a program that starts it again and again misses no stop.
pub(crate) fn stops() -> u64 {
    stops::count()
}

/// Ends all starts, and the change to another connection. Returns the lock that each of them holds; `None` on a worker
/// if another thread holds it.
fn stop_starts() -> Option<MutexGuard<'static, ()>> {
    loop {
        stops::stop();
        // A connection that is published from now on looks by itself whether it was stopped.
        let (connection, next) = {
            let client = CLIENT.lock();
            (client.connection.clone(), client.next.clone())
        };
        for connecting in [connection, next].into_iter().flatten() {
            connecting.cancel();
        }
        if worker::current().is_some() {
            return CHANGE.try_lock();
        }
        // A start that has begun since must not take the lock for its whole time limit.
        if let Some(change) = CHANGE.try_lock_for(STOP_INTERVAL) {
            return Some(change);
        }
    }
}

/// Ends the connection and removes the device that a start has made.
fn stop_connection() {
    let running = connection();
    dns::unset();
    if let Some(connection) = &running {
        connection.end();
    }
    end_reconnecting();
    // A device that C created without a start is C's to delete.
    if CLIENT.lock().last_command == LastCommand::Start || tunnel_part::is_clients() {
        tunnel_part::delete();
        CLIENT.lock().last_command = LastCommand::Stop;
    } else if CLIENT.lock().starts > 0 {
        CLIENT.lock().last_command = LastCommand::Stop;
    }
    if let Some(connection) = &running {
        forget(connection);
        log::info!("VPN client stopped");
    }
}

/// Ends the thread that connects again, after the stop was counted.
fn end_reconnecting() {
    let keeper = {
        let mut client = CLIENT.lock();
        client.target = None;
        client.keeper.take()
    };
    // It may be waiting for the caller, if that is a worker.
    if let Some(keeper) = keeper.filter(|_| worker::current().is_none())
        && keeper.join().is_err()
    {
        log::error!("the thread that connects again has panicked");
    }
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
