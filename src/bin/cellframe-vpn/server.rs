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
use crate::settings::{self, Role};
use crate::{output, privilege, signals};

/// Interval between looks at the server: the longest delay before its end is noticed.
const POLL: Duration = Duration::from_millis(200);

/// Runs the server until a signal, then takes everything down.
pub(crate) fn run(options: &ServerOptions) -> Result<(), Failure> {
    if options.print_config {
        output::line(settings::EXAMPLE.trim_end());
        return Ok(());
    }
    logging::init();
    let config = settings::load(Role::Server, options.config.as_deref(), options.state_dir.as_deref())?;
    privilege::require_network_admin()?;
    privilege::require_tun()?;
    settings::require_unused(Role::Server, &config)?;
    let (sender, signal) = mpsc::channel();
    signals::watch(move |number| {
        let _ = sender.send(number);
    })?;

    let ready_line = start(config)?;
    for price in prices()? {
        output::line(format!("sells {price}"));
    }
    output::line(ready_line);
    let result = serve(&signal);
    output::note("stopping");
    app::server_stop();
    result
}

/// Waits for a signal, or for the end of what the server can do. The channel keeps a signal that came while the server
/// started.
fn serve(signal: &Receiver<i32>) -> Result<(), Failure> {
    while let Err(RecvTimeoutError::Timeout) = signal.recv_timeout(POLL) {
        if let Some(why) = app::server_failure() {
            return Err(Failure::general(format!("the tunnel's device is gone and cannot be made again: {why}")));
        }
    }
    Ok(())
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
