//! Streams, channels and sessions, as C calls them.

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

/// Registers the callbacks of a channel letter, in place of earlier ones; streams opened from now on use them. It stays
/// registered until the process ends, whatever is released and retained.
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

/// What is registered for a letter, or NULL. Valid until the process ends.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_proc_find(id: u8) -> *mut dap_stream_ch_proc_t {
    guard("dap_stream_ch_proc_find", ptr::null_mut(), || procs::find(id).map_or(ptr::null_mut(), |proc| proc.as_ptr()))
}

// --- packets -----------------------------------------------------------------------------------------------------------

/// Queues a packet on a channel; it goes out at the end of the loop's turn. Returns the bytes of data accepted: all, or
/// 0 when the stream is closing, 4 MiB wait already, the data is larger than 129 KiB, or the channel is not one of the
/// calling worker.
///
/// # Safety
/// The channel's worker (a stale or foreign address is compared, not followed); `data` is readable for `size` bytes.
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

/// As `dap_stream_ch_pkt_write_unsafe`, for any thread: the packet is copied and sent by the stream's worker, wherever
/// the stream is by then, in the order of the calls. 0 also when 1 MiB of such packets wait, and for a channel that is
/// gone.
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

/// Takes packets on this channel, or has the stream wait: it is read while all its channels are ready.
///
/// # Safety
/// The channel's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_set_ready_to_read_unsafe(ch: *mut dap_stream_ch_t, is_ready: bool) {
    guard("dap_stream_ch_set_ready_to_read_unsafe", (), || {
        let set = on_channel_index(ch, |worker, conn, index| conn.set_ready_to_read(worker, index, is_ready));
        if set.is_none() {
            log::error!("dap_stream_ch_set_ready_to_read_unsafe: expected a channel of this worker");
        }
    });
}

/// Whether `packet_out_callback` is called when the stream's output has drained.
///
/// # Safety
/// The channel's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_set_ready_to_write_unsafe(ch: *mut dap_stream_ch_t, is_ready: bool) {
    guard("dap_stream_ch_set_ready_to_write_unsafe", (), || {
        on_channel(ch, |_, _, channel| channel.view.ready_to_write.set(is_ready));
    });
}

/// The channel with this letter of a stream, or NULL.
///
/// # Safety
/// The stream's worker; a stale or foreign address is compared, not followed.
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
/// The worker that is named; another thread gets NULL.
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

// --- sessions ----------------------------------------------------------------------------------------------------------

/// The sessions that clients have opened here, oldest first: `data` is a `dap_stream_session_t *`. They stay alive until
/// `dap_stream_session_get_list_sessions_unlock`; the list is the caller's to free with `dap_list_free`.
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
            // SAFETY: NULL, or the cell of the round before, which nobody else knows.
            if let Some(next) = unsafe { next.as_mut() } {
                next.prev = cell;
            }
            next = cell;
        }
        next
    })
}

/// Gives the lock of `dap_stream_session_get_list_sessions` back.
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
/// `list` is NULL or the first cell of a list whose cells came from `malloc`, not used afterwards.
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
/// `data` is NULL or readable for `size` bytes, which nobody changes while the result is in use.
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
