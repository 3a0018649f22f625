//! Services, their sessions and usages.

use super::base::{dap_chain_net_id, dap_chain_net_srv_uid, dap_hash_fast};
use super::events::dap_timerfd;
use super::net::dap_chain_net;
use super::receipt::{dap_chain_datum_tx_receipt, dap_chain_net_srv_price, dap_chain_net_srv_price_unit_uid};
use super::stream::{dap_stream_ch, dap_stream_ch_pkt, dap_stream_ch_uuid_t, dap_stream_session, dap_stream_worker};
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

/// What the payment of a usage waits for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_chain_net_srv_usage_service_substate {
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_IDLE = 0,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_FIRST_RECEIPT_SIGN,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEXT_RECEIPT_SIGN,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_TX_FOR_PAYING,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEW_TX_FROM_CLIENT,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_RECEIPT_FOR_NEW_TX_FROM_CLIENT,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEW_TX_IN_LEDGER,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_NORMAL,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_ERROR,
}
pub type dap_chain_net_srv_usage_service_substate_t = dap_chain_net_srv_usage_service_substate;

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
    /// The current receipt, or the first one, which waits for the client's signature; from `malloc`, or NULL.
    pub receipt: Cell<*mut dap_chain_datum_tx_receipt>,
    /// The receipt for the next units; from `malloc`, or NULL.
    pub receipt_next: Cell<*mut dap_chain_datum_tx_receipt>,
    /// NULL if the order is free or unknown.
    pub price: *mut dap_chain_net_srv_price,
    pub client: *mut dap_chain_net_srv_client_remote,
    /// The transaction that pays: the request's, later the last payment.
    pub tx_cond_hash: Cell<dap_hash_fast>,
    pub client_pkey_hash: dap_hash_fast,
    pub static_order_hash: dap_hash_fast,
    /// The timer that waits for a signature. Stale once it has ended by itself.
    pub receipts_timeout_timer: Cell<*mut dap_timerfd>,
    /// Starts that timer for the receipt that waits now. Called on the stream's worker.
    pub receipt_timeout_timer_start_callback: Option<unsafe extern "C" fn(*mut dap_chain_net_srv_usage)>,
    pub receipt_sign_req_cnt: Cell<c_int>,
    pub is_active: Cell<bool>,
    pub is_limits_changed: Cell<bool>,
    pub service_state: Cell<dap_chain_net_srv_usage_service_state>,
    pub service_substate: Cell<dap_chain_net_srv_usage_service_substate>,
    pub last_err_code: Cell<u32>,
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
    pub limits_units_type: Cell<dap_chain_net_srv_price_unit_uid>,
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
#[derive(Clone, Copy, Default)]
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
    /// It and the next one may change between two requests; Rust accesses both atomically.
    pub allow_free_srv: Cell<bool>,
    pub grace_period: Cell<u32>,
    pub callbacks: dap_chain_net_srv_callbacks,
    pub _inheritor: Cell<*mut c_void>,
    pub _internal: Cell<*mut c_void>,
}
pub type dap_chain_net_srv_t = dap_chain_net_srv;

/// Server to client: a receipt that the client has to sign.
pub const DAP_STREAM_CH_CHAIN_NET_SRV_PKT_TYPE_SIGN_REQUEST: u8 = 0x10;

pub type dap_stream_ch_chain_net_srv_callback_packet_t =
    Option<unsafe extern "C" fn(*mut dap_stream_ch_chain_net_srv, u8, *mut dap_stream_ch_pkt, *mut c_void)>;

/// What `internal` of a channel 'R' points to in the SDK. In the embedded SDK it is NULL.
#[repr(C)]
pub struct dap_stream_ch_chain_net_srv {
    pub srv_uid: dap_chain_net_srv_uid,
    pub ch: *mut dap_stream_ch,
    pub ch_uuid: dap_stream_ch_uuid_t,
    pub notify_callback: dap_stream_ch_chain_net_srv_callback_packet_t,
    pub notify_callback_arg: *mut c_void,
}
pub type dap_stream_ch_chain_net_srv_t = dap_stream_ch_chain_net_srv;
