//! Streams that nobody uses: one look of each worker every few seconds, while it has streams that others opened.
//!
//! A peer that was granted no service and says nothing loses its stream. Whoever was granted one is the service's
//! business, which has a keep-alive of its own. Whose stream is quiet, for whatever reason, gives memory back.

use super::registry;
use crate::reactor::Worker;
use crate::stream::{COUNTERS, count};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Most time between two looks.
const STEP_MAX: Duration = Duration::from_secs(5);

thread_local! {
    /// The calling worker has a timer for its next look.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

/// Has the worker look for streams that are idle for `limit`, if it does not already.
pub(super) fn watch(worker: &Rc<Worker>, limit: Duration) {
    if !LOOKS.replace(true) {
        look_later(worker, limit);
    }
}

fn look_later(worker: &Rc<Worker>, limit: Duration) {
    worker.timers.once((limit / 12).min(STEP_MAX), move |worker| look(worker, limit));
}

fn look(worker: &Rc<Worker>, limit: Duration) {
    let mut any = false;
    for conn in registry::all() {
        any |= conn.client().is_none();
        conn.trim(worker);
        if conn.is_idle(worker.now()) {
            log::debug!("closed a stream that has no service and was silent for {limit:?}");
            count(&COUNTERS.idle);
            conn.close(worker);
        }
    }
    LOOKS.set(any);
    if any {
        look_later(worker, limit);
    }
}
