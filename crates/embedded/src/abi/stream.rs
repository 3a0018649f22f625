//! Streams, channels and sessions, as C sees them.

use super::boundary::{fill_c_array, guard};
use super::events::socket_view;
use super::owned::{CBox, CShared, CView};
use super::service::ServiceSession;
use crate::ctypes::*;
use crate::runtime;
use crate::stream::conn::Conn;
use crate::stream::mailbox::Mailbox;
use crate::stream::{MAX_DATA, OUTPUT_LIMIT, procs, sessions};
use crate::worker::{self, Shared, Source, Worker};
use parking_lot::Mutex;
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The callbacks of one channel letter.
pub(crate) struct Proc(CShared<dap_stream_ch_proc>);

impl Proc {
    fn fields(&self) -> &dap_stream_ch_proc {
        // SAFETY: only fields that never change after construction are read through this.
        unsafe { self.0.get() }
    }

    pub(crate) fn letter(&self) -> u8 {
        self.fields().id
    }

    pub(crate) fn is_same(&self, other: &Proc) -> bool {
        let (mine, theirs) = (self.fields(), other.fields());
        let address = |callback: dap_stream_ch_callback_t| callback.map_or(0, |callback| callback as usize);
        let packet_address = |callback: dap_stream_ch_read_callback_t| callback.map_or(0, |callback| callback as usize);
        mine.id == theirs.id
            && address(mine.new_callback) == address(theirs.new_callback)
            && address(mine.delete_callback) == address(theirs.delete_callback)
            && packet_address(mine.packet_in_callback) == packet_address(theirs.packet_in_callback)
            && packet_address(mine.packet_out_callback) == packet_address(theirs.packet_out_callback)
    }
}

/// A stream's session: alive while the stream is, or the session list is locked.
pub(crate) struct Session {
    view: CShared<dap_stream_session>,
    id: u32,
    /// What channel 'R' keeps of the session.
    pub(crate) service: Mutex<Option<ServiceSession>>,
}

impl Session {
    fn new(letters: &[u8]) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut active_channels = [0; DAP_STREAM_CHANNELS_MAX + 1];
        fill_c_array(&mut active_channels, letters);
        let view = CShared::new(dap_stream_session {
            id,
            time_created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            active_channels,
            tun_client_addr: Cell::new(libc::in_addr { s_addr: 0 }),
            _inheritor: Cell::new(ptr::null_mut()),
        });
        Arc::new(Session { view, id, service: Mutex::new(None) })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_stream_session {
        self.view.as_ptr()
    }

    /// Lets C find the service session from the stream's. On the stream's worker.
    pub(crate) fn set_inheritor(&self, inheritor: *mut c_void) {
        // SAFETY: only the worker of the session's stream calls this; C reads one pointer-sized word.
        unsafe { self.view.get() }._inheritor.set(inheritor);
    }
}

/// What C sees of one stream, and what keeps it alive.
pub(crate) struct StreamView {
    pub(crate) es: CBox<dap_events_socket>,
    pub(crate) stream: CBox<dap_stream>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) session: Arc<Session>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// What `stream->channel` points to.
    _table: CBox<ChannelTable>,
}

/// One open channel.
pub(crate) struct Channel {
    pub(crate) letter: u8,
    pub(crate) uuid: u32,
    pub(crate) view: CBox<dap_stream_ch>,
    proc: Arc<Proc>,
}

#[repr(C)]
struct ChannelTable {
    channels: [Cell<*mut dap_stream_ch>; DAP_STREAM_CHANNELS_MAX],
}

// SAFETY: points to the channels that the same StreamView owns.
unsafe impl CView for ChannelTable {}

impl StreamView {
    /// A stream on `worker` with one channel for each of `procs`. `is_taken` says of a channel uuid that it is in use.
    #[expect(clippy::too_many_arguments, reason = "everything that the C structs show, once")]
    pub(crate) fn new(
        uuid: u64,
        fd: RawFd,
        peer: SocketAddr,
        is_client: bool,
        worker: &Arc<Shared>,
        procs: Vec<Arc<Proc>>,
        mailbox: Arc<Mailbox>,
        is_taken: impl Fn(u32) -> bool,
    ) -> Self {
        let kind = dap_events_desc_type::DESCRIPTOR_TYPE_SOCKET_CLIENT;
        let mut es = socket_view(fd, uuid, kind, Default::default());
        fill_c_array(&mut es.remote_addr_str, peer.ip().to_canonical().to_string().as_bytes());
        es.remote_port = peer.port();
        es.no_close.set(true);
        es.worker.set(worker.view.as_ptr());
        es.buf_out_size_max.set(OUTPUT_LIMIT);
        let es = CBox::new(es);
        let letters: Vec<u8> = procs.iter().map(|proc| proc.letter()).collect();
        let session = Session::new(&letters);
        let stream = CBox::new(dap_stream {
            session: session.as_ptr(),
            esocket: es.as_ptr(),
            esocket_uuid: uuid,
            stream_worker: Cell::new(worker.stream_view.as_ptr()),
            is_client_to_uplink: is_client,
            channel: Cell::new(ptr::null_mut()),
            channel_count: Cell::new(procs.len()),
        });
        es._inheritor.set(stream.as_ptr().cast());
        let channels: Vec<Channel> = procs
            .into_iter()
            .map(|proc| {
                let uuid = channel_uuid(&is_taken);
                let view = CBox::new(dap_stream_ch {
                    ready_to_write: Cell::new(false),
                    ready_to_read: Cell::new(true),
                    stream: stream.as_ptr(),
                    uuid,
                    stream_worker: Cell::new(worker.stream_view.as_ptr()),
                    proc: proc.0.as_ptr(),
                    internal: Cell::new(ptr::null_mut()),
                });
                Channel { letter: proc.letter(), uuid, view, proc }
            })
            .collect();
        let table =
            CBox::new(ChannelTable { channels: [const { Cell::new(ptr::null_mut()) }; DAP_STREAM_CHANNELS_MAX] });
        for (place, channel) in table.channels.iter().zip(&channels) {
            place.set(channel.view.as_ptr());
        }
        stream.channel.set(table.as_ptr().cast());
        StreamView { es, stream, channels, session, mailbox, _table: table }
    }

    /// The structs say `worker` from now on.
    pub(crate) fn move_to(&self, worker: &Shared) {
        self.es.was_reassigned.set(true);
        self.es.worker.set(worker.view.as_ptr());
        self.stream.stream_worker.set(worker.stream_view.as_ptr());
        for channel in &self.channels {
            channel.view.stream_worker.set(worker.stream_view.as_ptr());
        }
    }
}

fn channel_uuid(is_taken: impl Fn(u32) -> bool) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let uuid = NEXT.fetch_add(1, Ordering::Relaxed);
        // After 2^32 channels the numbers begin again: those of long-lived streams are passed over.
        if uuid != 0 && !is_taken(uuid) {
            return uuid;
        }
    }
}

// --- calls into C: with nothing borrowed or locked, on the stream's worker ---------------------------------------------

pub(crate) fn channel_new(view: &StreamView, index: usize) {
    let Some(channel) = view.channels.get(index) else { return };
    if let Some(callback) = channel.proc.fields().new_callback {
        // SAFETY: C registered the function for channels of this letter, and this one is alive.
        unsafe { callback(channel.view.as_ptr(), ptr::null_mut()) };
    }
}

pub(crate) fn channel_delete(view: &StreamView, index: usize) {
    let Some(channel) = view.channels.get(index) else { return };
    if let Some(callback) = channel.proc.fields().delete_callback {
        // SAFETY: as in `channel_new`.
        unsafe { callback(channel.view.as_ptr(), ptr::null_mut()) };
    }
}

/// `packet` is a header and as much data as it says.
pub(crate) fn packet_in(view: &StreamView, index: usize, packet: &mut [u8]) {
    let Some(channel) = view.channels.get(index) else { return };
    if let Some(callback) = channel.proc.fields().packet_in_callback {
        // SAFETY: as in `channel_new`; the packet is ours and stays in place during the call.
        unsafe { callback(channel.view.as_ptr(), packet.as_mut_ptr().cast()) };
    }
}

pub(crate) fn packet_out(view: &StreamView, index: usize) {
    let Some(channel) = view.channels.get(index).filter(|channel| channel.view.ready_to_write.get()) else { return };
    if let Some(callback) = channel.proc.fields().packet_out_callback {
        // SAFETY: as in `channel_new`.
        unsafe { callback(channel.view.as_ptr(), ptr::null_mut()) };
    }
}

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
        procs::add(Proc(CShared::new(dap_stream_ch_proc {
            id,
            new_callback,
            delete_callback,
            packet_in_callback,
            packet_out_callback,
            internal: ptr::null_mut(),
        })));
    });
}

/// What is registered for a letter, or NULL. Valid until the process ends.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_proc_find(id: u8) -> *mut dap_stream_ch_proc_t {
    guard("dap_stream_ch_proc_find", ptr::null_mut(), || {
        procs::find(id).map_or(ptr::null_mut(), |proc| proc.0.as_ptr())
    })
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
            log::debug!("dap_stream_ch_pkt_write_unsafe: {size} bytes are more than a packet holds");
            return 0;
        }
        // SAFETY: `data` is readable for `size` bytes, by the caller's promise.
        let Some(data) = (unsafe { bytes(data, size) }) else { return 0 };
        let written = on_channel(ch, |worker, conn, channel| conn.write_packet(worker, channel.letter, kind, data));
        written.unwrap_or_else(|| {
            log::error!("dap_stream_ch_pkt_write_unsafe: not a channel of this worker");
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
        let Some(runtime) = runtime::current() else { return 0 };
        let mailbox = runtime.channels.read().get(&uuid).cloned();
        mailbox.map_or(0, |mailbox| mailbox.post(uuid, kind, data))
    })
}

/// Takes packets on this channel, or has the stream wait: it is read while all its channels are ready.
///
/// # Safety
/// The channel's worker; a stale or foreign address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_stream_ch_set_ready_to_read_unsafe(ch: *mut dap_stream_ch_t, is_ready: bool) {
    guard("dap_stream_ch_set_ready_to_read_unsafe", (), || {
        on_channel_index(ch, |worker, conn, index| conn.set_ready_to_read(worker, index, is_ready));
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
        let found = worker::with_current(|worker| {
            let conn = conn_at(worker, stream.addr())?;
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
        let found = worker::with_current(|current| {
            if current.shared.stream_view.addr() != worker.addr() {
                return None;
            }
            let mailbox = current.runtime.channels.read().get(&uuid).cloned()?;
            let conn = current.conn(mailbox.stream())?;
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

// --- look-ups ----------------------------------------------------------------------------------------------------------

/// Calls `body` with the channel at an address, if it is one of the calling worker.
pub(crate) fn on_channel<R>(
    ch: *mut dap_stream_ch_t,
    body: impl FnOnce(&Rc<Worker>, &Rc<Conn>, &Channel) -> R,
) -> Option<R> {
    worker::with_current(|worker| {
        let conn = conn_at(worker, ch.addr())?;
        let channel = conn.view()?.channels.iter().find(|channel| channel.view.addr() == ch.addr())?;
        Some(body(worker, &conn, channel))
    })
    .flatten()
}

fn on_channel_index(ch: *mut dap_stream_ch_t, body: impl FnOnce(&Rc<Worker>, &Rc<Conn>, usize)) {
    let found = worker::with_current(|worker| {
        let conn = conn_at(worker, ch.addr())?;
        let index = conn.view()?.channels.iter().position(|channel| channel.view.addr() == ch.addr())?;
        body(worker, &conn, index);
        Some(())
    });
    if found.flatten().is_none() {
        log::error!("dap_stream_ch_set_ready_to_read_unsafe: not a channel of this worker");
    }
}

fn conn_at(worker: &Worker, address: usize) -> Option<Rc<Conn>> {
    match worker.source_at(address) {
        Some(Source::Conn(conn)) => Some(conn),
        _ => None,
    }
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
