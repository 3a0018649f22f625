//! Compares whole tunnels on the paths that people have: `cargo bench --bench path -- [options]`, as root.
//!
//! Network namespaces are hosts. A path of this program's own joins them ([`testkit::path`]): a link of a given rate
//! with a buffer, delay and loss. A system puts a tunnel over the path, iperf3 sends through it, and a ping and a sparse
//! flow beside it tell how long a person waits. The systems take turns on each path; what must be reached is a ratio to
//! wireguard-go's figure of the same minutes. All traffic stays in the namespaces, which leave nothing behind.

#[path = "../common/mod.rs"]
mod common;
mod judge;
mod load;
mod options;
mod paths;
mod plot;
mod report;
mod site;
mod systems;
mod two_clients;
mod types;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::common::failure::Failure;
use crate::common::{results, running, start};
use crate::options::Options;
use crate::paths::{Case, TWO_CLIENTS};
use crate::report::{PathResults, Report};
use crate::site::Site;
use crate::types::{Bulk, Measured, System, Way};

/// In the smoke test, each direction uses at least this share of the line, or something does not work.
const SMOKE_SHARE: f64 = 0.1;

/// The arguments of `cargo bench --bench path --`.
#[derive(Parser, Debug)]
#[command(name = "path", about = "Throughput and latency under load of whole tunnels, on paths with a bottleneck")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The part that this program runs as its own child, see [`common::running`].
#[derive(Subcommand, Debug)]
enum Part {
    /// Run a program that ends when this one does
    #[command(hide = true)]
    Run(running::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::Run(options)) => running::become_program(&options),
        None => start::measure("path", || measure(&arguments.options)),
    };
    result.unwrap_or_else(Failure::report)
}

/// Checks for the rights and the programs that the measurement needs; the error says how to get them.
fn require_all() -> Result<(), Failure> {
    start::require_privileges("path")?;
    start::require_iperf()?;
    start::require_program("ping", "iputils-ping", "measures the round trips")
}

fn measure(options: &Options) -> Result<ExitCode, Failure> {
    let unknown = |name| Failure::Missing(format!("there is no path {name}: --list prints the names"));
    let (cases, with_two_clients) = options.cases().map_err(unknown)?;
    if options.list {
        cases.iter().map(Case::name).for_each(|name| println!("{name}"));
        if with_two_clients {
            println!("{TWO_CLIENTS}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ready = require_all();
    if let (true, Err(Failure::Missing(why))) = (options.smoke, &ready) {
        eprintln!("skipped: path: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    ready?;
    let directory = start::directory()?;
    let mut report = Report::new(options.host_cc.name());
    let total = cases.len();
    for (number, case) in (1..).zip(cases) {
        eprintln!("path {number} of {total}: {}", case.name());
        report.paths.push(measure_path(directory.path(), options, case));
    }
    if with_two_clients {
        report.two_clients = Some(two_clients::measure(directory.path(), options));
    }
    println!("{}", report.to_markdown());
    results::write_json("path", options.json.as_deref(), &report.to_json())?;
    if let Some(file) = &options.svg {
        plot::write(file, &report.paths).map_err(Failure::during(file.display()))?;
    }
    Ok(if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Measures each system on one path.
fn measure_path(directory: &Path, options: &Options, case: Case) -> PathResults {
    let seconds = options.seconds(&case);
    let (mut measured, mut failures) = (Vec::new(), Vec::new());
    for system in options.systems.iter().copied() {
        if system == System::OursHost && !case.with_host {
            continue;
        }
        match measure_system(directory, options, &case, seconds, system) {
            Ok(result) => measured.push((system, result)),
            Err(failure) => {
                eprintln!("  {}: {failure}", system.name());
                failures.push((system, failure));
            }
        }
    }
    PathResults { case, seconds, measured, failures }
}

/// Takes every measurement of one system, on new hosts.
fn measure_system(
    directory: &Path,
    options: &Options,
    case: &Case,
    seconds: u32,
    system: System,
) -> Result<Measured, Failure> {
    let site = Site::new(directory, &[case.conditions()], options.host_cc)?;
    let tunnel = systems::start(system, &site, options)?;
    let idle = load::idle(site.ends(0), &tunnel)?;
    let transfer = |way: Way| -> Result<Bulk, Failure> {
        let bulk = load::bulk(way, case, site.ends(0), &tunnel, seconds)?;
        let ping = &bulk.small.ping;
        eprintln!(
            "  {}, {}: {:.1} Mbit/s, ping {:.0} / {:.0} ms, idle {:.0}",
            system.name(),
            way.name(),
            bulk.mbit,
            ping.median().unwrap_or(f64::NAN),
            ping.p95().unwrap_or(f64::NAN),
            idle.ping.median().unwrap_or(f64::NAN),
        );
        load::wait_until_idle(site.ends(0), &tunnel, &idle)?;
        Ok(bulk)
    };
    let (down, up) = (transfer(Way::Down)?, transfer(Way::Up)?);
    drop(tunnel);
    let measured = Measured { idle, down, up, path: site.end() };
    let least = if options.smoke { SMOKE_SHARE } else { 0.0 };
    judge::plausible(case, &measured, least).map_err(Failure::Failed)?;
    Ok(measured)
}
