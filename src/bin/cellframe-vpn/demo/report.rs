//! The demo's measurements, as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::control::Cpu;
use crate::exit::{Code, Failure};

/// A transfer in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) server_cpu: Cpu,
    pub(super) client_cpu: Cpu,
}

/// The contents of the report. The values are the ends' answers, see [`super::end`].
#[derive(Debug)]
pub(super) struct Report {
    pub(super) privileges: Value,
    pub(super) check: Value,
    pub(super) lease: Value,
    pub(super) ping: Value,
    pub(super) upload: Transfer,
    pub(super) download: Transfer,
    pub(super) server: Value,
    pub(super) client: Value,
    pub(super) vpn_stat: String,
}

impl Report {
    /// Fails unless both ends' counters confirm that all transferred bytes went through the tunnel.
    pub(super) fn traffic_passed(&self) -> Result<(), Failure> {
        for (end, totals) in [("server", &self.server), ("client", &self.client)] {
            for (direction, key, moved) in
                [("upload", "up_bytes", self.upload.bytes), ("download", "down_bytes", self.download.bytes)]
            {
                let counted = totals[key].as_u64().unwrap_or(0);
                if moved == 0 || counted < moved {
                    let message = format!(
                        "the {direction} moved {moved} bytes, but the {end}'s tunnel counted {counted}: not all of it \
                         went through the tunnel"
                    );
                    return Err(Failure::general(message));
                }
            }
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> String {
        let transfer = |transfer: &Transfer| {
            json!({
                "bytes": transfer.bytes,
                "seconds": transfer.seconds,
                "verified": true,
                "mbit_per_second": transfer.mbit_per_second(),
                "cpu_seconds_per_gb": {
                    "server": transfer.per_gb(transfer.server_cpu.process),
                    "server_traffic_generator": transfer.per_gb(transfer.server_cpu.traffic),
                    "client": transfer.per_gb(transfer.client_cpu.process),
                    "client_traffic_generator": transfer.per_gb(transfer.client_cpu.traffic),
                },
            })
        };
        let report = json!({
            "ok": true,
            "privileges": self.privileges["privileges"],
            "lease": without_ok(&self.lease),
            "check": without_ok(&self.check),
            "ping": without_ok(&self.ping),
            "upload": transfer(&self.upload),
            "download": transfer(&self.download),
            "server": without_ok(&self.server),
            "client": without_ok(&self.client),
            "vpn_stat": self.vpn_stat,
        });
        format!("{report:#}")
    }

    pub(super) fn to_table(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let rtt = |key: &str| self.ping["rtt_ms"][key].as_f64().unwrap_or(0.0);
        let mut table = Table::default();
        table.row("leased address", format!("{} on {}", text(&self.lease["address"]), text(&self.lease["device"])));
        table.row("gateway", text(&self.lease["gateway"]));
        table.row("MTU", self.lease["mtu"].to_string());
        let check = |key: &str| self.check[key].as_f64().unwrap_or(0.0);
        let (connect, round_trip) = (check("connect_ms"), check("round_trip_ms"));
        table.row("server check", format!("connected in {connect:.1} ms, answered in {round_trip:.1} ms"));
        let pings =
            format!("{}/{} answered ({})", self.ping["received"], self.ping["sent"], text(&self.ping["method"]));
        table.row("ping", format!("min {:.2}  avg {:.2}  max {:.2} ms, {pings}", rtt("min"), rtt("avg"), rtt("max")));
        for (name, transfer) in [("upload", &self.upload), ("download", &self.download)] {
            let megabytes = transfer.bytes as f64 / 1e6;
            let rate = transfer.mbit_per_second();
            table.row(name, format!("{rate:.0} Mbit/s  ({megabytes:.0} MB in {:.1} s, verified)", transfer.seconds));
        }
        for (name, transfer) in [("CPU, upload", &self.upload), ("CPU, download", &self.download)] {
            table.row(name, transfer.cpu_text());
        }
        for (name, end) in [("server", &self.server), ("client", &self.client)] {
            table.row(
                &format!("packets, {name}"),
                format!("{} up, {} down; dropped: {}", end["up_packets"], end["down_packets"], drops(&end["drops"])),
            );
        }
        table.row("made as", text(&self.privileges["privileges"]));
        let mut out = table.text;
        out.push_str("\nvpn_stat says:\n");
        for line in self.vpn_stat.lines() {
            let _ = writeln!(out, "  {line}");
        }
        out.trim_end().to_owned()
    }
}

impl Transfer {
    pub(super) fn mbit_per_second(&self) -> f64 {
        mbit_per_second(self.bytes, self.seconds)
    }

    /// Converts processor time to seconds per gigabyte (10^9 bytes) of payload.
    fn per_gb(&self, seconds: f64) -> f64 {
        seconds / (self.bytes.max(1) as f64 / 1e9)
    }

    fn cpu_text(&self) -> String {
        let end = |cpu: Cpu| {
            format!("{:.1} s/GB ({:.1} of it the test's own)", self.per_gb(cpu.process), self.per_gb(cpu.traffic))
        };
        format!("server {}, client {}", end(self.server_cpu), end(self.client_cpu))
    }
}

/// Returns the rate in Mbit/s (10^6 bits); 0 if no time has passed.
pub(super) fn mbit_per_second(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 * 8.0 / 1e6 / seconds } else { 0.0 }
}

/// Formats a failure for `--json`.
pub(super) fn failure_to_json(failure: &Failure) -> String {
    let kind = match failure.code {
        Code::Privilege => "not permitted here",
        Code::Interrupted(_) => "interrupted",
        _ => "failed",
    };
    format!("{:#}", json!({"ok": false, "kind": kind, "exit_code": failure.code.number(), "error": failure.message}))
}

/// Formats the causes of drops with their counts, or "none".
fn drops(drops: &Value) -> String {
    let causes: Vec<_> =
        drops.as_object().into_iter().flatten().map(|(cause, count)| format!("{cause} {count}")).collect();
    if causes.is_empty() { "none".into() } else { causes.join(", ") }
}

fn without_ok(answer: &Value) -> Value {
    let mut answer = answer.clone();
    if let Some(object) = answer.as_object_mut() {
        object.remove("ok");
    }
    answer
}

#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn row(&mut self, name: &str, value: String) {
        let _ = writeln!(self.text, "  {name:<16} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(server_up: u64, client_down: u64) -> Report {
        let cpu = Cpu { process: 2.0, traffic: 0.5 };
        let transfer = Transfer { bytes: 1_000_000_000, seconds: 4.0, server_cpu: cpu, client_cpu: cpu };
        let totals = |up: u64, down: u64| json!({"ok": true, "up_packets": 7, "up_bytes": up, "down_packets": 8, "down_bytes": down, "drops": {"no_lease": 3}});
        Report {
            privileges: json!({"privileges": "root"}),
            check: json!({"ok": true, "connect_ms": 5.04, "round_trip_ms": 0.5}),
            lease: json!({"ok": true, "address": "10.98.0.2", "gateway": "10.98.0.1", "mtu": 1400, "device": "tun0"}),
            ping: json!({"method": "icmp", "sent": 10, "received": 9, "rtt_ms": {"min": 0.1, "avg": 0.2, "max": 0.3}}),
            upload: transfer,
            download: transfer,
            server: totals(server_up, 1_100_000_000),
            client: totals(1_100_000_000, client_down),
            vpn_stat: "one\ntwo".into(),
        }
    }

    #[test]
    fn traffic_that_the_tunnel_did_not_count_did_not_pass() {
        assert!(report(1_000_000_000, 1_000_000_000).traffic_passed().is_ok());
        assert!(report(999_999_999, 1_000_000_000).traffic_passed().is_err());
        assert!(report(1_000_000_000, 0).traffic_passed().is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_result() {
        let table = report(1, 1).to_table();
        for part in [
            "leased address   10.98.0.2 on tun0",
            "MTU              1400",
            "connected in 5.0 ms, answered in 0.5 ms",
            "min 0.10  avg 0.20  max 0.30 ms, 9/10 answered (icmp)",
            "2000 Mbit/s  (1000 MB in 4.0 s, verified)",
            "server 2.0 s/GB (0.5 of it the test's own)",
            "7 up, 8 down; dropped: no_lease 3",
            "vpn_stat says:\n  one\n  two",
        ] {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
    }

    #[test]
    fn json_is_json() {
        let value: Value = serde_json::from_str(&report(1, 1).to_json()).expect("JSON");
        assert_eq!(value["ok"], true);
        assert_eq!(value["upload"]["mbit_per_second"], 2000.0);
        assert_eq!(value["server"]["drops"]["no_lease"], 3);
        assert!(value["lease"].get("ok").is_none());
        let failure = Failure::new(Code::Privilege, "no \"tun\"");
        let value: Value = serde_json::from_str(&failure_to_json(&failure)).expect("JSON");
        assert_eq!(value, json!({"ok": false, "kind": "not permitted here", "exit_code": 6, "error": "no \"tun\""}));
    }

    #[test]
    fn drops_are_named_or_none() {
        assert_eq!(drops(&json!({})), "none");
        assert_eq!(drops(&json!({"queue_full": 2, "no_lease": 1})), "no_lease 1, queue_full 2");
    }
}
