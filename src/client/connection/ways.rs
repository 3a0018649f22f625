//! The ways to the other addresses of the server's name, while the client connects again.
//!
//! A tunnel leaves only its own server's address to the host's routes and lets only this one through the kill switch. When
//! that address answers no more, another one of the name may, such as one of IPv6 on a network without IPv4: so all of
//! them are left out until a connection has one.

use std::net::{IpAddr, SocketAddr};

use super::tunnel;
use crate::client::kill_switch;
use crate::client::settings::Settings;
use vpn_core::names;

/// The most addresses: a name server may be hostile, and what leaves for these addresses leaves around the tunnel.
const MOST: usize = 8;

/// Opens the ways to all known addresses of the server's name. `before` is that of the connection that was lost.
pub(in crate::client) fn open_ways((host, port): (&str, u16), before: IpAddr, settings: &Settings) {
    let servers = first_and_others(before, known_addresses(host, port));
    if servers.len() < 2 {
        return;
    }
    let addresses: Vec<_> = servers.iter().map(|server| SocketAddr::new(*server, port)).collect();
    let opened = tunnel::leave_out(&servers).and_then(|()| {
        let through = kill_switch::let_through(&names::server(host, port), &addresses, settings);
        through.map_err(|error| error.to_string())
    });
    if let Err(error) = opened {
        log::warn!("only {before} of the addresses of {host} is tried: {error}");
    }
}

/// Returns the addresses that the server's name had when it was looked up last.
#[cfg(feature = "embedded")]
fn known_addresses(host: &str, port: u16) -> Vec<IpAddr> {
    crate::sdk::link::known_addresses(host, port)
}

/// Returns the addresses that the server's name had when it was looked up last.
#[cfg(not(feature = "embedded"))]
fn known_addresses(host: &str, _port: u16) -> Vec<IpAddr> {
    crate::client::look_up::known(host)
}

/// Returns the first address and then the others, each once and [`MOST`] at most.
fn first_and_others(first: IpAddr, others: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for address in [first].into_iter().chain(others).map(|address| address.to_canonical()) {
        if all.len() < MOST && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_open_more_than_a_few_ways() {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        assert_eq!(first_and_others(address(1), vec![]), [address(1)]);
        let others = vec!["::ffff:192.0.2.1".parse().unwrap(), address(2), address(2)];
        assert_eq!(first_and_others(address(1), others), [address(1), address(2)]);
        assert_eq!(first_and_others(address(1), (2..99).map(address).collect()).len(), MOST);
    }
}
