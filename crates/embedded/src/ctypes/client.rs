//! The client's side of a stream.

use super::base::dap_chain_node_addr;
use super::net::dap_chain_net;
use super::stream::dap_stream_ch_callback_packet_t;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

/// Opaque: the connection under a node client.
pub struct dap_client;
pub type dap_client_t = dap_client;

#[repr(C)]
pub struct dap_chain_node_info {
    pub address: dap_chain_node_addr,
    pub ext_port: u16,
    pub ext_host_len: u8,
    /// `ext_host_len` bytes and a NUL; allocated with the struct.
    pub ext_host: [c_char; 0],
}
pub type dap_chain_node_info_t = dap_chain_node_info;

pub type dap_chain_node_client_callback_t = Option<unsafe extern "C" fn(*mut dap_chain_node_client, *mut c_void)>;
pub type dap_chain_node_client_callback_error_t =
    Option<unsafe extern "C" fn(*mut dap_chain_node_client, c_int, *mut c_void)>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_node_client_callbacks {
    /// Called on the stream's worker when the stream is up and its channels exist.
    pub connected: dap_chain_node_client_callback_t,
    /// Called when the stream is gone, on its worker, or on the connecting thread if it never came up.
    pub disconnected: dap_chain_node_client_callback_t,
    /// The last callback; the node client is freed when it returns.
    pub r#delete: dap_chain_node_client_callback_t,
    pub error: dap_chain_node_client_callback_error_t,
}
pub type dap_chain_node_client_callbacks_t = dap_chain_node_client_callbacks;

#[repr(C)]
pub struct dap_chain_node_client_notify_callbacks {
    /// Called when a packet on channel 'R' arrives at the client: (channel, type, packet, `callbacks_arg`).
    pub srv_pkt_in: Cell<dap_stream_ch_callback_packet_t>,
}
pub type dap_chain_node_client_notify_callbacks_t = dap_chain_node_client_notify_callbacks;

#[repr(C)]
pub struct dap_chain_node_client {
    pub client: *mut dap_client,
    pub net: *mut dap_chain_net,
    pub callbacks: dap_chain_node_client_callbacks,
    pub notify_callbacks: dap_chain_node_client_notify_callbacks,
    pub callbacks_arg: *mut c_void,
}
pub type dap_chain_node_client_t = dap_chain_node_client;
