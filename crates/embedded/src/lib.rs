//! The embedded SDK: what the VPN service needs of the Cellframe SDK, in Rust, behind the same C functions.
//!
//! It is an SDK in small, not a mock: worker threads, TLS streams, a durable store, a CLI socket, HTTP.
#![deny(unsafe_code)]

pub mod abi;
pub mod cli;
pub(crate) mod client;
pub mod config;
mod crew;
pub mod ctypes;
pub(crate) mod cview;
mod deadline;
pub mod dial;
pub mod http;
pub mod lifecycle;
pub mod listener;
pub mod logging;
pub mod net;
pub(crate) mod panics;
pub(crate) mod rate;
mod reactor;
pub mod service;
pub mod store;
pub mod stream;
pub(crate) mod threads;
pub mod tls;
