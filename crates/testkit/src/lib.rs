//! What the tests and benches share: hosts on a cable, the running program, packets made by hand, waiting, captured
//! logs.
//!
//! A test that changes links, addresses or routes runs in a network namespace of its own ([`netns::in_namespace`]). There
//! it makes [`hosts::Hosts`], starts the program on them ([`program::Program`], [`tunnel::Client`]), and looks at the
//! network with the sockets of [`sockets`]. [`inner`], [`wire`] and [`records`] make and read packets with nothing of the
//! library's, so that a mistake there is not made here too. What goes wrong in here is a panic: it fails the test.
#![deny(unsafe_code)]
#![allow(clippy::unwrap_used)]

pub mod flood;
pub mod hosts;
pub mod inner;
pub mod logged;
pub mod netns;
mod noise;
pub mod program;
pub mod records;
mod skip;
pub mod sockets;
mod stats;
pub mod tunnel;
mod wait;
pub mod wire;

pub use noise::{Noise, noise};
pub use skip::skip;
pub use stats::median;
pub use wait::{PATIENCE, eventually};
