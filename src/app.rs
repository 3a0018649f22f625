//! The library's Rust API, for programs without C: the program `cellframe-vpn`, examples, tests.
//!
//! Set the embedded SDK's configuration first (`embedded::config::set_current`). Each function here does the same as
//! the C function with the same meaning. Every failure is also logged. In the child of a process that was forked while
//! the service or the client ran, each fails or does nothing.
//!
//! This server runs as root until its standard input ends (`examples/` has it as a program, and a client):
//!
//! ```no_run
//! use dap_chain_net_srv_vpn::app;
//! use dap_chain_net_srv_vpn::embedded::config::{self, Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::empty();
//! config.set("server", "listen_address", "0.0.0.0:8079");
//! config::set_current(config);
//!
//! app::server_start()?;
//! std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
//! println!("{}", app::vpn_stat());
//! app::server_stop();
//! # Ok(())
//! # }
//! ```

mod pulse;

use crate::client::{self, check, report};
use crate::sdk::config::Config;
use crate::sdk::net::Net;
use crate::sdk::process::is_forked;
use crate::sdk::reload::{self, Candidate, NodeConfig};
use crate::{cli, server};
use vpn_core::forward::Totals;

pub use crate::client::dns::InForce as NameServers;
pub use crate::client::report::{Details, Paid};
pub use crate::client::{ClientError, LeaseInfo, Started, Status};
pub use crate::sdk::NotRunning;
pub use crate::server::{InitError, ReloadError};
pub use pulse::Pulse;

/// Starts the VPN service. A mistake in the configuration is found before anything is made, and named.
///
/// ```
/// use dap_chain_net_srv_vpn::app;
/// use dap_chain_net_srv_vpn::embedded::config::{self, Config};
///
/// let (config, _) = Config::parse("[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.0.255.0\n", "my.cfg");
/// config::set_current(config);
///
/// let error = app::server_start().expect_err("a mask with holes");
/// assert!(error.is_configuration());
/// assert!(error.to_string().contains("network_mask = 255.0.255.0"), "{error}");
/// // Nothing runs, and nothing is left to stop.
/// assert_eq!(app::server_failure(), None);
/// assert!(app::server_totals().is_none());
/// ```
pub fn server_start() -> Result<(), InitError> {
    if is_forked() {
        return Err(NotRunning.into());
    }
    crate::sdk::start_logging();
    server::init(&Config::of_node()).inspect_err(|error| log::error!("VPN service not started: {error}"))
}

/// Gives the service that runs another configuration while its sessions live, and makes it the process-wide one. All of it
/// takes effect, or an error says why nothing does.
///
/// It must differ only in keys that can change while the service runs, which docs/config.md marks; the program's command
/// `reload` keeps the others as they are.
pub fn server_reload(config: NodeConfig) -> Result<(), ReloadError> {
    if is_forked() {
        return Err(ReloadError::NotRunning);
    }
    let candidate = Candidate::open(config.clone());
    server::reload(&candidate, || Ok(reload::reload(config)?))
}

/// Returns whether a service could start with this configuration, as far as its keys are concerned. Changes nothing.
pub fn server_check(config: &NodeConfig) -> Result<(), ReloadError> {
    reload::check(config)?;
    Ok(server::check(&Candidate::open(config.clone()))?)
}

/// Stops the VPN service.
pub fn server_stop() {
    if !is_forked() {
        server::deinit();
    }
}

/// Returns why the service cannot serve any more, although it runs: its TUN device is gone and could not be made again
/// within some seconds. `None` while it serves, or does not run.
pub fn server_failure() -> Option<String> {
    if is_forked() { None } else { server::failure() }
}

/// Returns how many sessions have an address; 0 while the service does not run.
pub fn server_sessions() -> u32 {
    if is_forked() { 0 } else { server::sessions() }
}

/// Returns the service's traffic and drops; `None` while it does not run.
pub fn server_totals() -> Option<Totals> {
    if is_forked() { None } else { server::totals() }
}

/// Registers the command `vpn_client` for the CLI socket.
pub fn client_init() -> Result<(), NotRunning> {
    if is_forked() {
        return Err(NotRunning);
    }
    crate::sdk::start_logging();
    client::init(Config::of_node())
}

/// Unregisters the command and stops the client.
pub fn client_deinit() {
    if !is_forked() {
        client::deinit();
    }
}

/// Makes another configuration the process-wide one while the client runs: each connection from now on has it, also the one
/// after a loss. An error changes nothing. Only keys that docs/config.md marks may differ, as for [`server_reload`].
pub fn client_reload(config: NodeConfig) -> Result<(), ReloadError> {
    if is_forked() {
        return Err(ReloadError::NotRunning);
    }
    reload::check(&config)?;
    client::check_settings(&Candidate::open(config.clone())).map_err(ReloadError::Client)?;
    reload::set_current(config);
    Ok(())
}

/// Chooses the wallet that pays from the next start on, the token, and the value of a transaction in datoshi; what is
/// `None` stays as it was chosen last. The transaction is made at the start, in the ledger of the server. The wallet is
/// one of the state directory. Fails with a sentence if the choice cannot be stored.
///
/// ```
/// use dap_chain_net_srv_vpn::app;
/// use dap_chain_net_srv_vpn::embedded::config::{self, Config};
///
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let state_dir = directory.path().join("state");
/// # let state_dir = state_dir.to_str().expect("UTF-8");
/// let mut config = Config::empty();
/// config.set("general", "state_dir", state_dir);
/// config::set_current(config);
///
/// // Two tokens of a wallet that `cellframe-vpn wallet new alice` has made there, or will before the start.
/// app::client_choose_wallet("alice", Some("CELL"), Some(2_000_000_000_000_000_000))?;
/// # Ok::<(), String>(())
/// ```
pub fn client_choose_wallet(wallet: &str, token: Option<&str>, value: Option<u64>) -> Result<(), String> {
    if is_forked() {
        return Err(NotRunning.to_string());
    }
    client::wallet::choose_means(wallet, token, value).map_err(|error| error.to_string())
}

/// Connects and brings the tunnel up. Blocks until the tunnel is up or the start has failed. The error says why, and
/// whether time may heal it; [`client_last_error`] has it as well.
///
/// ```
/// use dap_chain_net_srv_vpn::app::{self, ClientError};
/// use dap_chain_net_srv_vpn::embedded::config::{self, Config};
///
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let state_dir = directory.path().join("state");
/// # let state_dir = state_dir.to_str().expect("UTF-8");
/// let mut config = Config::empty();
/// config.set("general", "state_dir", state_dir);
/// config.set("cli-server", "enabled", "false");
/// config::set_current(config);
///
/// let unknown = app::client_start("127.0.0.1", 8079, "no-such-network");
/// assert!(matches!(unknown, Err(ClientError::Argument(_))));
/// // Nothing listens there.
/// let refused = app::client_start("127.0.0.1", 1, "backbone");
/// assert!(matches!(refused, Err(ClientError::Connect { .. })), "{refused:?}");
/// assert!(app::client_last_error().is_some());
/// app::client_stop();
/// ```
///
/// ```no_run
/// use dap_chain_net_srv_vpn::app;
///
/// // Needs root and a server at this address.
/// match app::client_start("vpn.example.com", 8079, "backbone") {
///     Ok(_) => println!("the tunnel is up: {:?}", app::client_lease()),
///     Err(error) => println!("no tunnel: {error}"),
/// }
/// app::client_stop();
/// ```
pub fn client_start(host: &str, port: u16, net: &str) -> Result<Started, ClientError> {
    if is_forked() {
        return Err(ClientError::NotRunning);
    }
    crate::sdk::start_logging();
    client::start(&network(net)?, host, port)
}

/// Stops the client.
pub fn client_stop() {
    if !is_forked() {
        client::stop();
    }
}

/// Returns how often the client was stopped in this process. A program that starts it again after a failure compares
/// the number, so that it misses no stop between two starts.
pub fn client_stops() -> u64 {
    if is_forked() { 0 } else { client::stops() }
}

/// Returns whether the client connects again after a loss, as `[vpn_client] reconnect` says. It stops that when time
/// alone heals nothing, such as a refusal; [`client_last_error`] says why.
pub fn client_reconnects() -> bool {
    !is_forked() && report::reconnects()
}

/// Returns how often the client has connected in this process.
pub fn client_connects() -> u64 {
    if is_forked() { 0 } else { report::connects() }
}

/// Returns the client's state.
///
/// ```
/// use dap_chain_net_srv_vpn::app::{self, Status};
///
/// assert_eq!(app::client_status(), Status::NotStarted);
/// assert_eq!(app::client_lease(), None);
/// ```
pub fn client_status() -> Status {
    if is_forked() { Status::NotStarted } else { report::status() }
}

/// Returns the lease; `None` unless the tunnel is up.
pub fn client_lease() -> Option<LeaseInfo> {
    if is_forked() { None } else { report::lease() }
}

/// Returns the tunnel's traffic and drops.
pub fn client_totals() -> Totals {
    if is_forked() { vpn_core::forward::Counters::new(1).totals() } else { report::totals() }
}

/// Returns what the connection is like; `None` unless the tunnel is up.
pub fn client_details() -> Option<Details> {
    if is_forked() { None } else { report::details() }
}

/// Returns what the connection pays; `None` for a free order, and unless the tunnel is up.
pub fn client_paid() -> Option<Paid> {
    if is_forked() { None } else { report::paid() }
}

/// Returns the name servers of the tunnel that are in force on this host; `None` if the host's own are.
pub fn client_name_servers() -> Option<NameServers> {
    if is_forked() { None } else { client::dns::in_force() }
}

/// Returns why the last start failed.
pub fn client_last_error() -> Option<ClientError> {
    if is_forked() { None } else { report::last_error() }
}

/// Tests a server and measures how long it takes.
///
/// ```
/// use dap_chain_net_srv_vpn::app;
/// use dap_chain_net_srv_vpn::embedded::config::{self, Config};
///
/// let mut config = Config::empty();
/// config.set("cli-server", "enabled", "false");
/// // The only accepted identity of the server. With a pin, the client does not use the state directory.
/// config.set("vpn_client", "server_pin", &format!("sha256:{}", "00".repeat(32)));
/// config::set_current(config);
///
/// // Nothing listens there.
/// let error = app::client_test("127.0.0.1", 1, "backbone", 1024, 1024, 5_000).map_err(|error| error.to_string());
/// assert_eq!(error, Err("cannot connect to 127.0.0.1:1: Connection refused (os error 111)".to_owned()));
/// ```
pub fn client_test(
    host: &str,
    port: u16,
    net: &str,
    send: usize,
    receive: usize,
    timeout_ms: i32,
) -> Result<check::Timing, ClientError> {
    if is_forked() {
        return Err(ClientError::NotRunning);
    }
    crate::sdk::start_logging();
    check::run(&network(net)?, host, port, &check::Request::from_c(send, receive, timeout_ms))
}

/// Returns the text of `vpn_stat`.
///
/// ```
/// // No service runs in this process.
/// assert!(dap_chain_net_srv_vpn::app::vpn_stat().contains("No VPN connections"));
/// ```
pub fn vpn_stat() -> String {
    if is_forked() {
        return String::new();
    }
    cli::stat::run(&["vpn_stat".to_owned()]).text
}

fn network(name: &str) -> Result<Net, ClientError> {
    Net::by_name(name).ok_or(ClientError::Argument("the network is unknown: expected one of [networks] names"))
}
