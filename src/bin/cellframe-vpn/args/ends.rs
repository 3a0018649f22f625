//! `server`, `client` and `check`: the ends of a tunnel.

use std::path::PathBuf;

use clap::Args;

use crate::paying::PayOptions;
use crate::target::{DEFAULT_NETWORK, Target, parse_network, parse_pin};

#[derive(Args, Debug)]
#[command(after_help = concat!(
    "Examples:\n",
    "  sudo cellframe-vpn server\n",
    "  cellframe-vpn server --print-config > my.cfg\n",
    "  sudo cellframe-vpn server --config my.cfg\n",
    "  sudo RUST_LOG=debug cellframe-vpn server\n\n",
    "Clients get addresses from 10.98.0.0/24 and reach other networks through this machine: while it runs, the server\n",
    "enables forwarding and translates their addresses. They connect to TCP port 8079, which a firewall must let in;\n",
    "`cellframe-vpn doctor --server` finds what is in the way. The service is free unless the configuration has prices.\n\n",
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

#[derive(Args, Clone, Debug)]
#[command(after_help = concat!(
    "Examples:\n",
    "  sudo cellframe-vpn client --connect vpn.example.com\n",
    "  sudo cellframe-vpn client --connect 192.0.2.1:8089 --pin sha256:5f3a...\n",
    "  sudo cellframe-vpn client --connect '[2001:db8::1]:8079' --retry\n",
    "  sudo cellframe-vpn client --connect vpn.example.com --wallet purse --value 2.5\n",
    "  sudo cellframe-vpn client --config home.cfg\n\n",
    "All IPv4 traffic and all look-ups of names go through the tunnel until the client ends, and no IPv6 leaves around it;\n",
    "--route and --no-routes send less through it. A lost connection is made again. `cellframe-vpn status` shows it.\n\n",
    "Without --pin the client trusts and remembers the first identity seen at an address and refuses a changed one;\n",
    "to forget all identities, remove store.redb in the state directory.\n\n",
    "Exit codes: 0 ended by a signal or by `cellframe-vpn stop`, 1 connection lost (--no-reconnect), 2 wrong usage, 3 cannot connect,\n",
    "  4 no answer, 5 service refused or wrong identity, 6 not root (CAP_NET_ADMIN, /dev/net/tun),\n",
    "  7 a result cannot be written, 8 the server cannot serve at present, 9 it speaks another protocol or version,\n",
    "  130 or 143 interrupted before it was connected"
))]
pub(crate) struct ClientOptions {
    /// The server: a name, an IPv4 address, or an IPv6 address in brackets; port 8079 unless given
    /// [default: connect in section vpn_client of the configuration file]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) connect: Option<Target>,
    /// The Cellframe network to use [default: net in section vpn_client, else backbone]
    #[arg(long, value_name = "NAME")]
    pub(crate) net: Option<String>,
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
    "Where it fails, `cellframe-vpn doctor --connect HOST` looks for the reason.\n\n",
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
    /// Bytes of test data in each direction
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) bytes: u16,
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
