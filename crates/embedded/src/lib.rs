//! The embedded SDK: the parts of the Cellframe SDK that the VPN service needs, in Rust, behind the same C functions.
//!
//! It is a small SDK, not a mock: worker threads, TLS streams, a durable store, a CLI socket, HTTP.
//!
//! # Layers
//!
//! docs/architecture.md has the modules from bottom to top and what each may use, and `tests/layers` holds them to it.
//! Pointers from C become safe types in `cview` and `abi` alone, which are also the only modules with `unsafe` code.
#![deny(unsafe_code)]

pub mod abi;
pub mod addresses;
pub mod bank;
mod billing;
pub mod budget;
pub mod cli;
pub(crate) mod client;
pub mod config;
mod connection_threads;
pub mod ctypes;
pub(crate) mod cview;
mod deadline;
pub mod dial;
pub mod http;
pub mod ledger;
pub mod ledger_cli;
pub mod lifecycle;
pub mod listener;
pub mod logging;
pub mod money;
pub mod net;
pub(crate) mod panics;
pub mod places;
pub mod prices;
pub(crate) mod process;
mod reactor;
pub mod receipt;
pub mod service;
mod services;
pub mod state;
pub mod store;
pub mod stream;
pub(crate) mod threads;
pub mod timeouts;
pub mod tls;
pub mod wallets;
