//! `check HOST[:PORT]`: tests whether a server answers, and how fast.

use std::time::Duration;

use dap_chain_net_srv_vpn::app;
use embedded::{config, logging};

use crate::args::CheckOptions;
use crate::client;
use crate::exit::Failure;
use crate::output;
use crate::settings::{self, Role};

/// Runs the library's check and prints its times.
pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let mut config = settings::load(Role::Check, options.config.as_deref(), options.state_dir.as_deref())?;
    client::override_for_client(&mut config, options.pin.as_deref());
    // A check needs no control socket.
    config.set("cli-server", "enabled", "false");
    logging::init();
    client::require_known_servers(&config)?;
    config::set_current(config);

    client::require_network(&options.net)?;
    let target = &options.target;
    let payload = usize::from(options.bytes);
    let timeout_ms = i32::from(options.timeout) * 1000;
    let timing = app::client_test(&target.host, target.port, &options.net, payload, payload, timeout_ms)
        .map_err(|error| client::failure(&error).with_doctor(target))?;
    output::line(format_args!(
        "{target} answers: connected in {:.1} ms, round trip of {payload} bytes in {:.1} ms",
        milliseconds(timing.connect),
        milliseconds(timing.round_trip)
    ));
    Ok(())
}

/// Converts a time to milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
