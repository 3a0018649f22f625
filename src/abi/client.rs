//! Part `client`: dap_chain_net_vpn_client.c.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::Arc;

use super::{boundary, codes, text};
use crate::client::{self, Status};
use crate::sdk::config::Config;
use crate::sdk::memory;
use crate::sdk::net::Net;
use crate::sdk::types::{
    dap_chain_net_t, dap_chain_node_addr_t, dap_config_t, dap_stream_ch_pkt_t, dap_stream_ch_t, dap_stream_worker_t,
};

/// What the client is doing.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dap_chain_net_vpn_client_status_enum {
    /// Never started, or its last start failed.
    VPN_CLIENT_STATUS_NOT_STARTED = 0,
    /// Connected, with a lease, the tunnel up.
    VPN_CLIENT_STATUS_STARTED,
    /// Stopped; also while a connection is being made or taken down.
    VPN_CLIENT_STATUS_STOPPED,
    /// The connection was lost; start again, or stop.
    VPN_CLIENT_STATUS_CONN_LOST,
}
/// What the client is doing.
#[allow(non_camel_case_types)]
pub type dap_chain_net_vpn_client_status_t = dap_chain_net_vpn_client_status_enum;

/// Says whether a node serves at the moment: 1 available, 0 not available, anything else unknown.
#[allow(non_camel_case_types)]
pub type dap_chain_net_vpn_client_order_state_callback_t =
    Option<unsafe extern "C" fn(a_node_addr: dap_chain_node_addr_t) -> c_int>;

/// Sets the function that `dap_chain_net_vpn_client_check_result` asks for the state of an order's node; NULL: none. A
/// call of the former function that runs on another thread may end after this returns.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_set_order_state_callback(
    a_callback: dap_chain_net_vpn_client_order_state_callback_t,
) {
    boundary("dap_chain_net_vpn_client_set_order_state_callback", (), || {
        client::orders::set_state_callback(a_callback.map(|callback| {
            Arc::new(move |node| {
                // SAFETY: C gave the function for this use, and replaces it by NULL before it goes away.
                unsafe { callback(dap_chain_node_addr_t { uint64: node }) }
            }) as client::orders::StateCallback
        }));
    });
}

/// The channel 'S' of the running connection, or NULL. It belongs to the SDK and dies with the connection; only its
/// worker's thread may use it.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_get_stream_ch() -> *mut dap_stream_ch_t {
    boundary("dap_chain_net_vpn_client_get_stream_ch", ptr::null_mut(), client::stream_channel)
}

/// The worker of the running connection's stream, or NULL. It belongs to the SDK.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_get_stream_worker() -> *mut dap_stream_worker_t {
    boundary("dap_chain_net_vpn_client_get_stream_worker", ptr::null_mut(), client::stream_worker)
}

/// Chooses the wallet, the token and the value (in datoshi) that paid service is bought with, and keeps them in the store.
///
/// Returns 0; -1 when an argument is wrong or the wallet cannot be opened; -2 when the store fails; -3 when no
/// conditional transaction can be made (not enough funds).
///
/// # Safety
/// Pointers are NULL or valid for the call; strings NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_update(
    a_net: *mut dap_chain_net_t,
    a_wallet_name: *const c_char,
    a_str_token: *const c_char,
    a_value_datoshi: u64,
) -> c_int {
    const NAME: &str = "dap_chain_net_vpn_client_update";
    boundary(NAME, -1, || {
        // SAFETY: the caller's promise.
        let (wallet, token) = match unsafe { (text(NAME, "a_wallet_name", a_wallet_name), a_str_token) } {
            // SAFETY: the caller's promise.
            (Some(wallet), token) => match unsafe { text(NAME, "a_str_token", token) } {
                Some(token) => (wallet, token),
                None => return -1,
            },
            (None, _) => return -1,
        };
        let Some(net) = net(NAME, a_net) else { return -1 };
        codes::wallet(client::wallet::update(&net, wallet, token, a_value_datoshi))
    })
}

/// What `dap_chain_net_vpn_client_update` chose. Each out pointer may be NULL; the strings are the caller's to free with
/// the SDK's allocator, NULL when nothing was chosen. Returns 0; -1 when `a_net` is NULL.
///
/// # Safety
/// Pointers are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_get_wallet_info(
    a_net: *mut dap_chain_net_t,
    a_wallet_name: *mut *mut c_char,
    a_str_token: *mut *mut c_char,
    a_value_datoshi: *mut u64,
) -> c_int {
    const NAME: &str = "dap_chain_net_vpn_client_get_wallet_info";
    boundary(NAME, -1, || {
        if net(NAME, a_net).is_none() {
            return -1;
        }
        let chosen = client::wallet::chosen();
        if !a_wallet_name.is_null() {
            // SAFETY: not NULL, and writable by the caller's promise.
            unsafe { *a_wallet_name = memory::c_string(chosen.wallet.as_deref()) };
        }
        if !a_str_token.is_null() {
            // SAFETY: as above.
            unsafe { *a_str_token = memory::c_string(chosen.token.as_deref()) };
        }
        if !a_value_datoshi.is_null() {
            // SAFETY: as above.
            unsafe { *a_value_datoshi = chosen.value.unwrap_or(0) };
        }
        0
    })
}

/// The VPN orders known in the network, a line each, with the state of the node where a callback tells it.
///
/// `a_hash_out_type` is "hex" or "base58". The text is the caller's to free with the SDK's allocator; NULL when an
/// argument is wrong.
///
/// # Safety
/// Pointers are NULL or valid for the call; the string NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_check_result(
    a_net: *mut dap_chain_net_t,
    a_hash_out_type: *const c_char,
) -> *mut c_char {
    const NAME: &str = "dap_chain_net_vpn_client_check_result";
    boundary(NAME, ptr::null_mut(), || {
        let Some(net) = net(NAME, a_net) else { return ptr::null_mut() };
        // SAFETY: the caller's promise.
        let Some(kind) = (unsafe { text(NAME, "a_hash_out_type", a_hash_out_type) }) else { return ptr::null_mut() };
        match client::orders::HashFormat::parse(kind) {
            Some(format) => memory::c_string(Some(&client::orders::report(&net, format))),
            None => {
                log::warn!("{NAME}: a_hash_out_type is \"{kind}\", \"hex\" or \"base58\" is expected");
                ptr::null_mut()
            }
        }
    })
}

/// Tests a server: connects, sends `a_data_size_to_send` bytes, asks for `a_data_size_to_recv` bytes back (at most
/// 65536 each; (size_t)-1 is 1024), and waits at most `a_timeout_test_ms` from the call on (-1 is 10000; less than
/// 5000 counts as 5000). Of that, connecting may take 10000 at most. Blocks.
///
/// Returns 0; -1 when an argument is wrong; -2 when the connection fails or is not made in time; -3 without an answer
/// in time.
///
/// # Safety
/// Pointers are NULL or valid for the call; the string NUL-terminated. Not from a worker thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_check(
    a_net: *mut dap_chain_net_t,
    a_host: *const c_char,
    a_port: u16,
    a_data_size_to_send: usize,
    a_data_size_to_recv: usize,
    a_timeout_test_ms: c_int,
) -> c_int {
    const NAME: &str = "dap_chain_net_vpn_client_check";
    boundary(NAME, -2, || {
        let Some(net) = net(NAME, a_net) else { return -1 };
        // SAFETY: the caller's promise.
        let Some(host) = (unsafe { text(NAME, "a_host", a_host) }) else { return -1 };
        let request = client::check::Request::from_c(a_data_size_to_send, a_data_size_to_recv, a_timeout_test_ms);
        codes::client(client::check::run(&net, host, a_port, &request).map(|_| ()))
    })
}

/// Connects to a server, asks for service and an address, and brings the tunnel up. Blocks until it is up or has failed.
///
/// Returns 0; 1 when the client is started already; -1 when an argument is wrong; -2 when the connection fails, the
/// server refuses or the tunnel cannot be made; -3 without an answer in time (`[vpn_client] start_timeout`, 10 s).
///
/// # Safety
/// Pointers are NULL or valid for the call; the string NUL-terminated. Not from a worker thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_start(
    a_net: *mut dap_chain_net_t,
    a_host: *const c_char,
    a_port: u16,
) -> c_int {
    const NAME: &str = "dap_chain_net_vpn_client_start";
    boundary(NAME, -2, || {
        let Some(net) = net(NAME, a_net) else { return -1 };
        // SAFETY: the caller's promise.
        let Some(host) = (unsafe { text(NAME, "a_host", a_host) }) else { return -1 };
        match client::start(&net, host, a_port) {
            Ok(client::Started::Now) => 0,
            Ok(client::Started::Already) => 1,
            Err(error) => codes::client(Err(error)),
        }
    })
}

/// Stops the client: takes the tunnel down and closes the connection. Blocks until both are done. Returns 0; also when
/// nothing ran.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_stop() -> c_int {
    boundary("dap_chain_net_vpn_client_stop", -1, || {
        client::stop();
        0
    })
}

/// What the client is doing. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_status() -> dap_chain_net_vpn_client_status_t {
    use dap_chain_net_vpn_client_status_enum::*;
    boundary("dap_chain_net_vpn_client_status", VPN_CLIENT_STATUS_NOT_STARTED, || match client::status() {
        Status::NotStarted => VPN_CLIENT_STATUS_NOT_STARTED,
        Status::Started => VPN_CLIENT_STATUS_STARTED,
        Status::Stopped => VPN_CLIENT_STATUS_STOPPED,
        Status::ConnectionLost => VPN_CLIENT_STATUS_CONN_LOST,
    })
}

/// Registers the command `vpn_client`. Section `[vpn_client]` of `g_config` is read at each start; NULL is the node's
/// own configuration. Returns 0; negative when the SDK cannot be started. Calling it again is harmless, the last
/// configuration counts.
///
/// # Safety
/// `g_config` is NULL or a configuration of the linked SDK that stays open until `dap_chain_net_vpn_client_deinit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_init(g_config: *mut dap_config_t) -> c_int {
    boundary("dap_chain_net_vpn_client_init", -1, || {
        // SAFETY: the caller's promise above.
        let config = unsafe { Config::from_raw(g_config) };
        match client::init(config) {
            Ok(()) => 0,
            Err(error) => {
                log::error!("VPN client not initialised: {error}");
                -1
            }
        }
    })
}

/// Stops the client and takes the command back. Any number of times, also before init.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_deinit() {
    boundary("dap_chain_net_vpn_client_deinit", (), client::deinit);
}

/// Nothing is sent from here: packets go out when the tunnel has them. NULL is logged.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_pkt_out(a_ch: *mut dap_stream_ch_t) {
    boundary("dap_chain_net_vpn_client_pkt_out", (), || {
        if a_ch.is_null() {
            log::warn!("dap_chain_net_vpn_client_pkt_out: a_ch is NULL");
        }
    });
}

/// Hands a packet of channel 'S' to the client, as the SDK does when one arrives. Packets of a channel that is not the
/// running connection's are dropped.
///
/// # Safety
/// `a_pkt` is NULL or a whole channel packet. Only on the channel's worker thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_vpn_client_pkt_in(a_ch: *mut dap_stream_ch_t, a_pkt: *mut dap_stream_ch_pkt_t) {
    const NAME: &str = "dap_chain_net_vpn_client_pkt_in";
    boundary(NAME, (), || {
        if a_ch.is_null() || a_pkt.is_null() {
            log::warn!("{NAME}: {} is NULL", if a_ch.is_null() { "a_ch" } else { "a_pkt" });
            return;
        }
        if client::stream_channel() != a_ch {
            log::warn!("{NAME}: the channel is not the running connection's, packet dropped");
            return;
        }
        // SAFETY: not NULL, and a whole packet by the caller's promise.
        let (kind, data) = unsafe { crate::sdk::channel::packet_parts(a_pkt) };
        client::packet_in(kind, data);
    });
}

/// A network handle from C; NULL is logged.
fn net(function: &str, net: *mut dap_chain_net_t) -> Option<Net> {
    let found = Net::from_raw(net);
    if found.is_none() {
        log::warn!("{function}: a_net is NULL, a network is expected");
    }
    found
}
