//! The tunnel on slow paths, as its users notice it: what a page or a call waits for while something else transfers. The
//! hosts are network namespaces with a bottleneck between them (`testkit::path`); client and server are the program.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod latency;
mod legacy;
mod marks;
mod names;
mod neighbours;
// This peer can more than these tests ask of it.
#[allow(dead_code)]
#[path = "../bundle_exchange/peer.rs"]
mod peer;
mod renewal;
mod site;
mod sizes;
mod stalls;
mod traffic;

use parking_lot::Mutex;
use testkit::netns::in_namespace;
use testkit::program::Program;

/// The program that these tests run.
const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));

/// As `in_namespace`, one test after the other: each of them needs the processors for itself.
fn alone(test_name: &str, body: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    in_namespace(test_name, body);
}
