//! Attacks from many connections on a server in a process of its own, whose memory is read from /proc.
//!
//! The figures in docs/reliability.md are what these tests print.
// A test calls the C functions as C does; the functions' docs state the contracts.
#![allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, clippy::unwrap_used)]

mod memory;
#[path = "../embedded_stream/peer.rs"]
#[allow(dead_code)]
mod peer;
mod places;
mod server;
