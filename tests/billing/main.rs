//! Tests what clients pay and what they get: the library's server, with its gate and its meter, on the embedded SDK that
//! plays the Cellframe SDK's paid service and its faults (`embedded::money`). Clients follow docs/wire.md. Server and
//! clients are in this process, each test in its own network namespace.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod book;
mod client;
mod customer;
mod day;
mod ends;
mod free;
mod grace;
mod inbox;
mod journal;
mod limits;
#[path = "../shared/moves.rs"]
mod moves;
mod moving;
mod reloads;
mod repeat;
mod restart;
mod rests;
mod server;
mod signatures;
mod static_leases;
mod strangers;
mod units;

/// Whether the server's SDK is the Cellframe SDK, faults included.
const PLAYS_THE_SDK: bool = true;
