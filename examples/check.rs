//! Tests a VPN server: whether it accepts connections and answers, and how fast.
//!
//! ```text
//! cargo run --example check -- vpn.example.com 8079 sha256:0123...
//! ```
//!
//! The last argument is the identity that the server prints when it starts. Without it the example accepts the first
//! server that it meets, remembers it in the state directory (docs/config.md), and later refuses any other at that
//! address. A check creates no TUN device, so it needs no privilege.

use std::env;
use std::error::Error;

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::embedded::config::{self, Config};

/// The network in which a server offers its service by default.
const NETWORK: &str = "backbone";
/// Bytes of test data in each direction.
const PAYLOAD: usize = 1024;
const TIMEOUT_MS: i32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (host, port, identity) = match arguments.as_slice() {
        [host, port] => (host, port, None),
        [host, port, identity] => (host, port, Some(identity)),
        _ => return Err("usage: check HOST PORT [IDENTITY]".into()),
    };
    let port = port.parse().map_err(|_| format!("{port} is not a port: expected 1 to 65535"))?;

    // Uses no file: the built-in defaults with a few changes.
    let mut config = Config::empty();
    config.set("server", "enabled", "false");
    config.set("cli-server", "enabled", "false");
    if let Some(identity) = identity {
        config.set("vpn_client", "server_pin", identity);
    }
    config::set_current(config);

    let timing = app::client_test(host, port, NETWORK, PAYLOAD, PAYLOAD, TIMEOUT_MS)?;
    println!("connected in {:?}, answered in {:?}", timing.connect, timing.round_trip);
    Ok(())
}
