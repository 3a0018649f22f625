//! The C structs of the embedded SDK, as C programs and the C half of the seam see them.
//!
//! cbindgen turns this file and `abi/*.rs` into `include/embedded/dap_embedded_sdk.h`. Names and the fields that are
//! there follow the Cellframe SDK (facts: the prototypes and member names that the VPN module relies on); the order and
//! the number of fields are ours, which is why only C compiled against this header may touch them.
//!
//! A field that C code or the event loop changes while Rust holds a reference is a `Cell`: the struct belongs to one
//! worker thread at a time, and a `Cell` makes the change through a shared reference well defined.
#![allow(non_camel_case_types, missing_docs)]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};

/// Most letters a client may name when it opens a stream.
pub const DAP_STREAM_CHANNELS_MAX: usize = 15;
/// Room for them and a NUL.
pub const DAP_STREAM_CHANNELS_SIZE: usize = 16;
pub const DAP_CHAIN_NET_NAME_MAX: usize = 134;
/// Room for a name and a NUL.
pub const DAP_CHAIN_NET_NAME_SIZE: usize = 135;
pub const DAP_CHAIN_HASH_FAST_SIZE: usize = 32;
pub const DAP_CHAIN_TICKER_SIZE_MAX: usize = 10;
pub const DAP_HOSTADDR_STRLEN: usize = 0x100;

#[repr(C)]
pub struct dap_list {
    pub data: *mut c_void,
    pub next: *mut dap_list,
    pub prev: *mut dap_list,
}
pub type dap_list_t = dap_list;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_hash_fast {
    pub raw: [u8; DAP_CHAIN_HASH_FAST_SIZE],
}
pub type dap_hash_fast_t = dap_hash_fast;
pub type dap_chain_hash_fast_t = dap_hash_fast;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_net_id {
    pub uint64: u64,
}
pub type dap_chain_net_id_t = dap_chain_net_id;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_net_srv_uid {
    pub uint64: u64,
}
pub type dap_chain_net_srv_uid_t = dap_chain_net_srv_uid;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_node_addr {
    pub uint64: u64,
}
pub type dap_chain_node_addr_t = dap_chain_node_addr;

/// A configuration file that was read. Opaque to C.
pub struct dap_config;
pub type dap_config_t = dap_config;

// --- networks -----------------------------------------------------------------------------------------------------

#[repr(C)]
pub struct dap_chain_net_pub {
    pub id: dap_chain_net_id,
    pub name: [c_char; DAP_CHAIN_NET_NAME_SIZE],
    pub gdb_groups_prefix: *const c_char,
    pub native_ticker: *const c_char,
    pub config: *mut dap_config,
}

#[repr(C)]
pub struct dap_chain_net {
    pub r#pub: dap_chain_net_pub,
}
pub type dap_chain_net_t = dap_chain_net;

/// A node's role in a network, from the most to the least trusted: the SDK's numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_chain_node_role_enum {
    NODE_ROLE_ROOT_MASTER = 0x00,
    NODE_ROLE_ROOT = 0x01,
    NODE_ROLE_ARCHIVE = 0x02,
    NODE_ROLE_CELL_MASTER = 0x10,
    NODE_ROLE_MASTER = 0x20,
    NODE_ROLE_FULL = 0xf0,
    NODE_ROLE_LIGHT = 0xff,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_node_role {
    pub enums: dap_chain_node_role_enum,
}
pub type dap_chain_node_role_t = dap_chain_node_role;

// --- workers and event sockets ------------------------------------------------------------------------------------

#[repr(C)]
pub struct dap_worker {
    pub id: u32,
    pub _inheritor: Cell<*mut c_void>,
}
pub type dap_worker_t = dap_worker;

pub type dap_events_socket_uuid_t = u64;
pub type dap_events_socket_callback_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut c_void)>;
pub type dap_events_socket_write_callback_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut c_void) -> bool>;
pub type dap_events_socket_callback_error_t = Option<unsafe extern "C" fn(*mut dap_events_socket, c_int)>;
pub type dap_events_socket_callback_queue_ptr_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut c_void)>;
pub type dap_events_socket_worker_callback_t = Option<unsafe extern "C" fn(*mut dap_events_socket, *mut dap_worker)>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_events_socket_callbacks {
    pub queue_ptr_callback: dap_events_socket_callback_queue_ptr_t,
    pub new_callback: dap_events_socket_callback_t,
    pub delete_callback: dap_events_socket_callback_t,
    pub read_callback: dap_events_socket_callback_t,
    pub write_callback: dap_events_socket_write_callback_t,
    pub write_finished_callback: dap_events_socket_callback_t,
    pub error_callback: dap_events_socket_callback_error_t,
    pub worker_assign_callback: dap_events_socket_worker_callback_t,
    pub worker_unassign_callback: dap_events_socket_worker_callback_t,
    pub arg: *mut c_void,
}
pub type dap_events_socket_callbacks_t = dap_events_socket_callbacks;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_events_desc_type {
    DESCRIPTOR_TYPE_SOCKET_CLIENT = 0,
    DESCRIPTOR_TYPE_SOCKET_LISTENING = 2,
    DESCRIPTOR_TYPE_FILE = 7,
    DESCRIPTOR_TYPE_QUEUE = 9,
    DESCRIPTOR_TYPE_TIMER = 10,
}
pub type dap_events_desc_type_t = dap_events_desc_type;

/// An event socket: a descriptor, or a stream's connection, in one worker's loop.
///
/// Made by `dap_events_socket_wrap_no_add` or by the SDK, freed by the SDK after `delete_callback`. Fields are for the
/// owning worker's thread.
#[repr(C)]
pub struct dap_events_socket {
    pub fd: Cell<c_int>,
    pub r#type: Cell<dap_events_desc_type>,
    pub uuid: u64,
    pub flags: Cell<u32>,
    /// The descriptor is not the SDK's to close.
    pub no_close: Cell<bool>,
    pub was_reassigned: Cell<bool>,
    /// What the loop has read already; the embedded SDK leaves reading to `read_callback` and keeps the size at 0.
    pub buf_in: Cell<*mut u8>,
    pub buf_in_size: Cell<usize>,
    /// Bytes accepted for sending that the kernel has not taken yet.
    pub buf_out_size: Cell<usize>,
    pub buf_out_size_max: Cell<usize>,
    pub remote_addr_str: [c_char; DAP_HOSTADDR_STRLEN],
    pub remote_port: u16,
    pub worker: Cell<*mut dap_worker>,
    pub callbacks: Cell<dap_events_socket_callbacks>,
    pub last_time_active: Cell<c_long>,
    pub last_ping_request: Cell<c_long>,
    pub _inheritor: Cell<*mut c_void>,
    pub _pvt: Cell<*mut c_void>,
}
pub type dap_events_socket_t = dap_events_socket;

pub type dap_timerfd_callback_t = Option<unsafe extern "C" fn(*mut c_void) -> bool>;

#[repr(C)]
pub struct dap_timerfd {
    pub timeout_ms: u64,
    pub worker: *mut dap_worker,
    pub esocket_uuid: u64,
    pub callback: dap_timerfd_callback_t,
    pub callback_arg: *mut c_void,
}
pub type dap_timerfd_t = dap_timerfd;

pub type dap_worker_callback_t = Option<unsafe extern "C" fn(*mut c_void)>;

// --- streams ------------------------------------------------------------------------------------------------------

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
    /// The channel's owner keeps what it needs here; the VPN server a `dap_chain_net_srv_ch_vpn_t`.
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
    /// Second argument: the `dap_stream_ch_pkt_t` that arrived.
    pub packet_in_callback: dap_stream_ch_read_callback_t,
    /// Called on the owning worker when the output buffer has drained.
    pub packet_out_callback: dap_stream_ch_write_callback_t,
    pub internal: *mut c_void,
}
pub type dap_stream_ch_proc_t = dap_stream_ch_proc;

// --- services -----------------------------------------------------------------------------------------------------

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

/// What is left of a client's paid service, as the node keeps it in its store: 16 bytes.
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
    /// Asked first: 0 lets the request on, anything else refuses it with that code.
    pub requested: dap_chain_net_srv_callback_data_t,
    /// The request was accepted (free order, or first receipt signed): SUCCESS follows when this returns 0.
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

// --- the client's side of a stream --------------------------------------------------------------------------------

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
    /// On the stream's worker, when the stream is up and its channels exist.
    pub connected: dap_chain_node_client_callback_t,
    /// On the stream's worker (or on the connecting thread when it never came up): the stream is gone.
    pub disconnected: dap_chain_node_client_callback_t,
    /// Last call; the node client is freed when it returns.
    pub r#delete: dap_chain_node_client_callback_t,
    pub error: dap_chain_node_client_callback_error_t,
}
pub type dap_chain_node_client_callbacks_t = dap_chain_node_client_callbacks;

#[repr(C)]
pub struct dap_chain_node_client_notify_callbacks {
    /// A packet on channel 'R' arrived at the client: (channel, type, packet, `callbacks_arg`).
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

// --- CLI and HTTP -------------------------------------------------------------------------------------------------

/// (argc, argv, reply, version) -> exit code of the command.
pub type dap_cli_server_cmd_callback_t =
    Option<unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_void, c_int) -> c_int>;

/// Opaque: a registered command.
pub struct dap_cli_cmd;
pub type dap_cli_cmd_t = dap_cli_cmd;

/// Opaque: the HTTP side of the listener.
pub struct dap_http_server;
pub type dap_http_server_t = dap_http_server;

#[repr(C)]
pub struct dap_server {
    /// The `dap_http_server_t`.
    pub _inheritor: Cell<*mut c_void>,
}
pub type dap_server_t = dap_server;

#[repr(C)]
pub struct dap_http_client {
    pub url_path: [c_char; 1024],
    pub in_query_string: [c_char; 1024],
    pub url_path_len: u32,
    pub in_query_string_len: u32,
}
pub type dap_http_client_t = dap_http_client;

#[repr(C)]
pub struct dap_http_simple {
    pub http_client: *mut dap_http_client,
    pub reply_mime: [c_char; 256],
    pub _pvt: *mut c_void,
}
pub type dap_http_simple_t = dap_http_simple;

/// Second argument: a `http_status_code_t *` (an int) that holds the status of the reply.
pub type dap_http_simple_callback_t = Option<unsafe extern "C" fn(*mut dap_http_simple, *mut c_void)>;

/// Opaque: a registered path.
pub struct dap_http_url_proc;

// --- ledger tags --------------------------------------------------------------------------------------------------

/// Opaque.
pub struct dap_ledger;
pub type dap_ledger_t = dap_ledger;
/// Opaque.
pub struct dap_chain_datum_tx;
pub type dap_chain_datum_tx_t = dap_chain_datum_tx;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_chain_tx_out_cond_subtype {
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_UNDEFINED = 0x0,
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY = 0x1,
}

#[repr(C)]
pub struct dap_chain_tx_out_cond_header {
    pub subtype: u8,
    pub srv_uid: dap_chain_net_srv_uid,
}

#[repr(C)]
pub struct dap_chain_tx_out_cond {
    pub header: dap_chain_tx_out_cond_header,
}
pub type dap_chain_tx_out_cond_t = dap_chain_tx_out_cond;

#[repr(C)]
pub struct dap_chain_tx_in_cond {
    pub tx_prev_hash: dap_hash_fast,
    pub tx_out_prev_idx: u32,
}
pub type dap_chain_tx_in_cond_t = dap_chain_tx_in_cond;

#[repr(C)]
pub struct dap_chain_datum_tx_item_groups {
    pub items_in_cond: *mut dap_list,
    pub items_out_cond_srv_pay: *mut dap_list,
}
pub type dap_chain_datum_tx_item_groups_t = dap_chain_datum_tx_item_groups;

pub type dap_chain_tx_tag_action_type_t = u32;
pub const DAP_CHAIN_TX_TAG_ACTION_OPEN: u32 = 1 << 6;
pub const DAP_CHAIN_TX_TAG_ACTION_USE: u32 = 1 << 7;

pub type dap_ledger_tag_check_callback_t = Option<
    unsafe extern "C" fn(
        *mut dap_ledger,
        *mut dap_chain_datum_tx,
        *mut dap_chain_datum_tx_item_groups,
        *mut dap_chain_tx_tag_action_type_t,
    ) -> bool,
>;

// --- certificates -------------------------------------------------------------------------------------------------

/// Opaque: a key pair.
pub struct dap_enc_key;
pub type dap_enc_key_t = dap_enc_key;

#[repr(C)]
pub struct dap_cert {
    pub enc_key: *mut dap_enc_key,
    pub name: [c_char; 40],
}
pub type dap_cert_t = dap_cert;

// --- logging ------------------------------------------------------------------------------------------------------

/// The SDK's levels, from chatty to grave.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum dap_log_level {
    L_DEBUG = 0,
    L_INFO = 1,
    L_NOTICE = 2,
    L_MSG = 3,
    L_DAP = 4,
    L_WARNING = 5,
    L_ATT = 6,
    L_ERROR = 7,
    L_CRITICAL = 8,
    L_TOTAL = 9,
}
pub type dap_log_level_t = dap_log_level;
