//! Tests the server with clients that speak docs/wire.md byte by byte, above all its "Bundles": the server's replies,
//! the packets that pass, the drops and their counts, and the packets to the clients. Server and clients are in this
//! process, each test in its own network namespace.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod bridge;
mod congestion;
mod downstream;
mod forwarded;
mod hostile;
mod lab;
mod legacy;
#[path = "../shared/moves.rs"]
mod moves;
mod moving;
mod mtu;
mod offloads;
mod outside;
mod peer;
mod refused;
mod replies;
mod returning;
mod sources;
mod tcp;
