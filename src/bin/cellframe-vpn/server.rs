//! `server`: the VPN service in the foreground.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use embedded::config::{self, Config};
use embedded::prices::{self, Price};
use embedded::{ledger, logging, tls};
use vpn_core::lease::Subnet;

use crate::args::ServerOptions;
use crate::exit::{Code, Failure};
use crate::notify::Manager;
use crate::reload::{Reloads, Source};
use crate::settings::{self, Role};
use crate::{output, privilege, signals};

/// Interval between looks at the server: the longest delay before its end is noticed.
const POLL: Duration = Duration::from_millis(200);
/// What a stop may take: the sessions, the store and the device each have their own, shorter, time.
const STOP: Duration = Duration::from_secs(30);

/// Runs the server until a signal, then takes everything down.
pub(crate) fn run(options: &ServerOptions) -> Result<(), Failure> {
    if options.print_config {
        output::line(settings::EXAMPLE.trim_end());
        return Ok(());
    }
    logging::init();
    let source = Source::new(Role::Server, options.config.as_ref(), options.state_dir.as_ref(), |_| Ok(()));
    let mut reloads = Reloads::new(source);
    let (sender, signal) = mpsc::channel();
    let on_signal = move |number| {
        let _ = sender.send(number);
    };
    // Before anything takes time: without a handler, SIGHUP ends the process.
    signals::watch_with_reload(on_signal, reloads.on_hangup())?;
    let config = reloads.load()?;
    privilege::require_network_admin()?;
    privilege::require_tun()?;
    settings::require_unused(Role::Server, &config)?;

    reloads.register();
    let mut manager = Manager::of_environment();
    let place = place(&config);
    let ready_line = start(config)?;
    for price in prices()? {
        output::line(format!("sells {price}"));
    }
    output::line(ready_line);
    manager.ready(&status(&place));
    let result = serve(&signal, &mut reloads, &mut manager, &place);
    output::note("stopping");
    manager.stopping(STOP);
    // A command that waits for a reload is told that there is none.
    drop(reloads);
    app::server_stop();
    result
}

/// Waits for a signal, or for the end of what the server can do; reads the configuration again when that is wanted. The
/// channels keep what came while the server started.
fn serve(signal: &Receiver<i32>, reloads: &mut Reloads, manager: &mut Manager, place: &str) -> Result<(), Failure> {
    while let Err(RecvTimeoutError::Timeout) = signal.recv_timeout(POLL) {
        if let Some(why) = app::server_failure() {
            return Err(Failure::general(format!("the tunnel's device is gone and cannot be made again: {why}")));
        }
        reloads.serve(manager, || status(place));
        manager.status(&reloads.status(status(place)));
        manager.feed();
    }
    Ok(())
}

/// The service in one line, for the service manager.
fn status(place: &str) -> String {
    match app::server_sessions() {
        1 => format!("1 session, {place}"),
        sessions => format!("{sessions} sessions, {place}"),
    }
}

fn place(config: &Config) -> String {
    let listening = config.get_list("server", "listen_address").join(", ");
    format!("listening on {listening}, network {}", network_of(config))
}

/// Starts the server with this configuration and returns its ready line.
pub(crate) fn start(config: Config) -> Result<String, Failure> {
    let listening = config.get_list("server", "listen_address").join(", ");
    let network = network_of(&config);
    let net_name = config.get_str("srv_vpn", "net").unwrap_or_default();
    let identity = identity(&config)?;
    config::set_current(config);
    // The library does both again, and tells a mistake in the log alone.
    if !prices()?.is_empty() {
        ledger::open().map_err(|error| Failure::general(format!("nothing can be sold without a ledger: {error}")))?;
    }
    app::server_start().map_err(|error| {
        let code = if error.is_configuration() { Code::Usage } else { Code::Failure };
        Failure::new(code, format!("the server cannot start: {error}; `cellframe-vpn doctor --server` looks further"))
    })?;
    Ok(format!("ready: listening on {listening}, network {network} for {net_name}, identity {identity}"))
}

/// Returns what the server sells.
pub(crate) fn prices() -> Result<Vec<Price>, Failure> {
    prices::read(&config::current()).map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

/// Returns the identity of the server with this configuration, as `--pin` takes it. The first call creates it.
pub(crate) fn identity(config: &Config) -> Result<String, Failure> {
    tls::identity_fingerprint(config)
        .map(|fingerprint| tls::fingerprint_text(&fingerprint))
        .map_err(|error| Failure::general(format!("the server's identity cannot be used: {error}")))
}

fn network_of(config: &Config) -> String {
    let value = |key| config.get_str("srv_vpn", key).unwrap_or_default();
    let (address, mask) = (value("network_address"), value("network_mask"));
    Subnet::parse(&address, &mask).map_or_else(|_| format!("{address}/{mask}"), |subnet| subnet.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_shown_with_its_prefix() {
        let parse = |text| Config::parse(text, "test").0;
        assert_eq!(network_of(&Config::empty()), "10.98.0.0/24");
        assert_eq!(network_of(&parse("[srv_vpn]\nnetwork_address=10.0.0.0\nnetwork_mask=255.0.0.0\n")), "10.0.0.0/8");
        assert_eq!(network_of(&parse("[srv_vpn]\nnetwork_address=x\nnetwork_mask=y\n")), "x/y");
    }
}
