//! The caller's options.

use std::path::PathBuf;

use clap::Args;

use crate::types::{Load, System};

/// Options of `cargo bench --bench tunnel --`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Number of runs; the table has the medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Length of one measurement
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Systems to measure, with commas or spaces between them
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', num_args = 1.., default_values_t = System::ALL)]
    pub(crate) systems: Vec<System>,
    /// Kinds of traffic, with commas or spaces between them
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', num_args = 1.., default_values_t = Load::TCP)]
    pub(crate) loads: Vec<Load>,
    /// Add UDP floods, of packets that fill the MTU and of 100 bytes
    #[arg(long)]
    pub(crate) udp: bool,
    /// MTU inside the tunnels; the cable's is 1500
    #[arg(long, value_name = "BYTES", default_value_t = 1390, value_parser = clap::value_parser!(u16).range(576..=1440))]
    pub(crate) mtu: u16,
    /// File for the results [default: tunnel.json in cargo's target directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) json: Option<PathBuf>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}
