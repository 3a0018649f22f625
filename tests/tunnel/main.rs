//! The VPN as its users have it: `cellframe-vpn server` on one host, `cellframe-vpn client` on others, and what
//! applications on these hosts see of the network between them. The hosts are network namespaces, all else is real.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod allocations;
mod leases;
mod loss;
mod offload;
mod peers;
mod slow;
mod traffic;

use testkit::program::Program;

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));
