//! The seam's contract: the functions of `glue/*.c` that Rust may call, and the callbacks that Rust provides.
//!
//! The contract is written only here. `build/seam.rs` generates `vpn_glue.h` from this file, and the C compiler checks
//! each definition against that header. The C half handles the SDK's structs, macros, varargs functions and allocator;
//! decisions are Rust's.
//!
//! Rules for every function, unless its comment says otherwise:
//! - Threads: any thread may call it. "The owner" is the worker thread that owns the channel or the socket. A worker is
//!   identified by its number, from 0 to the count less one.
//! - Ownership: a pointer is not NULL and is used only during the call, a text is NUL-terminated, an object of the SDK
//!   is alive. A text that C returns belongs to the SDK.
//! - Units: sizes are bytes; an inner address is an IPv4 address in network order.
#![allow(unreachable_pub, reason = "cbindgen takes public constants only")]

use std::ffi::{c_char, c_int, c_void};

use super::types::*;
use super::visible::dap_chain_net_srv_vpn_tun_socket_t;

/// Stands for "not a worker".
pub const NO_WORKER: u32 = 0xffff_ffff;

/// Levels of the SDK's log; values in between count as the next lower one.
#[cfg(feature = "sdk")]
pub const LOG_DEBUG: c_int = 0;
#[cfg(feature = "sdk")]
pub const LOG_INFO: c_int = 1;
#[cfg(feature = "sdk")]
pub const LOG_NOTICE: c_int = 2;
#[cfg(feature = "sdk")]
pub const LOG_WARNING: c_int = 5;
#[cfg(feature = "sdk")]
pub const LOG_ERROR: c_int = 7;

/// Stands for "not in the network".
pub const NO_ROLE: u32 = 0xffff_ffff;
/// The role "master", by the SDK's number: a smaller one is a higher role. C asserts that the SDK's headers agree.
pub const ROLE_MASTER: u32 = 0x20;

/// Payment states of a usage, by the SDK's numbers: not yet paid. C asserts that the SDK's headers agree.
pub const USAGE_IDLE: i32 = 0;
/// The first payment is pending.
pub const USAGE_GRACE: i32 = 1;
/// Paid by receipts.
pub const USAGE_NORMAL: i32 = 2;
/// A free order.
pub const USAGE_FREE: i32 = 4;

/// Steps of a usage's payment, by the SDK's numbers: the first receipt waits for the client's signature.
pub const SUBSTATE_FIRST_SIGN: i32 = 1;
/// The next receipt waits for the client's signature.
pub const SUBSTATE_NEXT_SIGN: i32 = 2;
/// Nothing waits.
pub const SUBSTATE_NORMAL: i32 = 7;
/// No next receipt can be paid.
pub const SUBSTATE_ERROR: i32 = 8;

/// What the ledger knows of a conditional transaction: nothing.
pub const TX_UNKNOWN: c_int = 0;
/// The ledger cannot be asked at present.
pub const TX_UNAVAILABLE: c_int = -1;
/// Its chain of payments has nothing left.
pub const TX_SPENT: c_int = 1;
/// Its chain of payments has something left.
pub const TX_OPEN: c_int = 2;

/// No server is known whose ledger could be asked.
pub const LEDGER_NONE: c_int = 0;
/// The network has a ledger of its own, which this node keeps.
pub const LEDGER_NETWORK: c_int = 1;
/// It is that of one server.
pub const LEDGER_SERVER: c_int = 2;

/// The functions that Rust provides. Every function returns without unwinding. C copies the table.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Callbacks {
    /// Headroom in front of the data of `tun_readable`.
    pub(super) tun_headroom: usize,

    /// Channel 'S' was opened; on the owner, like all channel_*. The result becomes `ch->internal`; if it is NULL, the
    /// channel stays unused.
    pub(super) channel_opened:
        unsafe extern "C" fn(ch: *mut dap_stream_ch_t, is_client: bool, worker: u32) -> *mut c_void,
    /// The channel is about to be freed; `ch->internal` is NULL already.
    pub(super) channel_closed: unsafe extern "C" fn(ch: *mut dap_stream_ch_t, internal: *mut c_void),
    /// A packet arrived.
    pub(super) channel_packet: unsafe extern "C" fn(internal: *mut c_void, kind: u8, data: *const u8, size: usize),
    /// The kernel has room, after `vpn_glue_channel_wake_on_drain`; `waiting` bytes are in the send queue. True asks for
    /// the next call.
    pub(super) channel_drained: unsafe extern "C" fn(internal: *mut c_void, waiting: usize) -> bool,
    /// The stream leaves its worker; on that worker.
    pub(super) channel_leaving: unsafe extern "C" fn(internal: *mut c_void),
    /// The stream has arrived on another worker; on the new one.
    pub(super) channel_arrived: unsafe extern "C" fn(internal: *mut c_void, worker: u32),

    /// A client opened channel 'R' on a stream to this node; on the owner, like all gate_*. `r` identifies the channel
    /// and is used only during these calls.
    pub(super) gate_opened: unsafe extern "C" fn(r: *mut dap_stream_ch_t),
    /// Channel 'R' is about to be freed, and with it the session's usage. `vpn_internal` is `ch->internal` of the
    /// session's channel 'S', or NULL if the session has none, here and below.
    pub(super) gate_closed: unsafe extern "C" fn(r: *mut dap_stream_ch_t, vpn_internal: *mut c_void),
    /// A packet arrived on channel 'R'. The SDK gets it only if the callback calls `vpn_glue_gate_pass`.
    pub(super) gate_packet: unsafe extern "C" fn(
        r: *mut dap_stream_ch_t,
        vpn_internal: *mut c_void,
        kind: u8,
        data: *const u8,
        size: usize,
    ),

    /// A client requests the service; on the owner, like all service_*. 0 lets the SDK continue, any other value
    /// refuses.
    pub(super) service_requested: unsafe extern "C" fn(usage_id: u32) -> c_int,
    /// The SDK accepted the request or a next receipt. `vpn_internal` is `ch->internal` of the session's channel 'S',
    /// or NULL if the session has none. 0 sends SUCCESS, any other value ERROR.
    pub(super) service_accepted: unsafe extern "C" fn(vpn_internal: *mut c_void, usage_id: u32) -> c_int,
    /// The SDK accepted and paid the next receipt, signed by the client. 0 keeps it, any other value refuses.
    pub(super) service_next_accepted: unsafe extern "C" fn(vpn_internal: *mut c_void, usage_id: u32) -> c_int,
    /// The SDK refused the request, or a payment of a running service failed, with this code. `usage_id` is 0 before
    /// there is a usage.
    pub(super) service_refused: unsafe extern "C" fn(vpn_internal: *mut c_void, usage_id: u32, code: u32),
    /// Writes the rest that the client may use before it pays again; false if there is none.
    pub(super) service_get_rest:
        unsafe extern "C" fn(vpn_internal: *mut c_void, usage_id: u32, rest: *mut Rest) -> bool,
    /// The session's usage is about to end.
    pub(super) service_save_rest: unsafe extern "C" fn(vpn_internal: *mut c_void, usage_id: u32),

    /// A TUN queue became readable; on the owner. `data` is a packet that the SDK's loop has already read, or NULL.
    pub(super) tun_readable: unsafe extern "C" fn(inheritor: *mut c_void, data: *mut u8, size: usize),
    /// The queue failed with an errno and leaves the loop; on the owner.
    pub(super) tun_failed: unsafe extern "C" fn(inheritor: *mut c_void, error: c_int),
    /// The queue has left the loop; the last call with this `inheritor`.
    pub(super) tun_deleted: unsafe extern "C" fn(inheritor: *mut c_void),

    /// The client's connection is up; on the stream's worker. `id` is the one passed to `vpn_glue_client_connect`.
    pub(super) client_connected: unsafe extern "C" fn(id: u64),
    /// The connection failed, with an errno.
    pub(super) client_failed: unsafe extern "C" fn(id: u64, error: c_int),
    /// The connection has ended.
    pub(super) client_disconnected: unsafe extern "C" fn(id: u64),
    /// A packet arrived on channel 'R'; on the stream's worker.
    pub(super) client_service_packet: unsafe extern "C" fn(id: u64, kind: u8, data: *const u8, size: usize),

    /// `GET /remain_limits_vpn`, on one of the SDK's threads. The callback answers with `vpn_glue_http_reply`.
    pub(super) http_remain_limits: unsafe extern "C" fn(request: *mut c_void, query: *const c_char, query_size: usize),
}

/// The SDK's record of a session's use of the service.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Usage {
    pub(super) id: u32,
    pub(super) is_active: bool,
    /// One of USAGE_*; any other value means failure.
    pub(super) state: i32,
    /// One of SUBSTATE_* or another step; 0 if this SDK does not say.
    pub(super) substate: i32,
    /// The node's role in the usage's network, or NO_ROLE.
    pub(super) role: u32,
    /// The usage's network.
    pub(super) net: *mut dap_chain_net_t,
    /// The unit of the price, by the SDK's number; 0 if there is no price.
    pub(super) unit: u32,
    /// The units of one receipt.
    pub(super) units: u64,
    /// The value of one receipt in datoshi, 256 bits as the SDK stores them.
    pub(super) value: [u8; 32],
    /// The last transaction of the chain of payments, as far as the SDK knows it.
    pub(super) transaction: [u8; 32],
    /// The hash of the key that the client says it has.
    pub(super) client_key: [u8; 32],
}

/// What is left of a client's paid service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Bytes.
    pub bytes: i64,
    /// Seconds.
    pub seconds: i64,
}

/// An order, as the node's `[srv_vpn]` section would serve it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OrderTerms {
    /// The price of one receipt is 0.
    pub is_free: bool,
    /// The order is for the VPN, of this node or for this service, and signed by receipt_sign_cert.
    pub is_ours: bool,
    /// The price is in the network's own token, the only one that the SDK pays with.
    pub is_native: bool,
    /// The node gives free service.
    pub allows_free: bool,
    /// The unit of the price, by the SDK's number.
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
    /// The value of one receipt in datoshi, 256 bits as the SDK stores them.
    pub value: [u8; 32],
}

/// A transaction in the ledger, as the means to pay for an order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionTerms {
    /// It has an output that pays for a service; if not, the rest is zeros.
    pub has_output: bool,
    /// The output pays for the VPN.
    pub is_for_vpn: bool,
    /// The output's token is the network's own.
    pub is_native: bool,
    /// The unit of the output, by the SDK's number.
    pub unit: u32,
    /// The price of a unit is within the output's limit.
    pub fits_max_price: bool,
    /// The output holds the value and the fees of one payment.
    pub is_enough: bool,
    /// Nothing has spent the output yet.
    pub is_last: bool,
    /// The hash of the key that may sign receipts.
    pub client_key: [u8; 32],
    /// The first transaction of the chain of payments.
    pub first: [u8; 32],
    /// The last one, whose output nothing has spent; zeros if the chain is used up.
    pub last: [u8; 32],
}

/// Traffic of a session, as `vpn_stat` names it: the client has "sent" or "recv" it.
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

/// A session with a lease, as an entry of C's snapshot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedSession {
    pub(super) usage_id: u32,
    pub(super) address: u32,
    pub(super) is_allowed: bool,
    pub(super) tun_socket: *mut dap_chain_net_srv_vpn_tun_socket_t,
}

/// What the kernel knows of the path that a stream's TCP connection takes. A value that it does not know is the largest
/// of its type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The rate at which the kernel sends, bytes a second: with bbr the path's, else an upper bound of it.
    pub pacing_rate: u64,
    /// The rate at which the peer has acknowledged lately, bytes a second; 0 before the first sample.
    pub delivery_rate: u64,
    /// There was too little to send for `delivery_rate` to show what the path can take.
    pub is_app_limited: bool,
    /// The smoothed round trip, microseconds; 0 before the first sample.
    pub rtt: u32,
    /// The shortest round trip that the kernel remembers, microseconds.
    pub min_rtt: u32,
    /// The congestion window, bytes.
    pub cwnd: u64,
    /// The data of one segment, bytes.
    pub mss: u32,
    /// Segments that have been sent and are not acknowledged.
    pub unacked: u32,
    /// Bytes that the kernel has not sent yet.
    pub unsent: u32,
    /// Segments that have been sent again since the connection began.
    pub retransmits: u32,
    /// The state of the congestion control, by the kernel's number: 0 open, 1 disorder, 2 reduced, 3 recovery, 4 loss.
    pub ca_state: u8,
    /// How many timeouts in a row have passed without an acknowledgement of what was sent again.
    pub timeouts: u8,
}

/// What bbr knows of the path, where it is the connection's congestion control.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bbr {
    /// The rate of the path, bytes a second.
    pub rate: u64,
    /// By what bbr multiplies what fills the path, for its window, in parts of 256: the number of its phase.
    pub window_gain: u32,
}

/// A service session, as the SDK lists it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SessionView {
    /// Seconds since 1970.
    pub time_created: u64,
    /// The inner address, network order; 0 without a lease.
    pub address: u32,
    /// The session's traffic.
    pub stats: SessionStats,
}

/// An order of the VPN service. Pointers live during the callback.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct OrderView {
    pub(super) hash: [u8; 32],
    /// The serving node's address.
    pub(super) node: u64,
    /// It is this node's.
    pub(super) is_here: bool,
    /// What `units` cost, in datoshi; u64::MAX if it is more.
    pub(super) price: u64,
    pub(super) units: u64,
    /// The SDK's number of the unit.
    pub(super) unit: u32,
    /// The token's ticker.
    pub(super) token: *const c_char,
    /// Where the network's list of nodes has the node; NULL if the list lacks it, or places were not asked for.
    pub(super) host: *const c_char,
    pub(super) port: u16,
}

/// The last transaction of a chain of payments.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct TxView {
    pub(super) hash: [u8; 32],
    /// The hash of the public key that may spend it.
    pub(super) key_hash: [u8; 32],
    /// What is left, in datoshi; u64::MAX if it is more.
    pub(super) value: u64,
    /// What a payment costs beside its value, in datoshi: the fees of the network and of the validators.
    pub(super) fee: u64,
    /// The most that a unit may cost, in datoshi; 0 for no limit.
    pub(super) unit_price_max: u64,
    /// The SDK's number of the unit.
    pub(super) unit: u32,
    /// The token's ticker, NUL-terminated.
    pub(super) token: [c_char; 16],
}

/// A command of the node's CLI: `*reply` is passed to `vpn_glue_command_reply`.
pub(super) type Command =
    unsafe extern "C" fn(argc: c_int, argv: *mut *mut c_char, reply: *mut *mut c_void, version: c_int) -> c_int;

// --- host.c, lifecycle_*.c: life, log, memory, configuration, workers, timers ------------------------------------
unsafe extern "C" {
    /// Gives the table to C; once, before anything that calls back is registered or created.
    pub(super) fn vpn_glue_set_callbacks(callbacks: *const Callbacks);

    /// Blocks, for a bounded time, until the end that a release has started on one of the SDK's threads is complete.
    /// Returns at once on such a thread.
    pub(super) fn vpn_glue_settle();

    /// Writes a line into the SDK's log, with one of LOG_* and a tag in front.
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_log(level: c_int, tag: *const c_char, message: *const c_char);
    /// The lowest level that is logged.
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_log_level() -> c_int;

    /// Zeroed memory from the allocator that C frees with; NULL if there is no memory.
    pub(super) fn vpn_glue_alloc(size: usize) -> *mut c_void;
    /// Frees the memory that `vpn_glue_alloc` or `vpn_glue_store_get` returned; does nothing for NULL.
    pub(super) fn vpn_glue_free(memory: *mut c_void);

    /// Whether the key is there, and whether its value is a list. `config` NULL means the node's, here and below.
    pub(super) fn vpn_glue_config_has(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        is_list: *mut bool,
    ) -> bool;
    /// Reads the file of the node's configuration again, for `vpn_glue_config_close`; NULL if it cannot be opened, and with
    /// the embedded SDK.
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_config_reread() -> *mut c_void;
    /// Closes what `vpn_glue_config_reread` has opened.
    #[cfg(feature = "sdk")]
    pub(super) fn vpn_glue_config_close(config: *mut c_void);
    /// A configuration's value, or `default_value` if the key is missing.
    pub(super) fn vpn_glue_config_bool(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        default_value: bool,
    ) -> bool;
    /// Like `vpn_glue_config_bool`, for a number.
    pub(super) fn vpn_glue_config_int(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        default_value: i64,
    ) -> i64;
    /// A text, which lives as long as the configuration; NULL if the key is missing.
    pub(super) fn vpn_glue_config_str(config: *mut c_void, section: *const c_char, key: *const c_char)
    -> *const c_char;
    /// `*count` texts, which live as long as the configuration; NULL if the key is missing.
    pub(super) fn vpn_glue_config_list(
        config: *mut c_void,
        section: *const c_char,
        key: *const c_char,
        count: *mut u16,
    ) -> *const *const c_char;

    /// The number of workers.
    pub(super) fn vpn_glue_worker_count() -> u32;
    /// The calling thread's worker, or NO_WORKER.
    pub(super) fn vpn_glue_worker_current() -> u32;
    /// The SDK's worker, `dap_worker_t *`; NULL if no worker has this number.
    pub(super) fn vpn_glue_worker_pointer(worker: u32) -> *mut c_void;
    /// Makes a worker call back once, after its earlier tasks; false if the worker does not exist.
    pub(super) fn vpn_glue_worker_exec(
        worker: u32,
        callback: unsafe extern "C" fn(argument: *mut c_void),
        argument: *mut c_void,
    ) -> bool;
    /// Makes a worker call back at this interval while the callback returns true. Returns the timer's number, or 0 on
    /// failure.
    pub(super) fn vpn_glue_timer_start(
        worker: u32,
        milliseconds: u64,
        callback: unsafe extern "C" fn(argument: *mut c_void) -> bool,
        argument: *mut c_void,
    ) -> u64;
    /// Stops a timer of that worker; does nothing if it has ended.
    pub(super) fn vpn_glue_timer_stop(worker: u32, timer: u64);
}

// --- tun.c: TUN queues in a worker's loop ------------------------------------------------------------------------
unsafe extern "C" {
    /// Adds a descriptor, which still belongs to the caller, to a worker's loop; NULL on failure. The tun_* callbacks
    /// get `inheritor` until tun_deleted; `*uuid` identifies the socket for `vpn_glue_tun_remove`.
    pub(super) fn vpn_glue_tun_add(
        fd: c_int,
        worker: u32,
        inheritor: *mut c_void,
        uuid: *mut u64,
    ) -> *mut dap_events_socket_t;
    /// Removes a socket from the loop; tun_deleted reports the end.
    pub(super) fn vpn_glue_tun_remove(worker: u32, uuid: u64);
    /// Writes a packet to the descriptor of a TUN socket that a legacy part owns; true if it was written completely.
    #[cfg(not(feature = "client-tun"))]
    pub(super) fn vpn_glue_tun_write(es: *const dap_events_socket_t, packet: *const c_void, size: usize) -> bool;
}

// --- channel.c: channel 'S'; on the owner, but for register ------------------------------------------------------
unsafe extern "C" {
    /// Registers channels 'S' that call back. May be repeated.
    pub(super) fn vpn_glue_channel_register();
    /// Sends a packet, whose data the SDK copies; 0 if the SDK refused it.
    pub(super) fn vpn_glue_channel_send(ch: *mut dap_stream_ch_t, kind: u8, data: *const c_void, size: usize) -> usize;
    /// The size of the stream's send queue.
    pub(super) fn vpn_glue_channel_pending(ch: *const dap_stream_ch_t) -> usize;
    /// The bytes that the kernel has and the peer has not acknowledged; 0 if the kernel does not say.
    pub(super) fn vpn_glue_channel_unacknowledged(ch: *const dap_stream_ch_t) -> usize;
    /// Enables reception: the SDK holds packets back until the channel's service is accepted.
    pub(super) fn vpn_glue_channel_enable(ch: *mut dap_stream_ch_t);
    /// Enables channel_drained, or lets the SDK disable it; it may still be called then.
    pub(super) fn vpn_glue_channel_wake_on_drain(ch: *mut dap_stream_ch_t, wake: bool);
    /// Reports to the SDK that the peer is alive.
    pub(super) fn vpn_glue_channel_touch(ch: *mut dap_stream_ch_t);
    /// Says whether the service serves the channel's client: the SDK keeps the stream.
    pub(super) fn vpn_glue_channel_serve(ch: *mut dap_stream_ch_t, is_served: bool);
    /// Closes the stream after the current callback.
    pub(super) fn vpn_glue_channel_close_stream(ch: *mut dap_stream_ch_t);
    /// Writes "host:port" of the peer as a text, truncated to `size`.
    pub(super) fn vpn_glue_channel_peer(ch: *const dap_stream_ch_t, out: *mut c_char, size: usize);

    /// Whether the calling thread is the stream worker's; false for NULL.
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_stream_worker_is_here(stream_worker: *const dap_stream_worker_t) -> bool;
    /// The stream worker and the uuid of an open channel, for `vpn_glue_channel_find`; false off its worker.
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_channel_place(
        ch: *const dap_stream_ch_t,
        stream_worker: *mut *mut dap_stream_worker_t,
        uuid: *mut u64,
    ) -> bool;
    /// The channel with this uuid; NULL if it is closed.
    #[cfg(feature = "client-tun")]
    pub(super) fn vpn_glue_channel_find(stream_worker: *mut dap_stream_worker_t, uuid: u64) -> *mut dap_stream_ch_t;
    /// The data, the type and the size of a packet of the SDK.
    pub(super) fn vpn_glue_packet_parts(
        packet: *const dap_stream_ch_pkt_t,
        kind: *mut u8,
        size: *mut usize,
    ) -> *const u8;
}

// --- path.c: the TCP connection below channel 'S'; on the owner ---------------------------------------------------
unsafe extern "C" {
    /// What the kernel knows of the connection's path; false if it is none of TCP.
    pub(super) fn vpn_glue_channel_path(ch: *const dap_stream_ch_t, out: *mut PathInfo) -> bool;
    /// What bbr knows; false if the connection has another congestion control, or a later version of bbr.
    pub(super) fn vpn_glue_channel_bbr(ch: *const dap_stream_ch_t, out: *mut Bbr) -> bool;
    /// The bytes that the kernel has not sent yet; -1 if it does not say.
    pub(super) fn vpn_glue_channel_unsent(ch: *const dap_stream_ch_t) -> i64;
    /// Sets how many bytes the kernel takes that it cannot send yet (TCP_NOTSENT_LOWAT); 0, or an errno.
    pub(super) fn vpn_glue_channel_set_unsent_limit(ch: *mut dap_stream_ch_t, bytes: u32) -> c_int;
    /// Bounds the rate at which a congestion control that paces sends, bytes per second (SO_MAX_PACING_RATE); 0, or an
    /// errno.
    pub(super) fn vpn_glue_channel_set_rate_limit(ch: *mut dap_stream_ch_t, bytes_per_second: u64) -> c_int;
    /// Lets routers of IPv4 fragment the connection's packets (IP_MTU_DISCOVER); 0, or an errno.
    pub(super) fn vpn_glue_channel_allow_fragments(ch: *mut dap_stream_ch_t) -> c_int;
    /// Sets the congestion control by its name; 0, or an errno: ENOENT if the kernel does not have it, EPERM if this
    /// process may not choose it.
    pub(super) fn vpn_glue_channel_set_congestion(ch: *mut dap_stream_ch_t, name: *const c_char) -> c_int;
    /// Writes the name of the congestion control as a text, truncated to `size`; 0, or an errno.
    pub(super) fn vpn_glue_channel_congestion(ch: *const dap_stream_ch_t, out: *mut c_char, size: usize) -> c_int;
}

// --- session.c: what the SDK keeps of a session; on the owner, but for sessions_each -----------------------------
unsafe extern "C" {
    /// The session's use of the service; false until a request is accepted.
    pub(super) fn vpn_glue_channel_usage(ch: *const dap_stream_ch_t, out: *mut Usage) -> bool;
    /// Marks the usage active: the service has begun.
    pub(super) fn vpn_glue_channel_usage_activate(ch: *mut dap_stream_ch_t);
    /// Sets the inner address that C reads, 0 for none.
    pub(super) fn vpn_glue_channel_set_inner_address(ch: *mut dap_stream_ch_t, address: u32);
    /// Adds to the session's counters.
    pub(super) fn vpn_glue_channel_stats_add(ch: *mut dap_stream_ch_t, delta: *const SessionStats);
    /// Calls back for each service session, on the calling thread. The callback must not call the SDK.
    pub(super) fn vpn_glue_sessions_each(
        callback: unsafe extern "C" fn(context: *mut c_void, session: *const SessionView),
        context: *mut c_void,
    );
}

// --- gate.c: in front of channel 'R'; on the owner, but for install and net_is_offline ---------------------------
unsafe extern "C" {
    /// Puts the gate in front of channel 'R'; again after a registration of another service has replaced it. False if
    /// this SDK lacks what the gate needs.
    pub(super) fn vpn_glue_gate_install() -> bool;
    /// Gives a packet to the SDK's handler of channel 'R' of the stream of `ch`, as if it had just arrived.
    pub(super) fn vpn_glue_gate_pass(ch: *mut dap_stream_ch_t, kind: u8, data: *const c_void, size: usize);
    /// Sends a packet on channel 'R' of the stream of `ch`; false if there is none, or the SDK refused it.
    pub(super) fn vpn_glue_gate_send(ch: *mut dap_stream_ch_t, kind: u8, data: *const c_void, size: usize) -> bool;
    /// Writes the peer's address: 16 bytes, IPv4 as ::ffff:a.b.c.d, zeros if it cannot be told.
    pub(super) fn vpn_glue_channel_address(ch: *const dap_stream_ch_t, out: *mut u8);
    /// How long ago the peer's TCP gave the last sign of life, in milliseconds; -1 if the kernel does not say.
    pub(super) fn vpn_glue_channel_silence(ch: *const dap_stream_ch_t) -> i64;
}

// --- usage.c: receipts and fields of a session's usage; on the owner; nothing happens without a usage ------------
unsafe extern "C" {
    /// Stops the SDK's timer that waits for a signature. Only while it runs: after it has ended, the SDK keeps its
    /// stale address.
    pub(super) fn vpn_glue_usage_disarm(ch: *mut dap_stream_ch_t);
    /// Sends the receipt that waits for its signature, the first or the next one; false if there is none.
    pub(super) fn vpn_glue_usage_ask(ch: *mut dap_stream_ch_t) -> bool;
    /// Issues the next receipt, which spends the transaction with this hash (32 bytes) and waits for its signature; false
    /// on failure.
    pub(super) fn vpn_glue_usage_issue_next(ch: *mut dap_stream_ch_t, transaction: *const u8) -> bool;
    /// Frees the next receipt and sets SUBSTATE_NORMAL or SUBSTATE_ERROR.
    pub(super) fn vpn_glue_usage_drop_next(ch: *mut dap_stream_ch_t, substate: i32);
    /// Replaces the receipt by the next one.
    pub(super) fn vpn_glue_usage_switch(ch: *mut dap_stream_ch_t);
    /// Whether the client that has the key with this hash (32 bytes) signed the next or the current receipt.
    pub(super) fn vpn_glue_usage_is_signed_by(ch: *mut dap_stream_ch_t, next: bool, key_hash: *const u8) -> bool;
    /// Copies the receipt that waits for the client's signature. Returns its size, 0 if none waits or `capacity` is too
    /// small.
    pub(super) fn vpn_glue_usage_waiting(ch: *mut dap_stream_ch_t, out: *mut u8, capacity: usize) -> usize;
    /// Takes the usage away from the session, so that the SDK neither uses nor frees it; NULL without one.
    pub(super) fn vpn_glue_usage_detach(ch: *mut dap_stream_ch_t) -> *mut c_void;
    /// Frees a usage that `vpn_glue_usage_detach` returned, on the same worker and in a later task.
    pub(super) fn vpn_glue_usage_free(usage: *mut c_void);
    /// Writes what is left into the fields of the session that C reads, with the unit of the price.
    pub(super) fn vpn_glue_usage_show_rest(ch: *mut dap_stream_ch_t, unit: u32, rest: *const Rest);
    /// Writes the traffic of the client into the fields that the SDK makes its statistics of: what the client has
    /// received (down) and sent (up).
    pub(super) fn vpn_glue_usage_show_traffic(ch: *mut dap_stream_ch_t, received: u64, sent: u64);
}

// --- ledger_*.c: orders and transactions; any thread -----------------------------------------------------------------
unsafe extern "C" {
    /// Whether the node is not connected to the network.
    pub(super) fn vpn_glue_net_is_offline(net: *mut dap_chain_net_t) -> bool;
    /// Whether `[srv_vpn] wallet_addr` is an address in the network; true where the SDK pays to none.
    pub(super) fn vpn_glue_net_has_payee(net: *mut dap_chain_net_t) -> bool;
    /// The node's role in the network.
    pub(super) fn vpn_glue_net_role(net: *mut dap_chain_net_t) -> u32;
    /// Looks up the order with this hash (32 bytes) in a network; false if it is unknown or has expired.
    pub(super) fn vpn_glue_order_terms(net: *mut dap_chain_net_t, hash: *const u8, out: *mut OrderTerms) -> bool;
    /// Looks up the transaction with this hash (32 bytes) in the ledger, as a means to pay `value` (32 bytes) for
    /// `units`; false if the ledger does not have it.
    pub(super) fn vpn_glue_transaction_terms(
        net: *mut dap_chain_net_t,
        hash: *const u8,
        value: *const u8,
        units: u64,
        out: *mut TransactionTerms,
    ) -> bool;
    /// Whether the ledger has the transaction with this hash.
    pub(super) fn vpn_glue_ledger_has(net: *mut dap_chain_net_t, hash: *const u8) -> bool;
    /// Whether the SDK takes the last transaction of the chain that REQUEST names, and none if that one holds nothing.
    pub(super) fn vpn_glue_billing_follows_chains() -> bool;
    /// Whether a signature (with its header) over the 96 bytes of a receipt is of the key with this hash (32 bytes).
    pub(super) fn vpn_glue_signature_check(
        signature: *const u8,
        size: usize,
        info: *const u8,
        key_hash: *const u8,
    ) -> bool;
    /// Writes a receipt over nothing (value 0, units 0) with `nonce` (32 bytes) in place of the transaction, signed by
    /// `[srv_vpn] receipt_sign_cert`. Returns its size, 0 on failure or if `capacity` is too small.
    pub(super) fn vpn_glue_proof_receipt(unit: u32, nonce: *const u8, out: *mut u8, capacity: usize) -> usize;
}

// --- service.c: the VPN as a service -----------------------------------------------------------------------------
unsafe extern "C" {
    /// Registers the service with the configuration section of its prices; NULL if the SDK refuses.
    pub(super) fn vpn_glue_service_add(section: *const c_char) -> *mut dap_chain_net_srv_t;
    /// Replaces the lists behind the service, in its `dap_chain_net_srv_vpn_t`, by copies. Only on worker 0: C that
    /// runs there sees lists that do not change during its callback. NULL and 0 mean empty lists.
    pub(super) fn vpn_glue_service_publish(
        service: *mut dap_chain_net_srv_t,
        sessions: *const ListedSession,
        session_count: usize,
        released: *const u32,
        released_count: usize,
    );
    /// Unregisters the service; the caller does not use `service` again.
    pub(super) fn vpn_glue_service_remove(service: *mut dap_chain_net_srv_t);
    /// Registers the VPN's tag in the ledger; 0, or the ledger's code.
    pub(super) fn vpn_glue_ledger_tag_register() -> c_int;
}

// --- net.c, payment_*.c: networks, orders, wallets ---------------------------------------------------------------
unsafe extern "C" {
    /// The network with this name, which lives as long as the node's configuration; NULL if there is none.
    pub(super) fn vpn_glue_net_by_name(name: *const c_char) -> *mut dap_chain_net_t;
    /// Like `vpn_glue_net_by_name`, by number.
    pub(super) fn vpn_glue_net_by_id(id: u64) -> *mut dap_chain_net_t;
    /// The network's number.
    pub(super) fn vpn_glue_net_id(net: *const dap_chain_net_t) -> u64;
    /// The network's name, which lives as long as the network.
    pub(super) fn vpn_glue_net_name(net: *const dap_chain_net_t) -> *const c_char;
    /// The prefix of the network's groups in the store, which lives as long as the network; or NULL.
    pub(super) fn vpn_glue_net_store_prefix(net: *const dap_chain_net_t) -> *const c_char;

    /// Prepares the ledger of the server that the client is about to connect to, where it is not the network's own; blocks.
    /// Returns 0; the errno of a connection that failed; with a sentence in `why` (of `why_size` bytes, NUL-terminated) -1 if
    /// the server refuses, and -2 if it does not answer or not now.
    pub(super) fn vpn_glue_ledger_open(
        net: *mut dap_chain_net_t,
        host: *const c_char,
        port: u16,
        why: *mut c_char,
        why_size: usize,
    ) -> c_int;
    /// Whose ledger the network's is: one of LEDGER_*. Writes the fingerprint of the server's key (32 bytes) for
    /// LEDGER_SERVER.
    pub(super) fn vpn_glue_ledger_owner(net: *mut dap_chain_net_t, server: *mut u8) -> c_int;
    /// Calls back for each known order of the VPN service in the network, or only for those that sell; with their hosts
    /// and ports if `with_places`: a node's SDK logs a line for each that its list of nodes lacks.
    pub(super) fn vpn_glue_net_orders(
        net: *mut dap_chain_net_t,
        selling_only: bool,
        with_places: bool,
        callback: unsafe extern "C" fn(context: *mut c_void, order: *const OrderView),
        context: *mut c_void,
    );
    /// The fees of a transaction in the network, in datoshi, u64::MAX if they are more: the network's, and the least
    /// that its validators accept.
    pub(super) fn vpn_glue_net_fees(net: *mut dap_chain_net_t, network: *mut u64, validators: *mut u64);
    /// Follows the chain of payments from a transaction (32 bytes) to the last one that the ledger has; one of TX_*.
    /// Writes `out` for TX_OPEN.
    pub(super) fn vpn_glue_ledger_payments(net: *mut dap_chain_net_t, tx: *const u8, out: *mut TxView) -> c_int;
    /// The SHA3-256 (32 bytes) of the wallet's public key; false if the wallet cannot be opened.
    pub(super) fn vpn_glue_wallet_key_hash(name: *const c_char, hash: *mut u8) -> bool;
    /// Signs the data with the wallet's key. Returns the signature with its header, which the caller frees with
    /// `vpn_glue_free`; NULL on failure.
    pub(super) fn vpn_glue_wallet_sign(
        name: *const c_char,
        data: *const c_void,
        size: usize,
        signature_size: *mut usize,
    ) -> *mut u8;
    /// Creates a conditional transaction of `value` datoshi that pays the VPN service by `unit` (the SDK's number), with
    /// a fee for the validators, and writes its hash (32 bytes). False on failure; `why` (of `why_size` bytes) then gets a
    /// sentence, NUL-terminated, or remains as it is.
    pub(super) fn vpn_glue_wallet_pay(
        net: *mut dap_chain_net_t,
        wallet: *const c_char,
        token: *const c_char,
        value: u64,
        fee: u64,
        unit: u32,
        hash: *mut u8,
        why: *mut c_char,
        why_size: usize,
    ) -> bool;
    /// Takes back what is left of a conditional transaction (32 bytes) that the wallet has made and that is not used any
    /// more; false if the ledger does not, or not by itself.
    pub(super) fn vpn_glue_wallet_close(net: *mut dap_chain_net_t, wallet: *const c_char, tx: *const u8) -> bool;
}

// --- client.c: the client's connection ---------------------------------------------------------------------------
unsafe extern "C" {
    /// Connects to a server, and opens the channels that the letters name, in their order; NULL if the SDK refuses at
    /// once. The client_* callbacks get `id`, a number, so that a late one finds no connection.
    pub(super) fn vpn_glue_client_connect(
        net: *mut dap_chain_net_t,
        host: *const c_char,
        port: u16,
        channels: *const c_char,
        id: u64,
    ) -> *mut dap_chain_node_client_t;
    /// Closes the connection; the caller does not use `client` again.
    pub(super) fn vpn_glue_client_close(client: *mut dap_chain_node_client_t);
    /// The channel with this letter; NULL if it does not exist.
    pub(super) fn vpn_glue_client_channel(client: *mut dap_chain_node_client_t, letter: c_char)
    -> *mut dap_stream_ch_t;
    /// The stream worker of the connection; NULL before there is one.
    pub(super) fn vpn_glue_client_stream_worker(client: *mut dap_chain_node_client_t) -> *mut dap_stream_worker_t;
}

// --- services.c: store, commands, HTTP, certificates -------------------------------------------------------------
unsafe extern "C" {
    /// A value, which the caller frees with `vpn_glue_free`; NULL if it does not exist.
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
    /// Unregisters a command; if the SDK cannot, the command is still called.
    pub(super) fn vpn_glue_command_remove(name: *const c_char);
    /// Sets a command's answer, which the SDK copies.
    pub(super) fn vpn_glue_command_reply(reply: *mut *mut c_void, text: *const c_char);

    /// Registers `/remain_limits_vpn` with the node's HTTP server; 0, or -1 if the node has none.
    pub(super) fn vpn_glue_http_register() -> c_int;
    /// Unregisters the path; if the SDK cannot, http_remain_limits is still called.
    pub(super) fn vpn_glue_http_unregister();
    /// Answers the request of http_remain_limits with JSON, which the SDK copies.
    pub(super) fn vpn_glue_http_reply(request: *mut c_void, status: c_int, body: *const c_char, size: usize);

    /// The SHA3-256 (32 bytes) of a certificate's public key; false if the node has no such certificate.
    pub(super) fn vpn_glue_certificate_key_hash(name: *const c_char, hash: *mut u8) -> bool;
}
