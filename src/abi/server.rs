//! Part `server`: dap_chain_net_srv_vpn.c.

use std::ffi::c_int;

use super::boundary;
use crate::sdk::config::Config;
use crate::sdk::types::dap_config_t;
use crate::server;

/// Starts the VPN service: the TUN device with a queue for each worker, the channel 'S', the service, `vpn_stat` and
/// `GET /remain_limits_vpn`.
///
/// `g_config` is the node's configuration, section `[srv_vpn]` (docs/config.md); NULL is the node's own.
/// Returns 0; -1 when the TUN driver cannot be used (privilege, /dev/net/tun); -2 when the configuration or the device
/// is refused; -3 when the service cannot be registered, or is up already; -100 when the node has no server
/// (`[server] enabled`). After a failure nothing is left behind.
///
/// # Safety
/// `g_config` is NULL or a configuration of the linked SDK that stays open until `dap_chain_net_srv_vpn_deinit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_vpn_init(g_config: *mut dap_config_t) -> c_int {
    boundary("dap_chain_net_srv_vpn_init", -3, || {
        // SAFETY: the caller's promise above.
        let config = unsafe { Config::from_raw(g_config) };
        match server::init(&config) {
            Ok(()) => 0,
            Err(error) => {
                log::error!("VPN service not started: {error}");
                super::codes::server_init(&error)
            }
        }
    })
}

/// Stops the VPN service: sessions lose their lease, the TUN device disappears, what was registered is taken back.
///
/// Any thread, any number of times, also before `dap_chain_net_srv_vpn_init`. Not needed before the process exits.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_srv_vpn_deinit() {
    boundary("dap_chain_net_srv_vpn_deinit", (), server::deinit);
}
