//! The TUN devices of a host.

use std::net::Ipv4Addr;

use host::netlink::{Link, Netlink};

/// Returns the TUN devices of the calling thread's host, each with its addresses.
pub fn tun_devices() -> Vec<(Link, Vec<(Ipv4Addr, u8)>)> {
    let mut netlink = Netlink::open().unwrap();
    let addresses = netlink.addresses().unwrap();
    let of = |link: &Link| {
        addresses.iter().filter(|one| one.index == link.index).map(|one| (one.addr, one.prefix)).collect()
    };
    let links = netlink.links().unwrap().into_iter().filter(|link| link.name.starts_with("tun"));
    links.map(|link| (link.clone(), of(&link))).collect()
}
