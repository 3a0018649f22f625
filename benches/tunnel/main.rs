//! Whole tunnels against each other: `cargo bench --bench tunnel -- [options]`, as root.
//!
//! Two network namespaces with a cable between them are two hosts. A system puts a tunnel between the two, iperf3 sends
//! through it, and the CPU time of the tunnel's processes is read from /proc. The systems take turns: what the machine
//! does beside them hits all alike, and the ratios to the relay of the same run are what can be compared between
//! machines. Nothing leaves the two namespaces, and nothing of them stays.

mod hosts;
mod load;
mod relay;
mod report;
mod running;
mod systems;
mod wireguard;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::hosts::Hosts;
use crate::load::Load;
use crate::report::{Report, Row};
use crate::systems::System;

/// One sentence: why something could not be measured.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Failure {
    /// This machine lacks what it takes; the sentence says how to get it.
    #[error("{0}")]
    Missing(String),
    /// What should have worked did not.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// For `map_err`: what was being done, and the error.
    pub(crate) fn during<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
        move |error| Failure::Failed(format!("{what}: {error}"))
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Missing(_) => 2.into(),
            Self::Failed(_) => 1.into(),
        }
    }
}

/// What `cargo bench --bench tunnel --` takes.
#[derive(Parser, Debug)]
#[command(name = "tunnel", about = "Throughput, CPU and latency of whole tunnels, beside a relay without cryptography")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Args, Clone, Debug)]
struct Options {
    /// How often everything is measured; the table has the medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Length of one measurement
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Measure only these
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_values_t = System::ALL)]
    systems: Vec<System>,
    /// Which traffic
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_values_t = Load::TCP)]
    loads: Vec<Load>,
    /// UDP floods too, of packets that fill the MTU and of 100 bytes
    #[arg(long)]
    udp: bool,
    /// MTU inside the tunnels; the cable's is 1500
    #[arg(long, value_name = "BYTES", default_value_t = 1390, value_parser = clap::value_parser!(u16).range(576..=1440))]
    mtu: u16,
    /// Where the results go [default: tunnel.json in cargo's target directory]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this program starts itself as, see [`running`].
#[derive(Subcommand, Debug)]
enum Part {
    /// One end of the relay
    #[command(hide = true)]
    Relay(relay::Options),
    /// A program that ends when this one does
    #[command(hide = true)]
    Run(running::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::Relay(options)) => relay::run(&options),
        Some(Part::Run(options)) => running::become_program(&options),
        // `cargo test --benches` starts it so, which is no time for minutes of traffic.
        None if std::env::args_os().len() == 1 => {
            eprintln!("skipped: `cargo bench --bench tunnel` starts the measurement");
            Ok(ExitCode::SUCCESS)
        }
        None => measure(&arguments.options),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        failure.exit_code()
    })
}

fn measure(options: &Options) -> Result<ExitCode, Failure> {
    require_privileges()?;
    load::require_iperf3()?;
    wireguard::remove_leftovers();
    let directory = tempfile::Builder::new().prefix("cellframe-vpn-bench-").tempdir();
    let directory = directory.map_err(Failure::during("a temporary directory"))?;
    clean_up_on_signal(directory.path().to_owned())?;
    let hosts = Hosts::new(directory.path())?;

    let mut report = Report::new(options);
    for run in 1..=options.runs {
        for row in &mut report.rows {
            if row.failure.is_some() {
                continue;
            }
            if let Err(failure) = measure_system(&hosts, options, run, row) {
                eprintln!("{}: {failure}", row.system.name());
                row.failure = Some(failure);
            }
        }
    }
    println!("{}", report.to_markdown());
    report.write_json(options.json.as_deref())?;
    let all_worked = !report.rows.iter().any(|row| matches!(row.failure, Some(Failure::Failed(_))));
    Ok(if all_worked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything once, through a tunnel made for it.
fn measure_system(hosts: &Hosts, options: &Options, run: u32, row: &mut Row) -> Result<(), Failure> {
    let tunnel = row.system.start(hosts, options.mtu)?;
    let said = format!("run {run} of {}: {}", options.runs, row.system.name());
    let rtt = load::round_trip(hosts, tunnel.gateway)?;
    eprintln!("{said}: round trip {:.0} µs", rtt * 1e6);
    row.rtts.push(rtt);
    for (load, samples) in &mut row.samples {
        let sample = load.measure(hosts, &tunnel, options)?;
        eprintln!("{said}: {}: {sample}", load.name());
        samples.push(sample);
    }
    Ok(())
}

fn require_privileges() -> Result<(), Failure> {
    let sets = rustix::thread::capabilities(None).map_err(Failure::during("the capabilities of this process"))?;
    if !sets.effective.contains(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN) {
        let needed = "the measurement makes network namespaces, veth pairs and TUN devices: run it as root (it needs \
                      CAP_NET_ADMIN and CAP_SYS_ADMIN), for instance with `sudo -E cargo bench --bench tunnel`";
        return Err(Failure::Missing(needed.into()));
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    device.map(drop).map_err(|error| Failure::Missing(format!("/dev/net/tun cannot be opened: {error}")))
}

/// The kernel ends what this process started when it ends ([`running`]); files are left to us.
fn clean_up_on_signal(directory: PathBuf) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Failure::during("cannot watch for signals"))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = std::fs::remove_dir_all(directory);
            wireguard::remove_leftovers();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
