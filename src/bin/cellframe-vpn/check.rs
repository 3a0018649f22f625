//! `check HOST[:PORT]`: is a server there, does it answer, how fast?

use std::time::Instant;

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::embedded::{config, logging};

use crate::args::CheckOptions;
use crate::client;
use crate::exit::Failure;
use crate::output;
use crate::settings::{self, Role};

/// Test data each way, bytes.
const PAYLOAD: usize = 1024;

/// Runs the library's check and prints how long it took.
pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let mut config = settings::load(Role::Check, options.config.as_deref(), options.state_dir.as_deref())?;
    client::override_for_client(&mut config, options.pin.as_deref());
    // The client that may be running has the control socket; a check needs none.
    config.set("cli-server", "enabled", "false");
    config::set_current(config);
    logging::init();

    let target = &options.target;
    let started = Instant::now();
    let timeout_ms = i32::from(options.timeout) * 1000;
    let code = app::client_check(&target.host, target.port, &options.net, PAYLOAD, PAYLOAD, timeout_ms);
    if code != 0 {
        return Err(client::failure(&format!("check of {target}"), code));
    }
    output::line(format_args!(
        "{target} answered: connected, {PAYLOAD} bytes sent and {PAYLOAD} received, {} ms in all",
        started.elapsed().as_millis()
    ));
    Ok(())
}
