//! The networks that are routed into the tunnel beside its subnet, as the user names them.
//!
//! The routes leave out the server's address, so that packets to the server keep to the host's own routes, however these
//! change. Other VPNs route the server's address beside the default route instead; such a route outlives a process that is
//! killed. These end with the device, and the next start finds the host as it was.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::ipv6;
use super::settings::{MOST_ROUTES, Routes, TunnelError};
use crate::client::Routed;
use crate::client::judge::{HALF, netlink};
use host::netlink::{NetlinkError, OUR_ROUTE, RouteEntry};
use host::outer_path::source_towards;
use host::tun::Device;
use vpn_core::forward::{Networks, UNROUTABLE};
use vpn_core::lease::Subnet;

/// How many destinations are tried after the routes are set.
const SAMPLES: usize = 8;

/// What is routed into the device beside its subnet.
pub(super) struct Plan {
    destinations: BTreeSet<(Ipv4Addr, u8)>,
    /// The destinations of the host's own routes.
    of_host: Vec<Subnet>,
    /// The server is on this host: where its packets go from there is not known, so nothing is routed.
    is_server_here: bool,
}

/// Decides what is routed into the device of the subnet. The routes of the device that is there already, if any, are not
/// the host's. `before` is what the host routed itself when the connection was made that is lost: a link that is down has
/// no routes now, and they would be worth nothing when it comes back if ours were more precise.
pub(super) fn plan(
    routes: &Routes,
    subnet: Subnet,
    there: Option<u32>,
    before: &[Subnet],
) -> Result<Plan, TunnelError> {
    let mut plan = Plan { destinations: BTreeSet::new(), of_host: before.to_vec(), is_server_here: false };
    if routes.networks.is_empty() {
        return Ok(plan);
    }
    let mut netlink = netlink()?;
    let server = routes.servers.first().ok_or(TunnelError::UnknownServer)?;
    plan.is_server_here = netlink.is_own(*server)?;
    if plan.is_server_here {
        log::warn!("the server is on this host: only the tunnel's subnet is routed into the tunnel");
        return Ok(plan);
    }
    let is_hosts = |route: &&RouteEntry| route.index.is_none() || route.index != there;
    let now = netlink.routes_in_use()?;
    plan.of_host.extend(now.iter().filter(is_hosts).map(|route| Subnet::around(route.destination, route.prefix)));
    plan.destinations = blocks(routes, subnet, &plan.of_host);
    match plan.destinations.len() {
        count if count > MOST_ROUTES => Err(TunnelError::TooManyRoutes(count)),
        _ => Ok(plan),
    }
}

impl Plan {
    /// The networks that are routed into the device beside its subnet.
    pub(super) fn networks(&self) -> Networks {
        Networks::of(self.destinations.iter().copied())
    }

    /// The destinations of the host's own routes.
    pub(super) fn into_of_host(self) -> Vec<Subnet> {
        self.of_host
    }

    /// Sets the routes into the device, and no other of ours. Those into a device that it replaces lead into it from then
    /// on. Returns whether the host's IPv6 is to be kept in, too.
    pub(super) fn set(&self, routes: &Routes, device: &Device) -> Result<bool, TunnelError> {
        if routes.networks.is_empty() || self.is_server_here {
            return Ok(false);
        }
        let mut netlink = netlink()?;
        let is_ours = |route: &RouteEntry| route.index == Some(device.index()) && route.protocol == OUR_ROUTE;
        let there: BTreeSet<_> = netlink
            .routes_in_use()?
            .iter()
            .filter(|route| is_ours(route))
            .map(|route| (route.destination, route.prefix))
            .collect();
        for block in self.destinations.difference(&there) {
            netlink.set_route(device.index(), *block, device.addr())?;
        }
        for block in there.difference(&self.destinations) {
            netlink.unset_route(device.index(), *block)?;
        }
        ipv6::set(routes, device, &mut netlink)?;
        Ok(ipv6::is_wanted(routes))
    }

    /// Says in the log what is routed into the device.
    pub(super) fn say(&self, routes: &Routes, device: &Device) {
        if self.destinations.is_empty() {
            return;
        }
        let (count, networks) = (self.destinations.len(), listed(&routes.networks));
        log::info!("{count} routes lead into tunnel device {}: {networks}", device.name());
        self.warn_of_rules(device.addr());
    }

    /// Warns if packets to the largest destinations leave around the tunnel all the same, because a routing rule of the host
    /// comes before its main table.
    fn warn_of_rules(&self, own: Ipv4Addr) {
        let mut largest: Vec<_> = self.destinations.iter().collect();
        largest.sort_by_key(|(_, prefix)| *prefix);
        let source = |network: Ipv4Addr| source_towards(Ipv4Addr::from(u32::from(network) | 1).into());
        let around = largest.into_iter().take(SAMPLES).find(|(network, _)| source(*network) != Some(own.into()));
        if let Some((network, prefix)) = around {
            log::warn!(
                "packets to {network}/{prefix} leave this host around the tunnel: one of its routing rules comes before the \
                 main table, which has the routes; expected none (`ip rule`), or a kill switch"
            );
        }
    }
}

/// Returns which of our routes lead into the device, as the kernel lists them.
pub(super) fn in_force(index: u32, networks: Vec<Subnet>) -> Result<Routed, NetlinkError> {
    let mut netlink = netlink()?;
    let is_ours = |link: Option<u32>, protocol| link == Some(index) && protocol == OUR_ROUTE;
    let routes = netlink.routes_in_use()?.iter().filter(|route| is_ours(route.index, route.protocol)).count();
    let blocks_ipv6 = netlink.routes6()?.iter().any(|route| is_ours(route.index, route.protocol));
    Ok(Routed { networks, routes, blocks_ipv6 })
}

/// Returns the destinations of the routes. What the host routes more precisely than a network says, or just as precisely,
/// stays with the host.
fn blocks(routes: &Routes, subnet: Subnet, of_host: &[Subnet]) -> BTreeSet<(Ipv4Addr, u8)> {
    let exclude = routes.exclude.iter().map(|network| (network.network, network.prefix));
    let outside = routes.servers.iter().filter_map(|server| match server {
        IpAddr::V4(server) => Some((*server, 32)),
        // No IPv4 route leads to it.
        IpAddr::V6(_) => None,
    });
    let left_out =
        Networks::of(UNROUTABLE.into_iter().chain(exclude).chain(outside).chain([(subnet.base(), subnet.prefix)]));
    let of_network = |network: &Subnet| {
        // The networks may take the default route and its halves over.
        let kept: Networks = of_host.iter().filter(|route| route.prefix > HALF && network.holds(route)).collect();
        let all: Networks = [network].into_iter().collect();
        all.without(&left_out).without(&kept).blocks()
    };
    routes.networks.iter().flat_map(of_network).collect()
}

fn listed(networks: &[Subnet]) -> String {
    networks.iter().map(Subnet::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse_cidr(text).unwrap()
    }

    fn routed(networks: &[&str], exclude: &[&str], host: &[&str]) -> Networks {
        let list = |texts: &[&str]| texts.iter().map(|text| subnet(text)).collect();
        let servers = ["198.51.100.7", "2001:db8::7", "198.51.100.9"].map(|server| server.parse().unwrap());
        let routes =
            Routes { networks: list(networks), exclude: list(exclude), servers: servers.into(), ..Routes::default() };
        Networks::of(blocks(&routes, subnet("10.98.0.0/24"), &list(host)))
    }

    #[test]
    fn everything_leaves_out_the_server_and_what_the_host_routes_itself() {
        let all = routed(&["0.0.0.0/0"], &["203.0.113.0/24"], &["0.0.0.0/0", "192.168.1.0/24", "10.0.0.0/8"]);
        for inside in ["1.1.1.1", "198.51.100.6", "198.51.100.8", "192.168.2.1", "11.0.0.1", "223.255.255.255"] {
            assert!(all.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "198.51.100.7",
            "198.51.100.9",
            "203.0.113.9",
            "192.168.1.20",
            "10.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.251",
            "0.1.1.1",
        ] {
            assert!(!all.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn a_network_inside_a_route_of_the_host_is_taken_over() {
        let part = routed(&["10.1.0.0/16"], &[], &["10.0.0.0/8", "10.1.7.0/24"]);
        let parts = ["10.1.6.255", "10.1.8.0"].map(|text| part.contains(text.parse().unwrap()));
        assert_eq!((parts, part.contains([10, 1, 7, 1].into())), ([true, true], false));
        assert!(routed(&["10.1.0.0/16"], &[], &["10.1.0.0/16"]).is_empty());
    }

    #[test]
    fn no_route_is_a_default_route() {
        let routes = Routes { networks: vec![subnet("0.0.0.0/0")], ..Routes::default() };
        let blocks = blocks(&routes, subnet("10.98.0.0/24"), &[subnet("0.0.0.0/1")]);
        assert!(blocks.iter().all(|(_, prefix)| *prefix > HALF) && blocks.len() < 64, "{blocks:?}");
    }
}
