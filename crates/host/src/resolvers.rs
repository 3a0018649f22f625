//! The name servers that this host uses: those of resolv.conf(5), and those behind a stub on loopback.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::dns::resolv_conf::Place;

/// Where name servers stand: what the C library reads, and behind it what systemd-resolved, NetworkManager, resolvconf
/// and dnsmasq forward to when the first file names only a stub.
const FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/dnsmasq/resolv.conf",
];

/// An IPv4 name server of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Its address; never one of loopback.
    pub addr: Ipv4Addr,
    /// The file that names it.
    pub file: &'static str,
}

/// Returns the IPv4 name servers of this host, without those of a tunnel that took their place. A file that cannot be
/// read counts as empty: the C library, which reads the first one, then uses loopback alone.
pub fn resolvers() -> Vec<Resolver> {
    let mut found = Vec::new();
    for file in FILES {
        let is_first = file == FILES[0];
        let text = if is_first { Place::of_host().text_without_ours() } else { fs::read(file) };
        match text {
            Ok(text) => {
                found.extend(name_servers(&String::from_utf8_lossy(&text)).map(|addr| Resolver { addr, file }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("cannot read this host's name servers from {file}: {error}"),
        }
    }
    found
}

/// Returns the name servers that the C library would ask if no tunnel of ours had taken their place, stubs included.
pub fn asked() -> Vec<IpAddr> {
    let text = Place::of_host().text_without_ours().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    entries(&text).filter_map(|server| server.split('%').next()?.parse().ok()).collect()
}

/// The entries of resolv.conf(5) that name servers.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    })
}

fn name_servers(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    let address = |text: &str| match text.parse::<IpAddr>() {
        Ok(addr) => match addr.to_canonical() {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        },
        // The C library reads the other forms of inet_aton(3), too.
        Err(_) => vpn_core::lease::dotted(text),
    };
    entries(text).filter_map(address).filter(|addr| !addr.is_loopback() && !addr.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 10.0.0.1\n; nameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver\t10.0.0.4 # office\n\
                    search nameserver 10.0.0.5\nnameserver ::ffff:10.0.0.6\nnameserver fe80::1%eth0\nnameserver 127.0.0.53\n\
                    nameserver 0.0.0.0\nnameserver\nnameserver 10.7\nnameserver house\n  nameserver 10.0.0.8\n\
                    options edns0";
        let found: Vec<_> = name_servers(text).map(|addr| addr.to_string()).collect();
        assert_eq!(found, ["10.0.0.3", "10.0.0.4", "10.0.0.6", "10.0.0.7", "10.0.0.8"]);
    }
}
