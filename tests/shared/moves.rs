//! Moves the stream of a client between the two workers of the embedded SDK.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use embedded::abi::events::{dap_events_socket_reassign_between_workers_mt, dap_events_worker_get};
use embedded::abi::stream::{dap_stream_ch_proc_add, dap_stream_ch_proc_find};
use embedded::ctypes::{dap_stream_ch, dap_stream_ch_callback_t};

/// The address of the server's socket.
static SOCKET: AtomicUsize = AtomicUsize::new(0);
/// What the service, or the gate in front of it, does with a new channel 'R'.
static OPENED: OnceLock<dap_stream_ch_callback_t> = OnceLock::new();

/// Notes the socket of a stream that a client opens, and goes on as without the test.
unsafe extern "C" fn note(ch: *mut dap_stream_ch, argument: *mut c_void) {
    // SAFETY: a new channel, on its worker; the field never changes.
    let stream = unsafe { (*ch).stream };
    // SAFETY: the stream of an open channel; the fields read never change.
    let stream = unsafe { &*stream };
    if !stream.is_client_to_uplink {
        SOCKET.store(stream.esocket.expose_provenance(), Ordering::SeqCst);
    }
    if let Some(Some(opened)) = OPENED.get() {
        // SAFETY: the registered function, with the arguments that it would have got.
        unsafe { opened(ch, argument) };
    }
}

/// Has [`note`] called for each new channel 'R'.
pub(crate) fn note_sockets() {
    // SAFETY: any thread.
    let service = unsafe { dap_stream_ch_proc_find(b'R') };
    // SAFETY: a registration of this process, which never ends.
    let service = unsafe { &*service };
    let _ = OPENED.set(service.new_callback);
    let (deleted, read, written) = (service.delete_callback, service.packet_in_callback, service.packet_out_callback);
    // SAFETY: functions of this program.
    unsafe { dap_stream_ch_proc_add(b'R', Some(note), deleted, read, written) };
}

/// Whether a client has opened a stream.
pub(crate) fn has_stream() -> bool {
    SOCKET.load(Ordering::SeqCst) != 0
}

/// Moves the stream that a client opened last, which is open, from the other worker to this one.
pub(crate) fn move_to(worker: u8) {
    let es = std::ptr::with_exposed_provenance_mut(SOCKET.load(Ordering::SeqCst));
    // SAFETY: numbers of workers.
    let [from, to] = [1 - worker, worker].map(|worker| unsafe { dap_events_worker_get(worker) });
    // SAFETY: any thread; the stream is open.
    unsafe { dap_events_socket_reassign_between_workers_mt(from, es, to) };
}
