//! Workers, event sockets, timers and pointer queues, as C sees them.

use super::boundary::guard;
use super::owned::{CBox, CShared, Callback, Opaque};
use crate::ctypes::*;
use crate::runtime;
use crate::worker::queue::{PtrQueue, SendError};
use crate::worker::socket::{self, FLAG_READABLE, FLAG_WRITABLE};
use crate::worker::{self, Source, timers};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;

// --- calls into C: with nothing borrowed or locked, on the worker that owns the struct ---------------------------------

pub(crate) fn new(es: &CBox<dap_events_socket>) {
    let callbacks = es.callbacks.get();
    if let Some(callback) = callbacks.new_callback {
        // SAFETY: C gave the function for this socket, which is alive, and this is its worker.
        unsafe { callback(es.as_ptr(), callbacks.arg) };
    }
}

pub(crate) fn read(es: &CBox<dap_events_socket>) {
    let callbacks = es.callbacks.get();
    if let Some(callback) = callbacks.read_callback {
        // SAFETY: as in `new`.
        unsafe { callback(es.as_ptr(), callbacks.arg) };
    }
}

pub(crate) fn write(es: &CBox<dap_events_socket>) {
    let callbacks = es.callbacks.get();
    if let Some(callback) = callbacks.write_callback {
        // SAFETY: as in `new`.
        unsafe { callback(es.as_ptr(), callbacks.arg) };
    }
}

pub(crate) fn error(es: &CBox<dap_events_socket>, errno: c_int) {
    if let Some(callback) = es.callbacks.get().error_callback {
        // SAFETY: as in `new`.
        unsafe { callback(es.as_ptr(), errno) };
    }
}

pub(crate) fn worker_assign(es: &CBox<dap_events_socket>, worker: &CShared<dap_worker>) {
    if let Some(callback) = es.callbacks.get().worker_assign_callback {
        // SAFETY: as in `new`; the worker lives as long as the runtime that calls.
        unsafe { callback(es.as_ptr(), worker.as_ptr()) };
    }
}

pub(crate) fn worker_unassign(es: &CBox<dap_events_socket>, worker: &CShared<dap_worker>) {
    if let Some(callback) = es.callbacks.get().worker_unassign_callback {
        // SAFETY: as in `worker_assign`.
        unsafe { callback(es.as_ptr(), worker.as_ptr()) };
    }
}

pub(crate) fn queue_item(es: &CBox<dap_events_socket>, item: Opaque) {
    if let Some(callback) = es.callbacks.get().queue_ptr_callback {
        // SAFETY: as in `new`; the pointer goes to the function that C named for it.
        unsafe { callback(es.as_ptr(), item.0) };
    }
}

/// `delete_callback`, then the inheritor as the SDK does it: `free`d unless it is to be preserved or was set to NULL.
pub(crate) fn delete(es: &CBox<dap_events_socket>, preserve_inheritor: bool) {
    let callbacks = es.callbacks.get();
    if let Some(callback) = callbacks.delete_callback {
        // SAFETY: as in `new`.
        unsafe { callback(es.as_ptr(), callbacks.arg) };
    }
    if !preserve_inheritor {
        let inheritor = es._inheritor.replace(ptr::null_mut());
        // SAFETY: by the SDK's contract an inheritor that is neither preserved nor cleared came from malloc.
        unsafe { libc::free(inheritor) };
    }
}

/// The timer's callback; true when it wants to be called again.
pub(crate) fn timer(view: &CBox<dap_timerfd>) -> bool {
    match view.callback {
        // SAFETY: C gave function and argument for this timer, and this is its worker.
        Some(callback) => unsafe { callback(view.callback_arg) },
        None => false,
    }
}

// --- descriptors -------------------------------------------------------------------------------------------------------

pub(crate) fn descriptor(es: &CBox<dap_events_socket>) -> BorrowedFd<'_> {
    // SAFETY: `wrap_no_add` refused negative numbers, and its caller promised to keep the descriptor open until
    // `delete_callback` has returned.
    unsafe { BorrowedFd::borrow_raw(es.fd.get()) }
}

/// Closes the descriptor unless it is C's to close.
pub(crate) fn close_descriptor(es: &CBox<dap_events_socket>) {
    if !es.no_close.get() {
        let fd = es.fd.replace(-1);
        if fd >= 0 {
            // SAFETY: without `no_close` the descriptor belongs to the socket, and this is the end of it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// A socket's struct with everything at its default.
pub(crate) fn socket_view(
    fd: RawFd,
    uuid: u64,
    kind: dap_events_desc_type,
    callbacks: dap_events_socket_callbacks,
) -> dap_events_socket {
    dap_events_socket {
        fd: Cell::new(fd),
        r#type: Cell::new(kind),
        uuid,
        flags: Cell::new(FLAG_READABLE),
        no_close: Cell::new(false),
        was_reassigned: Cell::new(false),
        buf_in: Cell::new(ptr::null_mut()),
        buf_in_size: Cell::new(0),
        buf_out_size: Cell::new(0),
        buf_out_size_max: Cell::new(0),
        remote_addr_str: [0; DAP_HOSTADDR_STRLEN],
        remote_port: 0,
        worker: Cell::new(ptr::null_mut()),
        callbacks: Cell::new(callbacks),
        last_time_active: Cell::new(0),
        last_ping_request: Cell::new(0),
        _inheritor: Cell::new(ptr::null_mut()),
        _pvt: Cell::new(ptr::null_mut()),
    }
}

/// No callback: what C says with NULL.
impl Default for dap_events_socket_callbacks {
    fn default() -> Self {
        dap_events_socket_callbacks {
            queue_ptr_callback: None,
            new_callback: None,
            delete_callback: None,
            read_callback: None,
            write_callback: None,
            write_finished_callback: None,
            error_callback: None,
            worker_assign_callback: None,
            worker_unassign_callback: None,
            arg: ptr::null_mut(),
        }
    }
}

// --- the life of the embedded SDK --------------------------------------------------------------------------------------

/// Counts a user of the embedded SDK; the first one starts worker threads and CLI. 0, or -1 with a log line.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_retain() -> c_int {
    guard("dap_embedded_retain", -1, || match runtime::retain() {
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
    guard("dap_embedded_release", (), runtime::release);
}

/// Waits until callbacks that are running have returned, node clients that were closed are deleted, and a stop that is
/// under way, such as by a release in one of these callbacks, is over; 10 s at most. At once on a thread of the SDK.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_settle() {
    guard("dap_embedded_settle", (), runtime::settle);
}

// --- workers -----------------------------------------------------------------------------------------------------------

/// How many worker threads there are; 0 while nothing is retained.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_thread_get_count() -> u32 {
    guard("dap_events_thread_get_count", 0, || {
        runtime::current().and_then(|runtime| u32::try_from(runtime.workers.len()).ok()).unwrap_or(0)
    })
}

/// Worker number `index`; NULL past the end and while nothing is retained. Valid until the last release.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_worker_get(index: u8) -> *mut dap_worker_t {
    guard("dap_events_worker_get", ptr::null_mut(), || {
        let runtime = runtime::current();
        let worker = runtime.as_ref().and_then(|runtime| runtime.workers.get(usize::from(index)));
        worker.map_or(ptr::null_mut(), |worker| worker.view.as_ptr())
    })
}

/// The worker of the calling thread; NULL on a thread that is none.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_worker_get_current() -> *mut dap_worker_t {
    guard("dap_worker_get_current", ptr::null_mut(), || {
        worker::with_current(|worker| worker.shared.view.as_ptr()).unwrap_or(ptr::null_mut())
    })
}

/// Runs `callback(arg)` on `worker`, after what was asked of it before. Nothing happens for a worker that is none.
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
        let Some(function) = callback else { return log::error!("dap_worker_exec_callback_on: no callback") };
        let runtime = runtime::current();
        let Some(target) = runtime.as_ref().and_then(|runtime| runtime.worker_at(worker.addr())) else {
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

// --- event sockets -----------------------------------------------------------------------------------------------------

/// An event socket for a descriptor, of type FILE, in no loop yet; waits for "readable" unless told otherwise. NULL
/// while nothing is retained, and for a negative descriptor. Belongs to the SDK: remove it, or leave it to the last
/// release.
///
/// # Safety
/// May be called from any thread. `fd` stays open until `delete_callback`; `callbacks` is NULL or points to a struct,
/// which is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_wrap_no_add(
    fd: c_int,
    callbacks: *mut dap_events_socket_callbacks_t,
) -> *mut dap_events_socket_t {
    guard("dap_events_socket_wrap_no_add", ptr::null_mut(), || {
        let Some(runtime) = runtime::active() else {
            log::error!("dap_events_socket_wrap_no_add: the embedded SDK is not running");
            return ptr::null_mut();
        };
        if fd < 0 {
            log::error!("dap_events_socket_wrap_no_add: {fd} is not a descriptor");
            return ptr::null_mut();
        }
        // SAFETY: NULL, or a struct that the caller lets us copy.
        let callbacks = unsafe { callbacks.as_ref() }.copied().unwrap_or_default();
        let view = CBox::new(socket_view(fd, runtime::next_uuid(), socket::DEFAULT_TYPE, callbacks));
        let pointer = view.as_ptr();
        runtime.unassigned.lock().insert(view.addr(), view);
        pointer
    })
}

/// Puts a socket of `dap_events_socket_wrap_no_add` into a worker's loop; `new_callback` and `worker_assign_callback`
/// run there. A socket that is in a loop already is left where it is, with a log line.
///
/// # Safety
/// May be called from any thread; `es` is a socket that has not been deleted, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_assign_on_worker_mt(
    es: *mut dap_events_socket_t,
    worker: *mut dap_worker_t,
) {
    guard("dap_events_socket_assign_on_worker_mt", (), || {
        let Some(runtime) = runtime::active() else {
            return log::error!("dap_events_socket_assign_on_worker_mt: the embedded SDK is not running");
        };
        let Some(worker) = runtime.worker_at(worker.addr()) else {
            return log::error!("dap_events_socket_assign_on_worker_mt: no such worker");
        };
        let Some(view) = runtime.unassigned.lock().remove(&es.addr()) else {
            return log::error!("dap_events_socket_assign_on_worker_mt: not a socket that waits for a worker");
        };
        socket::assign(&runtime, worker, view, None);
    });
}

/// Waits for "readable" or not. For a stream's socket: takes packets or not.
///
/// # Safety
/// The socket's worker, or, before it is in a loop, any one thread; a socket of another worker is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_set_readable_unsafe(es: *mut dap_events_socket_t, is_ready: bool) {
    guard("dap_events_socket_set_readable_unsafe", (), || set_flag(es.addr(), FLAG_READABLE, is_ready));
}

/// Waits for "writable" or not. A stream's socket looks after itself.
///
/// # Safety
/// As for `dap_events_socket_set_readable_unsafe`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_set_writable_unsafe(es: *mut dap_events_socket_t, is_ready: bool) {
    guard("dap_events_socket_set_writable_unsafe", (), || set_flag(es.addr(), FLAG_WRITABLE, is_ready));
}

/// Deletes the socket: out of the loop, `delete_callback`, closed unless `no_close`, freed. Called in one of the
/// socket's own callbacks, the last three follow when that has returned. A stream's socket ends the stream.
/// `preserve_inheritor` false has `_inheritor` given to `free` if `delete_callback` leaves it set.
///
/// # Safety
/// The socket's worker, or, for one in no loop, any one thread; a socket of another worker is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_remove_and_delete_unsafe(
    es: *mut dap_events_socket_t,
    preserve_inheritor: bool,
) {
    guard("dap_events_socket_remove_and_delete_unsafe", (), || {
        let here = worker::with_current(|worker| match worker.source_at(es.addr()) {
            Some(Source::Socket(socket)) => {
                socket.remove(worker, preserve_inheritor);
                true
            }
            Some(Source::Conn(conn)) => {
                conn.close(worker);
                true
            }
            _ => false,
        });
        if here == Some(true) {
            return;
        }
        let unassigned = runtime::current().and_then(|runtime| runtime.unassigned.lock().remove(&es.addr()));
        match unassigned {
            Some(view) => {
                delete(&view, preserve_inheritor);
                close_descriptor(&view);
            }
            None if es.is_null() => {}
            None => log::error!("dap_events_socket_remove_and_delete_unsafe: not a socket of this worker"),
        }
    });
}

/// As `dap_events_socket_remove_and_delete_unsafe(es, false)`, on the socket's worker, which finds it by its uuid, also
/// after it has moved. A uuid of nothing is ignored.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_remove_and_delete_mt(
    worker: *mut dap_worker_t,
    uuid: dap_events_socket_uuid_t,
) {
    guard("dap_events_socket_remove_and_delete_mt", (), || {
        let Some(runtime) = runtime::current() else { return };
        let Some(named) = runtime.worker_at(worker.addr()) else {
            return log::error!("dap_events_socket_remove_and_delete_mt: no such worker");
        };
        let unassigned = {
            let mut unassigned = runtime.unassigned.lock();
            let address = unassigned.iter().find(|(_, view)| view.uuid == uuid).map(|(address, _)| *address);
            address.and_then(|address| unassigned.remove(&address))
        };
        match unassigned {
            Some(view) => named.post(Box::new(move |_| {
                delete(&view, false);
                close_descriptor(&view);
            })),
            None => {
                runtime.post_to_owner(uuid, named, Box::new(move |worker| socket::remove_anywhere(worker, uuid)));
            }
        }
    });
}

/// Moves a socket or a stream from worker `old` to worker `new`: `worker_unassign_callback` on the old one, then
/// `worker_assign_callback` on the new one. What a stream has received and not sent moves along. A socket that has left
/// `old` meanwhile is moved from where it is.
///
/// # Safety
/// May be called from any thread; `es` has not been deleted (a stale address is compared, not followed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_reassign_between_workers_mt(
    old: *mut dap_worker_t,
    es: *mut dap_events_socket_t,
    new: *mut dap_worker_t,
) {
    guard("dap_events_socket_reassign_between_workers_mt", (), || {
        let Some(runtime) = runtime::active() else { return };
        let (Some(old), Some(new)) = (runtime.worker_at(old.addr()), runtime.worker_at(new.addr())) else {
            return log::error!("dap_events_socket_reassign_between_workers_mt: no such worker");
        };
        let Some(uuid) = runtime.socket_at(es.addr()) else {
            return log::error!("dap_events_socket_reassign_between_workers_mt: not a socket in a loop");
        };
        let new = Arc::clone(new);
        let number = runtime.begin_move(uuid);
        runtime.post_to_owner(uuid, old, Box::new(move |worker| socket::reassign(worker, uuid, number, &new)));
    });
}

// --- pointer queues ----------------------------------------------------------------------------------------------------

/// A queue of pointers into `worker`, which calls `callback(es, pointer)` for each, in order. NULL for a worker that is
/// none, without a callback, and when descriptors are out. Deleted like any socket; what it still holds then is handed to
/// `callback` first.
///
/// # Safety
/// May be called from any thread; `callback` may be called on the worker's thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_create_type_queue_ptr_mt(
    worker: *mut dap_worker_t,
    callback: dap_events_socket_callback_queue_ptr_t,
) -> *mut dap_events_socket_t {
    guard("dap_events_socket_create_type_queue_ptr_mt", ptr::null_mut(), || {
        let runtime = runtime::active();
        let target = runtime.as_ref().and_then(|runtime| Some((runtime, runtime.worker_at(worker.addr())?)));
        let (Some((runtime, worker)), Some(_)) = (target, callback) else {
            log::error!("dap_events_socket_create_type_queue_ptr_mt: no such worker, or no callback");
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
        let view = CBox::new(socket_view(queue.wake.as_raw_fd(), runtime::next_uuid(), kind, callbacks));
        view.no_close.set(true);
        let pointer = view.as_ptr();
        runtime.queues.write().insert(view.addr(), Arc::clone(&queue));
        socket::assign(runtime, worker, view, Some(queue));
        pointer
    })
}

/// Sends a pointer through a queue: 0, EAGAIN when 65,536 wait already, EINVAL for a queue that is none (any more).
///
/// # Safety
/// May be called from any thread; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_queue_ptr_send(es: *mut dap_events_socket_t, arg: *mut c_void) -> c_int {
    guard("dap_events_socket_queue_ptr_send", libc::EINVAL, || {
        let Some(runtime) = runtime::current() else { return libc::EINVAL };
        let queues = runtime.queues.read();
        match queues.get(&es.addr()).map(|queue| queue.send(Opaque(arg))) {
            Some(Ok(())) => 0,
            Some(Err(SendError::Full)) => libc::EAGAIN,
            Some(Err(SendError::Closed)) | None => libc::EINVAL,
        }
    })
}

// --- timers ------------------------------------------------------------------------------------------------------------

/// Calls `callback(arg)` on `worker` every `timeout_ms` while it returns true. NULL for a worker that is none and
/// without a callback. The struct is freed when the timer ends.
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
        let runtime = runtime::active();
        let target = runtime.as_ref().and_then(|runtime| Some((runtime, runtime.worker_at(worker.addr())?)));
        let (Some((runtime, target)), Some(_)) = (target, callback) else {
            log::error!("dap_timerfd_start_on_worker: no such worker, or no callback");
            return ptr::null_mut();
        };
        let view = CBox::new(dap_timerfd {
            timeout_ms,
            worker,
            esocket_uuid: runtime::next_uuid(),
            callback,
            callback_arg: arg,
        });
        timers::start(runtime, target, view)
    })
}

/// Ends a timer by its uuid; one that has ended is ignored. On the timer's worker it is over on return, from another
/// thread the callback may be running or run once more.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_timerfd_delete_mt(worker: *mut dap_worker_t, uuid: dap_events_socket_uuid_t) {
    guard("dap_timerfd_delete_mt", (), || {
        let here = worker::with_current(|current| {
            let is_here = current.timers.contains(uuid);
            if is_here {
                timers::delete(current, uuid);
            }
            is_here
        });
        if here == Some(true) {
            return;
        }
        let Some(runtime) = runtime::current() else { return };
        let Some(worker) = runtime.worker_at(worker.addr()) else {
            return log::error!("dap_timerfd_delete_mt: no such worker");
        };
        runtime.post_to_owner(uuid, worker, Box::new(move |worker| timers::delete(worker, uuid)));
    });
}

/// Ends a timer of the calling worker, also in the timer's own callback.
///
/// # Safety
/// The timer's worker; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_timerfd_delete_unsafe(timer: *mut dap_timerfd_t) {
    guard("dap_timerfd_delete_unsafe", (), || {
        let found = worker::with_current(|worker| {
            let uuid = worker.addresses.borrow().get(&timer.addr()).copied();
            uuid.filter(|uuid| worker.timers.contains(*uuid)).map(|uuid| timers::delete(worker, uuid))
        });
        if found.flatten().is_none() && !timer.is_null() {
            log::error!("dap_timerfd_delete_unsafe: not a timer of this worker");
        }
    });
}

fn set_flag(address: usize, flag: u32, on: bool) {
    let here = worker::with_current(|worker| match worker.source_at(address) {
        Some(Source::Socket(socket)) => {
            socket.set_flag(worker, flag, on);
            true
        }
        Some(Source::Conn(conn)) => {
            if flag == FLAG_READABLE {
                conn.set_socket_readable(worker, on);
            }
            true
        }
        _ => false,
    });
    if here == Some(true) {
        return;
    }
    let Some(runtime) = runtime::current() else { return };
    match runtime.unassigned.lock().get(&address) {
        Some(view) => socket::set_flag(view, flag, on),
        None if address == 0 => {}
        None => log::error!("dap_events_socket_set_..._unsafe: not a socket of this worker"),
    }
}
