//! Whether an offered subnet collides with what this host uses: the server decides what is routed to it, and must not take
//! this host's own traffic over.
//!
//! Of two subnets with a common address one holds the other. A subnet is refused
//!
//! - if it overlaps a network that this host is in, whichever holds the other;
//! - if it equals or holds the destination of any other route: the kernel would send some of that traffic into the tunnel
//!   once the route is withdrawn, or all of it at once;
//! - if it holds a gateway or a name server.
//!
//! A subnet inside the destination of a route by a gateway is accepted, with a warning: 10.0.0.0/8 by a company's router,
//! or as a route that discards, is common, and leaves no other private network. The default route and its two halves are
//! apart: every subnet is inside them.

use std::net::Ipv4Addr;

use crate::sdk::worker;
use host::netlink::{Address, Netlink, NetlinkError, RouteEntry, SHORT_PATIENCE};
use host::resolvers::{Resolver, resolvers};
use vpn_core::lease::Subnet;

/// The longest prefix of the default route and its halves.
pub(super) const HALF: u8 = 1;

/// The tunnel's device, whose own address, network and routes are no collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// The index of its link.
    pub index: u32,
    /// Its network. Name servers in it are asked through the tunnel already, so that another lease of this network
    /// takes nothing over.
    pub network: Subnet,
}

impl Own {
    /// Returns the device that has this address, if any of these is its.
    #[cfg(any(test, not(feature = "client-tun")))]
    pub(crate) fn with_address(addr: Ipv4Addr, addresses: &[Address]) -> Option<Own> {
        let own = addresses.iter().find(|address| address.addr == addr)?;
        Some(Own { index: own.index, network: Subnet { network: addr, prefix: own.prefix } })
    }
}

/// Opens a netlink socket whose listings take no longer than the calling thread may block: others wait for a worker.
///
/// # Errors
/// [`NetlinkError::Open`].
pub(crate) fn netlink() -> Result<Netlink, NetlinkError> {
    if worker::current().is_some() { Netlink::with_patience(SHORT_PATIENCE) } else { Netlink::open() }
}

/// What an offered subnet collides with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Collision {
    /// A name server is in the subnet.
    #[error(
        "it gives the subnet {subnet}, which holds {}, a name server of this host in {}; one without name servers of \
         this host is expected",
        .resolver.addr, .resolver.file
    )]
    Resolver { subnet: Subnet, resolver: Resolver },
    /// A gateway is in the subnet.
    #[error(
        "it gives the subnet {subnet}, which holds {gateway}, the gateway of this host's route to {route}; one without \
         gateways of this host is expected"
    )]
    Gateway { subnet: Subnet, gateway: Ipv4Addr, route: Subnet },
    /// The subnet overlaps a network that this host is in.
    #[error(
        "it gives the subnet {subnet}, which overlaps {network}, this host's network on {device}; one that this host is \
         not in is expected"
    )]
    Network { subnet: Subnet, network: Subnet, device: String },
    /// The subnet equals or holds the destination of a route.
    #[error(
        "it gives the subnet {subnet}, which {} {route}, the destination of this host's route {by}; one without such \
         destinations is expected",
        if subnet == route { "is" } else { "holds" }
    )]
    Destination { subnet: Subnet, route: Subnet, by: String },
    /// The kernel does not report what the host uses.
    #[error("its subnet {subnet} cannot be compared with this host's networks: {source}")]
    Unknown { subnet: Subnet, source: NetlinkError },
}

/// Compares an offered subnet with the addresses, routes and name servers of this host. `own` is the tunnel's device, if
/// there is one. Blocks while the kernel's tables change: for some seconds at most, on a worker for some milliseconds.
pub(crate) fn judge(subnet: Subnet, own: Option<Own>) -> Result<(), Collision> {
    let read = || {
        let mut netlink = netlink()?;
        let facts = (netlink.addresses()?, netlink.routes_in_use()?);
        Ok((netlink, facts))
    };
    let (mut netlink, (addresses, routes)) = read().map_err(|source| Collision::Unknown { subnet, source })?;
    let device = |index: u32| netlink.link(index).map_or_else(|_| format!("link {index}"), |link| link.name);
    compare(subnet, own, &Facts { addresses, routes, resolvers: resolvers() }, device)
}

/// What this host uses.
struct Facts {
    addresses: Vec<Address>,
    routes: Vec<RouteEntry>,
    resolvers: Vec<Resolver>,
}

fn compare(
    subnet: Subnet,
    own: Option<Own>,
    facts: &Facts,
    mut device: impl FnMut(u32) -> String,
) -> Result<(), Collision> {
    let is_own = |index: u32| own.is_some_and(|own| own.index == index);
    for &Address { index, addr, prefix } in facts.addresses.iter().filter(|address| !is_own(address.index)) {
        let network = Subnet::around(addr, prefix);
        if network.overlaps(&subnet) {
            return Err(Collision::Network { subnet, network, device: device(index) });
        }
    }
    let mut outer: Option<(Subnet, &RouteEntry)> = None;
    for route in facts.routes.iter().filter(|route| !route.index.is_some_and(is_own)) {
        let to = Subnet::around(route.destination, route.prefix);
        if let Some(gateway) = route.gateway.filter(|gateway| subnet.contains(*gateway)) {
            return Err(Collision::Gateway { subnet, gateway, route: to });
        }
        if to.prefix <= HALF {
            continue;
        }
        if let Some(index) = route.index.filter(|_| route.is_connected() && to.overlaps(&subnet)) {
            return Err(Collision::Network { subnet, network: to, device: device(index) });
        }
        if subnet.holds(&to) {
            return Err(Collision::Destination { subnet, route: to, by: by(route, &mut device) });
        }
        if to.holds(&subnet) && outer.is_none_or(|(known, _)| known.prefix < to.prefix) {
            outer = Some((to, route));
        }
    }
    let is_inside = |resolver: &&Resolver| own.is_some_and(|own| own.network.contains(resolver.addr));
    let mut outside = facts.resolvers.iter().filter(|resolver| !is_inside(resolver));
    if let Some(&resolver) = outside.find(|resolver| subnet.contains(resolver.addr)) {
        return Err(Collision::Resolver { subnet, resolver });
    }
    if let Some((to, route)) = outer {
        host::log_bounded!(
            Warn,
            "packets to {subnet} now go into the tunnel: the route to {to} {} had them",
            by(route, &mut device)
        );
    }
    Ok(())
}

/// Describes where a route leads.
fn by(route: &RouteEntry, device: &mut impl FnMut(u32) -> String) -> String {
    let mut words = match (route.gateway, route.index) {
        (Some(gateway), Some(index)) => format!("by {gateway} on {}", device(index)),
        (Some(gateway), None) => format!("by {gateway}"),
        (None, Some(index)) => format!("on {}", device(index)),
        (None, None) => "that leads nowhere".into(),
    };
    if route.table != MAIN {
        words.push_str(&format!(" in table {}", route.table));
    }
    words
}

/// The number of the main routing table.
const MAIN: u32 = 254;

#[cfg(test)]
mod tests;
