//! `doctor` and `repair`: what is wrong with this machine, and what ended runs have left on it.

use std::path::PathBuf;

use clap::Args;

use crate::target::{DEFAULT_NETWORK, Target, parse_pin};

pub(super) const REPAIR_ABOUT: &str = "\
Undoes what a client or server has left on this machine that was killed, or that
the machine went down with: name servers in /etc/resolv.conf, the kill switch,
address translation and forwarding, in this network namespace. The next start
does the same by itself, but keeps the kill switch until it is stopped. What
belongs to a client or server that runs stays. Each change is a line; it may be
run at any time.";

pub(super) const REPAIR_HELP: &str = "\
Example: sudo cellframe-vpn repair

Exit codes: 0 nothing is left, or what is left belongs to a process that runs, 1 something cannot be undone,
  6 not root, 7 the output cannot be written";

pub(super) const DOCTOR_ABOUT: &str = "\
Checks this machine for a server or a client, and says what is wrong: rights, TUN
devices, kernel, clock, disk, name servers, routes, MTU, colliding networks, port,
packet filter, forwarding, address translation, IPv6 around the tunnel, and what a
killed run has left. Each fault comes with what follows from it and what helps.

It works while a server or client runs, which it then asks, and before one was
ever started. It changes nothing. Without root it sees less, and says so.

With --connect it also asks a server, as `check` does: first with small packets,
then with full ones, which some paths lose. A server that accepts a connection
and says no more is asked once more with smaller packets; as root this machine
sends no full packets there for ten minutes then.";

pub(super) const DOCTOR_HELP: &str = "\
Examples:
  sudo cellframe-vpn doctor
  sudo cellframe-vpn doctor --server --config my.cfg
  sudo cellframe-vpn doctor --client --connect vpn.example.com --pin sha256:5f3a...
  sudo cellframe-vpn doctor --json | jq '.findings[] | select(.level == \"fault\")'

Levels: ok; warning: the VPN works, but worse than it could; fault: it does not work, or not as it is set up;
  unknown: it could not be looked at.

Exit codes: 0 no fault, 1 a fault, 2 wrong usage, 7 the output cannot be written";

#[derive(Args, Debug)]
pub(crate) struct DoctorOptions {
    /// Check this machine for a server [default: for what runs or has run here, else for both]
    #[arg(long)]
    pub(crate) server: bool,
    /// Check this machine for a client
    #[arg(long)]
    pub(crate) client: bool,
    /// Ask this server, too: whether it answers, and whether full packets arrive
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) connect: Option<Target>,
    /// With --connect: the identity the server must have, as its ready line shows it
    #[arg(long, value_name = "sha256:HEX", value_parser = parse_pin, requires = "connect")]
    pub(crate) pin: Option<String>,
    /// With --connect: the Cellframe network to use
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NETWORK)]
    pub(crate) net: String,
    /// Print the findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Configuration file [default: /etc/cellframe-vpn/cellframe-vpn.cfg if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// State directory of the server or the client; needs --server or --client
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}
