//! Pointer queues.

use crate::ctypes::{
    dap_events_desc_type, dap_events_socket_callback_queue_ptr_t, dap_events_socket_callbacks, dap_events_socket_t,
    dap_worker_t,
};
use crate::cview::events::socket_view;
use crate::cview::owned::{CBox, Opaque};
use crate::panics::guard;
use crate::reactor;
use crate::reactor::queue::{PtrQueue, SendError};
use crate::reactor::socket;
use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;

/// Makes a queue of pointers into `worker`, which calls `callback(es, pointer)` for each, in order. Returns NULL if
/// `worker` is not a worker, `callback` is NULL, or no descriptor is available. The queue is deleted like any socket;
/// the pointers it still holds are passed to `callback` first.
///
/// # Safety
/// May be called from any thread; `callback` may be called on the worker's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_create_type_queue_ptr_mt(
    worker: *mut dap_worker_t,
    callback: dap_events_socket_callback_queue_ptr_t,
) -> *mut dap_events_socket_t {
    guard("dap_events_socket_create_type_queue_ptr_mt", ptr::null_mut(), || {
        let reactor = reactor::active();
        let target = reactor.as_ref().and_then(|reactor| Some((reactor, reactor.worker_at(worker.addr())?)));
        let (Some((reactor, worker)), Some(_)) = (target, callback) else {
            log::error!("dap_events_socket_create_type_queue_ptr_mt: expected a worker of this SDK and a callback");
            return ptr::null_mut();
        };
        let queue = match PtrQueue::new() {
            Ok(queue) => Arc::new(queue),
            Err(error) => {
                log::error!("dap_events_socket_create_type_queue_ptr_mt: {error}");
                return ptr::null_mut();
            }
        };
        let callbacks = dap_events_socket_callbacks { queue_ptr_callback: callback, ..Default::default() };
        let kind = dap_events_desc_type::DESCRIPTOR_TYPE_QUEUE;
        let view = CBox::new(socket_view(queue.wake.as_raw_fd(), reactor::next_uuid(), kind, callbacks));
        view.no_close.set(true);
        let pointer = view.as_ptr();
        reactor.queues.write().insert(view.addr(), Arc::clone(&queue));
        socket::assign(reactor, worker, view, Some(queue));
        pointer
    })
}

/// Sends a pointer through a queue: 0, EAGAIN if 65,536 are already queued, EINVAL if `es` is not a queue or is closed.
///
/// # Safety
/// May be called from any thread; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_queue_ptr_send(es: *mut dap_events_socket_t, arg: *mut c_void) -> c_int {
    guard("dap_events_socket_queue_ptr_send", libc::EINVAL, || {
        let Some(reactor) = reactor::current() else { return libc::EINVAL };
        let queues = reactor.queues.read();
        match queues.get(&es.addr()).map(|queue| queue.send(Opaque(arg))) {
            Some(Ok(())) => 0,
            Some(Err(SendError::Full)) => libc::EAGAIN,
            Some(Err(SendError::Closed)) | None => libc::EINVAL,
        }
    })
}
