//! Start and stop of the embedded SDK.

use crate::lifecycle::{self, User};
use crate::panics::guard;
use std::ffi::c_int;

/// Counts a user of the embedded SDK; the first one starts worker threads and CLI. Returns 0, or -1 with a log line.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_retain() -> c_int {
    guard("dap_embedded_retain", -1, || match lifecycle::retain(User::Program) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("dap_embedded_retain: {error}");
            -1
        }
    })
}

/// Releases one `dap_embedded_retain`. The last release stops everything: it deletes streams, sockets, timers and
/// queues, runs their callbacks, and joins the threads before it returns; on a worker, the stop ends soon after the
/// return.
///
/// # Safety
/// May be called from any thread; pointers from the SDK are invalid after the last release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_release() {
    guard("dap_embedded_release", (), || lifecycle::release(User::Program));
}

/// Waits up to 10 s until running callbacks have returned, closed node clients are deleted, and a stop that is in
/// progress, such as by a release in one of these callbacks, is complete. Returns at once on a thread of the SDK.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_settle() {
    guard("dap_embedded_settle", (), lifecycle::quiesce);
}
