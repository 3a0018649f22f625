//! The structs of the VPN module that the node's C code may read, shared by all five parts.
//!
//! Sizes and offsets are those measured on the legacy module (docs/abi.md); this file asserts them for Rust, c-tests/
//! for C. cbindgen writes the structs into `include/dap_chain_net_srv_vpn.h`.
#![allow(non_camel_case_types)]

use std::ffi::c_void;
use std::mem::{align_of, offset_of, size_of};

use libc::in_addr;

use super::types::{dap_chain_net_srv_t, dap_events_socket_t, dap_stream_ch_t, dap_worker_t};

/// uthash's handle inside an element. Rust uses only the two links that keep the elements in order.
#[repr(C)]
#[derive(Debug, Default)]
pub struct UT_hash_handle {
    pub(crate) tbl: *mut c_void,
    pub(crate) prev: *mut c_void,
    pub(crate) next: *mut c_void,
    pub(crate) hh_prev: *mut c_void,
    pub(crate) hh_next: *mut c_void,
    pub(crate) key: *const c_void,
    pub(crate) keylen: u32,
    pub(crate) hashv: u32,
}

/// A queue of the server's TUN device, owned by one worker. The event socket's `_inheritor` points to it.
#[repr(C)]
#[derive(Debug)]
pub struct dap_chain_net_srv_vpn_tun_socket {
    /// Number of the worker that owns the queue.
    pub worker_id: u8,
    /// The worker that owns the queue.
    pub worker: *mut dap_worker_t,
    /// The queue's event socket.
    pub es: *mut dap_events_socket_t,
    /// Always NULL: routes are in a table that readers do not lock.
    pub clients: *mut dap_chain_net_srv_ch_vpn_info,
    /// Always NULL: packets cross workers in batches, not in a message each.
    pub queue_tun_msg_input: *mut *mut dap_events_socket_t,
    /// Always 0.
    pub buf_size_aux: usize,
}
/// A queue of the server's TUN device.
pub type dap_chain_net_srv_vpn_tun_socket_t = dap_chain_net_srv_vpn_tun_socket;

/// A VPN channel. `ch->internal` of a channel 'S' points to it, on both ends.
#[repr(C)]
#[derive(Debug)]
pub struct dap_chain_net_srv_ch_vpn {
    /// Number of the usage that REQUEST opened; 0 before.
    pub usage_id: u32,
    /// The SDK's service; NULL on the client's end.
    pub net_srv: *mut dap_chain_net_srv_t,
    /// True once the peer's REQUEST was accepted: the peer may send packets.
    pub is_allowed: bool,
    /// The TUN queue of the channel's worker, or NULL.
    pub tun_socket: *mut dap_chain_net_srv_vpn_tun_socket,
    /// The leased inner address in network order; 0 without a lease.
    pub addr_ipv4: in_addr,
    /// The channel itself; NULL in the copies in `ch_vpn_ipv4`, because it may end at any moment on its own worker.
    pub ch: *mut dap_stream_ch_t,
    /// uthash's handle; only the copies in `ch_vpn_ipv4` use it.
    pub hh: UT_hash_handle,
}
/// A VPN channel.
pub type dap_chain_net_srv_ch_vpn_t = dap_chain_net_srv_ch_vpn;

/// A TUN queue's view of a session in the legacy module. Kept for its layout; this library creates none.
#[repr(C)]
#[derive(Debug)]
pub struct dap_chain_net_srv_ch_vpn_info {
    /// The leased inner address in network order.
    pub addr_ipv4: in_addr,
    /// True if the session's stream is on this queue's worker.
    pub is_on_this_worker: bool,
    /// True if the stream has been moved to another worker.
    pub is_reassigned_once: bool,
    /// Number of the usage that REQUEST opened.
    pub usage_id: u32,
    /// The session's channel.
    pub ch_vpn: *mut dap_chain_net_srv_ch_vpn,
    /// The channel's UUID.
    pub ch_vpn_uuid: u64,
    /// The queue to the session's worker.
    pub queue_msg: *mut dap_events_socket_t,
    /// The session's worker.
    pub worker: *mut dap_worker_t,
    /// The stream's event socket.
    pub esocket: *mut dap_events_socket_t,
    /// The event socket's UUID.
    pub esocket_uuid: u64,
    /// uthash's handle.
    pub hh: UT_hash_handle,
}
/// A TUN queue's view of a session.
pub type dap_chain_net_srv_ch_vpn_info_t = dap_chain_net_srv_ch_vpn_info;

/// A released address, which can be leased again.
#[repr(C)]
#[derive(Debug)]
pub struct dap_chain_net_srv_vpn_item_ipv4 {
    /// The address in network order.
    pub addr: in_addr,
    /// The address that is leased after this one.
    pub next: *mut dap_chain_net_srv_vpn_item_ipv4,
}
/// A released address.
pub type dap_chain_net_srv_vpn_item_ipv4_t = dap_chain_net_srv_vpn_item_ipv4;

/// The service as a whole. `dap_chain_net_srv_t::_internal` points to it.
///
/// Both lists are snapshots, renewed at most once a second. Read them on worker 0 only, where they do not change while
/// a callback runs. A copy's `ch` is NULL.
#[repr(C)]
#[derive(Debug)]
pub struct dap_chain_net_srv_vpn {
    /// Snapshot of the released addresses, in the order in which they are leased next.
    pub ipv4_unleased: *mut dap_chain_net_srv_vpn_item_ipv4,
    /// Snapshot of the sessions with a lease: a uthash table by `addr_ipv4`, or, without uthash, a list by `hh`'s
    /// links.
    pub ch_vpn_ipv4: *mut dap_chain_net_srv_ch_vpn,
    /// The SDK's service.
    pub parent: *mut dap_chain_net_srv_t,
}
/// The service as a whole.
pub type dap_chain_net_srv_vpn_t = dap_chain_net_srv_vpn;

macro_rules! layout {
    ($t:ty, $size:literal, $align:literal, $($field:ident $offset:literal),+) => {
        const _: () = {
            assert!(size_of::<$t>() == $size && align_of::<$t>() == $align);
            $(assert!(offset_of!($t, $field) == $offset);)+
        };
    };
}

#[cfg(target_pointer_width = "64")]
mod layouts {
    use super::*;
    layout!(UT_hash_handle, 56, 8, tbl 0);
    layout!(dap_chain_net_srv_vpn_tun_socket, 48, 8, worker_id 0, worker 8, es 16, clients 24, queue_tun_msg_input 32, buf_size_aux 40);
    layout!(dap_chain_net_srv_ch_vpn, 104, 8, usage_id 0, net_srv 8, is_allowed 16, tun_socket 24, addr_ipv4 32, ch 40, hh 48);
    layout!(dap_chain_net_srv_ch_vpn_info, 120, 8, addr_ipv4 0, is_on_this_worker 4, is_reassigned_once 5, usage_id 8, ch_vpn 16,
        ch_vpn_uuid 24, queue_msg 32, worker 40, esocket 48, esocket_uuid 56, hh 64);
    layout!(dap_chain_net_srv_vpn_item_ipv4, 16, 8, addr 0, next 8);
    layout!(dap_chain_net_srv_vpn, 24, 8, ipv4_unleased 0, ch_vpn_ipv4 8, parent 16);
}
