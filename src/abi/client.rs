//! Part `client`: dap_chain_net_vpn_client.c.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::Arc;

use super::{boundary, boundary_or, codes, text};
use crate::client::{self, Status};
use crate::sdk::config::Config;
use crate::sdk::memory;
use crate::sdk::net::Net;
use crate::sdk::types::{
    dap_chain_net_t, dap_chain_node_addr_t, dap_config_t, dap_stream_ch_pkt_t, dap_stream_ch_t, dap_stream_worker_t,
};

/// The client's state.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dap_chain_net_vpn_client_status_enum {
    /// The client was never started, or its last start failed; it has no device.
    VPN_CLIENT_STATUS_NOT_STARTED = 0,
    /// The client is connected and has a lease, and the tunnel is up.
    VPN_CLIENT_STATUS_STARTED,
    /// The client is stopped, connecting or disconnecting.
    VPN_CLIENT_STATUS_STOPPED,
    /// The connection was lost, and the device stays until stop or a start that succeeds.
    VPN_CLIENT_STATUS_CONN_LOST,
}
/// The client's state.
#[allow(non_camel_case_types)]
pub type dap_chain_net_vpn_client_status_t = dap_chain_net_vpn_client_status_enum;

/// Tells whether a node serves at the moment: 1 available, 0 not available, any other value unknown.
#[allow(non_camel_case_types)]
pub type dap_chain_net_vpn_client_order_state_callback_t =
    Option<unsafe extern "C" fn(a_node_addr: dap_chain_node_addr_t) -> c_int>;

/// Sets the function that `dap_chain_net_vpn_client_check_result` calls for the state of an order's node; NULL removes
/// it. A call of the previous function that runs on another thread may return after this function does.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_set_order_state_callback(
    a_callback: dap_chain_net_vpn_client_order_state_callback_t,
) {
    boundary("dap_chain_net_vpn_client_set_order_state_callback", (), || {
        client::orders::set_state_callback(a_callback.map(|callback| {
            Arc::new(move |node| {
                // SAFETY: the caller passed the function for this use, and sets NULL before the function is unloaded.
                unsafe { callback(dap_chain_node_addr_t { uint64: node }) }
            }) as client::orders::StateCallback
        }));
    });
}

/// Returns the channel 'S' of the running connection, or NULL. The SDK owns it and frees it with the connection; use it
/// on its worker's thread only.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_get_stream_ch() -> *mut dap_stream_ch_t {
    boundary("dap_chain_net_vpn_client_get_stream_ch", ptr::null_mut(), client::stream_channel)
}

/// Returns the worker of the running connection's stream, or NULL. The SDK owns it.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_get_stream_worker() -> *mut dap_stream_worker_t {
    boundary("dap_chain_net_vpn_client_get_stream_worker", ptr::null_mut(), client::stream_worker)
}

/// Sets the wallet, the token and the value (in datoshi) that pay for service, keeps them in the store, and makes a
/// conditional transaction. Blocks.
///
/// Returns 0; -1 if an argument is invalid or the wallet cannot be opened; -2 if the store fails; -3 if no conditional
/// transaction can be made (not enough funds).
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
        codes::wallet(client::update(&net, wallet, token, a_value_datoshi))
    })
}

/// Returns the values that `dap_chain_net_vpn_client_update` set. Each out pointer may be NULL; the caller frees the
/// strings with the SDK's allocator; they are NULL if nothing was set. Returns 0; -1 if `a_net` is NULL.
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

/// Lists the VPN orders known in the network, one per line, with the state of the node if the callback tells it.
///
/// `a_hash_out_type` is "hex" or "base58". The caller frees the text with the SDK's allocator. Returns NULL if an
/// argument is invalid.
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
                log::warn!("{NAME}: a_hash_out_type is \"{kind}\"; expected \"hex\" or \"base58\"");
                ptr::null_mut()
            }
        }
    })
}

/// Tests a server: connects, sends `a_data_size_to_send` bytes and requests `a_data_size_to_recv` bytes (at most 65536
/// each; (size_t)-1 means 1024). The whole call takes at most `a_timeout_test_ms` (0 or less means 10000), connecting at
/// most 10000 of that. Blocks.
///
/// Returns 0; -1 if an argument is invalid; -2 if nothing accepts the connection, or the server ends it or refuses; -3
/// if what accepts it does not answer in time.
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

/// Connects to a server, requests service and an address, and brings the tunnel up. Blocks until it is up or has
/// failed.
///
/// Returns 0; 1 if the client is already started; -1 if an argument is invalid; -2 if the connection fails, the server
/// refuses, the tunnel cannot be created or the client is stopped; -3 if the answer times out
/// (`[vpn_client] start_timeout`, 10 s).
///
/// Time may heal -3, and -2 when the server cannot be reached, has no free address, or its tunnel or network is down. It
/// heals neither -1 nor -2 for a wrong identity, another protocol, an order or offer that does not fit, or this host's
/// device and state. The log's last ERROR line names the reason.
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

/// Stops the client: takes the tunnel down and closes the connection, and ends every start that waits, whatever it waits
/// for. Blocks until all is done. Returns 0, also if the client did not run.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_stop() -> c_int {
    boundary_or("dap_chain_net_vpn_client_stop", -1, 0, || {
        client::stop();
        0
    })
}

/// Returns the client's state. Call it on any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_status() -> dap_chain_net_vpn_client_status_t {
    use dap_chain_net_vpn_client_status_enum::*;
    boundary("dap_chain_net_vpn_client_status", VPN_CLIENT_STATUS_NOT_STARTED, || match client::report::status() {
        Status::NotStarted => VPN_CLIENT_STATUS_NOT_STARTED,
        Status::Started => VPN_CLIENT_STATUS_STARTED,
        Status::Stopped => VPN_CLIENT_STATUS_STOPPED,
        Status::ConnectionLost => VPN_CLIENT_STATUS_CONN_LOST,
    })
}

/// Registers the command `vpn_client`. Section `[vpn_client]` of `g_config` is read at each start and update; NULL selects
/// the node's own configuration. Returns 0; a negative code if the SDK cannot be started. It may be called again; the last
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
                log::error!("cannot initialise the VPN client: {error}");
                -1
            }
        }
    })
}

/// Stops the client and unregisters the command. It may be called any number of times, also before init.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_deinit() {
    boundary("dap_chain_net_vpn_client_deinit", (), client::deinit);
}

/// Sends nothing: packets leave when the tunnel has them. Logs a NULL argument.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_vpn_client_pkt_out(a_ch: *mut dap_stream_ch_t) {
    boundary("dap_chain_net_vpn_client_pkt_out", (), || {
        if a_ch.is_null() {
            log::warn!("dap_chain_net_vpn_client_pkt_out: a_ch is NULL");
        }
    });
}

/// Passes a packet of channel 'S' to the client, as the SDK does when a packet arrives. Drops packets of a channel that
/// is not the running connection's.
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
            log::warn!("{NAME}: dropped a packet: its channel is not the running connection's");
            return;
        }
        // SAFETY: not NULL, and a whole packet by the caller's promise.
        let (kind, data) = unsafe { crate::sdk::channel::packet_parts(a_pkt) };
        client::packet_in(kind, data);
    });
}

/// Wraps a network handle from C; logs NULL.
fn net(function: &str, net: *mut dap_chain_net_t) -> Option<Net> {
    let found = Net::from_raw(net);
    if found.is_none() {
        log::warn!("{function}: a_net is NULL; expected a network");
    }
    found
}
