//! Workers, event sockets and timers: their C structs, and the calls to the callbacks in them.
//!
//! Each call is made with nothing borrowed or locked, on the worker that owns the struct.

use super::owned::{CBox, CShared, Opaque};
use crate::ctypes::*;
use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

/// `dap_events_socket_t::flags`: the events that the loop waits for.
pub(crate) const FLAG_READABLE: u32 = 1;
/// See [`FLAG_READABLE`].
pub(crate) const FLAG_WRITABLE: u32 = 2;

/// A socket of this type leaves reads and writes to its owner's callbacks.
pub(crate) const DEFAULT_TYPE: dap_events_desc_type = dap_events_desc_type::DESCRIPTOR_TYPE_FILE;

/// C's view of a worker. Only C itself changes the structs.
pub(crate) struct CWorker {
    pub(crate) worker: CShared<dap_worker>,
    pub(crate) stream_worker: CShared<dap_stream_worker>,
}

impl CWorker {
    pub(crate) fn new(id: u32) -> Self {
        let worker = CShared::new(dap_worker { id, _inheritor: Cell::new(ptr::null_mut()) });
        let stream_worker = CShared::new(dap_stream_worker { worker: worker.as_ptr() });
        CWorker { worker, stream_worker }
    }
}

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
        // SAFETY: as in `new`; the worker lives as long as the reactor that calls.
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

/// Runs `delete_callback`, then frees the inheritor as the SDK does, unless it is to be preserved or was set to NULL.
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

/// Runs the timer's callback; returns true if the timer continues.
pub(crate) fn timer(view: &CBox<dap_timerfd>) -> bool {
    match view.callback {
        // SAFETY: C gave function and argument for this timer, and this is its worker.
        Some(callback) => unsafe { callback(view.callback_arg) },
        None => false,
    }
}

pub(crate) fn descriptor(es: &CBox<dap_events_socket>) -> BorrowedFd<'_> {
    // SAFETY: `wrap_no_add` refused negative numbers, and its caller promised to keep the descriptor open until
    // `delete_callback` has returned.
    unsafe { BorrowedFd::borrow_raw(es.fd.get()) }
}

/// Closes the descriptor unless C owns it, as it always does standard input, output and error: they stay open for what
/// else the host program writes there.
pub(crate) fn close_descriptor(es: &CBox<dap_events_socket>) {
    if !es.no_close.get() {
        let fd = es.fd.replace(-1);
        if fd > libc::STDERR_FILENO {
            // SAFETY: without `no_close` the socket owns the descriptor, and this is its end. C may break that promise,
            // and two sockets have one descriptor; `OwnedFd` would then end the process in a debug build.
            if unsafe { libc::close(fd) } != 0 {
                let error = std::io::Error::last_os_error();
                log::warn!("an event socket cannot close its descriptor {fd}: {error}");
            }
        }
    }
}

/// A socket's struct with default values.
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

/// No callback, which C expresses by NULL.
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

/// Sets or clears a flag of a socket's struct.
pub(crate) fn set_flag(view: &dap_events_socket, flag: u32, on: bool) {
    let flags = view.flags.get();
    view.flags.set(if on { flags | flag } else { flags & !flag });
}
