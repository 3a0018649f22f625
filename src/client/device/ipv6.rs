//! The host's IPv6 while the Internet is routed into the tunnel, which carries IPv4 alone.
//!
//! IPv6 is routed into the device too, where the uplink answers each packet with "unreachable": nothing leaves around the
//! tunnel, and applications turn to IPv4 at once. These routes end with the device, as those of IPv4 do; a route that
//! discards would outlive a process that is killed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::settings::{Routes, TunnelError};
use crate::client::judge::netlink;
use host::ipv6;
use host::netlink::{Netlink, OUR_ROUTE, Route6Entry};
use host::tun::Device;
use vpn_core::forward::Networks;

/// The smallest MTU of a link that has IPv6 (RFC 8200, section 5).
const MIN_MTU: u16 = 1280;

/// A network as its address and prefix length.
type Block = (Ipv6Addr, u8);

/// What does not leave a link: link-local addresses and multicast.
const OF_A_LINK: [Block; 2] =
    [(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)];

/// The longest prefix of the routes that stand for the whole Internet: ::/0, its halves, 2000::/3. Ours are longer and win
/// over them, also over one that a router advertises later.
const WHOLE: u8 = 3;

/// An address in none of the networks that are given to anybody (IANA): no host has a route to it but the default one.
const UNASSIGNED: Ipv6Addr = Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 1);

/// Routes the host's IPv6 into the device, if the settings say so and the host has IPv6. What the host routes more
/// precisely, such as its own networks, stays with it, and so does the server's address. Otherwise removes such routes.
pub(super) fn set(routes: &Routes, device: &Device, netlink: &mut Netlink) -> Result<(), TunnelError> {
    let name = device.name();
    let failed = |source| TunnelError::Ipv6 { device: device.name(), source };
    let is_wanted = is_wanted(routes) && ipv6::is_used_beside(&name).map_err(failed)?;
    let has_ipv6 = ipv6::has_ipv6(&name).map_err(failed)?;
    if !is_wanted && !has_ipv6 {
        return Ok(());
    }
    let (ours, others): (Vec<_>, Vec<_>) =
        netlink.routes6()?.into_iter().partition(|route| route.index == Some(device.index()));
    if is_wanted && device.mtu() < MIN_MTU {
        let leads_away = |route: &Route6Entry| route.is_unicast() && (route.prefix <= WHOLE || route.has_gateway);
        return match others.iter().any(leads_away) {
            true => Err(TunnelError::Ipv6Mtu(device.mtu())),
            false => Ok(()),
        };
    }
    if is_wanted && !has_ipv6 {
        ipv6::enable(&name).map_err(failed)?;
    }
    let wanted = if is_wanted { blocks(&routes.servers) } else { BTreeSet::new() };
    let is_ours = |route: &&Route6Entry| route.protocol == OUR_ROUTE;
    let there: BTreeSet<_> = ours.iter().filter(is_ours).map(|route| (route.destination, route.prefix)).collect();
    for block in wanted.difference(&there) {
        netlink.set_route6(device.index(), *block)?;
    }
    for block in there.difference(&wanted) {
        netlink.unset_route6(device.index(), *block)?;
    }
    if wanted.difference(&there).count() == wanted.len() && is_wanted {
        log::info!("IPv6 leads into tunnel device {name}, and is answered with \"unreachable\"");
    }
    Ok(())
}

/// Does so again if something has taken the routes away, such as a switch of the host's IPv6 that flushes them, or if the
/// host has IPv6 by now. It takes some milliseconds at most.
pub(super) fn keep(routes: &Routes, device: &Device) -> Result<(), TunnelError> {
    let mut netlink = netlink()?;
    match netlink.has_route6(device.index(), UNASSIGNED)? {
        true => Ok(()),
        false => set(routes, device, &mut netlink),
    }
}

/// Whether the user wants the host's IPv6 kept from leaving around the tunnel, if there is any.
pub(super) fn is_wanted(routes: &Routes) -> bool {
    routes.block_ipv6 && routes.networks.iter().collect::<Networks>().hold_the_internet()
}

/// Returns the destinations of the routes.
fn blocks(servers: &[IpAddr]) -> BTreeSet<Block> {
    let outside = servers.iter().filter_map(|server| match server {
        IpAddr::V6(server) => Some((*server, 128)),
        IpAddr::V4(_) => None,
    });
    let left_out: Vec<_> = OF_A_LINK.into_iter().chain(outside).collect();
    let mut blocks = BTreeSet::new();
    add_without(&left_out, (Ipv6Addr::UNSPECIFIED, 0), &mut blocks);
    blocks
}

/// Adds a block, or the largest parts of it that hold nothing of what is left out.
fn add_without(left_out: &[Block], block: Block, blocks: &mut BTreeSet<Block>) {
    let (address, prefix) = block;
    if left_out.iter().any(|one| holds(*one, block)) {
        return;
    }
    if prefix > WHOLE && !left_out.iter().any(|one| holds(block, *one)) {
        blocks.insert(block);
        return;
    }
    let half = prefix + 1;
    let upper = u128::from(address) | 1 << (128 - u32::from(half));
    for address in [address, upper.into()] {
        add_without(left_out, (address, half), blocks);
    }
}

fn holds((network, prefix): Block, (inner, inner_prefix): Block) -> bool {
    let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
    prefix <= inner_prefix && (u128::from(network) ^ u128::from(inner)) & !host == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_routed(server: Option<&str>, address: u128) -> bool {
        let servers: Vec<IpAddr> = server.iter().map(|server| server.parse().unwrap()).collect();
        let blocks = blocks(&servers);
        blocks.into_iter().any(|block| holds(block, (address.into(), 128)))
    }

    #[test]
    fn all_but_the_link_and_the_server() {
        let blocks = blocks(&[]);
        assert!(blocks.iter().all(|(_, prefix)| *prefix > WHOLE) && blocks.len() < 24, "{blocks:?}");
        for (address, expected) in [
            ("::1:2:3", true),
            ("64:ff9b::1", true),
            ("2001:db8::6", true),
            ("2001:db8::7", false),
            ("2001:db8::8", true),
            ("3fff:ffff::1", true),
            ("fd00::1", true),
            ("fe7f:ffff::1", true),
            ("fe80::1", false),
            ("febf:ffff::1", false),
            ("fec0::1", true),
            ("feff::1", true),
            ("ff02::1", false),
        ] {
            let address: Ipv6Addr = address.parse().unwrap();
            assert_eq!(is_routed(Some("2001:db8::7"), address.into()), expected, "{address}");
        }
    }

    /// A wrong block would show at a neighbour of the server, which differs from it in one bit.
    #[test]
    fn nothing_else_is_left_out() {
        for server in ["2001:db8::7", "fe80::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::1"] {
            let address: u128 = server.parse::<Ipv6Addr>().unwrap().into();
            assert!(!is_routed(Some(server), address), "{server}");
            for neighbour in (0..128).map(|bit| address ^ (1 << bit)) {
                let of_a_link = OF_A_LINK.iter().any(|block| holds(*block, (neighbour.into(), 128)));
                assert_eq!(is_routed(Some(server), neighbour), !of_a_link, "{server} {neighbour:x}");
            }
        }
    }
}
