//! The host's networks, the configuration file, and the name servers.

use std::net::IpAddr;

use vpn_core::lease::Subnet;

use crate::doctor::facts::{Facts, Network};
use crate::doctor::finding::Finding;

/// A path narrower than this has no IPv6, and a full packet of the tunnel takes two of it.
const SMALLEST_MTU: u32 = 1280;
/// What the outer connection adds to a packet of the tunnel, in bytes: 1390 of them fit into 1500.
const OUTER_HEADERS: u64 = 110;
/// The subnet that a server gives unless its operator says otherwise.
const DEFAULT_SUBNET: Subnet = Subnet { network: std::net::Ipv4Addr::new(10, 98, 0, 0), prefix: 24 };

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let network = &facts.network;
    let mut findings = configuration(facts);
    if let Some(error) = &network.failed {
        findings.push(Finding::unknown("network", format!("the networks cannot be listed: {error}"), "run as root"));
        return findings;
    }
    findings.extend([way_out(network), name_servers(network)]);
    findings.extend(mtu(facts));
    findings.extend(reverse_path(network));
    if facts.server.is_none() && facts.client.is_some() {
        findings.push(default_subnet(network));
    }
    findings
}

fn configuration(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    match &facts.keys {
        Err(error) => vec![Finding::fault(
            CHECK,
            error.clone(),
            "a server or client does not start with it, and the checks here look at the defaults",
            &["correct that line; docs/config.md has each key, `cellframe-vpn server --print-config` an example"],
        )],
        Ok(unknown) if unknown.is_empty() => vec![Finding::ok(CHECK, format!("{}: no mistakes", facts.config))],
        Ok(unknown) => vec![Finding::warning(
            CHECK,
            format!("{}: nobody reads {}", facts.config, unknown.join(", ")),
            "what these keys were to change has its default",
            &["correct their spelling, or remove them; docs/config.md has each key"],
        )],
    }
}

fn way_out(network: &Network) -> Finding {
    const CHECK: &str = "way out";
    let Some(outward) = network.outward else {
        return Finding::fault(
            CHECK,
            "no route leads from this machine to the Internet",
            "a client reaches no server, and the clients of a server reach this machine alone",
            &["ip route add default via GATEWAY", "ip route show"],
        );
    };
    let link = network.outward_link.as_ref().map_or_else(String::new, |(link, _)| format!(" on {link}"));
    Finding::ok(CHECK, format!("the Internet is reached from {outward}{link}"))
}

fn name_servers(network: &Network) -> Finding {
    const CHECK: &str = "name servers";
    if network.name_servers.is_empty() {
        return Finding::warning(
            CHECK,
            "/etc/resolv.conf names no name server",
            "a server can be reached by its address alone, and a server here gives its clients none",
            &["add a line to /etc/resolv.conf: nameserver 9.9.9.9"],
        );
    }
    let list: Vec<_> = network.name_servers.iter().map(IpAddr::to_string).collect();
    Finding::ok(CHECK, format!("names are asked of {}", list.join(", ")))
}

fn mtu(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "mtu";
    let (link, mtu) = facts.network.outward_link.as_ref()?;
    if *mtu < SMALLEST_MTU {
        return Some(Finding::warning(
            CHECK,
            format!("{link} takes packets of at most {mtu} bytes; expected 1500, and 1280 at least"),
            "IPv6 does not work on it, and each full packet of the tunnel takes two of it",
            &[&format!("ip link set dev {link} mtu 1500"), "[srv_vpn] mtu=1200, at the server"],
        ));
    }
    let mut found = format!("{link} takes packets of {mtu} bytes");
    let inner = facts.server.as_ref().map(|end| end.mtu);
    if let Some(inner) = inner.filter(|inner| inner + OUTER_HEADERS > u64::from(*mtu)) {
        let fits = u64::from(*mtu) - OUTER_HEADERS;
        found +=
            &format!("; a full packet of the tunnel, {inner} bytes, takes two of them: [srv_vpn] mtu={fits} takes one");
    }
    Some(Finding::ok(CHECK, found))
}

/// A strict filter drops what comes by another link than the answer would take: with one way out these are the same.
fn reverse_path(network: &Network) -> Option<Finding> {
    const CHECK: &str = "rp_filter";
    if network.defaults.is_empty() {
        return None;
    }
    if network.strict.is_empty() || network.defaults.len() < 2 {
        return Some(Finding::ok(CHECK, "the reverse path filter lets the outer connection through"));
    }
    let links = network.strict.join(", ");
    let loose: Vec<_> =
        network.strict.iter().map(|link| format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2")).collect();
    let loose: Vec<_> = loose.iter().map(String::as_str).collect();
    Some(Finding::warning(
        CHECK,
        format!(
            "{} links lead to the Internet, and the reverse path filter is strict on {links}",
            network.defaults.len()
        ),
        "packets that come by another link than the answers would take are dropped without a word",
        &loose,
    ))
}

fn default_subnet(network: &Network) -> Finding {
    const CHECK: &str = "subnet";
    match collision(network, &DEFAULT_SUBNET, None) {
        None => Finding::ok(CHECK, format!("this machine does not use {DEFAULT_SUBNET}, which most servers give")),
        Some(with) => Finding::warning(
            CHECK,
            format!("{DEFAULT_SUBNET}, which most servers give, overlaps {with}"),
            "the client refuses a server that gives it: it would take over traffic of this machine's own",
            &["ask the server's operator for another network ([srv_vpn] network_address), or renumber that one"],
        ),
    }
}

/// Says which of this host's networks the subnet overlaps, apart from those of the device `own`.
pub(super) fn collision(network: &Network, subnet: &Subnet, own: Option<&str>) -> Option<String> {
    let address = network.addresses.iter().find(|one| Some(one.link.as_str()) != own && one.network.overlaps(subnet));
    if let Some(one) = address {
        return Some(format!("{}, this machine's network on {}", one.network, one.link));
    }
    let route =
        network.routes.iter().find(|(to, link)| Some(link.as_str()) != own && (subnet.holds(to) || to == subnet));
    route.map(|(to, link)| format!("{to}, to which a route leads by {link}"))
}
