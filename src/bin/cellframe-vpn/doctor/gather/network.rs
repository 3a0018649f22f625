//! The host's links, addresses, routes and name servers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use host::netlink::{Netlink, NetlinkError};
use host::outer_path::source_towards;
use host::resolvers;
use vpn_core::lease::Subnet;

use crate::doctor::facts::{Network, OnLink};

/// Addresses of the Internet to which the kernel is asked for its route; nothing is sent (RFC 5737 and RFC 3849 have
/// addresses of nobody).
const INTERNET_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const INTERNET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

pub(super) fn network() -> Network {
    let mut network = Network {
        failed: None,
        addresses: Vec::new(),
        routes: Vec::new(),
        defaults: Vec::new(),
        has_ipv6_default: false,
        outward: source_towards(INTERNET_V4.into()).or_else(|| source_towards(INTERNET_V6.into())),
        outward_link: None,
        strict: Vec::new(),
        name_servers: resolvers::asked(),
    };
    if let Err(error) = list(&mut network) {
        network.failed = Some(error.to_string());
    }
    network
}

fn list(network: &mut Network) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("link {index}"), |link| link.name.clone())
    };
    for address in netlink.addresses()? {
        let link = name(address.index);
        network.addresses.push(OnLink {
            address: address.addr,
            network: Subnet::around(address.addr, address.prefix),
            link,
        });
    }
    let routes = netlink.routes()?;
    for route in &routes {
        let Some(index) = route.index.filter(|_| route.is_unicast()) else { continue };
        if route.prefix > 1 {
            network.routes.push((Subnet::around(route.destination, route.prefix), name(index)));
        } else if route.prefix == 0 && !network.defaults.contains(&name(index)) {
            network.defaults.push(name(index));
        }
    }
    network.has_ipv6_default =
        netlink.routes6()?.iter().any(|route| route.prefix == 0 && route.is_unicast() && route.index.is_some());
    let outward = network.outward;
    let by_address = network.addresses.iter().find(|one| Some(IpAddr::V4(one.address)) == outward);
    let outward_link = by_address.map(|one| &one.link).or(network.defaults.first());
    network.outward_link = outward_link
        .and_then(|name| links.iter().find(|link| link.name == *name))
        .map(|link| (link.name.clone(), link.mtu));
    let filter = |link: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter")).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or(0)
    };
    // The kernel takes the larger of the two; 2 is the loose one.
    let strict = |link: &&String| filter("all").max(filter(link)) == 1;
    network.strict = network.defaults.iter().filter(strict).cloned().collect();
    Ok(())
}
