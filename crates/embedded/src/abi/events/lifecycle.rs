//! The life of the embedded SDK.

use crate::lifecycle;
use crate::panics::guard;
use std::ffi::c_int;

/// Counts a user of the embedded SDK; the first one starts worker threads and CLI. 0, or -1 with a log line.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_retain() -> c_int {
    guard("dap_embedded_retain", -1, || match lifecycle::retain() {
        Ok(()) => 0,
        Err(error) => {
            log::error!("dap_embedded_retain: {error}");
            -1
        }
    })
}

/// Gives one `dap_embedded_retain` back; the last one stops everything: streams, sockets, timers and queues are deleted
/// with their callbacks and the threads joined, before it returns; called on a worker, soon after it returns.
///
/// # Safety
/// May be called from any thread; pointers from the SDK are dead after the last release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_release() {
    guard("dap_embedded_release", (), lifecycle::release);
}

/// Waits until callbacks that are running have returned, node clients that were closed are deleted, and a stop that is
/// under way, such as by a release in one of these callbacks, is over; 10 s at most. At once on a thread of the SDK.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_settle() {
    guard("dap_embedded_settle", (), lifecycle::quiesce);
}
