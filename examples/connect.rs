//! A VPN client.
//!
//! ```text
//! cargo build --example connect
//! sudo target/debug/examples/connect examples/client.cfg vpn.example.com 8079
//! ```
//!
//! The client needs root (CAP_NET_ADMIN) and /dev/net/tun. It stays connected until its standard input ends: press
//! Ctrl-D. Meanwhile `ping 10.98.0.1` reaches the server through the tunnel.

use std::error::Error;
use std::path::Path;
use std::{env, io};

use dap_chain_net_srv_vpn::app;
use dap_chain_net_srv_vpn::embedded::config::{self, Config};
use dap_chain_net_srv_vpn::embedded::logging;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, host, port] = arguments.as_slice() else {
        return Err("usage: connect CONFIG HOST PORT, for example examples/client.cfg vpn.example.com 8079".into());
    };
    let port = port.parse().map_err(|_| format!("{port} is not a port: expected 1 to 65535"))?;
    logging::init();
    config::set_current(Config::load(Path::new(file))?);

    // Connects, asks for an address and sets the TUN device up. Returns when the tunnel is up or a step has failed.
    app::client_start(host, port, "backbone")?;
    let lease = app::client_lease().ok_or("the connection was lost at once")?;
    println!("address {}, gateway {}, device {}, MTU {}", lease.addr, lease.gateway, lease.device, lease.mtu);

    // The tunnel runs on its own threads. app::client_status() returns its state at any time.
    io::copy(&mut io::stdin(), &mut io::sink())?;

    let totals = app::client_totals();
    println!("{} packets up, {} down, {} dropped", totals.up_packets, totals.down_packets, totals.all_dropped());
    // Gives the address back, removes the TUN device and closes the connection.
    app::client_stop();
    Ok(())
}
