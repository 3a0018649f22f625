/* The VPN service's number, and its tag in the ledger.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#ifndef DAP_CHAIN_NET_SRV_VPN_COMMON_H
#define DAP_CHAIN_NET_SRV_VPN_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


#define DAP_CHAIN_NET_SRV_VPN_ID 0x0000000000000001ULL


#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Registers the VPN service's tag, "vpn", with the ledger, so that the ledger recognises payments for the service.

 Call it on any thread, also repeatedly. Returns 0; if the ledger refuses, logs that and returns its negative code.
 */
int dap_chain_net_srv_vpn_pre_init(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_SRV_VPN_COMMON_H */
