//! Measures the cost of many clients, and the cost of a slow client to the others: `cargo bench --bench sessions --
//! [options]`, as root.
//!
//! The program `cellframe-vpn server` runs in a network namespace, its clients in others. The first part opens
//! thousands of streams with a lease each and reads the server's memory from /proc; in the second, one of three clients
//! stops reading. The figures do not include the kernel's socket memory. All traffic stays in the namespaces, which
//! leave nothing behind.
#![allow(clippy::unwrap_used)]

mod sessions;
mod slow;
mod streams;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;
use serde_json::{Map, Value};
use testkit::program::Program;

/// The measured program.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// The arguments of `cargo bench --bench sessions --`.
#[derive(Parser, Debug)]
#[command(name = "sessions", about = "Memory of many sessions, and the cost of a client that stops reading")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(clap::Args, Debug)]
struct Options {
    /// Parts to measure
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', default_values_t = [Part::Sessions, Part::Slow])]
    parts: Vec<Part>,
    /// Number of streams with a lease; each takes a port of their common address
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    count: u32,
    /// Length of one measurement of rates
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    seconds: u32,
    /// Number of measurements of rates; the medians count
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Paced load of each client, Mbit/s
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Write the results as JSON too
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory of many streams with leases
    Sessions,
    /// Three clients, one of which stops reading
    Slow,
}

/// The parts that this program runs as its own child.
#[derive(Subcommand, Debug)]
enum Child {
    /// Opens streams and keeps them open
    #[command(hide = true)]
    Streams(streams::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Child::Streams(options)) = arguments.child {
        streams::run(&options);
    }
    // `cargo test --benches` runs this too, which should not open thousands of streams.
    if std::env::args_os().len() == 1 {
        eprintln!("skipped: `cargo bench --bench sessions` starts the measurement");
        return ExitCode::SUCCESS;
    }
    if let Err(why) = prepare(&arguments.options) {
        eprintln!("{why}");
        return 2.into();
    }
    let (results, all_met) = measure(&arguments.options);
    if let Some(path) = &arguments.options.json
        && let Err(error) = fs::write(path, format!("{results:#}\n"))
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The results, and whether every target is met.
fn measure(options: &Options) -> (Value, bool) {
    let (mut results, mut all_met) = (Map::new(), true);
    if options.parts.contains(&Part::Sessions) {
        let result = sessions::measure(options.count);
        all_met &= result.is_met();
        println!("{result}");
        results.insert("sessions".into(), result.to_json());
    }
    if options.parts.contains(&Part::Slow) {
        let slow: Vec<_> = slow::Load::ALL.map(|load| slow::measure(load, options)).into();
        all_met &= slow.iter().all(slow::Outcome::is_met);
        slow.iter().for_each(|result| println!("{result}"));
        results.insert("slow".into(), slow.iter().map(slow::Outcome::to_json).collect());
    }
    (results.into(), all_met)
}

/// Checks the privileges, and raises the limit of descriptors for all streams in each child process.
fn prepare(options: &Options) -> Result<(), String> {
    let sets = rustix::thread::capabilities(None).map_err(|error| format!("no capabilities: {error}"))?;
    if !sets.effective.contains(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN) {
        let needed = "the measurement creates network namespaces, veth pairs and TUN devices: run it as root (it needs \
                      CAP_NET_ADMIN and CAP_SYS_ADMIN), for instance with `sudo -E cargo bench --bench sessions`";
        return Err(needed.into());
    }
    // A server gives streams three quarters of its descriptors.
    let needed = u64::from(options.count) * 4 / 3 + 256;
    let allowed = getrlimit(Resource::Nofile).maximum;
    let most = allowed.map(|allowed| allowed.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: most.or(Some(needed)), maximum: most }).map_err(|error| {
        format!("{needed} descriptors are not available ({error}): lower --count, or use a larger `ulimit -Hn`")
    })
}
