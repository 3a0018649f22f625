//! The addresses of servers' names, for when no name server answers: one may be reached through the very tunnel that a
//! connection is to restore.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Most names whose addresses are remembered, and most addresses of each beside the server's.
const NAMES_MAX: usize = 64;
const OTHERS_MAX: usize = 7;

static KNOWN: Mutex<BTreeMap<(String, u16), Known>> = Mutex::new(BTreeMap::new());

/// What is known of a name and port.
#[derive(Default)]
struct Known {
    /// The address at which the server was last: it had a stream there.
    server: Option<SocketAddr>,
    /// What name servers have said, the last answer first.
    others: Vec<SocketAddr>,
}

impl Known {
    fn all(&self) -> Vec<SocketAddr> {
        self.server.into_iter().chain(self.others.iter().copied()).collect()
    }

    /// Puts these addresses before the others that are known.
    fn add(&mut self, addresses: &[SocketAddr]) {
        let mut others: Vec<SocketAddr> = Vec::new();
        for address in addresses.iter().chain(&self.others) {
            if Some(*address) != self.server && !others.contains(address) && others.len() < OTHERS_MAX {
                others.push(*address);
            }
        }
        self.others = others;
    }
}

/// The server of this name is at this address.
pub(crate) fn found(host: &str, port: u16, address: SocketAddr) {
    change(host, port, |known| {
        let before = known.server.replace(address);
        known.add(before.as_slice());
    });
}

/// Takes what a name server says of a name. It may say anything, such as the one of a network with a captive portal: the
/// address at which the server was stays the first.
pub(crate) fn learn(host: &str, port: u16, addresses: &[SocketAddr]) {
    change(host, port, |known| known.add(addresses));
}

/// Returns the addresses that a server's name had, the one at which the server was last first; none of an address.
pub fn known(host: &str, port: u16) -> Vec<SocketAddr> {
    KNOWN.lock().get(&(host.to_owned(), port)).map(Known::all).unwrap_or_default()
}

fn change(host: &str, port: u16, change: impl FnOnce(&mut Known)) {
    if host.parse::<IpAddr>().is_ok() {
        return;
    }
    let mut all = KNOWN.lock();
    let name = (host.to_owned(), port);
    if all.len() >= NAMES_MAX && !all.contains_key(&name) {
        all.clear();
    }
    change(all.entry(name).or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 1).into()
    }

    fn expect(host: &str, expected: &[u8]) {
        assert_eq!(known(host, 1), expected.iter().map(|last| address(*last)).collect::<Vec<_>>());
    }

    #[test]
    fn the_servers_address_is_the_first_whatever_name_servers_say() {
        let host = "first.test";
        learn(host, 1, &[address(1), address(2)]);
        expect(host, &[1, 2]);
        found(host, 1, address(2));
        expect(host, &[2, 1]);
        // The page of a captive portal answers, and is no server.
        learn(host, 1, &[address(9)]);
        expect(host, &[2, 9, 1]);
        found(host, 1, address(1));
        expect(host, &[1, 2, 9]);
        learn(host, 1, &(10..30).map(address).collect::<Vec<_>>());
        expect(host, &[1, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(known(host, 2), []);
    }

    #[test]
    fn an_address_is_no_name() {
        found("192.0.2.1", 1, address(1));
        assert_eq!(known("192.0.2.1", 1), []);
    }
}
