//! A channel whose packets Rust handles, behind the callback that the stream calls.

use super::stream::Proc;
use crate::ctypes::*;
use crate::panics::guard;
use std::ffi::c_void;
use std::ptr;
use std::slice;

/// Handles the packets of a channel letter.
pub(crate) trait PacketHandler: 'static {
    /// A packet has arrived on the channel at `ch`; false if it cannot be handled.
    fn packet_in(ch: *mut dap_stream_ch, packet: &Packet<'_>) -> bool;

    /// The channel at `ch` ends.
    fn closed(ch: *mut dap_stream_ch);
}

/// A packet in its receive buffer.
pub(crate) struct Packet<'a> {
    pub(crate) kind: u8,
    pub(crate) data: &'a [u8],
    /// The packet for C, with its header.
    pub(crate) whole: *mut dap_stream_ch_pkt,
}

/// The callbacks of a letter whose packets `H` handles.
pub(crate) fn proc_of<H: PacketHandler>(letter: u8) -> Proc {
    Proc::new(dap_stream_ch_proc {
        id: letter,
        new_callback: None,
        delete_callback: Some(closed::<H>),
        packet_in_callback: Some(packet_in::<H>),
        packet_out_callback: None,
        internal: ptr::null_mut(),
    })
}

/// # Safety
/// Called by the stream only: `ch` is one of its channels, `packet` a packet of it.
unsafe extern "C" fn packet_in<H: PacketHandler>(ch: *mut dap_stream_ch, packet: *mut c_void) -> bool {
    guard("packet_in_callback", false, || {
        let whole = packet.cast::<dap_stream_ch_pkt>();
        // SAFETY: the stream passes a whole packet.
        let header = unsafe { whole.cast::<dap_stream_ch_pkt_hdr>().read() };
        let size = header.data_size as usize;
        // SAFETY: the data begins behind the header, inside the packet or at its end.
        let data = unsafe { whole.cast::<u8>().add(size_of::<dap_stream_ch_pkt_hdr>()) };
        // SAFETY: the stream checked that the packet has as much data as its header announces, and keeps it during the
        // call.
        let data = unsafe { slice::from_raw_parts(data, size) };
        H::packet_in(ch, &Packet { kind: header.r#type, data, whole })
    })
}

/// # Safety
/// Called by the stream only: `ch` is one of its channels.
unsafe extern "C" fn closed<H: PacketHandler>(ch: *mut dap_stream_ch, _argument: *mut c_void) {
    guard("delete_callback", (), || H::closed(ch));
}
