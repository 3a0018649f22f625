//! Part `common`: dap_chain_net_srv_vpn_common.c.

use std::ffi::c_int;

use super::boundary;
use crate::sdk;

/// Registers the VPN service's tag, "vpn", with the ledger, so that the ledger recognises payments for the service.
///
/// Call it on any thread, also repeatedly. Returns 0; if the ledger refuses, logs that and returns its negative code.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_srv_vpn_pre_init() -> c_int {
    boundary("dap_chain_net_srv_vpn_pre_init", -1, || {
        let code = sdk::ledger::register_tag();
        if code != 0 {
            log::error!("the ledger refused the service tag \"vpn\" (code {code}): it will not recognise payments");
        }
        code
    })
}
