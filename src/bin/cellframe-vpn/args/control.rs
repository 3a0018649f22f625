//! `stat`, `history`, `leases`, `status` and `stop`: commands to a process that runs.

use std::path::PathBuf;

use clap::Args;

use crate::target::{DEFAULT_NETWORK, parse_inner};

pub(super) const STAT_HELP: &str = "\
Examples:
  sudo cellframe-vpn stat
  sudo cellframe-vpn stat --watch
  sudo cellframe-vpn stat --state-dir /var/lib/cellframe-vpn/server
  sudo cellframe-vpn stat --json | jq '.sessions[] | .address'

Exit codes: 0 answered, 1 the server reports an error, 2 wrong usage, 3 no server runs here, 4 no answer,
  6 the server belongs to another user, 7 the output cannot be written";

pub(super) const HISTORY_HELP: &str = "\
Examples:
  sudo cellframe-vpn history --since 7d
  sudo cellframe-vpn history --client 0x5A3C --json | jq .sums
  sudo cellframe-vpn history --csv --limit 10000 > services.csv

Exit codes: 0 answered, 1 the server reports an error, 2 wrong usage, 3 no server runs here, 4 no answer,
  6 the server belongs to another user, 7 the output cannot be written";

pub(super) const LEASES_HELP: &str = "\
An address is leased to a session, kept for the client that had it, or reserved for the client of a static lease. A client
whose session is dropped may connect again; a client of this library does so at once.

Examples:
  sudo cellframe-vpn leases
  sudo cellframe-vpn leases --watch 10
  sudo cellframe-vpn leases --json | jq '.leases[] | select(.state == \"leased\")'
  sudo cellframe-vpn leases --drop 10.98.0.7

Exit codes: 0 answered, 1 the server reports an error, 2 wrong usage, 3 no server runs here, 4 no answer,
  6 the server belongs to another user, 7 the output cannot be written";

pub(super) const STATUS_HELP: &str = "\
Examples:
  sudo cellframe-vpn status
  sudo cellframe-vpn status --watch
  sudo cellframe-vpn status --json | jq .round_trip_ms
  sudo cellframe-vpn status --json --watch 60 >> status.jsonl

Exit codes: 0 answered, 1 the client reports an error, 2 wrong usage, 3 no client runs here, 4 no answer,
  6 the client belongs to another user, 7 the output cannot be written";

pub(super) const STOP_HELP: &str = "\
The client takes its tunnel down and exits with 0.

Example: sudo cellframe-vpn stop

Exit codes: 0 stopped, 1 the client reports an error, 2 wrong usage, 3 no client runs here, 4 no answer,
  6 the client belongs to another user, 7 the output cannot be written";

#[derive(Args, Debug)]
pub(crate) struct ControlOptions {
    /// The Cellframe network of the session
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NETWORK)]
    pub(crate) net: String,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
}

/// Which running process is asked.
#[derive(Args, Debug)]
pub(crate) struct ProcessOptions {
    /// Configuration file that the running process was started with
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// State directory that the running process was started with
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Control socket of the running process, if it is not in the state directory
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Whether the answer is asked for again and again.
#[derive(Args, Debug)]
pub(crate) struct WatchOptions {
    /// Repeat the command at this interval [default: 2] until Ctrl-C; on a terminal each answer replaces the last one
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub(crate) watch: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct StatOptions {
    /// Show the sessions of this Cellframe network [default: of all]
    #[arg(long, value_name = "NAME")]
    pub(crate) net: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
    /// Print the sessions as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) watch: WatchOptions,
    /// Print the address of the status page, for a browser on this machine; keep it secret, as it shows your clients
    #[arg(long, conflicts_with_all = ["json", "net", "watch"])]
    pub(crate) url: bool,
    /// Make a new address first: those that were printed before, and the pages opened with them, show nothing more
    #[arg(long, requires = "url")]
    pub(crate) renew: bool,
}

#[derive(Args, Debug)]
pub(crate) struct HistoryOptions {
    /// Show the services of this Cellframe network [default: of all]
    #[arg(long, value_name = "NAME")]
    pub(crate) net: Option<String>,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print comma-separated values, without sums
    #[arg(long)]
    pub(crate) csv: bool,
    /// Show the services of the clients whose key's hash begins with these digits
    #[arg(long, value_name = "0xDIGITS")]
    pub(crate) client: Option<String>,
    /// Show what ran since then: a number with s, m, h or d for a time that long ago, or a day such as 2026-11-29
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Show the newest ones, this number at most [default: 100]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) limit: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct LeasesOptions {
    #[command(flatten)]
    pub(crate) control: ControlOptions,
    /// Print the leases as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// End the session that has this inner address
    #[arg(long, value_name = "ADDRESS", value_parser = parse_inner, conflicts_with_all = ["json", "watch"])]
    pub(crate) drop: Option<std::net::Ipv4Addr>,
    #[command(flatten)]
    pub(crate) watch: WatchOptions,
}

#[derive(Args, Debug)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) control: ControlOptions,
    /// Print the state as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) watch: WatchOptions,
}
