//! Compares whole tunnels: `cargo bench --bench tunnel -- [options]`, as root.
//!
//! Two network namespaces with a cable between them are two hosts. A system puts a tunnel between them, iperf3 sends
//! through it, and the CPU time of the tunnel's processes is read from /proc. The systems take turns, so that other
//! load on the machine affects all alike; the ratios to the relay of the same run can be compared between machines. All
//! traffic stays in the two namespaces, which leave nothing behind.

#[path = "../common/mod.rs"]
mod common;
mod hosts;
mod load;
mod options;
mod relay;
mod report;
mod systems;
mod tunnel;
mod types;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::common::failure::Failure;
use crate::common::{results, running, start};
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

/// The parts that this program runs as its own child, see [`common::running`].
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
        None => start::measure("tunnel", || measure(&arguments.options)),
    };
    result.unwrap_or_else(Failure::report)
}

fn measure(options: &Options) -> Result<ExitCode, Failure> {
    start::require_privileges("tunnel")?;
    start::require_iperf()?;
    let directory = start::directory()?;
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
    results::write_json("tunnel", options.json.as_deref(), &report.to_json())?;
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
