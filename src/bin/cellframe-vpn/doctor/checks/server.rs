//! What a server needs of its host: the port, the subnet, forwarding, address translation, and a packet filter that lets
//! both through.

use host::nft::arrival::{Fate, Refusal};

use super::network::collision;
use crate::doctor::facts::{Facts, Listen, Runs, ServerEnd};
use crate::doctor::finding::Finding;
use crate::exit::Code;

const DAY: u64 = 86_400;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(end) = &facts.server else { return Vec::new() };
    let mut findings = Vec::new();
    findings.extend(tunnel(end));
    findings.extend(subnet(facts, end));
    findings.extend(end.listen.iter().flat_map(|listen| port(end, listen)));
    findings.push(forwarding(facts, end));
    findings.extend(translation(facts, end));
    findings.extend(forward_chains(end));
    findings.push(identity(end));
    findings.extend(answer(end));
    findings.extend(seen_from_outside(facts, end));
    findings
}

fn is_running(end: &ServerEnd) -> bool {
    matches!(end.process.runs, Runs::Yes(_))
}

fn tunnel(end: &ServerEnd) -> Option<Finding> {
    const CHECK: &str = "tunnel";
    if let Some(outage) = &end.outage {
        return Some(Finding::fault(
            CHECK,
            format!("the server's tunnel is down: {outage}"),
            "no client gets an address",
            &[&format!("ip link set dev {} up", end.device), "restart the server; its log says more"],
        ));
    }
    (is_running(end) && end.has_device).then(|| Finding::ok(CHECK, format!("the tunnel is up on {}", end.device)))
}

fn subnet(facts: &Facts, end: &ServerEnd) -> Option<Finding> {
    const CHECK: &str = "subnet";
    let subnet = match &end.subnet {
        Ok(subnet) => subnet,
        Err(error) => {
            return Some(Finding::fault(
                CHECK,
                format!("the tunnel's network cannot be read: {error}"),
                "the server does not start",
                &["[srv_vpn] network_address=10.98.0.0 and network_mask=255.255.255.0"],
            ));
        }
    };
    let own = end.has_device.then_some(end.device.as_str());
    Some(match collision(&facts.network, subnet, own) {
        None => Finding::ok(CHECK, format!("the tunnel's network {subnet} is free on this machine")),
        Some(with) => Finding::fault(
            CHECK,
            format!("the tunnel's network {subnet} overlaps {with}"),
            "the server does not start, or hosts of that network are no longer reached",
            &["[srv_vpn] network_address=10.99.0.0, or another private network that is free here"],
        ),
    })
}

/// Which process holds the port, and whether the packet filter lets connections from other hosts reach it.
fn port(end: &ServerEnd, listen: &Listen) -> Vec<Finding> {
    const CHECK: &str = "port";
    let address = listen.address;
    let pid = if let Runs::Yes(pid) = end.process.runs { pid } else { None };
    let is_ours = |holder: &&(String, Option<u32>)| pid.is_some() && holder.1 == pid;
    let holder = match (listen.holders.iter().find(is_ours), listen.holders.first()) {
        (Some(_), _) => Finding::ok(CHECK, format!("the server listens on {address}")),
        // The kernel does not tell whose it is.
        (None, Some((_, None))) if is_running(end) => Finding::ok(CHECK, format!("the server listens on {address}")),
        (None, Some((name, number))) => {
            let who = number.map_or_else(|| name.clone(), |number| format!("{name} (process {number})"));
            Finding::fault(
                CHECK,
                format!("{who} listens on {address} already"),
                "the server cannot listen there",
                &[
                    &format!(
                        "[server] listen_address=[0.0.0.0:{}], or another port that is free",
                        next(address.port())
                    ),
                    "end that process, or give it another port",
                ],
            )
        }
        (None, None) if is_running(end) => Finding::fault(
            CHECK,
            format!("the server runs, and nobody listens on {address}"),
            "no client can connect",
            &["name the configuration that the server was started with: --config FILE", "restart the server"],
        ),
        (None, None) => Finding::ok(CHECK, format!("{address} is free")),
    };
    let mut findings = vec![holder];
    findings.extend((!address.ip().is_loopback()).then(|| input_chains(listen)));
    findings
}

fn next(port: u16) -> u16 {
    port.checked_add(10).unwrap_or(8089)
}

fn input_chains(listen: &Listen) -> Finding {
    const CHECK: &str = "firewall";
    let port = listen.address.port();
    let (refusal, is_certain) = match &listen.fate {
        Err(error) => {
            return Finding::unknown(
                CHECK,
                format!("cannot be looked at: {error}"),
                "sudo cellframe-vpn doctor --server",
            );
        }
        Ok(Fate::Passes) => return Finding::ok(CHECK, format!("the packet filter accepts connections to port {port}")),
        Ok(Fate::Perhaps(refusal)) => (refusal, false),
        Ok(Fate::Refused(refusal)) => (refusal, true),
    };
    let Refusal { chain, by, is_policy, is_of_ufw } = refusal;
    let (family, table, name) = (chain.family.name(), &chain.table, &chain.name);
    let what = if *is_policy { "the policy of the chain" } else { "a rule of the chain" };
    let place = format!("{what} {by} of the table {family} {table}");
    let remedy = match (table.as_str(), is_of_ufw) {
        ("firewalld", _) => format!("firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload"),
        (_, true) => format!("ufw allow {port}/tcp"),
        _ => format!("nft insert rule {family} {table} {name} tcp dport {port} accept"),
    };
    let keep = "put the same rule into the file that the firewall is loaded from, such as /etc/nftables.conf";
    if is_certain {
        let found = format!("the packet filter refuses connections to port {port}: {place}");
        Finding::fault(CHECK, found, "no client can connect", &[&remedy, keep])
    } else {
        let found = format!("the packet filter accepts connections to port {port} from some sources alone: {place}");
        Finding::warning(CHECK, found, "other clients cannot connect", &[&remedy, keep])
    }
}

fn forwarding(facts: &Facts, end: &ServerEnd) -> Finding {
    const CHECK: &str = "forwarding";
    const FOLLOWS: &str = "clients reach this machine alone, not what is behind it";
    const REMEDY: &str = "sysctl -w net.ipv4.ip_forward=1";
    const KEEP: &str = "echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-cellframe-vpn.conf";
    match &end.forwards_all {
        Ok(true) => return Finding::ok(CHECK, "this machine forwards IPv4 (net.ipv4.ip_forward=1)"),
        Ok(false) => {}
        Err(error) => return Finding::unknown(CHECK, format!("net.ipv4.ip_forward cannot be read: {error}"), REMEDY),
    }
    let off: Vec<_> = end.forwards.iter().filter(|(_, is_on)| !is_on).map(|(link, _)| link.as_str()).collect();
    if is_running(end) && end.has_device {
        if off.is_empty() {
            return Finding::ok(CHECK, "this machine forwards what comes by the tunnel's device and its way out");
        }
        let found = format!("net.ipv4.ip_forward is 0, and {} does not forward", off.join(", "));
        return Finding::fault(CHECK, found, FOLLOWS, &[REMEDY, KEEP]);
    }
    if end.nat == "off" {
        let found = "net.ipv4.ip_forward is 0, and with [srv_vpn] nat=off the server does not change that";
        return Finding::fault(CHECK, found, FOLLOWS, &[REMEDY, KEEP, "[srv_vpn] nat=auto"]);
    }
    if facts.machine.sysctls_are_read_only {
        let found = "net.ipv4.ip_forward is 0, and /proc/sys is read-only here, so that the server cannot change it";
        let container = "start the container with --sysctl net.ipv4.ip_forward=1";
        return Finding::fault(CHECK, found, FOLLOWS, &[container, REMEDY]);
    }
    Finding::ok(CHECK, "net.ipv4.ip_forward is 0; the server enables forwarding for the devices that it needs")
}

fn translation(facts: &Facts, end: &ServerEnd) -> Option<Finding> {
    const CHECK: &str = "nat";
    let subnet = end.subnet.as_ref().ok()?;
    let others = match &end.others {
        Ok(others) => others,
        // That nf_tables cannot be used is a finding of its own.
        Err(_) if facts.machine.nf_tables.is_err() => return None,
        Err(error) => return Some(Finding::unknown(CHECK, format!("cannot be looked at: {error}"), "run as root")),
    };
    if let Some(table) = &others.translates {
        return Some(Finding::ok(CHECK, format!("the table {table} translates clients' addresses, or may")));
    }
    let ours = format!("ip {}", host::nft::nat::table_of(&end.device));
    let is_ours = |own: &host::nft::Own| own.table == ours && own.holder.is_some();
    let has_ours = facts.machine.tables.as_ref().is_ok_and(|tables| tables.iter().any(is_ours));
    if has_ours {
        return Some(Finding::ok(CHECK, format!("the server translates clients' addresses (nf_tables: table {ours})")));
    }
    if is_running(end) || end.nat == "off" {
        let by_hand = format!("nft add rule ip nat postrouting ip saddr {subnet} oifname != {} masquerade", end.device);
        return Some(Finding::warning(
            CHECK,
            format!("nothing translates the addresses of {subnet}"),
            "hosts that have no route back to that network cannot answer: the Internet has none",
            &["[srv_vpn] nat=auto, and restart the server", &by_hand],
        ));
    }
    Some(Finding::ok(CHECK, "no other program translates clients' addresses; the server will"))
}

/// Chains of other programs that drop what the host forwards.
fn forward_chains(end: &ServerEnd) -> Vec<Finding> {
    const CHECK: &str = "firewall";
    let Ok(others) = &end.others else { return Vec::new() };
    let device = &end.device;
    let mut findings: Vec<_> = others
        .refuses
        .iter()
        .map(|chain| {
            let (family, table, name) = (chain.family.name(), &chain.table, &chain.name);
            let rule = |side: &str| format!("nft insert rule {family} {table} {name} {side} {device} accept");
            Finding::fault(
                CHECK,
                format!(
                    "the chain {name} of the table {family} {table} drops what this machine forwards, and no rule there \
                     accepts {device}"
                ),
                "clients reach this machine alone, not what is behind it",
                &[&rule("iifname"), &rule("oifname"), "put the same rules into the file that the firewall is loaded from"],
            )
        })
        .collect();
    if !others.legacy.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            format!(
                "this machine has tables of iptables-legacy ({}), which are not looked at",
                others.legacy.join(", ")
            ),
            "if clients cannot connect, or reach this machine alone, their rules may be why",
            &[
                "iptables-legacy -S INPUT; iptables-legacy -S FORWARD",
                &format!(
                    "iptables-legacy -I FORWARD -i {device} -j ACCEPT; iptables-legacy -I FORWARD -o {device} -j ACCEPT"
                ),
            ],
        ));
    }
    findings
}

fn identity(end: &ServerEnd) -> Finding {
    const CHECK: &str = "identity";
    match end.identity_age {
        None => Finding::ok(CHECK, "there is none yet; the first start makes one, which clients pin"),
        Some(age) if age < DAY => Finding::ok(CHECK, "it was made within the last day; it does not run out"),
        Some(age) => Finding::ok(CHECK, format!("it is {} days old; it does not run out", age / DAY)),
    }
}

fn answer(end: &ServerEnd) -> Option<Finding> {
    const CHECK: &str = "answer";
    let answer = end.answer.as_ref()?;
    if answer.code == Code::Success {
        return Some(Finding::ok(CHECK, format!("the server answers on this machine: {}", answer.text)));
    }
    Some(Finding::fault(
        CHECK,
        format!("the server does not answer on this machine: {}", answer.text),
        "no client is served",
        &["sudo cellframe-vpn stat", "restart the server; its log says more"],
    ))
}

/// A server behind another's address translation is reached from outside only if that passes its port on.
fn seen_from_outside(facts: &Facts, end: &ServerEnd) -> Option<Finding> {
    const CHECK: &str = "public address";
    let address = facts.network.outward?;
    let port = end.listen.first()?.address.port();
    let ask = format!("from another network: cellframe-vpn check ADDRESS:{port}");
    if !is_private(address) {
        let found = format!("this machine reaches the Internet from {address}, a public address");
        return Some(Finding::ok(CHECK, found));
    }
    Some(Finding::warning(
        CHECK,
        format!("this machine reaches the Internet from {address}, a private address: a router translates it"),
        "clients from elsewhere connect to the router's address, and come through only where it passes the port on",
        &[&format!("at the router, or in the provider's panel: pass TCP port {port} on to {address}"), &ask],
    ))
}

/// RFC 1918, RFC 6598, RFC 3927, RFC 4193.
fn is_private(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || (a == 100 && b & 0xc0 == 64)
        }
        std::net::IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}
