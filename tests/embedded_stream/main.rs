//! The embedded SDK's workers, event sockets, streams and node clients, through the C functions.
#![allow(clippy::unwrap_used, clippy::multiple_unsafe_ops_per_block)]

mod events;
mod hostile;
mod life;
mod limits;
mod service;
mod speed;
mod streams;
mod support;
