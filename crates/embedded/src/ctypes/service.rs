//! Services, their sessions and usages.

use super::base::{dap_chain_net_id, dap_chain_net_srv_uid, dap_hash_fast};
use super::net::dap_chain_net;
use super::stream::{dap_stream_ch, dap_stream_session, dap_stream_worker};
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_chain_net_srv_usage_service_state {
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_IDLE = 0,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_GRACE,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_NORMAL,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_ERROR,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE,
}
pub type dap_chain_net_srv_usage_service_state_t = dap_chain_net_srv_usage_service_state;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_net_stats {
    pub bytes_sent: usize,
    pub bytes_recv: usize,
    pub bytes_sent_lost: usize,
    pub bytes_recv_lost: usize,
    pub packets_sent: usize,
    pub packets_recv: usize,
    pub packets_sent_lost: usize,
    pub packets_recv_lost: isize,
}
pub type dap_net_stats_t = dap_net_stats;

/// One use of a service by one client, from REQUEST to the end of the stream.
#[repr(C)]
pub struct dap_chain_net_srv_usage {
    pub id: u32,
    pub ts_created: c_long,
    pub net: *mut dap_chain_net,
    pub service: *mut dap_chain_net_srv,
    pub client: *mut dap_chain_net_srv_client_remote,
    pub tx_cond_hash: dap_hash_fast,
    pub client_pkey_hash: dap_hash_fast,
    pub static_order_hash: dap_hash_fast,
    pub is_active: Cell<bool>,
    pub service_state: Cell<dap_chain_net_srv_usage_service_state>,
}
pub type dap_chain_net_srv_usage_t = dap_chain_net_srv_usage;

#[repr(C)]
pub struct dap_chain_net_srv_stream_session {
    pub ts_activated: Cell<c_long>,
    pub parent: *mut dap_stream_session,
    pub usage_active: Cell<*mut dap_chain_net_srv_usage>,
    pub limits_bytes: Cell<i64>,
    pub limits_ts: Cell<c_long>,
    pub last_update_ts: Cell<c_long>,
    pub stats: Cell<dap_net_stats>,
}
pub type dap_chain_net_srv_stream_session_t = dap_chain_net_srv_stream_session;

#[repr(C)]
pub struct dap_chain_net_srv_client_remote {
    pub ch: *mut dap_stream_ch,
    pub ts_created: c_long,
    pub stream_worker: *mut dap_stream_worker,
    pub bytes_received: Cell<u64>,
    pub bytes_sent: Cell<u64>,
}
pub type dap_chain_net_srv_client_remote_t = dap_chain_net_srv_client_remote;

/// The rest of a client's paid service, as the node stores it: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_stream_ch_chain_net_srv_remain_service_store {
    pub limits_bytes: i64,
    pub limits_ts: c_long,
}
pub type dap_stream_ch_chain_net_srv_remain_service_store_t = dap_stream_ch_chain_net_srv_remain_service_store;

/// The body of an ERROR on channel 'R' (24 bytes, little-endian).
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct dap_stream_ch_chain_net_srv_pkt_error {
    pub net_id: dap_chain_net_id,
    pub srv_uid: dap_chain_net_srv_uid,
    pub usage_id: u32,
    pub code: u32,
}
pub type dap_stream_ch_chain_net_srv_pkt_error_t = dap_stream_ch_chain_net_srv_pkt_error;

pub type dap_chain_net_srv_callback_data_t = Option<
    unsafe extern "C" fn(
        *mut dap_chain_net_srv,
        u32,
        *mut dap_chain_net_srv_client_remote,
        *const c_void,
        usize,
    ) -> c_int,
>;
pub type dap_chain_net_srv_callback_get_remain_srvice_t = Option<
    unsafe extern "C" fn(
        *mut dap_chain_net_srv,
        u32,
        *mut dap_chain_net_srv_client_remote,
    ) -> *mut dap_stream_ch_chain_net_srv_remain_service_store,
>;
pub type dap_chain_net_srv_callback_save_remain_srvice_t =
    Option<unsafe extern "C" fn(*mut dap_chain_net_srv, u32, *mut dap_chain_net_srv_client_remote) -> c_int>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_net_srv_callbacks {
    /// Called first: 0 admits the request, any other code refuses it with that code.
    pub requested: dap_chain_net_srv_callback_data_t,
    /// Called when the request is accepted (free order, or first receipt signed): SUCCESS follows if this returns 0.
    pub response_success: dap_chain_net_srv_callback_data_t,
    pub response_error: dap_chain_net_srv_callback_data_t,
    pub receipt_next_success: dap_chain_net_srv_callback_data_t,
    pub get_remain_service: dap_chain_net_srv_callback_get_remain_srvice_t,
    pub save_remain_service: dap_chain_net_srv_callback_save_remain_srvice_t,
}
pub type dap_chain_net_srv_callbacks_t = dap_chain_net_srv_callbacks;

#[repr(C)]
pub struct dap_chain_net_srv {
    pub uid: dap_chain_net_srv_uid,
    pub allow_free_srv: bool,
    pub grace_period: u32,
    pub callbacks: dap_chain_net_srv_callbacks,
    pub _inheritor: Cell<*mut c_void>,
    pub _internal: Cell<*mut c_void>,
}
pub type dap_chain_net_srv_t = dap_chain_net_srv;
