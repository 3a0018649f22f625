//! Code that tests and benches share: hosts on a cable, the running program, hand-made packets, waiting, captured logs.
//!
//! A test that changes links, addresses or routes runs in its own network namespace ([`netns::in_namespace`]). There it
//! creates [`hosts::Hosts`], starts the program on them ([`program::Program`], [`tunnel::Client`]), and tests the
//! network with the sockets of [`sockets`]. When the hosts are dropped, nothing of the program may be left on them. [`inner`], [`wire`] and [`records`] build and read packets without the
//! library's code, so that both do not share a mistake. Every fault in this crate panics, which fails the test.
#![deny(unsafe_code)]
#![allow(clippy::unwrap_used)]

pub mod browser;
mod devices;
pub mod flood;
pub mod hosts;
pub mod http;
pub mod inner;
pub mod logged;
pub mod manager;
pub mod netns;
mod noise;
pub mod path;
pub mod program;
pub mod records;
mod skip;
pub mod sockets;
mod stats;
pub mod stopped_thread;
pub mod terminal;
pub mod tunnel;
mod wait;
pub mod wire;

pub use devices::tun_devices;
pub use noise::{Noise, noise};
pub use skip::skip;
pub use stats::median;
pub use wait::{TEST_TIMEOUT, eventually, settled};
