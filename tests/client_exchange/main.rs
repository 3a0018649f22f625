//! The client against servers that do what no good server does. Client and server are in this process, each test in a
//! network namespace of its own.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, clippy::multiple_unsafe_ops_per_block)]

mod bundles;
mod ends;
mod offers;
mod packets;
mod server;
