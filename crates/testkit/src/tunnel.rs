//! A connected client, and the server's numbers for it.

use std::net::Ipv4Addr;

use crate::hosts::Hosts;
use crate::program::Running;

/// The server's inner address, which is the clients' gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// The start of a configuration that continues with other keys of this section. The program's default network does not
/// apply to it.
pub const NETWORK: &str = "[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n";

/// A client whose tunnel is up, with the values that it printed.
#[derive(Debug)]
pub struct Client {
    /// The program.
    pub running: Running,
    /// The leased address.
    pub address: Ipv4Addr,
    /// The server's inner address.
    pub gateway: Ipv4Addr,
    /// The name of the TUN device on the client's host.
    pub device: String,
    /// The MTU of the tunnel in bytes.
    pub mtu: usize,
}

impl Client {
    /// Connects on the host of client `number`, with the state directory `state`.
    pub fn connect(hosts: &Hosts, number: usize, state: &str, arguments: &[&str]) -> Client {
        Client::connected(hosts.client_at(number, state, arguments), 1)
    }

    /// Waits until the client has connected `times` times.
    pub fn connected(mut running: Running, times: usize) -> Client {
        let lines = |running: &Running| running.stdout().matches("connected to ").count();
        running.wait_until("connected", |running| lines(running) >= times && running.stdout().ends_with('\n'));
        let said = running.stdout();
        let line = said.lines().last().unwrap();
        let value = |name: &str| {
            let (_, value) = line.split_once(name).unwrap_or_else(|| panic!("no {name:?}: {line}"));
            value.split(',').next().unwrap().trim().to_owned()
        };
        Client {
            address: value(": address ").parse().unwrap(),
            gateway: value("gateway ").parse().unwrap(),
            device: value("device "),
            mtu: value("MTU ").parse().unwrap(),
            running,
        }
    }
}

/// Returns a number that `stat` shows for the session with this address.
pub fn stat_number(stat: &str, address: Ipv4Addr, name: &str) -> u64 {
    let block = stat.split("\n\n").find(|block| block.contains(&format!("client addr........{address}\n")));
    let block = block.unwrap_or_else(|| panic!("no session of {address}:\n{stat}"));
    let line = block.lines().find_map(|line| line.trim().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}:\n{block}")).trim_matches('.').parse().unwrap()
}
