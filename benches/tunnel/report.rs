//! The results: medians and their ratios to the relay as a table in Markdown, every sample as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use testkit::median;

use crate::common::failure::Failure;
use crate::common::{Ends, environment};
use crate::options::Options;
use crate::types::{Datagrams, Load, Sample, System};

/// The results of one system.
pub(crate) struct Row {
    pub(crate) system: System,
    /// In seconds, one per run.
    pub(crate) rtts: Vec<f64>,
    /// One per run.
    pub(crate) samples: Vec<(Load, Vec<Sample>)>,
    /// Why there are no more samples.
    pub(crate) failure: Option<Failure>,
}

/// The results of all systems, and the environment of the measurement.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    runs: u32,
    seconds: u32,
    mtu: u16,
    environment: Vec<(&'static str, String)>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Report {
        let mut loads = options.loads.clone();
        if options.udp {
            loads.extend(Load::UDP.into_iter().filter(|load| !options.loads.contains(load)));
        }
        let row = |system: &System| Row {
            system: *system,
            rtts: Vec::new(),
            samples: loads.iter().map(|load| (*load, Vec::new())).collect(),
            failure: None,
        };
        Report {
            rows: options.systems.iter().map(row).collect(),
            runs: options.runs,
            seconds: options.seconds,
            mtu: options.mtu,
            environment: environment::read("tunnel"),
        }
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.environment {
            let _ = writeln!(out, "- {name}: {value}");
        }
        let Report { runs, seconds, mtu, .. } = self;
        let _ = writeln!(
            out,
            "- runs, of which these are the medians: {runs} of {seconds} s; MTU {mtu}; in parentheses: times the relay's\n"
        );

        let all: Vec<Load> = self.rows.first().map(Row::loads).unwrap_or_default();
        let udp: Vec<Load> = all.iter().copied().filter(|load| load.is_udp()).collect();
        out += &self.table("Mbit/s", &all, 0, |sample| Some(sample.mbit_per_second));
        if !udp.is_empty() {
            out += &self.table("datagrams/s", &udp, 0, |sample| Some(sample.datagrams?.per_second));
            out += &self.table("lost, %", &udp, 1, |sample| Some(sample.datagrams?.lost_percent));
        }
        out += &self.table("CPU s/GB, both ends", &all, 2, Sample::cpu_of_both);
        out += &self.table("CPU s/GB, client", &all, 2, |sample| Some(sample.cpu?.client));
        out += &self.table("CPU s/GB, server", &all, 2, |sample| Some(sample.cpu?.server));
        out += &self.rtt_table();
        for row in &self.rows {
            if let Some(failure) = &row.failure {
                let how = if matches!(failure, Failure::Missing(_)) { "not measured" } else { "failed" };
                let _ = writeln!(out, "- {}, {how}: {failure}", row.system.name());
            }
        }
        out.trim_end().to_owned()
    }

    /// Returns everything that was measured.
    pub(crate) fn to_json(&self) -> Value {
        let relay = self.row(System::Relay);
        let rows = self.rows.iter().map(|row| {
            let loads = row.samples.iter().map(|(load, samples)| {
                let mbit = |samples: &[Sample]| of(samples, |sample| Some(sample.mbit_per_second));
                let cpu = |samples: &[Sample]| of(samples, Sample::cpu_of_both);
                let relays = relay.map_or(&[][..], |relay| relay.samples_of(*load));
                json!({
                    "load": load.name(),
                    "mbit_per_second": mbit(samples),
                    "mbit_per_second_to_relay": ratio(mbit(samples), mbit(relays)),
                    "cpu_seconds_per_gb": cpu(samples),
                    "cpu_seconds_per_gb_to_relay": ratio(cpu(samples), cpu(relays)),
                    "runs": samples.iter().map(sample_to_json).collect::<Vec<_>>(),
                })
            });
            json!({
                "system": row.system.name(),
                "rtt_seconds": row.rtt(),
                "rtt_to_relay": ratio(row.rtt(), relay.and_then(Row::rtt)),
                "rtt_seconds_runs": row.rtts,
                "loads": loads.collect::<Vec<_>>(),
                "failure": row.failure.as_ref().map(ToString::to_string),
            })
        });
        let environment: serde_json::Map<_, _> =
            self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        json!({
            "environment": environment,
            "runs": self.runs,
            "seconds": self.seconds,
            "mtu": self.mtu,
            "systems": rows.collect::<Vec<_>>(),
        })
    }

    /// Returns a table with one value of each system and load, and its ratio to the relay's.
    fn table(&self, title: &str, loads: &[Load], decimals: usize, value: impl Fn(&Sample) -> Option<f64>) -> String {
        let relay = self.row(System::Relay);
        let mut out = format!("| {title} |");
        for load in loads {
            let _ = write!(out, " {} |", load.name());
        }
        let _ = write!(out, "\n|---|{}\n", "---:|".repeat(loads.len()));
        for row in &self.rows {
            let cells = loads.iter().map(|load| {
                let own = of(row.samples_of(*load), &value)?;
                let relays = relay.and_then(|relay| of(relay.samples_of(*load), &value));
                Some(cell(own, relays, decimals))
            });
            write_row(&mut out, row, &cells.collect::<Vec<_>>());
        }
        out.push('\n');
        out
    }

    fn rtt_table(&self) -> String {
        let relay = self.row(System::Relay).and_then(Row::rtt);
        let mut out = "| round trip, idle, µs | |\n|---|---:|\n".to_owned();
        for row in &self.rows {
            let micros = |seconds: f64| seconds * 1e6;
            write_row(&mut out, row, &[row.rtt().map(|rtt| cell(micros(rtt), relay.map(micros), 0))]);
        }
        out.push('\n');
        out
    }

    fn row(&self, system: System) -> Option<&Row> {
        self.rows.iter().find(|row| row.system == system)
    }
}

impl Row {
    fn loads(&self) -> Vec<Load> {
        self.samples.iter().map(|(load, _)| *load).collect()
    }

    fn samples_of(&self, load: Load) -> &[Sample] {
        self.samples.iter().find(|(of, _)| *of == load).map_or(&[], |(_, samples)| samples)
    }

    fn rtt(&self) -> Option<f64> {
        median(self.rtts.clone())
    }
}

/// Writes no row for a system without values.
fn write_row(out: &mut String, row: &Row, cells: &[Option<String>]) {
    if cells.iter().any(Option::is_some) {
        let cells: Vec<_> = cells.iter().map(|cell| cell.as_deref().unwrap_or("")).collect();
        let _ = writeln!(out, "| {} | {} |", row.system.name(), cells.join(" | "));
    }
}

fn cell(value: f64, relays: Option<f64>, decimals: usize) -> String {
    match ratio(Some(value), relays) {
        Some(ratio) => format!("{value:.decimals$} ({ratio:.2})"),
        None => format!("{value:.decimals$}"),
    }
}

fn ratio(value: Option<f64>, relays: Option<f64>) -> Option<f64> {
    Some(value? / relays.filter(|relays| *relays > 0.0)?)
}

/// Returns the median of one value of the samples, if any sample has it.
fn of(samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    median(samples.iter().filter_map(value).collect())
}

fn sample_to_json(sample: &Sample) -> Value {
    let ends = |Ends { client, server }| json!({"client": client, "server": server});
    let datagrams =
        |datagrams: Datagrams| json!({"per_second": datagrams.per_second, "lost_percent": datagrams.lost_percent});
    json!({
        "bytes": sample.bytes,
        "mbit_per_second": sample.mbit_per_second,
        "datagrams": sample.datagrams.map(datagrams),
        "cpu_seconds_per_gb": sample.cpu.map(ends),
    })
}
