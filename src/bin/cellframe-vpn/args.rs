//! The command line and its help texts, a file for each group of commands.

mod control;
mod demo;
mod documents;
mod ends;

mod reload;
mod upkeep;
mod wallet;

use clap::{Parser, Subcommand};

pub(crate) use control::{
    ControlOptions, HistoryOptions, LeasesOptions, ProcessOptions, StatOptions, StatusOptions, WatchOptions,
};
use control::{HISTORY_HELP, LEASES_HELP, STAT_HELP, STATUS_HELP, STOP_HELP};
use demo::DEMO_ABOUT;
pub(crate) use demo::{DemoEndOptions, DemoOptions, EndRole};
use documents::COMPLETIONS_HELP;
pub(crate) use documents::{CompletionsOptions, ManPagesOptions};
pub(crate) use ends::{CheckOptions, ClientOptions, ServerOptions};
use reload::{RELOAD_ABOUT, RELOAD_HELP};
pub(crate) use reload::{ReloadOptions, Reloaded};
pub(crate) use upkeep::DoctorOptions;
use upkeep::{DOCTOR_ABOUT, DOCTOR_HELP, REPAIR_ABOUT, REPAIR_HELP};
use wallet::{WALLET_HELP, WalletOptions};
pub(crate) use wallet::{WalletCommand, WalletPlace};

/// Printed when the program is started without arguments.
pub(crate) const SHORT_HELP: &str = "\
cellframe-vpn: the Cellframe VPN service and its client.

See it work, without configuration and without touching this machine's network:
  cellframe-vpn demo

Use it:
  cellframe-vpn server                    run a server (as root)
  cellframe-vpn client --connect HOST     connect this machine to it (as root)
  cellframe-vpn check HOST                test whether a server answers, and how fast
  cellframe-vpn stat | status | stop      show the running server; show the running client; stop the client
  cellframe-vpn leases                    show which address is whose on the running server; end a session
  cellframe-vpn wallet new NAME           make a wallet, which pays a server that sells
  cellframe-vpn history                   show what clients of the running server have bought and used
  cellframe-vpn doctor                    say what is wrong with this machine, and what helps
  cellframe-vpn reload                    have the running server read its configuration again; sessions stay
  cellframe-vpn repair                    undo what a client or server that was killed has left (as root)

Help for each command: cellframe-vpn COMMAND --help
";

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failed while running (the connection was lost, or the error that the message names)
  2  wrong usage: an invalid option, HOST:PORT or pin, or an unreadable configuration file
  3  cannot connect: no such name, no route, nobody listens
  4  connected, but the server did not answer
  5  the server refused service for good, or its identity is not the pinned one
  6  a privilege is missing (root, CAP_NET_ADMIN, /dev/net/tun, namespaces)
  7  the output could not be written (a full disk; a closed pipe is no error)
  8  the server cannot serve at present: no free address, its tunnel or network is down, payment unconfirmed
  9  the server speaks another protocol, or another version of it
  130, 143  interrupted (Ctrl-C, SIGTERM) during the demo or before the client was connected

Environment:
  RUST_LOG  log level on stderr: error, warn, info, debug, trace; or per module, as in `info,rustls=debug`
  NO_COLOR, CLICOLOR_FORCE  if set: no colours on terminals either; colours everywhere";

#[derive(Debug, Parser)]
#[command(
    name = "cellframe-vpn",
    version,
    about = "The Cellframe VPN service and its client. New here? Run `cellframe-vpn demo`.",
    after_help = EXIT_CODES,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a complete VPN at work: server, client, and traffic between them; leaves nothing behind
    #[command(long_about = DEMO_ABOUT)]
    Demo(DemoOptions),
    /// Run a VPN server in the foreground until Ctrl-C or SIGTERM
    Server(ServerOptions),
    /// Connect this machine to a VPN server, until Ctrl-C, SIGTERM or `stop`
    Client(ClientOptions),
    /// Test whether a VPN server answers, without a tunnel and without privileges
    Check(CheckOptions),
    /// Show the sessions, traffic and drops of the server that runs on this machine
    #[command(after_help = STAT_HELP)]
    Stat(StatOptions),
    /// Show what each client of the server on this machine has bought and used, also after its session
    #[command(after_help = HISTORY_HELP)]
    History(HistoryOptions),
    /// Show which address is whose on the server that runs on this machine, or end the session that has one
    #[command(after_help = LEASES_HELP)]
    Leases(LeasesOptions),
    /// Show the state of the client that runs on this machine
    #[command(after_help = STATUS_HELP)]
    Status(StatusOptions),
    /// Stop the client that runs on this machine
    #[command(after_help = STOP_HELP)]
    Stop(ControlOptions),
    /// Have the server or client that runs on this machine read its configuration again
    #[command(long_about = RELOAD_ABOUT, after_help = RELOAD_HELP)]
    Reload(ReloadOptions),
    /// Make wallets, and give them tokens at the server that runs on this machine
    #[command(after_help = WALLET_HELP)]
    Wallet(WalletOptions),
    /// Check this machine for a server or a client, and say what is wrong and what helps
    #[command(long_about = DOCTOR_ABOUT, after_help = DOCTOR_HELP)]
    Doctor(DoctorOptions),
    /// Undo what a client or server that was killed has left on this machine
    #[command(long_about = REPAIR_ABOUT, after_help = REPAIR_HELP)]
    Repair,
    /// Print the completions for a shell, so that it completes commands and options
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsOptions),
    /// Write the manual pages, for a package
    #[command(hide = true)]
    ManPages(ManPagesOptions),
    /// Run one end of the demo; `demo` starts it
    #[command(hide = true)]
    DemoEnd(DemoEndOptions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
