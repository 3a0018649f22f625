//! Timers.

use crate::ctypes::{dap_events_socket_uuid_t, dap_timerfd, dap_timerfd_callback_t, dap_timerfd_t, dap_worker_t};
use crate::cview::owned::CBox;
use crate::panics::guard;
use crate::reactor;
use crate::reactor::timers;
use std::ffi::c_void;
use std::ptr;

/// Calls `callback(arg)` on `worker` every `timeout_ms` while it returns true. Returns NULL if `worker` is not a worker
/// or `callback` is NULL. The struct is freed when the timer ends.
///
/// # Safety
/// May be called from any thread; `callback` may be called with `arg` on the worker's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_timerfd_start_on_worker(
    worker: *mut dap_worker_t,
    timeout_ms: u64,
    callback: dap_timerfd_callback_t,
    arg: *mut c_void,
) -> *mut dap_timerfd_t {
    guard("dap_timerfd_start_on_worker", ptr::null_mut(), || {
        let reactor = reactor::active();
        let target = reactor.as_ref().and_then(|reactor| Some((reactor, reactor.worker_at(worker.addr())?)));
        let (Some((reactor, target)), Some(_)) = (target, callback) else {
            log::error!("dap_timerfd_start_on_worker: expected a worker of this SDK and a callback");
            return ptr::null_mut();
        };
        let view = CBox::new(dap_timerfd {
            timeout_ms,
            worker,
            esocket_uuid: reactor::next_uuid(),
            callback,
            callback_arg: arg,
        });
        timers::start(reactor, target, view)
    })
}

/// Ends a timer by its uuid; a timer that has ended is ignored. On the timer's worker it has ended on return; on
/// another thread the callback may still be running, or run once more.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_timerfd_delete_mt(worker: *mut dap_worker_t, uuid: dap_events_socket_uuid_t) {
    guard("dap_timerfd_delete_mt", (), || {
        let here = reactor::with_current(|current| {
            let is_here = current.timers.contains(uuid);
            if is_here {
                timers::delete(current, uuid);
            }
            is_here
        });
        if here == Some(true) {
            return;
        }
        let Some(reactor) = reactor::current() else { return };
        let Some(worker) = reactor.worker_at(worker.addr()) else {
            return log::error!("dap_timerfd_delete_mt: no such worker");
        };
        reactor.post_to_owner(uuid, worker, Box::new(move |worker| timers::delete(worker, uuid)));
    });
}

/// Ends a timer of the calling worker, also in the timer's own callback.
///
/// # Safety
/// Called on the timer's worker; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_timerfd_delete_unsafe(timer: *mut dap_timerfd_t) {
    guard("dap_timerfd_delete_unsafe", (), || {
        let found = reactor::with_current(|worker| {
            let uuid = worker.addresses.borrow().get(&timer.addr()).copied();
            uuid.filter(|uuid| worker.timers.contains(*uuid)).map(|uuid| timers::delete(worker, uuid))
        });
        if found.flatten().is_none() && !timer.is_null() {
            timers::note_stale();
            log::error!("dap_timerfd_delete_unsafe: expected a timer of this worker");
        }
    });
}
