//! The embedded SDK's workers, event sockets, streams and node clients, through the C functions.
// Tests call the C functions as C does, with pointers that each test owns; the functions' docs state the contracts.
#![allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, clippy::unwrap_used)]

mod bank;
mod events;
mod hostile;
mod life;
mod limits;
mod memory;
mod paid;
mod peer;
mod room;
mod service;
mod speed;
mod streams;
mod support;
