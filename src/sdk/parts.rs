//! Calls from one part of the module to another, by C symbols, because the other part may be this library or a legacy C
//! file.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

#[cfg(not(feature = "client-tun"))]
use super::channel::Channel;
use super::memory;
use super::net::Net;
use super::types::dap_chain_net_t;
#[cfg(feature = "client-tun")]
use super::types::{dap_stream_ch_t, dap_stream_worker_t};
#[cfg(not(feature = "client-tun"))]
use super::{raw, types::dap_events_socket_t, visible::dap_chain_net_srv_ch_vpn};

unsafe extern "C" {
    fn com_vpn_statistics(argc: c_int, argv: *mut *mut c_char, reply: *mut *mut c_void, version: c_int) -> c_int;
    fn com_vpn_client(argc: c_int, argv: *mut *mut c_char, reply: *mut *mut c_void, version: c_int) -> c_int;
    fn dap_chain_net_vpn_client_start(net: *mut dap_chain_net_t, host: *const c_char, port: u16) -> c_int;
    fn dap_chain_net_vpn_client_stop() -> c_int;
    fn dap_chain_net_vpn_client_status() -> c_int;
    fn dap_chain_net_vpn_client_check(
        net: *mut dap_chain_net_t,
        host: *const c_char,
        port: u16,
        send: usize,
        receive: usize,
        timeout_ms: c_int,
    ) -> c_int;
    fn dap_chain_net_vpn_client_check_result(net: *mut dap_chain_net_t, format: *const c_char) -> *mut c_char;
    fn dap_chain_net_vpn_client_update(
        net: *mut dap_chain_net_t,
        wallet: *const c_char,
        token: *const c_char,
        value: u64,
    ) -> c_int;
    fn dap_chain_net_vpn_client_get_wallet_info(
        net: *mut dap_chain_net_t,
        wallet: *mut *mut c_char,
        token: *mut *mut c_char,
        value: *mut u64,
    ) -> c_int;
    #[cfg(feature = "client-tun")]
    fn dap_chain_net_vpn_client_get_stream_ch() -> *mut dap_stream_ch_t;
    #[cfg(feature = "client-tun")]
    fn dap_chain_net_vpn_client_get_stream_worker() -> *mut dap_stream_worker_t;
    #[cfg(not(feature = "client-tun"))]
    fn ch_sf_tun_addr_leased(ch: *mut dap_chain_net_srv_ch_vpn, packet: *mut c_void, size: usize) -> c_int;
    #[cfg(not(feature = "client-tun"))]
    fn dap_chain_net_vpn_client_tun_get_esock() -> *mut dap_events_socket_t;
    #[cfg(not(feature = "client-tun"))]
    fn dap_chain_net_vpn_client_tun_delete() -> c_int;
}

/// Part `cmd`: the command `vpn_stat`.
pub const VPN_STAT: super::command::Function = com_vpn_statistics;
/// Part `cmd`: the command `vpn_client`.
pub const VPN_CLIENT: super::command::Function = com_vpn_client;

/// Part `client`: `dap_chain_net_vpn_client_start`.
pub fn client_start(net: &Net, host: &str, port: u16) -> i32 {
    let Ok(host) = CString::new(host) else { return -1 };
    // SAFETY: a network of the node, a NUL-terminated text.
    unsafe { dap_chain_net_vpn_client_start(net.raw(), host.as_ptr(), port) }
}

/// Part `client`: `dap_chain_net_vpn_client_stop`.
pub fn client_stop() -> i32 {
    // SAFETY: no arguments.
    unsafe { dap_chain_net_vpn_client_stop() }
}

/// Part `client`: `dap_chain_net_vpn_client_status`.
pub fn client_status() -> i32 {
    // SAFETY: no arguments.
    unsafe { dap_chain_net_vpn_client_status() }
}

/// Part `client`: `dap_chain_net_vpn_client_check`.
pub fn client_check(net: &Net, host: &str, port: u16, send: usize, receive: usize, timeout_ms: i32) -> i32 {
    let Ok(host) = CString::new(host) else { return -1 };
    // SAFETY: a network of the node, a NUL-terminated text.
    unsafe { dap_chain_net_vpn_client_check(net.raw(), host.as_ptr(), port, send, receive, timeout_ms) }
}

/// Part `client`: `dap_chain_net_vpn_client_check_result`.
pub fn client_check_result(net: &Net, format: &CStr) -> Option<String> {
    // SAFETY: a network of the node, a NUL-terminated text.
    let text = unsafe { dap_chain_net_vpn_client_check_result(net.raw(), format.as_ptr()) };
    // SAFETY: a text from the SDK's allocator, ours to free.
    unsafe { memory::take_string(text) }
}

/// Part `client`: `dap_chain_net_vpn_client_update`.
pub fn client_update(net: &Net, wallet: &str, token: &str, value: u64) -> i32 {
    let (Ok(wallet), Ok(token)) = (CString::new(wallet), CString::new(token)) else { return -1 };
    // SAFETY: a network of the node, NUL-terminated texts.
    unsafe { dap_chain_net_vpn_client_update(net.raw(), wallet.as_ptr(), token.as_ptr(), value) }
}

/// Part `client`: `dap_chain_net_vpn_client_get_wallet_info`: wallet, token, value.
pub fn client_wallet(net: &Net) -> (Option<String>, Option<String>, u64) {
    let (mut wallet, mut token, mut value) = (ptr::null_mut(), ptr::null_mut(), 0);
    // SAFETY: a network of the node, writable out pointers.
    unsafe { dap_chain_net_vpn_client_get_wallet_info(net.raw(), &mut wallet, &mut token, &mut value) };
    // SAFETY: texts from the SDK's allocator, ours to free.
    let wallet = unsafe { memory::take_string(wallet) };
    // SAFETY: as above.
    (wallet, unsafe { memory::take_string(token) }, value)
}

/// Part `client`: `dap_chain_net_vpn_client_get_stream_ch` and its worker, or NULL for each. Only that worker's thread
/// may follow the channel.
#[cfg(feature = "client-tun")]
pub fn client_stream() -> (*mut dap_stream_ch_t, *mut dap_stream_worker_t) {
    // SAFETY: no arguments.
    let ch = unsafe { dap_chain_net_vpn_client_get_stream_ch() };
    // SAFETY: no arguments.
    (ch, unsafe { dap_chain_net_vpn_client_get_stream_worker() })
}

/// Part `client-tun`: passes on a whole ADDR_REPLY with its header. On the channel's worker; -1 if the channel is
/// closed.
#[cfg(not(feature = "client-tun"))]
pub fn tun_leased(channel: &Channel, packet: &mut [u8]) -> i32 {
    if channel.visible().is_null() {
        return -1;
    }
    let behind_header = packet.len().saturating_sub(vpn_core::wire::HEADER_LEN);
    // SAFETY: the channel's C-visible struct; the packet has `behind_header` bytes behind its header.
    unsafe { ch_sf_tun_addr_leased(channel.visible(), packet.as_mut_ptr().cast(), behind_header) }
}

/// Part `client-tun`: writes a packet from the server to the device's event socket, like the legacy module, whose
/// `ch_sf_tun_client_send` is not implemented. False without a device, or if the write fails.
#[cfg(not(feature = "client-tun"))]
pub fn tun_deliver(packet: &[u8]) -> bool {
    // SAFETY: no arguments.
    let es = unsafe { dap_chain_net_vpn_client_tun_get_esock() };
    // SAFETY: the legacy part keeps its socket until tun_delete, which comes after the connection's last packet.
    !es.is_null() && unsafe { raw::vpn_glue_tun_write(es, packet.as_ptr().cast(), packet.len()) }
}

/// Part `client-tun`: `dap_chain_net_vpn_client_tun_delete`.
#[cfg(not(feature = "client-tun"))]
pub fn tun_delete() {
    // SAFETY: no arguments.
    unsafe { dap_chain_net_vpn_client_tun_delete() };
}
