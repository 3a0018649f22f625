//! Streams, their channels, sessions and packets.

use super::base::DAP_STREAM_CHANNELS_SIZE;
use super::events::{dap_events_socket, dap_worker};
use std::cell::Cell;
use std::ffi::{c_char, c_void};

pub type dap_stream_ch_uuid_t = u32;

/// One channel packet's header on the wire (16 bytes, little-endian), inside TLS in the embedded SDK.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct dap_stream_ch_pkt_hdr {
    pub id: u8,
    pub enc_type: u8,
    pub r#type: u8,
    pub padding: u8,
    pub seq_id: u64,
    pub data_size: u32,
}
pub type dap_stream_ch_pkt_hdr_t = dap_stream_ch_pkt_hdr;

#[repr(C, packed)]
pub struct dap_stream_ch_pkt {
    pub hdr: dap_stream_ch_pkt_hdr,
    pub data: [u8; 0],
}
pub type dap_stream_ch_pkt_t = dap_stream_ch_pkt;

#[repr(C)]
pub struct dap_stream_worker {
    pub worker: *mut dap_worker,
}
pub type dap_stream_worker_t = dap_stream_worker;

pub type dap_stream_session_callback_t = Option<unsafe extern "C" fn(*mut dap_stream_session, *mut c_void)>;

#[repr(C)]
pub struct dap_stream_session {
    pub id: u32,
    /// Seconds since 1970.
    pub time_created: u64,
    pub active_channels: [c_char; DAP_STREAM_CHANNELS_SIZE],
    pub tun_client_addr: Cell<libc::in_addr>,
    /// The service session (`dap_chain_net_srv_stream_session_t`), or NULL.
    pub _inheritor: Cell<*mut c_void>,
}
pub type dap_stream_session_t = dap_stream_session;

#[repr(C)]
pub struct dap_stream {
    pub session: *mut dap_stream_session,
    pub esocket: *mut dap_events_socket,
    pub esocket_uuid: u64,
    pub stream_worker: Cell<*mut dap_stream_worker>,
    /// This end opened the stream.
    pub is_client_to_uplink: bool,
    pub channel: Cell<*mut *mut dap_stream_ch>,
    pub channel_count: Cell<usize>,
}
pub type dap_stream_t = dap_stream;

#[repr(C)]
pub struct dap_stream_ch {
    pub ready_to_write: Cell<bool>,
    pub ready_to_read: Cell<bool>,
    pub stream: *mut dap_stream,
    pub uuid: dap_stream_ch_uuid_t,
    pub stream_worker: Cell<*mut dap_stream_worker>,
    pub proc: *mut dap_stream_ch_proc,
    /// For the channel owner's data; the VPN server stores a `dap_chain_net_srv_ch_vpn_t`.
    pub internal: Cell<*mut c_void>,
}
pub type dap_stream_ch_t = dap_stream_ch;

pub type dap_stream_ch_callback_t = Option<unsafe extern "C" fn(*mut dap_stream_ch, *mut c_void)>;
pub type dap_stream_ch_read_callback_t = Option<unsafe extern "C" fn(*mut dap_stream_ch, *mut c_void) -> bool>;
pub type dap_stream_ch_write_callback_t = Option<unsafe extern "C" fn(*mut dap_stream_ch, *mut c_void) -> bool>;
pub type dap_stream_ch_callback_packet_t =
    Option<unsafe extern "C" fn(*mut c_void, u8, *mut dap_stream_ch_pkt, *mut c_void)>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_stream_ch_proc {
    pub id: u8,
    pub new_callback: dap_stream_ch_callback_t,
    pub delete_callback: dap_stream_ch_callback_t,
    /// The second argument is the `dap_stream_ch_pkt_t` that arrived.
    pub packet_in_callback: dap_stream_ch_read_callback_t,
    /// Called on the owning worker while the channel is ready to write, each time the stream's output has gone to the
    /// kernel and the kernel takes more. A call that writes nothing and returns false is the last one until there has
    /// been output again, or the channel is made ready to write; one that returns true is repeated, at most every 5 ms
    /// after eight in a row.
    pub packet_out_callback: dap_stream_ch_write_callback_t,
    pub internal: *mut c_void,
}
pub type dap_stream_ch_proc_t = dap_stream_ch_proc;
