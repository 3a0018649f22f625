//! The results: a table in Markdown with ratios to wireguard-go's, what is reached, and everything as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use testkit::path::link::Counts;

use crate::common::environment;
use crate::common::failure::Failure;
use crate::judge::{self, Limit, Target};
use crate::paths::Case;
use crate::types::{Bulk, Latency, Measured, Small, System, Way};

/// The results of all systems on one path.
pub(crate) struct PathResults {
    pub(crate) case: Case,
    pub(crate) seconds: u32,
    pub(crate) measured: Vec<(System, Measured)>,
    pub(crate) failures: Vec<(System, Failure)>,
}

/// All results.
pub(crate) struct Report {
    environment: Vec<(&'static str, String)>,
    host_congestion: &'static str,
    pub(crate) paths: Vec<PathResults>,
    /// Of two clients of one server.
    pub(crate) two_clients: Option<Result<Target, Failure>>,
}

impl Report {
    pub(crate) fn new(host_congestion: &'static str) -> Report {
        let environment = environment::read("path");
        Report { environment, host_congestion, paths: Vec::new(), two_clients: None }
    }

    fn targets(&self) -> Vec<Target> {
        let of_paths = self.paths.iter().flat_map(|path| judge::path(&path.case, &path.measured));
        of_paths.chain(self.two_clients.iter().flatten().cloned()).collect()
    }

    /// Whether a system failed; one that is not installed did not.
    pub(crate) fn has_failed(&self) -> bool {
        let failures = self.paths.iter().flat_map(|path| &path.failures).map(|(_, failure)| failure);
        let two = self.two_clients.iter().filter_map(|result| result.as_ref().err());
        failures.chain(two).any(|failure| matches!(failure, Failure::Failed(_)))
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.environment {
            let _ = writeln!(out, "- {name}: {value}");
        }
        let _ = writeln!(out, "- congestion control of the hosts, outside the tunnels: {}", self.host_congestion);
        out += "- throughput in Mbit/s of payload, in parentheses times wireguard-go's; round trips in ms, median / 95th \
                percentile; sparse: ten datagrams of 100 bytes a second; CPU s/GB of both ends\n\n";
        if !self.paths.is_empty() {
            self.write_paths(&mut out);
        }
        self.write_targets(&mut out);
        self.write_failures(&mut out);
        out.trim_end().to_owned()
    }

    fn write_paths(&self, out: &mut String) {
        *out += "| path | system | idle | down | ping | sparse | CPU | up | ping | sparse | CPU |\n";
        *out += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for path in &self.paths {
            path.write_rows(out);
        }
    }

    fn write_targets(&self, out: &mut String) {
        let targets = self.targets();
        if targets.is_empty() {
            return;
        }
        let met = targets.iter().filter(|target| target.is_met()).count();
        let _ = writeln!(out, "\n{met} of {} targets are met.\n", targets.len());
        *out += "| path | system | target | value | bound | |\n|---|---|---|---:|---:|---|\n";
        for target in &targets {
            let Target { path, system, what, unit, value, limit } = target;
            let bound = match limit {
                Limit::AtLeast(bound) => format!("at least {bound:.1}"),
                Limit::AtMost(bound) => format!("at most {bound:.1}"),
            };
            let verdict = if target.is_met() { "met" } else { "**missed**" };
            let _ = writeln!(out, "| {path} | {} | {what} {unit} | {value:.1} | {bound} | {verdict} |", system.name());
        }
    }

    fn write_failures(&self, out: &mut String) {
        let how = |failure: &Failure| if matches!(failure, Failure::Missing(_)) { "not measured" } else { "failed" };
        let mut lines: Vec<String> = Vec::new();
        for path in &self.paths {
            for (system, failure) in &path.failures {
                // What is missing is missing on every path, and is said once.
                let name = match failure {
                    Failure::Missing(_) => String::new(),
                    Failure::Failed(_) => format!("{}, ", path.case.name()),
                };
                let line = format!("- {name}{}, {}: {failure}", system.name(), how(failure));
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        if let Some(Err(failure)) = &self.two_clients {
            lines.push(format!("- two clients, {}: {failure}", how(failure)));
        }
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{}", lines.join("\n"));
        }
    }

    /// Returns everything that was measured.
    pub(crate) fn to_json(&self) -> Value {
        let environment: serde_json::Map<_, _> =
            self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        let targets = self.targets();
        json!({
            "environment": environment,
            "host_congestion_control": self.host_congestion,
            "paths": self.paths.iter().map(PathResults::to_json).collect::<Vec<_>>(),
            "targets": targets.iter().map(target_to_json).collect::<Vec<_>>(),
            "targets_met": targets.iter().filter(|target| target.is_met()).count(),
        })
    }
}

impl PathResults {
    fn wireguard(&self) -> Option<&Measured> {
        self.measured.iter().find(|(system, _)| *system == System::WireguardGo).map(|(_, measured)| measured)
    }

    fn write_rows(&self, out: &mut String) {
        for (system, measured) in &self.measured {
            let mut cells = vec![self.case.name(), system.name().to_owned()];
            cells.push(number(measured.idle.ping.median()));
            for way in Way::BOTH {
                let bulk = measured.bulk(way);
                let theirs = self.wireguard().filter(|_| system.is_ours()).map(|theirs| theirs.bulk(way));
                cells.push(match theirs {
                    Some(theirs) => format!("{:.1} ({:.2})", bulk.mbit, bulk.mbit / theirs.mbit),
                    None => format!("{:.1}", bulk.mbit),
                });
                cells.push(latency(&bulk.small.ping));
                cells.push(latency(&bulk.small.sparse));
                cells.push(bulk.cpu.map_or(String::new(), |cpu| format!("{cpu:.1}")));
            }
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }

    fn to_json(&self) -> Value {
        let Case { rate, delay, congestion, flows, loss, jitter, late, .. } = self.case;
        let systems = self.measured.iter().map(|(system, measured)| {
            json!({
                "system": system.name(),
                "idle": small_to_json(&measured.idle),
                "down": bulk_to_json(&measured.down, self.wireguard().map(|theirs| &theirs.down)),
                "up": bulk_to_json(&measured.up, self.wireguard().map(|theirs| &theirs.up)),
                "path": { "from_server": counts_to_json(measured.path[0]), "from_client": counts_to_json(measured.path[1]) },
            })
        });
        let failures = self
            .failures
            .iter()
            .map(|(system, failure)| json!({ "system": system.name(), "failure": failure.to_string() }));
        json!({
            "path": self.case.name(),
            "rate_mbit": rate,
            "delay_ms": delay,
            "buffer_bytes": self.case.buffer_bytes(),
            "loss_percent": loss,
            "jitter_ms": jitter,
            "late_percent": late.0,
            "late_by_ms": late.1,
            "inner_congestion_control": congestion.name(),
            "flows": flows,
            "seconds": self.seconds,
            "systems": systems.collect::<Vec<_>>(),
            "failures": failures.collect::<Vec<_>>(),
        })
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("none".to_owned(), |value| format!("{value:.0}"))
}

fn latency(latency: &Latency) -> String {
    format!("{} / {}", number(latency.median()), number(latency.p95()))
}

fn latency_to_json(latency: &Latency) -> Value {
    json!({
        "sent": latency.sent,
        "answered": latency.answered(),
        "median_ms": latency.median(),
        "p95_ms": latency.p95(),
        "max_ms": latency.quantile(1.0),
    })
}

fn small_to_json(small: &Small) -> Value {
    json!({ "ping": latency_to_json(&small.ping), "sparse": latency_to_json(&small.sparse) })
}

fn bulk_to_json(bulk: &Bulk, wireguard: Option<&Bulk>) -> Value {
    json!({
        "mbit_per_second": bulk.mbit,
        "mbit_per_second_to_wireguard_go": wireguard.map(|theirs| bulk.mbit / theirs.mbit),
        "cpu_seconds_per_gb": bulk.cpu,
        "ping": latency_to_json(&bulk.small.ping),
        "sparse": latency_to_json(&bulk.small.sparse),
    })
}

fn counts_to_json(counts: Counts) -> Value {
    let Counts { offered, lost, overflowed, delivered } = counts;
    json!({ "offered": offered, "lost": lost, "overflowed": overflowed, "delivered": delivered })
}

fn target_to_json(target: &Target) -> Value {
    let (kind, bound) = match target.limit {
        Limit::AtLeast(bound) => ("at_least", bound),
        Limit::AtMost(bound) => ("at_most", bound),
    };
    json!({
        "path": target.path,
        "system": target.system.name(),
        "what": target.what,
        "unit": target.unit,
        "value": target.value,
        kind: bound,
        "met": target.is_met(),
    })
}
