//! Whether this process is a fork's child that has the memory of a running SDK, but none of its threads. Its locks may
//! be taken for ever, and its descriptors are the parent's: no C function does anything there.

use std::sync::atomic::{AtomicBool, Ordering};

static IS_RUNNING: AtomicBool = AtomicBool::new(false);
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Returns whether the SDK ran in the parent when this process was forked.
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// Sets whether the SDK runs.
pub(crate) fn set_running(is_running: bool) {
    IS_RUNNING.store(is_running, Ordering::Relaxed);
}

/// The kernel has made this process by a fork. A handler of the fork calls it, and may call no more than this.
pub(crate) fn forked() {
    if IS_RUNNING.load(Ordering::Relaxed) {
        IS_CHILD.store(true, Ordering::Relaxed);
    }
}
