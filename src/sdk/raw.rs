//! The seam as both halves see it: what Rust may call of `glue/*.c`, and the callbacks that it provides.
//!
//! This file is the contract, and the one place where it is written. `build/seam.rs` makes `vpn_glue.h` of it, and the
//! C compiler checks each definition against that header. The C half touches the SDK's structs, macros, varargs
//! functions and allocator; Rust decides.
//!
//! What holds where a function says nothing else:
//! - Threads: any thread may call it. "The owner" is the worker thread that owns the channel or the socket. A worker is
//!   named by its number, from 0 to the count less one.
//! - Ownership: a pointer is not NULL and is used during the call alone, a text is NUL-terminated, an object of the SDK
//!   is alive. A text that C returns belongs to the SDK.
//! - Units: sizes are bytes; an inner address is an IPv4 address in network order.
#![allow(unreachable_pub, reason = "cbindgen takes public constants only")]

use std::ffi::{c_char, c_int, c_void};

use super::types::*;

/// The number of no worker.
pub const NO_WORKER: u32 = 0xffff_ffff;

/// Levels of the SDK's log; those between belong to the next lower one.
#[cfg(feature = "sdk")]
pub const LOG_DEBUG: c_int = 0;
#[cfg(feature = "sdk")]
pub const LOG_INFO: c_int = 1;
#[cfg(feature = "sdk")]
pub const LOG_WARNING: c_int = 5;
#[cfg(feature = "sdk")]
pub const LOG_ERROR: c_int = 7;

/// The role of a node in no network.
pub const NO_ROLE: u32 = 0xffff_ffff;
/// The role "master", by the SDK's number: a smaller one is a higher role. C asserts that the SDK's headers agree.
pub const ROLE_MASTER: u32 = 0x20;

/// How a usage is paid, by the SDK's numbers: not yet. C asserts that the SDK's headers agree.
pub const USAGE_IDLE: i32 = 0;
/// The first payment is pending.
pub const USAGE_GRACE: i32 = 1;
/// By receipts.
pub const USAGE_NORMAL: i32 = 2;
/// By a free order.
pub const USAGE_FREE: i32 = 4;

/// The unit of a price: bytes.
pub const UNIT_BYTES: u32 = 1;

/// What Rust provides. Every function returns without unwinding. C copies the table.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Callbacks {
    /// Headroom in front of the data of `tun_readable`.
    pub(super) tun_headroom: usize,

    /// Channel 'S' was opened; on the owner, as all of channel_*. Returns what becomes `ch->internal`; with NULL the
    /// channel stays unused.
    pub(super) channel_opened:
        unsafe extern "C" fn(ch: *mut dap_stream_ch_t, is_client: bool, worker: u32) -> *mut c_void,
    /// The channel is about to be freed; `ch->internal` is NULL already.
    pub(super) channel_closed: unsafe extern "C" fn(ch: *mut dap_stream_ch_t, internal: *mut c_void),
    /// A packet arrived.
    pub(super) channel_packet: unsafe extern "C" fn(internal: *mut c_void, kind: u8, data: *const u8, size: usize),
    /// The send queue is empty, after `vpn_glue_channel_wake_on_drain`.
    pub(super) channel_drained: unsafe extern "C" fn(internal: *mut c_void),
    /// The stream leaves its worker; on that worker.
    pub(super) channel_leaving: unsafe extern "C" fn(internal: *mut c_void),
    /// The stream has come to another worker; on the new one.
    pub(super) channel_arrived: unsafe extern "C" fn(internal: *mut c_void, worker: u32),

    /// A client asks for service; on the owner, as all of service_*. 0 lets the SDK go on, all else refuses.
    pub(super) service_requested: unsafe extern "C" fn(usage_id: u32) -> c_int,
    /// The SDK accepted the request, or a next receipt. `vpn_internal` is `ch->internal` of the session's channel 'S',
    /// or NULL when the session has none. 0 sends SUCCESS, all else ERROR.
    pub(super) service_accepted: unsafe extern "C" fn(vpn_internal: *mut c_void, usage_id: u32) -> c_int,
    /// The SDK refused the request, with a code of its own.
    pub(super) service_refused: unsafe extern "C" fn(usage_id: u32, code: u32),

    /// A TUN queue became readable; on the owner. `data` is the packet that the SDK's loop has read by itself, or NULL.
    pub(super) tun_readable: unsafe extern "C" fn(inheritor: *mut c_void, data: *mut u8, size: usize),
    /// The queue failed with an errno, and leaves the loop; on the owner.
    pub(super) tun_failed: unsafe extern "C" fn(inheritor: *mut c_void, error: c_int),
    /// The queue has left the loop; the last call with this `inheritor`.
    pub(super) tun_deleted: unsafe extern "C" fn(inheritor: *mut c_void),

    /// The client's connection is up; on the stream's worker. `id` is what `vpn_glue_client_connect` was given.
    pub(super) client_connected: unsafe extern "C" fn(id: u64),
    /// It could not be made, or broke: an errno.
    pub(super) client_failed: unsafe extern "C" fn(id: u64, error: c_int),
    /// It is gone.
    pub(super) client_disconnected: unsafe extern "C" fn(id: u64),
    /// A packet arrived on channel 'R'; on the stream's worker.
    pub(super) client_service_packet: unsafe extern "C" fn(id: u64, kind: u8, data: *const u8, size: usize),

    /// `GET /remain_limits_vpn`, on a thread of the SDK's. Answer with `vpn_glue_http_reply` during the call.
    pub(super) http_remain_limits: unsafe extern "C" fn(request: *mut c_void, query: *const c_char, query_size: usize),
}

/// What the billing side says of a session's use of the service.
#[repr(C)]
pub(super) struct Usage {
    pub(super) id: u32,
    pub(super) is_active: bool,
    /// One of USAGE_*; all else is an error.
    pub(super) state: i32,
    /// The node's role in the usage's network, or NO_ROLE.
    pub(super) role: u32,
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

/// A command of the node's CLI: `*reply` is for `vpn_glue_command_reply`.
pub(super) type Command =
    unsafe extern "C" fn(argc: c_int, argv: *mut *mut c_char, reply: *mut *mut c_void, version: c_int) -> c_int;

// --- host.c, lifecycle_*.c: life, log, memory, configuration, workers, timers ------------------------------------
unsafe extern "C" {
    /// Hands the table over; once, before anything that calls back is registered or made.
    pub(super) fn vpn_glue_set_callbacks(callbacks: *const Callbacks);

    /// Starts the embedded SDK with its first user; 0, or why it could not. The node's SDK runs anyway.
    pub(super) fn vpn_glue_retain() -> c_int;
    /// Balances a successful retain: the embedded SDK stops with its last user.
    pub(super) fn vpn_glue_release();
    /// Blocks, for a bounded time, until what a release on one of the SDK's own threads has begun is done. Returns at
    /// once on such a thread.
    pub(super) fn vpn_glue_settle();

    /// Writes a line into the SDK's log, with one of LOG_*.
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_log(level: c_int, message: *const c_char);
    /// The lowest level that is logged.
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_log_level() -> c_int;

    /// Zeroed memory from the allocator that C frees with; NULL when there is none.
    pub(super) fn vpn_glue_alloc(size: usize) -> *mut c_void;
    /// Frees what `vpn_glue_alloc` or `vpn_glue_store_get` returned, or nothing for NULL.
    pub(super) fn vpn_glue_free(memory: *mut c_void);

    /// A configuration's value, or `otherwise`. `config` NULL is the node's own, here and below.
    pub(super) fn vpn_glue_config_bool(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        otherwise: bool,
    ) -> bool;
    /// As `vpn_glue_config_bool`, for a number.
    pub(super) fn vpn_glue_config_int(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        otherwise: i64,
    ) -> i64;
    /// A text, which lives as long as the configuration; NULL when the key is not there.
    pub(super) fn vpn_glue_config_str(config: *mut c_void, section: *const c_char, key: *const c_char)
    -> *const c_char;
    /// `*count` texts, which live as long as the configuration; NULL when the key is not there.
    pub(super) fn vpn_glue_config_list(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        count: *mut u16,
    ) -> *const *const c_char;

    /// The count of workers.
    pub(super) fn vpn_glue_worker_count() -> u32;
    /// The worker that the calling thread is, or NO_WORKER.
    pub(super) fn vpn_glue_worker_current() -> u32;
    /// The SDK's worker, `dap_worker_t *`; NULL for a number that no worker has.
    pub(super) fn vpn_glue_worker_pointer(worker: u32) -> *mut c_void;
    /// Has a worker call back once, after what it was given before; false when there is no such worker.
    pub(super) fn vpn_glue_worker_exec(
        worker: u32,
        callback: unsafe extern "C" fn(argument: *mut c_void),
        argument: *mut c_void,
    ) -> bool;
    /// Has a worker call back every so many milliseconds while the callback returns true. Returns the timer's number, or
    /// 0 on failure.
    pub(super) fn vpn_glue_timer_start(
        worker: u32,
        milliseconds: u64,
        callback: unsafe extern "C" fn(argument: *mut c_void) -> bool,
        argument: *mut c_void,
    ) -> u64;
    /// Stops a timer of that worker; one that has ended is nothing to stop.
    pub(super) fn vpn_glue_timer_stop(worker: u32, timer: u64);
}

// --- tun.c: TUN queues in a worker's loop ------------------------------------------------------------------------
unsafe extern "C" {
    /// Puts a descriptor, which stays the caller's, into a worker's loop; NULL on failure. `inheritor` comes back with
    /// the tun_* callbacks until tun_deleted; `*uuid` names the socket for `vpn_glue_tun_remove`.
    pub(super) fn vpn_glue_tun_add(
        fd: c_int,
        worker: u32,
        inheritor: *mut c_void,
        uuid: *mut u64,
    ) -> *mut dap_events_socket_t;
    /// Takes a socket out of the loop; tun_deleted tells when that is done.
    pub(super) fn vpn_glue_tun_remove(worker: u32, uuid: u64);
    /// Whether the loop looks for packets to read. On the owner.
    pub(super) fn vpn_glue_tun_set_readable(es: *mut dap_events_socket_t, readable: bool);
    /// Writes a packet to the descriptor of a TUN socket that a legacy part made and keeps; true when all of it went.
    #[cfg(not(feature = "client-tun"))]
    pub(super) fn vpn_glue_tun_write(es: *const dap_events_socket_t, packet: *const c_void, size: usize) -> bool;
}

// --- channel.c: channel 'S'; on the owner, but for register ------------------------------------------------------
unsafe extern "C" {
    /// Has the SDK make channels 'S' that call back. May be repeated.
    pub(super) fn vpn_glue_channel_register();
    /// Sends a packet, whose data the SDK copies; 0 when it took none of it.
    pub(super) fn vpn_glue_channel_send(ch: *mut dap_stream_ch_t, kind: u8, data: *const c_void, size: usize) -> usize;
    /// What waits in the stream's send queue.
    pub(super) fn vpn_glue_channel_pending(ch: *const dap_stream_ch_t) -> usize;
    /// Lets packets come in: the SDK holds them back on a channel whose service is not accepted yet.
    pub(super) fn vpn_glue_channel_enable(ch: *mut dap_stream_ch_t);
    /// Whether channel_drained is called.
    pub(super) fn vpn_glue_channel_wake_on_drain(ch: *mut dap_stream_ch_t, wake: bool);
    /// Tells the SDK that the peer is alive.
    pub(super) fn vpn_glue_channel_touch(ch: *mut dap_stream_ch_t);
    /// Has the stream closed, after the current callback.
    pub(super) fn vpn_glue_channel_close_stream(ch: *mut dap_stream_ch_t);
    /// Writes "host:port" of the peer as a text, cut at `size`.
    pub(super) fn vpn_glue_channel_peer(ch: *const dap_stream_ch_t, out: *mut c_char, size: usize);

    /// Whether the calling thread is the worker of this stream worker; false for NULL.
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_stream_worker_is_here(stream_worker: *const dap_stream_worker_t) -> bool;
    /// Where an open channel is, for `vpn_glue_channel_find`; false off its worker.
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_channel_place(
        ch: *const dap_stream_ch_t,
        stream_worker: *mut *mut dap_stream_worker_t,
        uuid: *mut u64,
    ) -> bool;
    /// The channel of that number; NULL when it is gone.
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_channel_find(stream_worker: *mut dap_stream_worker_t, uuid: u64) -> *mut dap_stream_ch_t;
    /// The data, the type and the size of a packet as the SDK hands it around.
    pub(super) fn vpn_glue_packet_parts(
        packet: *const dap_stream_ch_pkt_t,
        kind: *mut u8,
        size: *mut usize,
    ) -> *const u8;
}

// --- session.c: what the SDK keeps of a session; on the owner, but for sessions_each -----------------------------
unsafe extern "C" {
    /// The session's use of the service; false before a request was accepted.
    pub(super) fn vpn_glue_channel_usage(ch: *const dap_stream_ch_t, out: *mut Usage) -> bool;
    /// Marks the usage active: the service has begun.
    pub(super) fn vpn_glue_channel_usage_activate(ch: *mut dap_stream_ch_t);
    /// Writes the inner address, 0 for none, where C looks for it.
    pub(super) fn vpn_glue_channel_set_inner_address(ch: *mut dap_stream_ch_t, address: u32);
    /// Adds to the session's counters.
    pub(super) fn vpn_glue_channel_stats_add(ch: *mut dap_stream_ch_t, delta: *const SessionStats);
    /// Calls back for each service session, on the calling thread. The callback must not call the SDK.
    pub(super) fn vpn_glue_sessions_each(
        callback: unsafe extern "C" fn(context: *mut c_void, session: *const SessionView),
        context: *mut c_void,
    );
}

// --- service.c: the VPN as a service -----------------------------------------------------------------------------
unsafe extern "C" {
    /// Registers the service with the configuration section of its prices; NULL when the SDK refuses.
    pub(super) fn vpn_glue_service_add(section: *const c_char) -> *mut dap_chain_net_srv_t;
    /// Replaces what C finds behind the service, lists in a `dap_chain_net_srv_vpn_t`, by copies. On worker 0 alone, so
    /// that C which runs there sees lists that stay as they are while it looks. NULL and 0 stand for none.
    pub(super) fn vpn_glue_service_show(
        service: *mut dap_chain_net_srv_t,
        sessions: *const Shown,
        session_count: usize,
        released: *const u32,
        released_count: usize,
    );
    /// Takes the service back; `service` is not used again.
    pub(super) fn vpn_glue_service_remove(service: *mut dap_chain_net_srv_t);
    /// Registers the VPN's tag in the ledger; 0, or the ledger's code.
    pub(super) fn vpn_glue_ledger_tag_register() -> c_int;
}

// --- net.c, payment_*.c: networks, orders, wallets ---------------------------------------------------------------
unsafe extern "C" {
    /// The network of that name, which lives as long as the node's configuration; NULL when there is none.
    pub(super) fn vpn_glue_net_by_name(name: *const c_char) -> *mut dap_chain_net_t;
    /// As `vpn_glue_net_by_name`, by number.
    pub(super) fn vpn_glue_net_by_id(id: u64) -> *mut dap_chain_net_t;
    /// Its number.
    pub(super) fn vpn_glue_net_id(net: *const dap_chain_net_t) -> u64;
    /// Its name, which lives as long as the network.
    pub(super) fn vpn_glue_net_name(net: *const dap_chain_net_t) -> *const c_char;
    /// The prefix of its groups in the store, which lives as long as the network; or NULL.
    pub(super) fn vpn_glue_net_store_prefix(net: *const dap_chain_net_t) -> *const c_char;

    /// Calls back for each order of the VPN service that is known in the network, or for those that sell: its hash (32
    /// bytes), the serving node's address, and whether its price is 0.
    pub(super) fn vpn_glue_net_orders(
        net: *mut dap_chain_net_t,
        selling_only: bool,
        callback: unsafe extern "C" fn(context: *mut c_void, hash: *const u8, node_address: u64, is_free: bool),
        context: *mut c_void,
    );
    /// Whether the node can open the wallet.
    pub(super) fn vpn_glue_wallet_exists(name: *const c_char) -> bool;
    /// Makes a conditional transaction of `value` datoshi that pays the VPN service by `unit` (UNIT_*), and writes its
    /// hash (32 bytes); false when it cannot be made.
    pub(super) fn vpn_glue_wallet_pay(
        net: *mut dap_chain_net_t,
        wallet: *const c_char,
        token: *const c_char,
        value: u64,
        unit: u32,
        hash: *mut u8,
    ) -> bool;
}

// --- client.c: the client's connection ---------------------------------------------------------------------------
unsafe extern "C" {
    /// Connects to a server, and opens the channels that the letters name, in their order; NULL when the SDK refuses at
    /// once. `id` comes back with the client_* callbacks: a number, so that a late one finds nothing.
    pub(super) fn vpn_glue_client_connect(
        net: *mut dap_chain_net_t,
        host: *const c_char,
        port: u16,
        channels: *const c_char,
        id: u64,
    ) -> *mut dap_chain_node_client_t;
    /// Closes the connection; `client` is not used again.
    pub(super) fn vpn_glue_client_close(client: *mut dap_chain_node_client_t);
    /// The channel of a letter; NULL when it is not there.
    pub(super) fn vpn_glue_client_channel(client: *mut dap_chain_node_client_t, letter: c_char)
    -> *mut dap_stream_ch_t;
    /// The stream worker of the connection; NULL when there is none yet.
    pub(super) fn vpn_glue_client_stream_worker(client: *mut dap_chain_node_client_t) -> *mut dap_stream_worker_t;
}

// --- services.c: store, commands, HTTP, certificates -------------------------------------------------------------
unsafe extern "C" {
    /// A value, which the caller frees with `vpn_glue_free`; NULL when it is absent.
    pub(super) fn vpn_glue_store_get(group: *const c_char, key: *const c_char, size: *mut usize) -> *mut u8;
    /// Writes a value, which the SDK copies; 0, or the store's code.
    pub(super) fn vpn_glue_store_set(
        group: *const c_char,
        key: *const c_char,
        value: *const c_void,
        size: usize,
    ) -> c_int;

    /// Registers a command of the node's CLI.
    pub(super) fn vpn_glue_command_add(
        name: *const c_char,
        function: Command,
        summary: *const c_char,
        usage: *const c_char,
    );
    /// Takes a command back; where the SDK cannot, it stays and is still called.
    pub(super) fn vpn_glue_command_remove(name: *const c_char);
    /// Sets what a command answers, which the SDK copies.
    pub(super) fn vpn_glue_command_reply(reply: *mut *mut c_void, text: *const c_char);

    /// Registers `/remain_limits_vpn` with the node's server; 0, or -1 when the node has none.
    pub(super) fn vpn_glue_http_register() -> c_int;
    /// Takes the path back; where the SDK cannot, http_remain_limits is still called.
    pub(super) fn vpn_glue_http_unregister();
    /// Answers the request of http_remain_limits with JSON, which the SDK copies.
    pub(super) fn vpn_glue_http_reply(request: *mut c_void, status: c_int, body: *const c_char, size: usize);

    /// SHA3-256 (32 bytes) of the public key of a certificate; false when the node has no such certificate.
    pub(super) fn vpn_glue_certificate_key_hash(name: *const c_char, hash: *mut u8) -> bool;
}
