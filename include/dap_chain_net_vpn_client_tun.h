/* The VPN client's TUN device.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#ifndef DAP_CHAIN_NET_VPN_CLIENT_TUN_H
#define DAP_CHAIN_NET_VPN_CLIENT_TUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dap_chain_net_srv_vpn.h"

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Sets the gateway for `dap_chain_net_vpn_client_tun_create` calls that name none.

 Returns 0; -1 when `a_ipv4_gw_str` is NULL or no IPv4 address.

 # Safety
 `a_ipv4_gw_str` is NULL or NUL-terminated.
 */
int dap_chain_net_vpn_client_tun_init(const char *a_ipv4_gw_str);

/*
 The event socket of the tunnel's device, or NULL. It belongs to the SDK and dies with the device.
 */
dap_events_socket_t *dap_chain_net_vpn_client_tun_get_esock(void);

/*
 Creates the tunnel's device with the address, up; a device that exists is replaced.

 Returns 0; -1 when an argument is wrong; -2 when the device cannot be made; -3 when the SDK's workers do not run.

 # Safety
 Strings are NULL or NUL-terminated; `a_ipv4_gw_str` may be NULL after `dap_chain_net_vpn_client_tun_init`.
 */
int dap_chain_net_vpn_client_tun_create(const char *a_ipv4_addr_str, const char *a_ipv4_gw_str);

/*
 Takes the tunnel's device down. Returns 0, also when there is none.
 */
int dap_chain_net_vpn_client_tun_delete(void);

/*
 Returns 0 when the tunnel's device is there and up, 1 when it is there but down, -1 when there is none, -2 when the
 kernel does not tell.
 */
int dap_chain_net_vpn_client_tun_status(void);

/*
 The server's ADDR_REPLY: creates the tunnel with the leased address. What the host sends into it goes to the channel
 `a_sf->ch` under `a_sf->usage_id`, as long as that channel is open; where `ch` is NULL, to the channel of
 `dap_chain_net_vpn_client_get_stream_ch`; where there is none either, nowhere. `a_pkt_data_size` counts the bytes
 behind the header, at least 8.

 Returns 0, or what `dap_chain_net_vpn_client_tun_create` returns; -1 for NULL, and for a reply that is malformed or
 gives what no server may have: a prefix outside of /8 to /30, the same address twice, a subnet's first or last one.

 # Safety
 `a_sf` is NULL or a VPN channel whose `ch` is NULL or open; with a channel, only on its worker's thread. `a_pkt` is
 NULL or points to a header and `a_pkt_data_size` bytes behind it.
 */
int ch_sf_tun_addr_leased(dap_chain_net_srv_ch_vpn_t *a_sf, dap_stream_ch_vpn_pkt_t *a_pkt, size_t a_pkt_data_size);

/*
 A packet from the server for this host: written to the tunnel's device. What is no whole IPv4 packet to the leased
 address is dropped and counted.

 # Safety
 `pkt_data` is NULL or points to `pkt_data_size` bytes.
 */
void ch_sf_tun_client_send(dap_chain_net_srv_ch_vpn_t *ch_sf, void *pkt_data, size_t pkt_data_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_VPN_CLIENT_TUN_H */
