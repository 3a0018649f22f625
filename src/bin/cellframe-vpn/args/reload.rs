//! `reload`: has a process that runs read its configuration again.

use clap::Args;

use super::ProcessOptions;

pub(super) const RELOAD_ABOUT: &str = "\
Has the server or client that runs on this machine read its configuration file
again, as SIGHUP does. What can change while it runs takes effect; sessions and
connections stay. What needs a restart is named, and keeps its old value until
then. A file with an error changes nothing.";

pub(super) const RELOAD_HELP: &str = "\
Examples:
  sudo cellframe-vpn reload
  sudo cellframe-vpn reload client
  sudo cellframe-vpn reload --json | jq '.needs_restart[].key'

docs/config.md marks the keys that can change with `~`.

Exit codes: 0 the configuration was read again, also if a key needs a restart, 1 it cannot be applied, 2 wrong usage, or
  an error in the configuration, which changes nothing, 3 no server or client runs here, 4 no answer,
  6 the process belongs to another user";

#[derive(Args, Debug)]
pub(crate) struct ReloadOptions {
    /// Which process is asked
    #[arg(value_enum, default_value_t = Reloaded::Server)]
    pub(crate) role: Reloaded,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
    /// Print what has changed as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A process that can read its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reloaded {
    /// The server
    Server,
    /// The client
    Client,
}
