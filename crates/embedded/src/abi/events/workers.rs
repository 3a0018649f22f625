//! Workers, and jobs for them.

use crate::ctypes::{dap_worker_callback_t, dap_worker_t};
use crate::cview::owned::{Callback, Opaque};
use crate::panics::guard;
use crate::reactor;
use std::ffi::c_void;
use std::ptr;

/// The number of worker threads; 0 while the SDK is not retained.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_thread_get_count() -> u32 {
    guard("dap_events_thread_get_count", 0, || {
        reactor::current().and_then(|reactor| u32::try_from(reactor.workers.len()).ok()).unwrap_or(0)
    })
}

/// Worker number `index`; NULL past the end and while the SDK is not retained. Valid until the last release.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_worker_get(index: u8) -> *mut dap_worker_t {
    guard("dap_events_worker_get", ptr::null_mut(), || {
        let reactor = reactor::current();
        let worker = reactor.as_ref().and_then(|reactor| reactor.workers.get(usize::from(index)));
        worker.map_or(ptr::null_mut(), |worker| worker.view.worker.as_ptr())
    })
}

/// The worker of the calling thread; NULL if the calling thread is not a worker, or was one of an SDK that has been
/// stopped since.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_worker_get_current() -> *mut dap_worker_t {
    guard("dap_worker_get_current", ptr::null_mut(), || {
        reactor::current_worker().map_or(ptr::null_mut(), |worker| worker.shared.view.worker.as_ptr())
    })
}

/// Runs `callback(arg)` on `worker`, after all jobs posted to it before. Does nothing if `worker` is not a worker.
///
/// # Safety
/// May be called from any thread; `callback` may be called with `arg` on the worker's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_worker_exec_callback_on(
    worker: *mut dap_worker_t,
    callback: dap_worker_callback_t,
    arg: *mut c_void,
) {
    guard("dap_worker_exec_callback_on", (), || {
        let Some(function) = callback else {
            return log::error!("dap_worker_exec_callback_on: expected a callback, not NULL");
        };
        let reactor = reactor::current();
        let Some(target) = reactor.as_ref().and_then(|reactor| reactor.worker_at(worker.addr())) else {
            return log::error!("dap_worker_exec_callback_on: no such worker");
        };
        let callback = Callback { function, argument: Opaque(arg) };
        target.post(Box::new(move |_| {
            let Callback { function, argument } = callback.whole();
            // SAFETY: the caller gave function and argument to be called on this thread.
            unsafe { function(argument.0) };
        }));
    });
}
