//! The server against clients that speak docs/wire.md byte by byte, above all its "Bundles": what they are answered, what
//! gets through, what is dropped and counted, and what they are sent. Server and clients are in this process, each test
//! in a network namespace of its own.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod downstream;
mod forwarded;
mod hostile;
mod lab;
mod offloads;
mod outside;
mod peer;
mod replies;
mod tcp;
