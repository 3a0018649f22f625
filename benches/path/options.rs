//! The caller's options.

use std::path::PathBuf;

use clap::Args;

use crate::paths::{Buffer, Case, Congestion, TWO_CLIENTS, catalogue};
use crate::types::System;

/// Options of `cargo bench --bench path --`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Paths to measure, by name, with commas between them [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 1..)]
    pub(crate) paths: Vec<String>,
    /// Print the names of the paths
    #[arg(long)]
    pub(crate) list: bool,
    /// Systems to measure, with commas between them
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', num_args = 1.., default_values_t = System::DEFAULT)]
    pub(crate) systems: Vec<System>,
    /// Length of one download or upload [default: 8 to 14, as the path needs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: Option<u32>,
    /// File for the results [default: path.json in cargo's target directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// File for a plot of latency under load against throughput
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Congestion control of the hosts, which `congestion = host` uses outside the tunnel
    #[arg(long, value_enum, value_name = "NAME", default_value = "reno")]
    pub(crate) host_cc: Congestion,
    /// The program wireguard-go [default: the variable WIREGUARD_GO, or the one in PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) wireguard_go: Option<PathBuf>,
    /// The program cellframe-vpn [default: this build's]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// Measure one short path, which shows in seconds that everything works
    #[arg(long, conflicts_with_all = ["paths", "rate"])]
    pub(crate) smoke: bool,
    /// Measure a path of one's own: its rate in Mbit/s
    #[arg(long, value_name = "MBIT", conflicts_with = "paths", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Option<u32>,
    /// Its delay one way, in ms
    #[arg(long, value_name = "MS", requires = "rate", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=2000))]
    delay: u32,
    /// Its loss, in percent
    #[arg(long, value_name = "PERCENT", requires = "rate", default_value_t = 0.0)]
    loss: f64,
    /// Its buffer, in bytes [default: one bandwidth-delay product, at least 20 packets]
    #[arg(long, value_name = "BYTES", requires = "rate")]
    buffer: Option<u32>,
    /// Its jitter, in ms; packets keep their order
    #[arg(long, value_name = "MS", requires = "rate", default_value_t = 0)]
    jitter: u32,
    /// Its share of packets that others overtake, in percent
    #[arg(long, value_name = "PERCENT", requires = "rate", default_value_t = 0.0)]
    late: f64,
    /// By how many ms those come late
    #[arg(long, value_name = "MS", requires = "late", default_value_t = 5)]
    late_by: u32,
    /// The congestion control inside the tunnel
    #[arg(long, value_enum, value_name = "NAME", requires = "rate", default_value = "reno")]
    cc: Congestion,
    /// The number of flows
    #[arg(long, value_name = "N", requires = "rate", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
    flows: u32,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Options {
    /// Returns the paths to measure, and whether two clients of one server are measured too.
    ///
    /// Error: a name that no path has.
    pub(crate) fn cases(&self) -> Result<(Vec<Case>, bool), String> {
        if let Some(rate) = self.rate {
            return Ok((vec![self.own(rate)], false));
        }
        let all = catalogue();
        if self.smoke {
            return Ok((vec![Case::plain(20, 5)], false));
        }
        if self.paths.is_empty() {
            return Ok((all, true));
        }
        let (two, names): (Vec<&String>, Vec<&String>) = self.paths.iter().partition(|name| *name == TWO_CLIENTS);
        let find = |name: &String| all.iter().find(|case| case.name() == *name).cloned().ok_or_else(|| name.clone());
        Ok((names.into_iter().map(find).collect::<Result<_, _>>()?, !two.is_empty()))
    }

    fn own(&self, rate: u32) -> Case {
        Case {
            rate,
            delay: self.delay,
            buffer: self.buffer.map_or(Buffer::Products(1), Buffer::Bytes),
            congestion: self.cc,
            flows: self.flows,
            loss: self.loss,
            jitter: self.jitter,
            late: (self.late, self.late_by),
            with_host: true,
        }
    }

    /// Returns how long a download or an upload over a path takes.
    pub(crate) fn seconds(&self, case: &Case) -> u32 {
        self.seconds.unwrap_or_else(|| if self.smoke { 3 } else { case.seconds() })
    }
}
