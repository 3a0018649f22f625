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
 Registers the VPN service's tag, "vpn", with the ledger, so that payments for the service are recognised.

 Any thread. Returns 0; registering again is harmless. A refusal by the ledger is logged, and its negative code returned.
 */
int dap_chain_net_srv_vpn_pre_init(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_SRV_VPN_COMMON_H */
