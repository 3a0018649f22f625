//! The worker threads of an SDK that stops and starts anew: numbers are used again, identities are not.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use dap_chain_net_srv_vpn::embedded::config::{self, Config};
use dap_chain_net_srv_vpn::sdk::Running;
use dap_chain_net_srv_vpn::sdk::worker::{self, Owned};
use embedded::timeouts::{self, Timeouts};

/// A callback hangs while its SDK is stopped, and goes on after the next one has started. Its thread is no worker then,
/// although the next SDK has a worker of its number; and what waited behind it is freed, though it never runs.
#[test]
fn a_callback_from_before_a_stop_is_on_no_worker_of_the_next_start() {
    timeouts::set(Timeouts { callback: Duration::from_millis(300), ..Timeouts::DEFAULT });
    // The machine's own state directory is not a test's.
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[general]\nstate_dir={}\n", directory.path().display());
    config::set_current(Config::parse(&text, "test").0);
    let first = Running::retain().unwrap();
    let (begun, has_begun) = channel();
    let (go_on, goes_on) = sync_channel::<Arc<Owned<u32>>>(0);
    let (seen, was_seen) = channel();
    assert!(worker::exec(0, move || {
        let before = worker::current();
        begun.send(()).unwrap();
        let of_the_next = goes_on.recv().unwrap();
        seen.send((before, worker::current(), of_the_next.with(|value| *value))).unwrap();
    }));
    has_begun.recv().unwrap();
    let held = Arc::new(());
    let behind = Arc::clone(&held);
    let (never, ran) = channel();
    assert!(worker::exec(0, move || {
        never.send(behind).unwrap();
    }));
    drop(first);
    assert_eq!(Arc::strong_count(&held), 1, "the task that was lost with its worker is freed");

    let _second = Running::retain().unwrap();
    let of_the_next = Arc::new(Owned::new(0, 7));
    go_on.send(Arc::clone(&of_the_next)).unwrap();
    assert_eq!(was_seen.recv().unwrap(), (Some(0), None, None));
    let (seen, was_seen) = channel();
    assert!(worker::exec(0, move || seen.send((worker::current(), of_the_next.with(|value| *value))).unwrap()));
    assert_eq!(was_seen.recv().unwrap(), (Some(0), Some(7)));
    assert!(ran.recv().is_err(), "the lost task never runs");
}
