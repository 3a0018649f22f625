//! The VPN as its users have it: `cellframe-vpn server` on one host, `cellframe-vpn client` on others, and what
//! applications on these hosts see of the network between them. The hosts are network namespaces, all else is real.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod allocations;
mod flood;
#[path = "../support/hosts.rs"]
mod hosts;
#[path = "../support/inner.rs"]
mod inner;
mod leases;
mod loss;
#[path = "../support/netns.rs"]
mod netns;
mod offload;
mod peers;
#[path = "../support/program.rs"]
mod program;
mod slow;
mod support;
mod traffic;
