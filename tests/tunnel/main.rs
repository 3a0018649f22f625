//! The VPN from its users' point of view: `cellframe-vpn server` on one host, `cellframe-vpn client` on others, and
//! applications that use the network between them. The hosts are network namespaces; everything else is real.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod addresses;
mod allocations;
mod captive;
mod churn;
mod device;
mod dns;
mod doctor;
mod ipv6;
mod judged;
mod kill_switch;
mod killed;
mod leases;
mod limits;
mod logs;
mod loss;
mod mtu;
mod nat;
mod networks;
mod odd_tunnels;
mod offload;
mod pauses;
mod peers;
mod pmtu;
mod restart;
mod retries;
mod roaming;
mod routes;
mod slow;
mod sources;
mod status;
mod traffic;

use testkit::program::Program;

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));
