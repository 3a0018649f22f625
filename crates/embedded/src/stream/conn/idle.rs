//! Idle streams: each worker checks every few seconds, while it has streams that peers opened.
//!
//! A peer without a granted service that is silent loses its stream. The service decides about a peer with a granted
//! service, and has its own keep-alive. A quiet stream always releases memory.

use super::registry;
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

/// Makes the worker check for streams that are idle for `limit`, unless it already does.
pub(super) fn watch(worker: &Rc<Worker>, limit: Duration) {
    if !SCHEDULED.replace(true) {
        schedule(worker, limit);
    }
}

fn schedule(worker: &Rc<Worker>, limit: Duration) {
    worker.timers.once((limit / 12).min(INTERVAL_MAX), move |worker| check(worker, limit));
}

fn check(worker: &Rc<Worker>, limit: Duration) {
    let mut any = false;
    for conn in registry::all() {
        any |= conn.client().is_none();
        conn.trim(worker);
        conn.look_at_output();
        if conn.is_idle(worker.now()) {
            log::debug!("closed a stream that has no service and was silent for {limit:?}");
            count(&COUNTERS.idle);
            conn.close(worker);
        }
    }
    SCHEDULED.set(any);
    if any {
        schedule(worker, limit);
    }
}
