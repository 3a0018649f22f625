//! Compares whole tunnels: `cargo bench --bench tunnel -- [options]`, as root.
//!
//! Two network namespaces with a cable between them are two hosts. A system puts a tunnel between them, iperf3 sends
//! through it, and the CPU time of the tunnel's processes is read from /proc. The systems take turns, so that other
//! load on the machine affects all alike; the ratios to the relay of the same run can be compared between machines. All
//! traffic stays in the two namespaces, which leave nothing behind.

mod failure;
mod hosts;
mod load;
mod options;
mod relay;
mod report;
mod running;
mod systems;
mod tunnel;
mod types;
mod wireguard;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::options::Options;
use crate::report::{Report, Row};

/// The arguments of `cargo bench --bench tunnel --`.
#[derive(Parser, Debug)]
#[command(name = "tunnel", about = "Throughput, CPU and latency of whole tunnels, beside a relay without cryptography")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that this program runs as its own child, see [`running`].
#[derive(Subcommand, Debug)]
enum Part {
    /// One end of the relay
    #[command(hide = true)]
    Relay(relay::Options),
    /// Run a program that ends when this one does
    #[command(hide = true)]
    Run(running::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::Relay(options)) => relay::run(&options),
        Some(Part::Run(options)) => running::become_program(&options),
        // `cargo test --benches` runs this too, which should not take minutes of traffic.
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

/// Takes every measurement once, through a new tunnel.
fn measure_system(hosts: &Hosts, options: &Options, run: u32, row: &mut Row) -> Result<(), Failure> {
    let tunnel = systems::start(row.system, hosts, options.mtu)?;
    let said = format!("run {run} of {}: {}", options.runs, row.system.name());
    let rtt = load::round_trip(hosts, tunnel.gateway)?;
    eprintln!("{said}: round trip {:.0} µs", rtt * 1e6);
    row.rtts.push(rtt);
    for (load, samples) in &mut row.samples {
        let sample = load::measure(*load, hosts, &tunnel, options)?;
        eprintln!("{said}: {}: {sample}", load.name());
        samples.push(sample);
    }
    Ok(())
}

fn require_privileges() -> Result<(), Failure> {
    let sets = rustix::thread::capabilities(None).map_err(Failure::during("the capabilities of this process"))?;
    if !sets.effective.contains(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN) {
        let needed = "the measurement creates network namespaces, veth pairs and TUN devices: run it as root (it needs \
                      CAP_NET_ADMIN and CAP_SYS_ADMIN), for instance with `sudo -E cargo bench --bench tunnel`";
        return Err(Failure::Missing(needed.into()));
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    device.map(drop).map_err(|error| Failure::Missing(format!("/dev/net/tun cannot be opened: {error}")))
}

/// When this process ends, the kernel ends its children ([`running`]); files are removed here.
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
