//! What a server that the user has named answers, and what its path does.

use host::narrow_path;

use crate::doctor::facts::{Answer, Asked, Facts};
use crate::doctor::finding::Finding;
use crate::exit::Code;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(asked) = &facts.asked else { return Vec::new() };
    let mut findings = vec![server(asked)];
    findings.extend(path(facts, asked));
    findings.extend(pin(asked));
    findings
}

fn server(asked: &Asked) -> Finding {
    const CHECK: &str = "server reached";
    if let Some(narrow) = answers_when_narrow(asked) {
        return Finding::ok(CHECK, format!("{}, to packets of at most {} bytes", narrow.text, narrow_path::MTU));
    }
    let (target, text) = (&asked.target, &asked.answer.text);
    let (follows, remedies): (&str, &[&str]) = match asked.answer.code {
        Code::Success => return Finding::ok(CHECK, text.clone()),
        Code::CannotConnect => (
            "a client cannot connect to it",
            &[
                "is the server running, and is the port the one of its ready line?",
                "at the server: sudo cellframe-vpn doctor --server",
            ],
        ),
        Code::NoAnswer => (
            "something accepts connections there, and is no server of this kind, or a packet filter stops its answers",
            &["is the port the one of the server's ready line?", "at the server: sudo cellframe-vpn doctor --server"],
        ),
        Code::Refused => (
            "the client would refuse to connect: another server, or somebody between, has another key",
            &["ask the operator, by another way, for the identity of the server's ready line; use it with --pin"],
        ),
        Code::Incompatible => {
            ("the client and that server do not understand each other", &["use the same release at both ends"])
        }
        Code::Busy => ("the server takes no client now", &["try again in some minutes", "ask its operator"]),
        _ => ("it is not known whether a client could connect", &["cellframe-vpn check HOST"]),
    };
    let found = if text.contains(target.as_str()) { text.clone() } else { format!("{target}: {text}") };
    Finding::fault(CHECK, found, follows, remedies)
}

/// The answer of a server that was silent as long as this host sent full packets.
fn answers_when_narrow(asked: &Asked) -> Option<&Answer> {
    asked.narrow.as_ref().filter(|answer| answer.code == Code::Success)
}

/// A path that loses full packets, and not small ones, has a black hole.
fn path(facts: &Facts, asked: &Asked) -> Option<Finding> {
    const CHECK: &str = "path mtu";
    let link = facts.network.outward_link.as_ref();
    let lost = match (answers_when_narrow(asked), &asked.full) {
        (Some(_), _) => Some(&asked.answer),
        (None, Some(full)) if full.code != Code::Success => Some(full),
        (None, Some(_)) => None,
        (None, None) => return None,
    };
    if let Some(lost) = lost {
        return Some(Finding::fault(
            CHECK,
            format!("{} answers small packets, and full ones are lost on the way: {}", asked.target, lost.text),
            "connections stall as soon as much is sent: a router or packet filter drops \"packet too big\" (RFC 2923)",
            &[
                &link.map_or_else(
                    || "ip link set dev LINK mtu 1280".to_owned(),
                    |(link, _)| format!("ip link set dev {link} mtu 1280"),
                ),
                "sysctl -w net.ipv4.tcp_mtu_probing=1",
                "let ICMP \"fragmentation needed\" through at every packet filter on the way",
            ],
        ));
    }
    let mtu = asked.path_mtu?;
    Some(match link {
        Some((link, of_link)) if mtu < *of_link && mtu >= 576 => {
            Finding::ok(CHECK, format!("packets of {mtu} bytes reach {}; {link} would take {of_link}", asked.target))
        }
        _ => Finding::ok(CHECK, format!("full packets of {mtu} bytes reach {}", asked.target)),
    })
}

fn pin(asked: &Asked) -> Option<Finding> {
    const CHECK: &str = "pin";
    if asked.answer.code != Code::Success && answers_when_narrow(asked).is_none() {
        return None;
    }
    Some(if asked.is_pinned {
        Finding::ok(CHECK, format!("{} has the identity that --pin names", asked.target))
    } else {
        Finding::warning(
            CHECK,
            "the server's identity was not compared: no --pin was given",
            "a client without a pin trusts whoever answers first, which may be somebody between",
            &["ask the operator for the identity of the server's ready line; use it with --pin"],
        )
    })
}
