//! Streams without a service: each worker checks every few seconds, while it has streams that peers opened.
//!
//! A stream whose client has no granted service has a life, however much it sends: else whoever sends a packet now and
//! then would hold a place for good. The service decides about a client that it serves, and has its own keep-alive. A
//! quiet stream always releases memory.

use super::registry;
use crate::budget;
use crate::reactor::Worker;
use crate::stream::{COUNTERS, count};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Longest time between two checks.
const INTERVAL_MAX: Duration = Duration::from_secs(5);

thread_local! {
    /// The calling worker has a timer for its next check.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

/// Makes the worker check for streams that live longer than `life` without a service, unless it already does.
pub(super) fn watch(worker: &Rc<Worker>, life: Duration) {
    if !SCHEDULED.replace(true) {
        schedule(worker, life);
    }
}

fn schedule(worker: &Rc<Worker>, life: Duration) {
    worker.timers.once((life / 12).min(INTERVAL_MAX), move |worker| check(worker, life));
}

fn check(worker: &Rc<Worker>, life: Duration) {
    let mut any = false;
    for conn in registry::all() {
        any |= conn.client().is_none();
        conn.trim(worker);
        conn.look_at_output(worker);
        if conn.has_outlived(worker.now()) {
            log::debug!("closed a stream that had no service for {life:?}");
            count(&COUNTERS.idle);
            conn.close(worker);
        }
    }
    // The last check is after the last stream, whose memory it gives back.
    any |= !worker.buffers.trim();
    any |= budget::give_back();
    SCHEDULED.set(any);
    if any {
        schedule(worker, life);
    }
}
