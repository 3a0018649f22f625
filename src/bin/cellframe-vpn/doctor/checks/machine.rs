//! The kernel, this process's rights, the clock, and what ended runs have left.

use host::dns::resolv_conf::Undone;

use crate::doctor::facts::{Clock, Facts, Machine};
use crate::doctor::finding::Finding;
use crate::privilege::TunProblem;

/// A clock that is as far behind the program's file is wrong; less may be a file that came from a machine in another
/// time zone.
const DAY: u64 = 86_400;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let machine = &facts.machine;
    let mut findings = vec![privilege(machine), tun(machine), nf_tables(machine)];
    findings.extend(facts.server.is_some().then(|| queues(machine)).flatten());
    findings.extend([congestion(machine), clock(&machine.clock)]);
    findings.extend(leftovers(machine));
    findings
}

fn privilege(machine: &Machine) -> Finding {
    const CHECK: &str = "privilege";
    if machine.has_net_admin {
        return Finding::ok(CHECK, "this process may change the network (CAP_NET_ADMIN)");
    }
    let follows = "a server or client started like this cannot make its tunnel, and some checks here see less";
    // Perhaps the server is started by root.
    if !machine.is_root {
        let found = "this user may not change the network: CAP_NET_ADMIN is missing";
        return Finding::warning(CHECK, found, follows, &["sudo cellframe-vpn doctor"]);
    }
    match &machine.container {
        Some(manager) => Finding::fault(
            CHECK,
            format!("this container ({manager}) may not change its network: CAP_NET_ADMIN is missing"),
            follows,
            &["start the container with --cap-add NET_ADMIN --device /dev/net/tun"],
        ),
        None => Finding::fault(
            CHECK,
            "root may not change the network here: CAP_NET_ADMIN is missing",
            follows,
            &["AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW, in the systemd unit, or run it outside of the sandbox"],
        ),
    }
}

fn tun(machine: &Machine) -> Finding {
    const CHECK: &str = "tun";
    let (found, host) = match &machine.tun {
        Ok(_) => return Finding::ok(CHECK, "/dev/net/tun can be opened"),
        Err(TunProblem::Missing) => ("/dev/net/tun is missing".to_owned(), "modprobe tun"),
        Err(TunProblem::NoDriver) => {
            ("/dev/net/tun has no driver behind it: the kernel module tun is not loaded".to_owned(), "modprobe tun")
        }
        // Perhaps the server is started by root.
        Err(TunProblem::Denied) if !machine.is_root => {
            let found = "this user may not open /dev/net/tun";
            return Finding::warning(
                CHECK,
                found,
                "started like this no tunnel can be made",
                &["sudo cellframe-vpn doctor"],
            );
        }
        Err(TunProblem::Denied) => {
            ("root may not open /dev/net/tun here".to_owned(), "ls -l /dev/net/tun; modprobe tun")
        }
        Err(TunProblem::Other(error)) => (format!("/dev/net/tun cannot be opened: {error}"), "modprobe tun"),
    };
    let remedy = match &machine.container {
        Some(_) => "start the container with --device /dev/net/tun; on its host: modprobe tun",
        None => host,
    };
    Finding::fault(CHECK, found, "no tunnel can be made", &[remedy])
}

/// The server's device has a queue for each worker.
fn queues(machine: &Machine) -> Option<Finding> {
    const CHECK: &str = "tun queues";
    let driver = machine.tun.as_ref().ok()?;
    Some(match (driver.has_queues, driver.has_offload) {
        (true, true) => Finding::ok(CHECK, "the TUN driver has several queues, and super-packets"),
        (false, _) => Finding::fault(
            CHECK,
            "the TUN driver has one queue for each device",
            "a server with more than one worker cannot start",
            &["use Linux 3.8 or later", "[resources] threads_cnt=1"],
        ),
        (true, false) => Finding::warning(
            CHECK,
            "the TUN driver has no super-packets",
            "each packet is exchanged by itself, at several times the cost",
            &["use a kernel whose TUN driver has IFF_VNET_HDR"],
        ),
    })
}

fn nf_tables(machine: &Machine) -> Finding {
    const CHECK: &str = "nf_tables";
    let Err(error) = &machine.nf_tables else { return Finding::ok(CHECK, "the kernel has nf_tables") };
    if !machine.has_net_admin {
        return Finding::unknown(CHECK, format!("cannot be looked at: {error}"), "sudo cellframe-vpn doctor");
    }
    Finding::fault(
        CHECK,
        error.clone(),
        "a server cannot translate its clients' addresses, and a client has no kill switch",
        &["modprobe nf_tables", "set the translation up by hand, and [srv_vpn] nat=off"],
    )
}

fn congestion(machine: &Machine) -> Finding {
    const CHECK: &str = "congestion";
    match &machine.bbr {
        Ok(()) => Finding::ok(CHECK, "TCP can use bbr"),
        Err(error) => Finding::warning(
            CHECK,
            format!("TCP cannot use bbr: {error}"),
            "over paths that lose packets this end sends at a fraction of their rate",
            &["modprobe tcp_bbr", "sysctl -w net.ipv4.tcp_allowed_congestion_control=\"reno cubic bbr\""],
        ),
    }
}

fn clock(clock: &Clock) -> Finding {
    const CHECK: &str = "clock";
    let keep = "timedatectl set-ntp true, or install chrony";
    if clock.now + DAY < clock.passed {
        return Finding::fault(
            CHECK,
            format!("the clock is {} days behind this program's own file", (clock.passed - clock.now) / DAY),
            "the times of the log, the account book and the ledger are wrong, and a node refuses what has them",
            &[keep],
        );
    }
    match clock.kept {
        Some(kept) if kept.is_synchronised => Finding::ok(CHECK, "the clock is kept right by a time server"),
        Some(_) => Finding::warning(
            CHECK,
            "no program keeps the clock right (NTP)",
            "the times of the log, the account book and the ledger drift away; the tunnel itself does not need them",
            &[keep],
        ),
        None => Finding::unknown(CHECK, "the kernel does not tell whether the clock is kept right", keep),
    }
}

/// What `repair` would undo.
fn leftovers(machine: &Machine) -> Vec<Finding> {
    const CHECK: &str = "leftovers";
    const REMEDY: &str = "sudo cellframe-vpn repair";
    let mut findings = Vec::new();
    match &machine.tables {
        Ok(tables) => {
            for own in tables.iter().filter(|own| own.holder.is_none()) {
                let (found, follows) = if own.is_kill_switch {
                    (
                        format!("the kill switch of a client that has ended is up (nf_tables: table {})", own.table),
                        "nothing leaves this machine, except to that client's server",
                    )
                } else {
                    (
                        format!(
                            "a server that has ended has left its address translation (nf_tables: table {})",
                            own.table
                        ),
                        "forwarding may be enabled that was off before; the next server removes it",
                    )
                };
                findings.push(Finding::fault(CHECK, found, follows, &[REMEDY]));
            }
        }
        // That nf_tables cannot be used is a finding of its own.
        Err(_) if machine.nf_tables.is_err() => {}
        Err(error) => findings.push(Finding::unknown(CHECK, format!("cannot be looked at: {error}"), "run as root")),
    }
    let resolv_conf = match &machine.resolv_conf {
        Ok(Undone::Nothing | Undone::Running(_)) => None,
        Ok(Undone::Lost) => Some((
            "/etc/resolv.conf names the name servers of a tunnel that is gone, and the file before is missing",
            "write /etc/resolv.conf anew: nameserver ADDRESS",
        )),
        Ok(_) => Some(("a client that has ended has left its /etc/resolv.conf, or files beside it", REMEDY)),
        Err(error) => {
            findings.push(Finding::unknown(CHECK, format!("resolv.conf cannot be looked at: {error}"), "run as root"));
            None
        }
    };
    findings
        .extend(resolv_conf.map(|(found, remedy)| Finding::fault(CHECK, found, "names may not be found", &[remedy])));
    if findings.is_empty() && machine.tables.is_ok() {
        findings.push(Finding::ok(CHECK, "no ended client or server has left anything"));
    }
    findings
}
