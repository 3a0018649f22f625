//! A stream, its channels and their callbacks, as C sees them.

use super::events::{CWorker, socket_view};
use super::owned::{CBox, CShared, CView};
use super::session::Session;
use super::strings::fill_c_array;
use crate::ctypes::*;
use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The callbacks of one channel letter.
pub(crate) struct Proc(CShared<dap_stream_ch_proc>);

impl Proc {
    pub(crate) fn new(callbacks: dap_stream_ch_proc) -> Self {
        Proc(CShared::new(callbacks))
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_stream_ch_proc {
        self.0.as_ptr()
    }

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

/// C's view of one stream, and the objects that it keeps alive.
pub(crate) struct StreamView {
    pub(crate) es: CBox<dap_events_socket>,
    pub(crate) stream: CBox<dap_stream>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) session: Arc<Session>,
    /// The array that `stream->channel` points to.
    _table: CBox<ChannelTable>,
}

/// The connection's properties that a new stream's structs show.
pub(crate) struct StreamFacts {
    pub(crate) uuid: u64,
    pub(crate) fd: RawFd,
    pub(crate) peer: SocketAddr,
    /// True if this end opened the stream.
    pub(crate) is_client: bool,
    /// Most bytes of queued output.
    pub(crate) output_limit: usize,
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
    /// A stream on `worker` with one channel for each of `procs`. `is_taken` tells whether a channel uuid is in use.
    pub(crate) fn new(
        facts: &StreamFacts,
        worker: &CWorker,
        procs: Vec<Arc<Proc>>,
        is_taken: impl Fn(u32) -> bool,
    ) -> Self {
        let StreamFacts { uuid, fd, peer, is_client, output_limit } = *facts;
        let kind = dap_events_desc_type::DESCRIPTOR_TYPE_SOCKET_CLIENT;
        let mut es = socket_view(fd, uuid, kind, Default::default());
        fill_c_array(&mut es.remote_addr_str, peer.ip().to_canonical().to_string().as_bytes());
        es.remote_port = peer.port();
        es.no_close.set(true);
        es.worker.set(worker.worker.as_ptr());
        es.buf_out_size_max.set(output_limit);
        let es = CBox::new(es);
        let letters: Vec<u8> = procs.iter().map(|proc| proc.letter()).collect();
        let session = Session::new(&letters);
        let stream = CBox::new(dap_stream {
            session: session.as_ptr(),
            esocket: es.as_ptr(),
            esocket_uuid: uuid,
            stream_worker: Cell::new(worker.stream_worker.as_ptr()),
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
                    stream_worker: Cell::new(worker.stream_worker.as_ptr()),
                    proc: proc.as_ptr(),
                    internal: Cell::new(ptr::null_mut()),
                });
                Channel { letter: proc.letter(), uuid, view, proc }
            })
            .collect();
        let table =
            CBox::new(ChannelTable { channels: [const { Cell::new(ptr::null_mut()) }; DAP_STREAM_CHANNELS_MAX] });
        for (slot, channel) in table.channels.iter().zip(&channels) {
            slot.set(channel.view.as_ptr());
        }
        stream.channel.set(table.as_ptr().cast());
        StreamView { es, stream, channels, session, _table: table }
    }

    /// Makes the structs name `worker` as the owner.
    pub(crate) fn move_to(&self, worker: &CWorker) {
        self.es.was_reassigned.set(true);
        self.es.worker.set(worker.worker.as_ptr());
        self.stream.stream_worker.set(worker.stream_worker.as_ptr());
        for channel in &self.channels {
            channel.view.stream_worker.set(worker.stream_worker.as_ptr());
        }
    }
}

fn channel_uuid(is_taken: impl Fn(u32) -> bool) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let uuid = NEXT.fetch_add(1, Ordering::Relaxed);
        // The numbers wrap after 2^32 channels: skips those of long-lived streams.
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

/// `packet` is a header with the data that it announces.
pub(crate) fn packet_in(view: &StreamView, index: usize, packet: &mut [u8]) {
    let Some(channel) = view.channels.get(index) else { return };
    if let Some(callback) = channel.proc.fields().packet_in_callback {
        // SAFETY: as in `channel_new`; the packet is ours and stays in place during the call.
        unsafe { callback(channel.view.as_ptr(), packet.as_mut_ptr().cast()) };
    }
}

/// Calls back a channel that is ready to write. Returns what the callback does: whether it asks for the next call.
pub(crate) fn packet_out(view: &StreamView, index: usize) -> bool {
    let channel = view.channels.get(index).filter(|channel| channel.view.ready_to_write.get());
    let callback = channel.and_then(|channel| Some((channel, channel.proc.fields().packet_out_callback?)));
    // SAFETY: as in `channel_new`.
    callback.is_some_and(|(channel, callback)| unsafe { callback(channel.view.as_ptr(), ptr::null_mut()) })
}
