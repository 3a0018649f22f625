//! The Cellframe VPN service, a memory-safe drop-in for the SDK's `modules/service/vpn`.
//!
//! The folders are the architecture; docs/architecture.md says how they meet.
#![deny(unsafe_code)]
// A list of parts uses less than the whole library does; the build of the whole library finds dead code.
#![cfg_attr(
    not(all(feature = "embedded", feature = "server", feature = "client", feature = "client-tun", feature = "cmd")),
    allow(dead_code, unreachable_pub)
)]

#[cfg(not(any(feature = "embedded", feature = "sdk")))]
compile_error!(
    "choose the SDK this library stands on: feature `embedded` (default) or `sdk` (the Cellframe SDK that CMake links)"
);
#[cfg(all(feature = "embedded", feature = "sdk"))]
compile_error!(
    "features `embedded` and `sdk` exclude each other: build with --no-default-features --features sdk,... for the Cellframe SDK"
);

pub mod abi;
#[cfg(all(feature = "embedded", feature = "server", feature = "client", feature = "cmd"))]
pub mod app;
#[cfg(feature = "cmd")]
mod cli;
#[cfg(any(feature = "client", feature = "client-tun"))]
mod client;
#[cfg(any(feature = "server", feature = "client-tun"))]
mod datapath;
pub mod sdk;
#[cfg(feature = "server")]
mod server;

/// The embedded SDK. Its C symbols are in this library because the crate is named here.
#[cfg(feature = "embedded")]
pub use embedded;
