//! What is wrong with the service or its host, in words that say what to do.

use std::time::Duration;

use super::speed::Speed;
use crate::sdk::{figures, store};
use crate::server::Server;
use host::nft::nat;
use vpn_core::forward::DropCause;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Worth knowing.
    Notice,
    /// Some clients are worse off, or all will be soon.
    Warning,
    /// Clients do not get what they ask for.
    Error,
}

impl Level {
    pub(super) const ALL: [Level; 3] = [Level::Notice, Level::Warning, Level::Error];

    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// A word for programs, which stays the same.
    pub(super) code: &'static str,
    /// What is wrong, and what that means.
    pub(super) what: String,
    /// What to do.
    pub(super) remedy: String,
}

impl Finding {
    fn new(level: Level, code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level, code, what: what.into(), remedy: remedy.into() }
    }
}

/// Beyond these a worker's loop is slow for calls and games, or stands.
const LAG: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The drops of a minute that are reported: this number of packets at least, and at least one packet in this number.
const DROPS: (u64, u64) = (100, 100);

/// Returns what is wrong, the worst first. It reads files of the kernel, and takes locks for a moment.
pub(super) fn look(server: &Server, lags: &[Duration], speed: &Speed) -> Vec<Finding> {
    let mut found = Vec::new();
    device(server, &mut found);
    ways(server, &mut found);
    addresses(server, &mut found);
    workers(lags, &mut found);
    drops(speed, &mut found);
    stores(&mut found);
    memory(&mut found);
    role(server, &mut found);
    selling(server, &mut found);
    exposure(server, &mut found);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

fn device(server: &Server, found: &mut Vec<Finding>) {
    if let Some(why) = server.tunnel.outage() {
        found.push(Finding::new(
            Level::Error,
            "device",
            format!("the tunnel carries nothing: {why}"),
            "the service makes the device again by itself; if it does not, set the link up, or restart the service",
        ));
    }
}

/// From clients to other networks.
fn ways(server: &Server, found: &mut Vec<Finding>) {
    let name = server.tunnel.name();
    if !name.is_empty() && matches!(nat::forwards(&name), Ok(false)) {
        found.push(Finding::new(
            Level::Error,
            "forwarding",
            format!("this host does not forward what comes from {name}: clients reach this host alone"),
            "set net.ipv4.ip_forward = 1 (`sysctl -w net.ipv4.ip_forward=1`), or [srv_vpn] nat = auto",
        ));
    }
    let obstacles = server.nat.obstacles().into_iter();
    found.extend(obstacles.map(|obstacle| Finding::new(Level::Warning, "nat", obstacle.what, obstacle.remedy)));
}

fn addresses(server: &Server, found: &mut Vec<Finding>) {
    let pool = server.figures.pool();
    let (used, all) = (pool.leased + pool.reserved, pool.capacity);
    let remedy = "widen the network: [srv_vpn] network_mask, for example 255.255.0.0, and restart the service";
    if all == 0 || used < all - all / 10 {
        return;
    }
    let (level, what) = match used >= all {
        true => (Level::Error, format!("all {all} addresses are leased: new clients get none")),
        false => (Level::Warning, format!("{used} of {all} addresses are leased: soon new clients get none")),
    };
    found.push(Finding::new(level, "leases", what, remedy));
}

fn workers(lags: &[Duration], found: &mut Vec<Finding>) {
    for (number, lag) in lags.iter().enumerate().filter(|(_, lag)| **lag >= LAG.0) {
        let level = if *lag >= LAG.1 { Level::Error } else { Level::Warning };
        found.push(Finding::new(
            level,
            "lag",
            format!("worker {number} comes to its work {} ms late: its clients feel that", lag.as_millis()),
            "see what else needs this host's processors (`top -H`); give the service more, or it fewer clients",
        ));
    }
}

fn drops(speed: &Speed, found: &mut Vec<Finding>) {
    let (forwarded, dropped) = speed.last_minute();
    for (cause, packets) in dropped {
        let Some(remedy) = remedy_of(cause) else { continue };
        if packets >= DROPS.0 && packets.saturating_mul(DROPS.1) >= forwarded {
            let what = format!("{packets} packets were dropped in the last minute: {}", cause.description());
            found.push(Finding::new(Level::Warning, "drops", what, remedy));
        }
    }
}

/// What an operator can do about drops; `None` where senders alone can, or nobody needs to.
fn remedy_of(cause: DropCause) -> Option<&'static str> {
    match cause {
        DropCause::QueueFull => Some("a worker is too slow: see the lag of the workers, and this host's processors"),
        DropCause::QueueMemory => Some("raise [srv_vpn] queue_memory, if this host has memory to spare"),
        DropCause::OutputFull | DropCause::QueueOverflow => {
            Some("a client's path is slower than what is sent to it; raise [srv_vpn] session_queue if bursts are lost")
        }
        DropCause::TunWrite => Some("the kernel refuses packets of the device: see `ip -s link` and the log"),
        DropCause::SpoofedSource => Some("a client sends from addresses that are not its own: see `vpn_stat -full`"),
        DropCause::TooBig => Some("lower [srv_vpn] mtu: clients send packets that do not fit"),
        _ => None,
    }
}

fn stores(found: &mut Vec<Finding>) {
    let refused = store::refused_in_a_row();
    if refused > 0 {
        found.push(Finding::new(
            Level::Error,
            "store",
            format!(
                "the store has refused the last {refused} writes: leases and payments of now are lost by a restart"
            ),
            "see the log for the reason; make room on the disk of the state directory, and let the service write there",
        ));
    }
}

fn memory(found: &mut Vec<Finding>) {
    let Some(memory) = figures::peer_memory().filter(|memory| memory.used >= memory.most - memory.most / 10) else {
        return;
    };
    found.push(Finding::new(
        Level::Warning,
        "memory",
        format!("clients use {} of {} bytes that they may use: more is refused", memory.used, memory.most),
        "raise [server] max_memory, if this host has memory to spare",
    ));
}

fn role(server: &Server, found: &mut Vec<Finding>) {
    if let Some(net) = server.billing.net().filter(|net| !net.role_serves()) {
        found.push(Finding::new(
            Level::Error,
            "role",
            format!("the node's role in the network {} is below master: all clients are refused", net.name()),
            "set it to master or above in the configuration of the network, and restart the service",
        ));
    }
}

fn selling(server: &Server, found: &mut Vec<Finding>) {
    let Some(net) = server.billing.net().filter(|_| server.monitor.senses.accounts.sells()) else { return };
    if !server.billing.has_certificate() {
        found.push(Finding::new(
            Level::Error,
            "certificate",
            "no certificate signs receipts: nothing can be sold",
            "name one that exists: [srv_vpn] receipt_sign_cert, and restart the service",
        ));
    }
    if !net.has_payee() {
        found.push(Finding::new(
            Level::Error,
            "wallet",
            format!("no wallet in network {} is paid: nothing can be sold", net.name()),
            "set [srv_vpn] wallet_addr to the address that `wallet info` prints, and restart the service",
        ));
    }
    if net.is_offline() {
        let what = format!("the network {} is offline: no payment is made, and new clients are refused", net.name());
        found.push(Finding::new(Level::Error, "network", what, "bring the node online in this network"));
    }
}

fn exposure(server: &Server, found: &mut Vec<Finding>) {
    if let Some(address) = server.settings().monitor.address().filter(|address| !address.ip().is_loopback()) {
        found.push(Finding::new(
            Level::Notice,
            "monitor",
            format!("the monitor listens on {address}, in plain text: who reads the network learns its token"),
            "let it listen on 127.0.0.1 alone, and reach it by `ssh -L` or a proxy with TLS",
        ));
    }
}
