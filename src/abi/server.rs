//! Part `server`: dap_chain_net_srv_vpn.c.

use std::ffi::c_int;

use super::boundary;
use crate::sdk::config::Config;
use crate::sdk::types::dap_config_t;
use crate::server;

/// Starts the VPN service: the TUN device with a queue per worker, the channel 'S', the SDK's service, `vpn_stat` and
/// `GET /remain_limits_vpn`.
///
/// Section `[srv_vpn]` of `g_config` is read (docs/config.md); NULL selects the node's own configuration. Call it on
/// any thread that is not a worker. Returns 0; -1 if the TUN driver cannot be used (privilege, /dev/net/tun); -2 if the
/// configuration is invalid or the device cannot be set up; -3 if the service cannot be registered or already runs;
/// -100 if the node has no server (`[server] enabled`). A failure leaves nothing behind.
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
                log::error!("cannot start the VPN service: {error}");
                super::codes::server_init(&error)
            }
        }
    })
}

/// Stops the VPN service: ends the leases of all sessions, removes the TUN device, and undoes all registrations.
///
/// Call it on any thread, any number of times, also before `dap_chain_net_srv_vpn_init`. A process may exit without it.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_srv_vpn_deinit() {
    boundary("dap_chain_net_srv_vpn_deinit", (), server::deinit);
}
