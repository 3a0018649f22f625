//! `glue.h` in Rust. Each function's contract stands there.

use std::ffi::{c_char, c_int, c_void};

use super::types::*;

pub(super) const NO_WORKER: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Callbacks {
    pub(super) tun_front: usize,
    pub(super) channel_opened: unsafe extern "C" fn(*mut dap_stream_ch_t, bool, u32) -> *mut c_void,
    pub(super) channel_closed: unsafe extern "C" fn(*mut dap_stream_ch_t, *mut c_void),
    pub(super) channel_packet: unsafe extern "C" fn(*mut c_void, u8, *const u8, usize),
    pub(super) channel_drained: unsafe extern "C" fn(*mut c_void),
    pub(super) channel_leaving: unsafe extern "C" fn(*mut c_void),
    pub(super) channel_arrived: unsafe extern "C" fn(*mut c_void, u32),
    pub(super) service_requested: unsafe extern "C" fn(u32) -> c_int,
    pub(super) service_accepted: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    pub(super) service_refused: unsafe extern "C" fn(u32, u32),
    pub(super) tun_readable: unsafe extern "C" fn(*mut c_void, *mut u8, usize),
    pub(super) tun_failed: unsafe extern "C" fn(*mut c_void, c_int),
    pub(super) tun_deleted: unsafe extern "C" fn(*mut c_void),
    pub(super) client_connected: unsafe extern "C" fn(u64),
    pub(super) client_failed: unsafe extern "C" fn(u64, c_int),
    pub(super) client_disconnected: unsafe extern "C" fn(u64),
    pub(super) client_service_packet: unsafe extern "C" fn(u64, u8, *const u8, usize),
    pub(super) http_remain_limits: unsafe extern "C" fn(*mut c_void, *const c_char, usize),
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Usage {
    pub(super) id: u32,
    pub(super) is_active: bool,
    pub(super) state: i32,
    pub(super) role_serves: bool,
}

/// Traffic of a session as `vpn_stat` shows it: "sent" by the client, "recv" by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Bytes from the client.
    pub bytes_sent: u64,
    /// Bytes to the client.
    pub bytes_recv: u64,
    /// Bytes from the client that were dropped.
    pub bytes_sent_lost: u64,
    /// Bytes to the client that were dropped.
    pub bytes_recv_lost: u64,
    /// Packets from the client.
    pub packets_sent: u64,
    /// Packets to the client.
    pub packets_recv: u64,
    /// Packets from the client that were dropped.
    pub packets_sent_lost: u64,
    /// Packets to the client that were dropped.
    pub packets_recv_lost: u64,
}

/// A session with a lease, for C to look at.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) usage_id: u32,
    pub(super) address: u32,
    pub(super) is_allowed: bool,
    pub(super) ch: *mut dap_stream_ch_t,
}

/// One service session as the SDK lists it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SessionView {
    /// Seconds since 1970.
    pub time_created: u64,
    /// The inner address, network order; 0 without a lease.
    pub address: u32,
    /// Its traffic.
    pub stats: SessionStats,
}

pub(super) type Command = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_void, c_int) -> c_int;

unsafe extern "C" {
    pub(super) fn vpn_glue_set_callbacks(callbacks: *const Callbacks);
    pub(super) fn vpn_glue_retain() -> c_int;
    pub(super) fn vpn_glue_release();
    pub(super) fn vpn_glue_settle();
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_log(level: c_int, message: *const c_char);
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_log_level() -> c_int;
    pub(super) fn vpn_glue_alloc(size: usize) -> *mut c_void;
    pub(super) fn vpn_glue_free(memory: *mut c_void);

    pub(super) fn vpn_glue_config_bool(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        otherwise: bool,
    ) -> bool;
    pub(super) fn vpn_glue_config_int(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        otherwise: i64,
    ) -> i64;
    pub(super) fn vpn_glue_config_str(config: *mut c_void, section: *const c_char, key: *const c_char)
    -> *const c_char;
    pub(super) fn vpn_glue_config_list(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        count: *mut u16,
    ) -> *const *const c_char;

    pub(super) fn vpn_glue_worker_count() -> u32;
    pub(super) fn vpn_glue_worker_current() -> u32;
    pub(super) fn vpn_glue_worker_exec(
        worker: u32,
        callback: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
    ) -> bool;
    pub(super) fn vpn_glue_worker_pointer(worker: u32) -> *mut c_void;
    pub(super) fn vpn_glue_timer_start(
        worker: u32,
        milliseconds: u64,
        callback: unsafe extern "C" fn(*mut c_void) -> bool,
        argument: *mut c_void,
    ) -> u64;
    pub(super) fn vpn_glue_timer_stop(worker: u32, timer: u64);

    pub(super) fn vpn_glue_tun_add(
        fd: c_int,
        worker: u32,
        inheritor: *mut c_void,
        uuid: *mut u64,
    ) -> *mut dap_events_socket_t;
    pub(super) fn vpn_glue_tun_remove(worker: u32, uuid: u64);
    #[cfg(not(feature = "client-tun"))]
    pub(super) fn vpn_glue_tun_write(es: *const dap_events_socket_t, packet: *const c_void, size: usize) -> bool;
    pub(super) fn vpn_glue_tun_set_readable(es: *mut dap_events_socket_t, readable: bool);

    pub(super) fn vpn_glue_channel_register();
    pub(super) fn vpn_glue_channel_send(ch: *mut dap_stream_ch_t, kind: u8, data: *const c_void, size: usize) -> usize;
    pub(super) fn vpn_glue_channel_pending(ch: *const dap_stream_ch_t) -> usize;
    pub(super) fn vpn_glue_channel_enable(ch: *mut dap_stream_ch_t);
    pub(super) fn vpn_glue_channel_wake_on_drain(ch: *mut dap_stream_ch_t, wake: bool);
    pub(super) fn vpn_glue_channel_touch(ch: *mut dap_stream_ch_t);
    pub(super) fn vpn_glue_channel_close_stream(ch: *mut dap_stream_ch_t);
    pub(super) fn vpn_glue_channel_peer(ch: *const dap_stream_ch_t, out: *mut c_char, size: usize);
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_stream_worker_is_here(stream_worker: *mut dap_stream_worker_t) -> bool;
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_channel_place(
        ch: *const dap_stream_ch_t,
        stream_worker: *mut *mut dap_stream_worker_t,
        uuid: *mut u64,
    ) -> bool;
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_channel_find(stream_worker: *mut dap_stream_worker_t, uuid: u64) -> *mut dap_stream_ch_t;
    pub(super) fn vpn_glue_channel_usage(ch: *const dap_stream_ch_t, out: *mut Usage) -> bool;
    pub(super) fn vpn_glue_channel_usage_activate(ch: *mut dap_stream_ch_t);
    pub(super) fn vpn_glue_channel_set_inner_address(ch: *mut dap_stream_ch_t, address: u32);
    pub(super) fn vpn_glue_channel_stats_add(ch: *mut dap_stream_ch_t, delta: *const SessionStats);
    pub(super) fn vpn_glue_sessions_each(
        callback: unsafe extern "C" fn(*mut c_void, *const SessionView),
        context: *mut c_void,
    );

    pub(super) fn vpn_glue_service_add(section: *const c_char) -> *mut dap_chain_net_srv_t;
    pub(super) fn vpn_glue_service_show(
        service: *mut dap_chain_net_srv_t,
        sessions: *const Shown,
        session_count: usize,
        released: *const u32,
        released_count: usize,
    );
    pub(super) fn vpn_glue_service_remove(service: *mut dap_chain_net_srv_t);
    pub(super) fn vpn_glue_ledger_tag_register() -> c_int;

    pub(super) fn vpn_glue_net_by_name(name: *const c_char) -> *mut dap_chain_net_t;
    pub(super) fn vpn_glue_net_by_id(id: u64) -> *mut dap_chain_net_t;
    pub(super) fn vpn_glue_net_id(net: *const dap_chain_net_t) -> u64;
    pub(super) fn vpn_glue_net_name(net: *const dap_chain_net_t) -> *const c_char;
    pub(super) fn vpn_glue_net_store_prefix(net: *const dap_chain_net_t) -> *const c_char;
    pub(super) fn vpn_glue_net_free_order(net: *mut dap_chain_net_t, hash: *mut u8) -> bool;
    pub(super) fn vpn_glue_net_orders(
        net: *mut dap_chain_net_t,
        callback: unsafe extern "C" fn(*mut c_void, *const u8, u64),
        context: *mut c_void,
    );

    pub(super) fn vpn_glue_client_connect(
        net: *mut dap_chain_net_t,
        host: *const c_char,
        port: u16,
        channels: *const c_char,
        id: u64,
    ) -> *mut dap_chain_node_client_t;
    pub(super) fn vpn_glue_client_close(client: *mut dap_chain_node_client_t);
    pub(super) fn vpn_glue_client_channel(client: *mut dap_chain_node_client_t, letter: c_char)
    -> *mut dap_stream_ch_t;
    pub(super) fn vpn_glue_client_stream_worker(client: *mut dap_chain_node_client_t) -> *mut dap_stream_worker_t;

    pub(super) fn vpn_glue_store_get(group: *const c_char, key: *const c_char, size: *mut usize) -> *mut u8;
    pub(super) fn vpn_glue_store_set(
        group: *const c_char,
        key: *const c_char,
        value: *const c_void,
        size: usize,
    ) -> c_int;

    pub(super) fn vpn_glue_command_add(
        name: *const c_char,
        function: Command,
        summary: *const c_char,
        usage: *const c_char,
    );
    pub(super) fn vpn_glue_command_remove(name: *const c_char);
    pub(super) fn vpn_glue_command_reply(reply: *mut *mut c_void, text: *const c_char);
    pub(super) fn vpn_glue_http_register() -> c_int;
    pub(super) fn vpn_glue_http_unregister();
    pub(super) fn vpn_glue_http_reply(request: *mut c_void, status: c_int, body: *const c_char, size: usize);
    pub(super) fn vpn_glue_receipt_key_hash(out: *mut c_char, size: usize) -> bool;

    pub(super) fn vpn_glue_wallet_exists(name: *const c_char) -> bool;
    pub(super) fn vpn_glue_wallet_pay(
        net: *mut dap_chain_net_t,
        wallet: *const c_char,
        token: *const c_char,
        value: u64,
        hash: *mut u8,
    ) -> bool;
    pub(super) fn vpn_glue_packet_parts(
        packet: *const dap_stream_ch_pkt_t,
        kind: *mut u8,
        size: *mut usize,
    ) -> *const u8;
}
