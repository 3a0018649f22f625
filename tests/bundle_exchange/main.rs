//! The server against clients that speak docs/wire.md byte by byte, above all its "Bundles": what they are answered, what
//! gets through, what is dropped and counted, and what they are sent. Server and clients are in this process, each test
//! in a network namespace of its own.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod downstream;
mod forwarded;
mod hostile;
#[path = "../support/hosts.rs"]
mod hosts;
#[path = "../support/inner.rs"]
mod inner;
mod lab;
#[path = "../support/logged.rs"]
mod logged;
#[path = "../support/netns.rs"]
mod netns;
mod offloads;
mod outside;
mod peer;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/records.rs"]
mod records;
mod replies;
mod tcp;
