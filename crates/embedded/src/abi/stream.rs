//! Streams, channels and sessions: the exported C functions.

use crate::ctypes::*;
use crate::cview::stream::Proc;
use crate::panics::guard;
use crate::reactor;
use crate::stream::conn::registry::{self, on_channel, on_channel_index};
use crate::stream::{MAX_DATA, channels, procs, sessions};
use std::ffi::{c_char, c_void};
use std::ptr;
use std::slice;

// --- channel letters ---------------------------------------------------------------------------------------------------

/// Registers the callbacks of a channel letter, replacing earlier ones; streams opened later use them. The registration
/// lasts until the process ends, across releases and retains.
///
/// # Safety
/// May be called from any thread; the callbacks may be called on every worker until the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_proc_add(
    id: u8,
    new_callback: dap_stream_ch_callback_t,
    delete_callback: dap_stream_ch_callback_t,
    packet_in_callback: dap_stream_ch_read_callback_t,
    packet_out_callback: dap_stream_ch_write_callback_t,
) {
    guard("dap_stream_ch_proc_add", (), || {
        if !id.is_ascii_alphabetic() {
            return log::error!("dap_stream_ch_proc_add: {id:#04x} is not a letter");
        }
        procs::add(Proc::new(dap_stream_ch_proc {
            id,
            new_callback,
            delete_callback,
            packet_in_callback,
            packet_out_callback,
            internal: ptr::null_mut(),
        }));
    });
}

/// The registration of a letter, or NULL. Valid until the process ends.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_proc_find(id: u8) -> *mut dap_stream_ch_proc_t {
    guard("dap_stream_ch_proc_find", ptr::null_mut(), || procs::find(id).map_or(ptr::null_mut(), |proc| proc.as_ptr()))
}

// --- packets -----------------------------------------------------------------------------------------------------------

/// Queues a packet on a channel; it is sent at the end of the loop's turn. Returns the bytes of data accepted: all, or
/// 0 if the stream is closing, the data is larger than 129 KiB, the calling worker does not own the channel, or too much
/// is queued: 4 MiB, 64 KiB while the stream's client has no granted service, or all that `[server] max_memory` allows.
///
/// # Safety
/// Called on the channel's worker (a stale or foreign address is compared, not followed); `data` is readable for `size`
/// bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_pkt_write_unsafe(
    ch: *mut dap_stream_ch_t,
    kind: u8,
    data: *const c_void,
    size: usize,
) -> usize {
    guard("dap_stream_ch_pkt_write_unsafe", 0, || {
        if size > MAX_DATA {
            log::debug!("dap_stream_ch_pkt_write_unsafe: {size} bytes exceed the size of a packet");
            return 0;
        }
        // SAFETY: `data` is readable for `size` bytes, by the caller's promise.
        let Some(data) = (unsafe { bytes(data, size) }) else { return 0 };
        let written = on_channel(ch, |worker, conn, channel| conn.write_packet(worker, channel.letter, kind, data));
        written.unwrap_or_else(|| {
            log::error!("dap_stream_ch_pkt_write_unsafe: expected a channel of this worker");
            0
        })
    })
}

/// Like `dap_stream_ch_pkt_write_unsafe`, for any thread: the packet is copied, and the stream's worker sends it, also
/// after a move, in the order of the calls. Returns 0 also if 1 MiB of such packets are queued, or the channel is gone.
///
/// # Safety
/// May be called from any thread; `data` is readable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_pkt_write_mt(
    worker: *mut dap_stream_worker_t,
    uuid: dap_stream_ch_uuid_t,
    kind: u8,
    data: *const c_void,
    size: usize,
) -> usize {
    guard("dap_stream_ch_pkt_write_mt", 0, || {
        if worker.is_null() || size > MAX_DATA {
            return 0;
        }
        // SAFETY: `data` is readable for `size` bytes, by the caller's promise.
        let Some(data) = (unsafe { bytes(data, size) }) else { return 0 };
        channels::find(uuid).map_or(0, |mailbox| mailbox.post(uuid, kind, data))
    })
}

/// Resumes or pauses this channel's packets. The stream is read only while all its channels are ready.
///
/// # Safety
/// Called on the channel's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_set_ready_to_read_unsafe(ch: *mut dap_stream_ch_t, is_ready: bool) {
    guard("dap_stream_ch_set_ready_to_read_unsafe", (), || {
        let set = on_channel_index(ch, |worker, conn, index| conn.set_ready_to_read(worker, index, is_ready));
        if set.is_none() {
            log::error!("dap_stream_ch_set_ready_to_read_unsafe: expected a channel of this worker");
        }
    });
}

/// Enables or disables `packet_out_callback`, which is called each time there is room for output: at once if there is
/// now.
///
/// # Safety
/// Called on the channel's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_set_ready_to_write_unsafe(ch: *mut dap_stream_ch_t, is_ready: bool) {
    guard("dap_stream_ch_set_ready_to_write_unsafe", (), || {
        on_channel_index(ch, |worker, conn, index| {
            conn.set_ready_to_write(worker, index, is_ready);
            Some(())
        });
    });
}

/// The channel with this letter of a stream, or NULL.
///
/// # Safety
/// Called on the stream's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_by_id_unsafe(stream: *mut dap_stream_t, id: c_char) -> *mut dap_stream_ch_t {
    guard("dap_stream_ch_by_id_unsafe", ptr::null_mut(), || {
        let found = reactor::with_current(|worker| {
            let conn = registry::at(worker, stream.addr())?;
            let view = conn.view().filter(|view| view.stream.addr() == stream.addr())?;
            let channel = view.channels.iter().find(|channel| channel.letter == id.cast_unsigned())?;
            Some(channel.view.as_ptr())
        });
        found.flatten().unwrap_or(ptr::null_mut())
    })
}

/// The channel with this uuid on the calling worker, or NULL.
///
/// # Safety
/// Called on the worker that is named; another thread gets NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_find_by_uuid_unsafe(
    worker: *mut dap_stream_worker_t,
    uuid: dap_stream_ch_uuid_t,
) -> *mut dap_stream_ch_t {
    guard("dap_stream_ch_find_by_uuid_unsafe", ptr::null_mut(), || {
        let found = reactor::with_current(|current| {
            if current.shared.view.stream_worker.addr() != worker.addr() {
                return None;
            }
            let mailbox = channels::find(uuid)?;
            let conn = registry::find(mailbox.stream())?;
            let channel = conn.view()?.channels.iter().find(|channel| channel.uuid == uuid)?;
            Some(channel.view.as_ptr())
        });
        found.flatten().unwrap_or(ptr::null_mut())
    })
}

/// Says that the service serves the client of this channel's stream, or no more, besides a usage on channel 'R' that is
/// not free. A stream whose client nobody serves ends after `[server] idle_timeout`, has at most 64 KiB of output on the
/// way, and takes packets of at most 66 KiB.
///
/// # Safety
/// Called on the channel's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_stream_ch_serve(ch: *mut dap_stream_ch_t, is_served: bool) {
    guard("dap_embedded_stream_ch_serve", (), || {
        if on_channel(ch, |worker, conn, _| conn.set_served(worker, is_served)).is_none() {
            log::error!("dap_embedded_stream_ch_serve: expected a channel of this worker");
        }
    });
}

// --- sessions ----------------------------------------------------------------------------------------------------------

/// Returns the sessions that clients have opened to this node, oldest first: `data` is a `dap_stream_session_t *`. They
/// stay alive until `dap_stream_session_get_list_sessions_unlock`; the caller frees the list with `dap_list_free`.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_session_get_list_sessions() -> *mut dap_list_t {
    guard("dap_stream_session_get_list_sessions", ptr::null_mut(), || {
        let mut next: *mut dap_list_t = ptr::null_mut();
        for session in sessions::lock().iter().rev() {
            // SAFETY: malloc takes any size.
            let cell = unsafe { libc::malloc(size_of::<dap_list_t>()) }.cast::<dap_list_t>();
            if cell.is_null() {
                break;
            }
            let value = dap_list { data: session.as_ptr().cast(), next, prev: ptr::null_mut() };
            // SAFETY: fresh from malloc, aligned for every type, and large enough.
            unsafe { cell.write(value) };
            // SAFETY: NULL, or the cell of the previous round, which no other code knows.
            if let Some(next) = unsafe { next.as_mut() } {
                next.prev = cell;
            }
            next = cell;
        }
        next
    })
}

/// Releases one lock of `dap_stream_session_get_list_sessions`.
///
/// # Safety
/// May be called from any thread, once for each call of `dap_stream_session_get_list_sessions`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_session_get_list_sessions_unlock() {
    guard("dap_stream_session_get_list_sessions_unlock", (), sessions::unlock);
}

/// Frees a list's cells, not what they point to.
///
/// # Safety
/// `list` is NULL or the first cell of a list whose cells came from `malloc`; it is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_list_free(list: *mut dap_list_t) {
    guard("dap_list_free", (), || {
        let mut cell = list;
        // SAFETY: NULL or a live cell, by the caller's promise and because `next` is read before the cell is freed.
        while let Some(current) = unsafe { cell.as_ref() } {
            let next = current.next;
            // SAFETY: from malloc, and not used again.
            unsafe { libc::free(cell.cast()) };
            cell = next;
        }
    });
}

/// The bytes that C passed; None for NULL with a size.
///
/// # Safety
/// `data` is NULL or readable for `size` bytes, which do not change while the result is in use.
unsafe fn bytes<'a>(data: *const c_void, size: usize) -> Option<&'a [u8]> {
    if size == 0 {
        return Some(&[]);
    }
    if data.is_null() {
        return None;
    }
    // SAFETY: not NULL, and the caller promises `size` readable bytes; callers check the size against MAX_DATA first.
    Some(unsafe { slice::from_raw_parts(data.cast(), size) })
}
