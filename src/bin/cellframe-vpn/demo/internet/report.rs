//! What the demo with an Internet has seen, and what it must have seen.

use std::fmt::Write;

use serde_json::{Value, json};

use super::hosts::{CLIENT, NAME_SERVER, ROUTER, SERVER};
use crate::exit::Failure;

/// What was tried in a phase of the demo, and what left the client meanwhile. The values are the ends' answers, see
/// [`super::steps`].
#[derive(Debug, Default)]
pub(in super::super) struct Phase {
    pub(super) page: Value,
    pub(super) attempts: Value,
    pub(super) wire: Value,
}

impl Phase {
    /// What the capture has seen, for people.
    pub(super) fn seen(&self) -> String {
        let other = self.other();
        let stream = match self.wire["stream_packets"].as_u64().unwrap_or(0) {
            0 => None,
            1 => Some("1 packet to the VPN server".to_owned()),
            packets => Some(format!("{packets} packets to the VPN server")),
        };
        match (stream, other.is_empty()) {
            (None, true) => "nothing".to_owned(),
            (None, false) => other.join(", "),
            (Some(stream), true) => format!("{stream}, nothing else"),
            (Some(stream), false) => format!("{stream}, and {}", other.join(", ")),
        }
    }

    fn other(&self) -> Vec<String> {
        self.wire["other"].as_object().into_iter().flatten().map(|(kind, _)| kind.clone()).collect()
    }

    fn outcomes(&self) -> impl Iterator<Item = (String, &str)> {
        self.attempts.as_array().into_iter().flatten().map(|attempt| {
            let text = |key: &str| attempt[key].as_str().unwrap_or_default();
            (format!("{} to {}", text("what"), text("to")), text("outcome"))
        })
    }

    fn require_outcome(&self, expected: &str, when: &str) -> Result<(), Failure> {
        match self.outcomes().find(|(_, outcome)| *outcome != expected) {
            Some((attempt, outcome)) => {
                Err(unexpected(format!("{attempt} around the tunnel: {outcome} {when}"), expected))
            }
            None => Ok(()),
        }
    }

    fn require_stream_alone(&self, when: &str) -> Result<(), Failure> {
        let other = self.other();
        if other.is_empty() {
            return Ok(());
        }
        Err(unexpected(format!("the client sent {} around the tunnel {when}", other.join(", ")), "nothing"))
    }

    fn require_seen_as(&self, expected: &str, when: &str) -> Result<(), Failure> {
        match self.page["seen_as"].as_str() {
            Some(address) if address == expected => Ok(()),
            other => Err(unexpected(format!("the web server saw the client as {other:?} {when}"), expected)),
        }
    }

    fn to_json(&self) -> Value {
        let without_ok = |value: &Value| {
            let mut value = value.clone();
            if let Some(object) = value.as_object_mut() {
                object.remove("ok");
            }
            value
        };
        json!({"page": without_ok(&self.page), "attempts": self.attempts, "wire": without_ok(&self.wire)})
    }
}

/// The contents of the report.
#[derive(Debug, Default)]
pub(in super::super) struct Report {
    pub(super) privileges: Value,
    /// Why the client has no resolv.conf of its own; null if it has.
    pub(super) no_own_files: Value,
    pub(super) has_ipv6: bool,
    pub(super) before: Phase,
    pub(super) lease: Value,
    pub(super) tunnel: Phase,
    /// The first page and the last of the connection that stays open.
    pub(super) visit: Value,
    pub(super) revisit: Value,
    pub(super) outage: Phase,
    pub(super) returned_in: Value,
    pub(super) again: Phase,
    pub(super) is_restored: bool,
    pub(super) after: Phase,
}

impl Report {
    /// Without a VPN every way is open, and the capture sees each: what it does not see later is not there.
    pub(super) fn require_open(&self) -> Result<(), Failure> {
        self.before.require_outcome("answered", "without a VPN")?;
        self.require_seen_as_client(&self.before, "without a VPN")?;
        for (attempt, _) in self.before.outcomes() {
            let to = attempt.rsplit(' ').next().unwrap_or_default();
            if !self.before.other().iter().any(|seen| seen.ends_with(to)) {
                return Err(unexpected(format!("the capture did not see {attempt}"), "each packet of the client's"));
            }
        }
        self.require_name_server(&self.before, &ROUTER.to_string(), "without a VPN")
    }

    pub(super) fn require_tunnel(&self) -> Result<(), Failure> {
        let when = "while the tunnel was up";
        self.tunnel.require_seen_as(&SERVER.to_string(), when)?;
        self.require_name_server(&self.tunnel, &NAME_SERVER.to_string(), when)?;
        self.tunnel.require_outcome("refused", when)?;
        self.tunnel.require_stream_alone(when)?;
        match self.tunnel.wire["stream_packets"].as_u64() {
            None | Some(0) => {
                Err(unexpected("no packet went to the server".into(), "the page, in the tunnel's stream"))
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) fn require_outage(&self) -> Result<(), Failure> {
        self.outage.require_outcome("refused", "while the server was dead")?;
        self.outage.require_stream_alone("while the server was dead")
    }

    pub(super) fn require_return(&self) -> Result<(), Failure> {
        let when = "after the server's restart";
        self.again.require_seen_as(&SERVER.to_string(), when)?;
        self.again.require_stream_alone(when)?;
        let is_next = self.revisit["request"] == 2 && self.visit["request"] == 1;
        if is_next && self.visit["you"] == self.revisit["you"] {
            return Ok(());
        }
        let (first, second) = (&self.visit["you"], &self.revisit["you"]);
        Err(unexpected(format!("the web server saw {first} and then {second}"), "the second request of one connection"))
    }

    pub(super) fn require_restored(&self) -> Result<(), Failure> {
        if !self.is_restored {
            return Err(unexpected("the client's stop left its host changed".into(), "the state of before"));
        }
        self.after.require_outcome("answered", "after the stop")?;
        self.require_seen_as_client(&self.after, "after the stop")?;
        self.require_name_server(&self.after, &ROUTER.to_string(), "after the stop")
    }

    /// By IPv4 or IPv6, as the C library prefers.
    fn require_seen_as_client(&self, phase: &Phase, when: &str) -> Result<(), Failure> {
        let is_ipv6 = phase.page["seen_as"].as_str().is_some_and(|address| address.contains(':'));
        if self.has_ipv6 && is_ipv6 { Ok(()) } else { phase.require_seen_as(&CLIENT.to_string(), when) }
    }

    fn require_name_server(&self, phase: &Phase, expected: &str, when: &str) -> Result<(), Failure> {
        if !self.no_own_files.is_null() || phase.page["name_servers"] == json!([expected]) {
            return Ok(());
        }
        Err(unexpected(format!("the client's name servers were {} {when}", phase.page["name_servers"]), expected))
    }

    pub(in super::super) fn to_json(&self) -> String {
        let report = json!({
            "ok": true,
            "privileges": self.privileges,
            "name_servers_left_out": self.no_own_files,
            "ipv6": self.has_ipv6,
            "lease": {
                "address": self.lease["address"],
                "gateway": self.lease["gateway"],
                "mtu": self.lease["mtu"],
                "device": self.lease["device"],
            },
            "without_vpn": self.before.to_json(),
            "tunnel": self.tunnel.to_json(),
            "server_killed": self.outage.to_json(),
            "server_restarted": {
                "connected_after_ms": self.returned_in,
                "connection": self.revisit["you"],
                "same_connection": true,
                "requests": self.revisit["request"],
                "page": self.again.to_json()["page"],
                "wire": self.again.to_json()["wire"],
            },
            "client_stopped": {"restored": self.is_restored, "attempts": self.after.attempts},
        });
        format!("{report:#}")
    }

    pub(in super::super) fn to_table(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(table, "  {name:<16} {value}");
        };
        let page = |phase: &Phase| format!("the web server sees {}", text(&phase.page["seen_as"]));
        row("without a VPN", page(&self.before));
        row("", format!("the cable has {}", self.before.seen()));
        row("tunnel", format!("{} on {}", text(&self.lease["address"]), text(&self.lease["device"])));
        row("", format!("{}, which is the VPN server", page(&self.tunnel)));
        if self.no_own_files.is_null() {
            row("", format!("names from {NAME_SERVER}, through the tunnel"));
        }
        row("", format!("the cable has {}", self.tunnel.seen()));
        for (attempt, outcome) in self.outage.outcomes() {
            row("server killed", format!("{attempt}: {outcome}"));
        }
        row("", format!("the cable has {}", self.outage.seen()));
        let (connection, requests) = (text(&self.revisit["you"]), &self.revisit["request"]);
        row("server restarted", format!("connected again after {} ms", self.returned_in));
        row("", format!("the connection from {connection} goes on: request {requests} answered"));
        row("", format!("the cable has {}", self.again.seen()));
        row("client stopped", format!("its host is what it was; {}", page(&self.after)));
        row("made as", text(&self.privileges));
        table.trim_end().to_owned()
    }
}

fn unexpected(seen: String, expected: &str) -> Failure {
    Failure::general(format!("{seen}; expected: {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(page: [&str; 2], outcome: &str, stream: u64, other: Value) -> Phase {
        Phase {
            page: json!({"ok": true, "host": "www", "seen_as": page[0], "name_servers": [page[1]]}),
            attempts: json!([{"what": "IPv4", "to": "203.0.113.99:80", "outcome": outcome}]),
            wire: json!({"ok": true, "stream_packets": stream, "stream_bytes": stream, "link": 2, "other": other}),
        }
    }

    /// A demo that went as it must.
    fn report() -> Report {
        let open = || phase(["192.0.2.2", "192.0.2.1"], "answered", 0, json!({"TCP to 203.0.113.99:80": 6}));
        let closed = || phase(["198.51.100.2", "203.0.113.53"], "refused", 9, json!({}));
        Report {
            privileges: "root".into(),
            lease: json!({"address": "10.98.0.2", "device": "tun0"}),
            before: open(),
            tunnel: closed(),
            visit: json!({"ok": true, "you": "198.51.100.2:7", "request": 1}),
            revisit: json!({"ok": true, "you": "198.51.100.2:7", "request": 2}),
            outage: closed(),
            returned_in: 20.into(),
            again: closed(),
            is_restored: true,
            after: open(),
            ..Report::default()
        }
    }

    fn require_all(report: &Report) -> Result<(), Failure> {
        report.require_open()?;
        report.require_tunnel()?;
        report.require_outage()?;
        report.require_return()?;
        report.require_restored()
    }

    #[test]
    fn each_unmet_expectation_is_a_failure_with_what_was_seen() {
        require_all(&report()).expect("nothing is wrong");
        type Spoil = fn(&mut Report);
        let table: [(Spoil, &str); 14] = [
            (|it| it.before.attempts[0]["outcome"] = "refused".into(), "without a VPN; expected: answered"),
            (|it| it.before.wire["other"] = json!({}), "the capture did not see IPv4 to 203.0.113.99:80"),
            (|it| it.before.page["seen_as"] = "2001:db8:1::2".into(), "without a VPN; expected: 192.0.2.2"),
            (|it| it.tunnel.page["seen_as"] = "192.0.2.2".into(), "the tunnel was up; expected: 198.51.100.2"),
            (|it| it.tunnel.page["name_servers"] = json!(["192.0.2.1"]), "expected: 203.0.113.53"),
            (|it| it.tunnel.attempts[0]["outcome"] = "answered".into(), "answered while the tunnel was up"),
            (|it| it.tunnel.wire["other"] = json!({"UDP to 192.0.2.1:53": 1}), "sent UDP to 192.0.2.1:53 around"),
            (|it| it.tunnel.wire["stream_packets"] = 0.into(), "no packet went to the server"),
            (|it| it.outage.attempts[0]["outcome"] = "silence".into(), "silence while the server was dead"),
            (
                |it| it.outage.wire["other"] = json!({"ICMP to 192.0.2.1": 1}),
                "ICMP to 192.0.2.1 around the tunnel while",
            ),
            (|it| it.revisit["you"] = "198.51.100.2:8".into(), "198.51.100.2:7\" and then \"198.51.100.2:8\""),
            (|it| it.revisit["request"] = 1.into(), "expected: the second request of one connection"),
            (|it| it.is_restored = false, "left its host changed"),
            (|it| it.after.attempts[0]["outcome"] = "refused".into(), "after the stop; expected: answered"),
        ];
        for (spoil, said) in table {
            let mut report = report();
            spoil(&mut report);
            let message = require_all(&report).expect_err(said).message;
            assert!(message.contains(said), "{said}: {message}");
        }
    }

    #[test]
    fn the_report_is_json_and_a_table() {
        let value: Value = serde_json::from_str(&report().to_json()).expect("JSON");
        assert_eq!(value["tunnel"]["wire"]["other"], json!({}));
        assert_eq!(value["server_restarted"]["same_connection"], true);
        assert!(value["tunnel"]["page"].get("ok").is_none());
        let table = report().to_table();
        for part in [
            "without a VPN    the web server sees 192.0.2.2",
            "the cable has TCP to 203.0.113.99:80\n",
            "the web server sees 198.51.100.2, which is the VPN server",
            "the cable has 9 packets to the VPN server, nothing else",
            "server killed    IPv4 to 203.0.113.99:80: refused",
            "the connection from 198.51.100.2:7 goes on: request 2 answered",
        ] {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
    }
}
