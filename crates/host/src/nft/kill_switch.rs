//! The client's kill switch: a table that lets nothing leave this host but through the tunnel.
//!
//! What passes beside the tunnel: the loopback device, TCP to the server's address and port, DHCP, and what IPv6 needs on
//! a link (neighbour discovery, multicast listeners). With [`KillSwitch::local`] also the private, link-local and local
//! multicast networks, without their name servers: these would tell the names that the tunnel hides. Everything else is
//! refused with an ICMP error to the local program, so that it fails at once; a connection that is established survives
//! that error. Packets that the host forwards for others are dropped in the same way.
//!
//! The tunnel's device is let through by its index, not its name: after a crash another program's `tun0` is no tunnel of
//! ours. Nothing depends on connection tracking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BaseChain, Batch, ChainHook, Family, Nft, NftError, Rule, open_for_look, owner, rule_of_this_process};
use crate::owner::Owner;

/// The table's name, of the family [`Family::Inet`].
pub const TABLE: &str = "cellframe-vpn-client";

const OUTPUT: &str = "output";
const FORWARD: &str = "forward";

/// The networks of [`KillSwitch::local`]: private, link-local, and multicast that stays on the site.
const LOCAL_V4: [(Ipv4Addr, u8); 7] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 24),
    (Ipv4Addr::new(239, 0, 0, 0), 8),
    (Ipv4Addr::BROADCAST, 32),
];
const LOCAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    LINK_MULTICAST,
    (Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0), 16),
];
const LINK_MULTICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);
/// Ports of name servers: plain, and with TLS.
const NAME_SERVER_PORTS: [u16; 2] = [53, 853];

/// Types of ICMPv6: the solicitation of a router, and of a neighbour with its answer (RFC 4861).
const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];
/// Types of ICMPv6: reports of multicast listeners, without which a switch may not pass the above (RFC 2710, RFC 3810).
const MULTICAST_LISTENERS: [u8; 3] = [131, 132, 143];

/// What the kill switch lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillSwitch {
    /// The servers: their names with the port, as the user has them, and their outer addresses.
    pub servers: Vec<(String, SocketAddr)>,
    /// The indices of the tunnel's devices: two while one takes the other's place.
    pub devices: Vec<u32>,
    /// Whether local networks can be reached.
    pub local: bool,
}

/// A kill switch that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    owner: Option<Owner>,
    /// The servers that it lets through, as [`KillSwitch::servers`].
    pub servers: Vec<(String, SocketAddr)>,
}

impl Standing {
    /// The process that holds it, if this is another one that runs.
    pub fn other_holder(&self) -> Option<u32> {
        self.owner.as_ref().filter(|owner| **owner != Owner::this() && owner.is_running()).map(|owner| owner.pid)
    }

    /// The process that holds it, if that runs.
    pub(super) fn holder(&self) -> Option<u32> {
        self.owner.as_ref().filter(|owner| owner.is_running()).map(|owner| owner.pid)
    }

    /// Returns the address of the server with this name, which has the port.
    pub fn address_of(&self, server: &str) -> Option<SocketAddr> {
        self.servers.iter().find(|(name, _)| name == server).map(|(_, address)| *address)
    }
}

/// Puts the kill switch up, in the place of one that is up: there is no moment without it.
///
/// # Errors
/// If the kernel refuses; what was there is then as it was.
pub fn put_up(switch: &KillSwitch) -> Result<(), NftError> {
    let mut batch = Batch::new();
    batch.put_table(Family::Inet, TABLE);
    for (name, hook, rules) in
        [(OUTPUT, ChainHook::Output, output(switch)), (FORWARD, ChainHook::Forward, forward(switch))]
    {
        let chain = BaseChain { name, kind: "filter", hook, priority: 0, accepts: false };
        batch.add_chain(Family::Inet, TABLE, &chain);
        for rule in rules {
            batch.add_rule(Family::Inet, TABLE, name, rule);
        }
    }
    Nft::open()?.perform(batch)
}

/// Finds out whether a kill switch can be put up here, as far as that is known without doing it.
///
/// # Errors
/// If the kernel has no nf_tables, or the privilege is missing.
pub fn check() -> Result<(), NftError> {
    Nft::open()?.tables().map(drop)
}

/// Returns the kill switch that is up in this network namespace; `None` also in a kernel without nf_tables.
///
/// # Errors
/// If the tables cannot be listed.
pub fn standing() -> Result<Option<Standing>, NftError> {
    let Some((mut nft, _)) = open_for_look()? else { return Ok(None) };
    let Some(rules) = nft.rules_if_there(Family::Inet, TABLE)? else { return Ok(None) };
    let owner = owner(&rules);
    let servers = rules.iter().filter_map(|rule| parse_server(&rule.comment)).collect();
    Ok(Some(Standing { owner, servers }))
}

/// Takes the kill switch down; does nothing if there is none.
///
/// # Errors
/// If the kernel refuses.
pub fn take_down() -> Result<(), NftError> {
    let mut batch = Batch::new();
    batch.delete_table(Family::Inet, TABLE);
    Nft::open()?.perform(batch)
}

pub(super) fn repair() -> Result<Vec<String>, NftError> {
    let Some(standing) = standing()? else { return Ok(Vec::new()) };
    if let Some(process) = standing.other_holder() {
        return Ok(vec![format!(
            "the kill switch (nf_tables: table inet {TABLE}) stays: the client of process {process} runs and holds it; \
             end it with `cellframe-vpn stop`"
        )]);
    }
    take_down()?;
    let servers: Vec<_> = standing.servers.iter().map(|(name, _)| name.as_str()).collect();
    Ok(vec![format!(
        "removed the kill switch (nf_tables: table inet {TABLE}) of a client that has ended; it let only the server {} \
         through",
        servers.join(", ")
    )])
}

fn server_comment(name: &str, address: &SocketAddr) -> String {
    format!("server {name} at {address}")
}

fn parse_server(comment: &str) -> Option<(String, SocketAddr)> {
    let (name, address) = comment.strip_prefix("server ")?.rsplit_once(" at ")?;
    Some((name.to_owned(), address.parse().ok()?))
}

/// The rules for packets of this host.
fn output(switch: &KillSwitch) -> Vec<Rule> {
    let mut rules = vec![rule_of_this_process().out_by("lo").accept()];
    rules.extend(switch.devices.iter().map(|device| Rule::new("the tunnel").out_by_index(*device).accept()));
    for (name, address) in &switch.servers {
        let rule = Rule::new(server_comment(name, address)).to(address.ip(), full(address.ip()));
        rules.push(rule.of_protocol(libc::IPPROTO_TCP).to_port(address.port()).accept());
    }
    for (comment, is_ipv6, from, to) in [("DHCP", false, 68, 67), ("DHCPv6", true, 546, 547)] {
        let rule = Rule::new(comment).of_family(is_ipv6).of_protocol(libc::IPPROTO_UDP);
        rules.push(rule.from_port(from).to_port(to).accept());
    }
    let icmp = |comment: &str| Rule::new(comment).of_family(true).of_protocol(libc::IPPROTO_ICMPV6);
    rules.extend(NEIGHBOUR_DISCOVERY.map(|kind| icmp("neighbour discovery").of_icmp_type(kind).accept()));
    let (network, prefix) = LINK_MULTICAST;
    rules.extend(
        MULTICAST_LISTENERS
            .map(|kind| icmp("multicast listeners").of_icmp_type(kind).to(network.into(), prefix).accept()),
    );
    if switch.local {
        rules.extend(name_servers().map(Rule::reject));
        rules.extend(local_networks());
    }
    // Linux hears an ICMPv6 error about its first SYN too early, and waits a second for the next one.
    rules.push(Rule::new("everything else").of_protocol(libc::IPPROTO_TCP).count().reset());
    rules.push(Rule::new("everything else").count().reject());
    rules
}

/// The rules for packets that this host forwards. An ICMP error about them would itself be refused.
fn forward(switch: &KillSwitch) -> Vec<Rule> {
    let mut rules = Vec::new();
    for device in &switch.devices {
        rules.push(Rule::new("the tunnel").in_by_index(*device).accept());
        rules.push(Rule::new("the tunnel").out_by_index(*device).accept());
    }
    if switch.local {
        rules.extend(name_servers().map(Rule::drop));
        rules.extend(local_networks());
    }
    rules.push(Rule::new("everything else").count().drop());
    rules
}

fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The packets to name servers, without an end.
fn name_servers() -> impl Iterator<Item = Rule> {
    let protocols = [libc::IPPROTO_UDP, libc::IPPROTO_TCP];
    protocols.into_iter().flat_map(|protocol| {
        NAME_SERVER_PORTS.map(|port| Rule::new("local name servers").of_protocol(protocol).to_port(port).count())
    })
}

fn local_networks() -> impl Iterator<Item = Rule> {
    let v4 = LOCAL_V4.into_iter().map(|(network, prefix)| (IpAddr::from(network), prefix));
    let v6 = LOCAL_V6.into_iter().map(|(network, prefix)| (IpAddr::from(network), prefix));
    v4.chain(v6).map(|(network, prefix)| Rule::new("local networks").to(network, prefix).accept())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_as_it_was_written() {
        for (name, address) in [("vpn.example.com:8079", "192.0.2.1:8079"), ("[2001:db8::1]:1", "[2001:db8::1]:1")] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(parse_server(&server_comment(name, &address)), Some((name.to_owned(), address)));
        }
        for other in ["the tunnel", "server x at y", "server x", ""] {
            assert_eq!(parse_server(other), None, "{other}");
        }
    }
}
