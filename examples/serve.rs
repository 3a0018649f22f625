//! A VPN server.
//!
//! ```text
//! cargo build --example serve
//! sudo target/debug/examples/serve examples/server.cfg
//! ```
//!
//! The server needs root (CAP_NET_ADMIN) and /dev/net/tun. It runs until its standard input ends: press Ctrl-D.

use std::error::Error;
use std::path::Path;
use std::{env, io};

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::embedded::config::{self, Config};
use dap_chain_net_srv_vpn::embedded::{logging, tls};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("usage: serve CONFIG, for example examples/server.cfg")?;
    // The log goes to stderr. RUST_LOG sets its level, for example RUST_LOG=debug.
    logging::init();
    let config = Config::load(Path::new(&file))?;

    // A client recognises the server by its key. The first call creates the key, in [general] state_dir.
    let identity = tls::fingerprint_text(&tls::identity_fingerprint(&config)?);
    let address = config.get_list("server", "listen_address").join(", ");

    // The service reads the configuration of the process, so it must be set before the start.
    config::set_current(config);
    app::server_start()?;
    println!("listening on {address}, identity {identity}");

    // The service runs on its own threads; this one only waits.
    io::copy(&mut io::stdin(), &mut io::sink())?;

    println!("{}", app::vpn_stat());
    // Ends all sessions, removes the TUN device and stops the threads.
    app::server_stop();
    Ok(())
}
