//! The command `wallet`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vpn_core::money::Amount;

use super::ControlOptions;
use crate::target::{Target, parse_pin};

pub(super) const WALLET_HELP: &str = "\
A wallet is a key in a file, in the client's state directory. Its address is what the operator of a server needs to
give it tokens; what it owns there is in the server's ledger, not in the file. Keep a copy of the file: without it
nobody can spend what it owns.

Examples:
  sudo cellframe-vpn wallet new alice
  sudo cellframe-vpn wallet address alice
  sudo cellframe-vpn wallet fund 0x5F3A... 10          on the server's machine
  sudo cellframe-vpn wallet balance
  sudo cellframe-vpn wallet balance alice --connect vpn.example.com --pin sha256:5f3a...

Exit codes: 0 done, 1 the server or the ledger refuses, or the wallet cannot be used, 2 wrong usage,
  3 cannot connect, 4 no answer, 5 wrong identity, 6 it belongs to another user";

#[derive(Args, Debug)]
pub(crate) struct WalletOptions {
    #[command(subcommand)]
    pub(crate) command: WalletCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a wallet, and print its address
    New {
        /// The wallet's name
        name: String,
        #[command(flatten)]
        place: WalletPlace,
    },
    /// List the wallets with their addresses
    List {
        #[command(flatten)]
        place: WalletPlace,
    },
    /// Print the address of a wallet
    Address {
        /// The wallet's name
        name: String,
        #[command(flatten)]
        place: WalletPlace,
    },
    /// Give a wallet tokens, out of nothing, in the ledger of the server on this machine
    Fund {
        /// The wallet's address, or the name of a wallet on this machine
        wallet: String,
        /// How many tokens, such as 10 or 1.5
        amount: Amount,
        /// The token [default: the network's own]
        #[arg(long, value_name = "TICKER")]
        token: Option<String>,
        #[command(flatten)]
        control: ControlOptions,
    },
    /// Show what a wallet has in the ledger of the server on this machine, or what all have and what the server earned;
    /// with --connect, what a wallet has at another server
    Balance {
        /// The wallet's address, or the name of a wallet on this machine
        wallet: Option<String>,
        /// The token [default: the network's own]
        #[arg(long, value_name = "TICKER")]
        token: Option<String>,
        /// Ask this server rather than the one on this machine; --state-dir then names the directory with the wallet
        #[arg(long, value_name = "HOST[:PORT]", requires = "wallet", conflicts_with = "socket")]
        connect: Option<Target>,
        /// With --connect: the identity the server must have, as its ready line shows it
        #[arg(long, value_name = "sha256:HEX", value_parser = parse_pin, requires = "connect")]
        pin: Option<String>,
        #[command(flatten)]
        control: ControlOptions,
    },
    /// Show what has happened in the ledger of the server on this machine, the latest first
    History {
        /// The wallet's address, or the name of a wallet on this machine
        wallet: Option<String>,
        /// How many lines
        #[arg(long, value_name = "N", default_value_t = 100)]
        most: usize,
        #[command(flatten)]
        control: ControlOptions,
    },
}

/// Where wallets are.
#[derive(Args, Debug)]
pub(crate) struct WalletPlace {
    /// Configuration file [default: /etc/cellframe-vpn/cellframe-vpn.cfg if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory that has the wallets in wallets/ [default: client/ in the configured state directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}
