//! Event sockets.

use crate::ctypes::{dap_events_socket_callbacks_t, dap_events_socket_t, dap_events_socket_uuid_t, dap_worker_t};
use crate::cview::events::{self, FLAG_READABLE, FLAG_WRITABLE};
use crate::cview::owned::CBox;
use crate::panics::guard;
use crate::reactor;
use crate::reactor::{moves, socket};
use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;

/// Makes an event socket for a descriptor, of type FILE, on no worker yet; it waits for "readable" unless told
/// otherwise. Returns NULL if the SDK is not retained or the descriptor is negative. The SDK owns the socket: the
/// caller removes it, or the last release does.
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
        let Some(reactor) = reactor::active() else {
            log::error!("dap_events_socket_wrap_no_add: the embedded SDK is not running");
            return ptr::null_mut();
        };
        if fd < 0 {
            log::error!("dap_events_socket_wrap_no_add: {fd} is not a descriptor");
            return ptr::null_mut();
        }
        // SAFETY: NULL, or a struct that the caller promises is readable.
        let callbacks = unsafe { callbacks.as_ref() }.copied().unwrap_or_default();
        let view = CBox::new(events::socket_view(fd, reactor::next_uuid(), events::DEFAULT_TYPE, callbacks));
        let pointer = view.as_ptr();
        reactor.unassigned.lock().insert(view.addr(), view);
        pointer
    })
}

/// Adds a socket of `dap_events_socket_wrap_no_add` to a worker's loop; `new_callback` and `worker_assign_callback` run
/// there. A socket that already has a worker stays there, with a log line.
///
/// # Safety
/// May be called from any thread; `es` is a socket that has not been deleted, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_assign_on_worker_mt(
    es: *mut dap_events_socket_t,
    worker: *mut dap_worker_t,
) {
    guard("dap_events_socket_assign_on_worker_mt", (), || {
        let Some(reactor) = reactor::active() else {
            return log::error!("dap_events_socket_assign_on_worker_mt: the embedded SDK is not running");
        };
        let Some(worker) = reactor.worker_at(worker.addr()) else {
            return log::error!("dap_events_socket_assign_on_worker_mt: no such worker");
        };
        let Some(view) = reactor.unassigned.lock().remove(&es.addr()) else {
            return log::error!("dap_events_socket_assign_on_worker_mt: expected a socket that has no worker yet");
        };
        socket::assign(&reactor, worker, view, None);
    });
}

/// Starts or stops waiting for "readable". For a stream's socket: resumes or pauses its packets.
///
/// # Safety
/// Called on the socket's worker, or, before it has one, on any one thread; a socket of another worker is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_set_readable_unsafe(es: *mut dap_events_socket_t, is_ready: bool) {
    guard("dap_events_socket_set_readable_unsafe", (), || set_flag(es.addr(), FLAG_READABLE, is_ready));
}

/// Starts or stops waiting for "writable". A stream's socket manages this itself.
///
/// # Safety
/// As for `dap_events_socket_set_readable_unsafe`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_set_writable_unsafe(es: *mut dap_events_socket_t, is_ready: bool) {
    guard("dap_events_socket_set_writable_unsafe", (), || set_flag(es.addr(), FLAG_WRITABLE, is_ready));
}

/// Deletes the socket: leaves the loop, runs `delete_callback`, closes the descriptor unless `no_close`, and frees the
/// struct. In one of the socket's own callbacks, the last three steps follow its return. Deleting a stream's socket
/// ends the stream. With `preserve_inheritor` false, `_inheritor` is passed to `free` if `delete_callback` leaves it
/// set.
///
/// # Safety
/// Called on the socket's worker, or, for one without a worker, on any one thread; a socket of another worker is
/// refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_remove_and_delete_unsafe(
    es: *mut dap_events_socket_t,
    preserve_inheritor: bool,
) {
    guard("dap_events_socket_remove_and_delete_unsafe", (), || {
        let here = reactor::with_current(|worker| {
            worker.source_at(es.addr()).map(|source| source.remove(worker, preserve_inheritor))
        });
        if here.flatten().is_some() {
            return;
        }
        let unassigned = reactor::current().and_then(|reactor| reactor.unassigned.lock().remove(&es.addr()));
        match unassigned {
            Some(view) => {
                events::delete(&view, preserve_inheritor);
                events::close_descriptor(&view);
            }
            None if es.is_null() => {}
            None => log::error!("dap_events_socket_remove_and_delete_unsafe: expected a socket of this worker"),
        }
    });
}

/// Like `dap_events_socket_remove_and_delete_unsafe(es, false)`, run on the socket's worker, which is found by uuid,
/// also after a move. An unknown uuid is ignored.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_events_socket_remove_and_delete_mt(
    worker: *mut dap_worker_t,
    uuid: dap_events_socket_uuid_t,
) {
    guard("dap_events_socket_remove_and_delete_mt", (), || {
        let Some(reactor) = reactor::current() else { return };
        let Some(named) = reactor.worker_at(worker.addr()) else {
            return log::error!("dap_events_socket_remove_and_delete_mt: no such worker");
        };
        let unassigned = {
            let mut unassigned = reactor.unassigned.lock();
            let address = unassigned.iter().find(|(_, view)| view.uuid == uuid).map(|(address, _)| *address);
            address.and_then(|address| unassigned.remove(&address))
        };
        match unassigned {
            Some(view) => named.post(Box::new(move |_| {
                events::delete(&view, false);
                events::close_descriptor(&view);
            })),
            None => {
                reactor.post_to_owner(uuid, named, Box::new(move |worker| moves::remove_anywhere(worker, uuid)));
            }
        }
    });
}

/// Moves a socket or a stream from worker `old` to worker `new`: `worker_unassign_callback` runs on the old one, then
/// `worker_assign_callback` on the new one. A stream's received and unsent data moves with it. A socket that has left
/// `old` meanwhile moves from its current worker.
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
        let Some(reactor) = reactor::active() else { return };
        let (Some(old), Some(new)) = (reactor.worker_at(old.addr()), reactor.worker_at(new.addr())) else {
            return log::error!("dap_events_socket_reassign_between_workers_mt: no such worker");
        };
        let Some(uuid) = reactor.socket_at(es.addr()) else {
            return log::error!("dap_events_socket_reassign_between_workers_mt: expected a socket that has a worker");
        };
        let new = Arc::clone(new);
        let number = reactor.begin_move(uuid);
        reactor.post_to_owner(uuid, old, Box::new(move |worker| moves::reassign(worker, uuid, number, &new)));
    });
}

fn set_flag(address: usize, flag: u32, on: bool) {
    let here =
        reactor::with_current(|worker| worker.source_at(address).map(|source| source.set_flag(worker, flag, on)));
    if here.flatten().is_some() {
        return;
    }
    let Some(reactor) = reactor::current() else { return };
    match reactor.unassigned.lock().get(&address) {
        Some(view) => events::set_flag(view, flag, on),
        None if address == 0 => {}
        None => log::error!("dap_events_socket_set_..._unsafe: expected a socket of this worker"),
    }
}
