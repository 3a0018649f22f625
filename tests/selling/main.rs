//! Tests what clients pay and what they get from a server without a node: the embedded SDK sells by itself. The tests of
//! `tests/billing` run here once more, where they do not look into the Cellframe SDK that is played there: a node and
//! the embedded SDK bill by one code path. Besides: prices, kills, and the sums of both ends and the ledger.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

#[path = "../billing/book.rs"]
mod book;
#[path = "../billing/client.rs"]
#[allow(dead_code, reason = "some of it is for the tests of free service")]
mod client;
#[path = "../billing/customer.rs"]
#[allow(dead_code, reason = "some of it is for the tests of the SDK's statistics")]
mod customer;
#[path = "../billing/day.rs"]
mod day;
#[path = "../billing/ends.rs"]
mod ends;
#[path = "../billing/grace.rs"]
mod grace;
#[path = "../billing/inbox.rs"]
mod inbox;
mod kills;
#[path = "../billing/limits.rs"]
mod limits;
#[path = "../shared/moves.rs"]
mod moves;
#[path = "../billing/moving.rs"]
mod moving;
mod prices;
#[path = "../billing/restart.rs"]
mod restart;
#[path = "../billing/rests.rs"]
mod rests;
#[path = "../billing/server.rs"]
#[allow(dead_code, reason = "some of it is for the tests of reloads")]
mod server;
#[path = "../billing/signatures.rs"]
mod signatures;
#[path = "../billing/strangers.rs"]
mod strangers;
#[path = "../billing/units.rs"]
mod units;

/// Whether the server's SDK is the Cellframe SDK, faults included.
const PLAYS_THE_SDK: bool = false;
