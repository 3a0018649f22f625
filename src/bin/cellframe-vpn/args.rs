//! The command line and its help texts.

mod wallet;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::paying::PayOptions;
use crate::target::{DEFAULT_NETWORK, Target, parse_network, parse_pin};
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
  RUST_LOG  log level on stderr: error, warn, info, debug, trace; or per module, as in `info,rustls=debug`";

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
    /// Make wallets, and give them tokens at the server that runs on this machine
    #[command(after_help = WALLET_HELP)]
    Wallet(WalletOptions),
    /// Undo what a client or server that was killed has left on this machine
    #[command(long_about = REPAIR_ABOUT, after_help = REPAIR_HELP)]
    Repair,
    /// Run one end of the demo; `demo` starts it
    #[command(hide = true)]
    DemoEnd(DemoEndOptions),
}

const STAT_HELP: &str = "\
Examples:
  sudo cellframe-vpn stat
  sudo cellframe-vpn stat --state-dir /var/lib/cellframe-vpn/server
  sudo cellframe-vpn stat --json | jq '.sessions[] | .address'

Exit codes: 0 answered, 1 the server reports an error, 2 wrong usage, 3 no server runs here, 4 no answer,
  6 the server belongs to another user";

const HISTORY_HELP: &str = "\
Examples:
  sudo cellframe-vpn history --since 7d
  sudo cellframe-vpn history --client 0x5A3C --json | jq .sums
  sudo cellframe-vpn history --csv --limit 10000 > services.csv

Exit codes: 0 answered, 1 the server reports an error, 2 wrong usage, 3 no server runs here, 4 no answer,
  6 the server belongs to another user";

const LEASES_HELP: &str = "\
An address is leased to a session, kept for the client that had it, or reserved for the client of a static lease. A client
whose session is dropped may connect again; a client of this library does so at once.

Examples:
  sudo cellframe-vpn leases
  sudo cellframe-vpn leases --json | jq '.leases[] | select(.state == \"leased\")'
  sudo cellframe-vpn leases --drop 10.98.0.7

Exit codes: 0 answered, 1 the server reports an error, 2 wrong usage, 3 no server runs here, 4 no answer,
  6 the server belongs to another user";

const STATUS_HELP: &str = "\
Examples:
  sudo cellframe-vpn status
  sudo cellframe-vpn status --json | jq .round_trip_ms

Exit codes: 0 answered, 1 the client reports an error, 2 wrong usage, 3 no client runs here, 4 no answer,
  6 the client belongs to another user";

const STOP_HELP: &str = "\
The client takes its tunnel down and exits with 0.

Example: sudo cellframe-vpn stop

Exit codes: 0 stopped, 1 the client reports an error, 2 wrong usage, 3 no client runs here, 4 no answer,
  6 the client belongs to another user";

const REPAIR_ABOUT: &str = "\
Undoes what a client or server has left on this machine that was killed, or that
the machine went down with: name servers in /etc/resolv.conf, the kill switch,
address translation and forwarding, in this network namespace. The next start
does the same by itself, but keeps the kill switch until it is stopped. What
belongs to a client or server that runs stays. Each change is a line; it may be
run at any time.";

const REPAIR_HELP: &str = "\
Example: sudo cellframe-vpn repair

Exit codes: 0 nothing is left, or what is left belongs to a process that runs, 1 something cannot be undone,
  6 not root, 7 the output cannot be written";

const DEMO_ABOUT: &str = "\
Runs a server and a client in two private network namespaces, connected by a
virtual cable, and sends real traffic through the tunnel: pings, an upload, a
download. Then it prints the measurements.

With --internet there is a third host, an Internet with a web server and a name
server. The client fetches a page by name while a capture on its cable shows that
nothing but the stream to the server leaves. Then the server is killed: the kill
switch refuses every way around it. It is started again, and the client's TCP
connection to the web server goes on.

With --paid the server sells: the client pays receipt by receipt out of a wallet
until the money ends, and goes on when the operator has funded the wallet again.
In the end the sums of both ends and of the ledger are compared.

It needs no configuration and no network, and changes nothing on this machine:
the namespaces disappear with it, even when it is interrupted. As root it works
wherever network namespaces do; other users need unprivileged user namespaces
and permission to open /dev/net/tun. If the kernel does not allow this, the
demo names what is missing and exits with 6.";

#[derive(Args, Debug)]
#[command(
    after_help = concat!(
        "Examples:\n",
        "  cellframe-vpn demo                    about eight seconds\n",
        "  cellframe-vpn demo --seconds 10       measure for longer\n",
        "  cellframe-vpn demo --internet         about five seconds\n",
        "  cellframe-vpn demo --paid             about fifteen seconds\n",
        "  cellframe-vpn demo --json | jq .upload.mbit_per_second\n\n",
        "Exit codes: 0 traffic passed, 1 traffic failed or sums differ, 6 namespaces or TUN not allowed here, 130 or 143 interrupted"
    )
)]
pub(crate) struct DemoOptions {
    /// Seconds to send in each direction
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Show the Internet through the tunnel and nothing around it, also when the server dies
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) internet: bool,
    /// Show a server that sells, and a client that pays until its money ends, and goes on with more
    #[arg(long, conflicts_with_all = ["seconds", "internet"])]
    pub(crate) paid: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = concat!(
    "Examples:\n",
    "  sudo cellframe-vpn server\n",
    "  cellframe-vpn server --print-config > my.cfg\n",
    "  sudo cellframe-vpn server --config my.cfg\n",
    "  sudo RUST_LOG=debug cellframe-vpn server\n\n",
    "When the server is ready, it prints one line with its address, network and identity (for `client --pin`).\n\n",
    "Exit codes: 0 ended by a signal, 1 cannot start, or its TUN device is gone and cannot be made again,\n  2 wrong usage, 6 not root (CAP_NET_ADMIN, /dev/net/tun)"
))]
pub(crate) struct ServerOptions {
    /// Configuration file [default: /etc/cellframe-vpn/cellframe-vpn.cfg if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for identity, store and control socket [default: server/ in the configured state directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print an example configuration with comments, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
}

#[derive(Args, Debug)]
#[command(after_help = concat!(
    "Examples:\n",
    "  sudo cellframe-vpn client --connect vpn.example.com\n",
    "  sudo cellframe-vpn client --connect 192.0.2.1:8089 --pin sha256:5f3a...\n",
    "  sudo cellframe-vpn client --connect '[2001:db8::1]:8079' --retry\n",
    "  sudo cellframe-vpn client --connect vpn.example.com --wallet purse --value 2.5\n\n",
    "Without --pin the client trusts and remembers the first identity seen at an address and refuses a changed one;\n",
    "to forget all identities, remove store.redb in the state directory.\n\n",
    "Exit codes: 0 ended by a signal or by `cellframe-vpn stop`, 1 connection lost (--no-reconnect), 2 wrong usage, 3 cannot connect,\n",
    "  4 no answer, 5 service refused or wrong identity, 6 not root (CAP_NET_ADMIN, /dev/net/tun),\n",
    "  7 a result cannot be written, 8 the server cannot serve at present, 9 it speaks another protocol or version,\n",
    "  130 or 143 interrupted before it was connected"
))]
pub(crate) struct ClientOptions {
    /// The server: a name, an IPv4 address, or an IPv6 address in brackets; port 8079 unless given
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) connect: Target,
    /// The Cellframe network to use
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NETWORK)]
    pub(crate) net: String,
    /// The identity the server must have, as its ready line shows it
    #[arg(long, value_name = "sha256:HEX", value_parser = parse_pin)]
    pub(crate) pin: Option<String>,
    #[command(flatten)]
    pub(crate) pay: PayOptions,
    /// A network in which the server may give the tunnel's subnet, beside the private ones; may be repeated
    #[arg(long, value_name = "NETWORK/PREFIX", value_parser = parse_network)]
    pub(crate) allow_subnet: Vec<String>,
    /// A network to route into the tunnel beside its subnet, rather than all; may be repeated
    #[arg(long, value_name = "NETWORK/PREFIX", value_parser = parse_network)]
    pub(crate) route: Vec<String>,
    /// Route the tunnel's subnet alone into the tunnel
    #[arg(long, conflicts_with = "route")]
    pub(crate) no_routes: bool,
    /// A network that is not routed into the tunnel; may be repeated
    #[arg(long, value_name = "NETWORK/PREFIX", value_parser = parse_network)]
    pub(crate) exclude_route: Vec<String>,
    /// Let nothing leave this machine but through the tunnel, until a stop, also when the connection is lost or the client dies
    #[arg(long)]
    pub(crate) kill_switch: bool,
    /// With --kill-switch: local networks may be reached, without their name servers
    #[arg(long, requires = "kill_switch")]
    pub(crate) kill_switch_local: bool,
    /// What happens to this machine's IPv6 while all IPv4 goes through the tunnel, which carries no IPv6: block answers
    /// it with "unreachable", leave sends it around the tunnel [default: block]
    #[arg(long, value_name = "block|leave", value_parser = ["block", "leave"], hide_possible_values = true)]
    pub(crate) ipv6: Option<String>,
    /// Name servers of this machine while the tunnel is up: auto, off, gateway, or addresses separated by commas
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    pub(crate) dns: Vec<String>,
    /// Retry when the server cannot be reached or does not answer at first, as after a loss, or a captive portal answers
    #[arg(long)]
    pub(crate) retry: bool,
    /// End when the connection is lost, rather than connect again
    #[arg(long, conflicts_with = "retry")]
    pub(crate) no_reconnect: bool,
    /// Configuration file [default: /etc/cellframe-vpn/cellframe-vpn.cfg if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for known identities and the control socket [default: client/ in the configured state directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = concat!(
    "Examples:\n",
    "  cellframe-vpn check vpn.example.com\n",
    "  cellframe-vpn check '[2001:db8::1]:8079' --timeout 60\n\n",
    "Exit codes: 0 the server answered, 2 wrong usage, 3 cannot connect, 4 no answer in time,\n",
    "  5 service refused or wrong identity, 7 the result cannot be written, 8 the server cannot serve at present,\n",
    "  9 it speaks another protocol or version"
))]
pub(crate) struct CheckOptions {
    /// The server: a name, an IPv4 address, or an IPv6 address in brackets; port 8079 unless given
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) target: Target,
    /// The Cellframe network to use
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NETWORK)]
    pub(crate) net: String,
    /// The identity the server must have, as its ready line shows it
    #[arg(long, value_name = "sha256:HEX", value_parser = parse_pin)]
    pub(crate) pin: Option<String>,
    /// Seconds that the whole check may take
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub(crate) timeout: u16,
    /// Configuration file [default: /etc/cellframe-vpn/cellframe-vpn.cfg if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for known identities [default: check/ in the configured state directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

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
    /// Print the address of the status page, for a browser on this machine; keep it secret, as it shows your clients
    #[arg(long, conflicts_with_all = ["json", "net"])]
    pub(crate) url: bool,
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
    /// Show the services of clients whose key's hash begins so
    #[arg(long, value_name = "0xDIGITS")]
    pub(crate) client: Option<String>,
    /// Show what ran since then: a number with s, m, h or d for a time that long ago, or a day such as 2026-11-29
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Show the newest ones, this number at most [default: 100]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct LeasesOptions {
    #[command(flatten)]
    pub(crate) control: ControlOptions,
    /// Print the leases as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// End the session that has this inner address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "json")]
    pub(crate) drop: Option<std::net::Ipv4Addr>,
}

#[derive(Args, Debug)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) control: ControlOptions,
    /// Print the state as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DemoEndOptions {
    /// The end to run
    #[arg(value_enum)]
    pub(crate) role: EndRole,
    /// Process id of the demo; the end never outlives it
    #[arg(long)]
    pub(crate) parent: u32,
    /// Process id of the end whose user namespace to join
    #[arg(long)]
    pub(crate) beside: Option<u32>,
}

/// The ends of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EndRole {
    Server,
    Client,
    Internet,
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
