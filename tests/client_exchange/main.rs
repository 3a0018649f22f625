//! Tests the client with misbehaving servers. Client and server are in this process, each test in its own network
//! namespace.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, clippy::multiple_unsafe_ops_per_block)]

mod bundles;
mod congestion;
mod ends;
mod ledgers;
mod mss;
mod offers;
mod packets;
mod payments;
mod server;
