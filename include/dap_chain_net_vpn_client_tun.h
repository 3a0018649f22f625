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
 Sets the gateway for later calls of `dap_chain_net_vpn_client_tun_create` without one.

 Returns 0; -1 if `a_ipv4_gw_str` is NULL or not an IPv4 address.

 # Safety
 `a_ipv4_gw_str` is NULL or NUL-terminated.
 */
int dap_chain_net_vpn_client_tun_init(const char *a_ipv4_gw_str);

/*
 Returns the event socket of the tunnel's device, or NULL. The SDK owns it and frees it with the device.
 */
dap_events_socket_t *dap_chain_net_vpn_client_tun_get_esock(void);

/*
 Creates the tunnel's device with this address and sets it up; the smallest subnet that holds address and gateway, /8
 to /24, is routed into it. Replaces an existing device, which stays as it was if the new one cannot be created.

 Returns 0; -1 if an argument is invalid, address and gateway are equal, or no /8 holds both; -2 if the device cannot
 be created; -3 if the SDK's workers do not run.

 # Safety
 Strings are NULL or NUL-terminated; `a_ipv4_gw_str` may be NULL after `dap_chain_net_vpn_client_tun_init`.
 */
int dap_chain_net_vpn_client_tun_create(const char *a_ipv4_addr_str, const char *a_ipv4_gw_str);

/*
 Removes the tunnel's device. Returns 0, also if there is none.
 */
int dap_chain_net_vpn_client_tun_delete(void);

/*
 Returns 0 if the tunnel's device is up, 1 if it is down, -1 if there is none or the host has deleted it, -2 if the
 kernel does not report its state.
 */
int dap_chain_net_vpn_client_tun_status(void);

/*
 Creates the tunnel with the address that the server's ADDR_REPLY leases. Packets that the host sends into the tunnel
 go to the channel `a_sf->ch` under `a_sf->usage_id` while that channel is open; if `ch` is NULL, to the channel of
 `dap_chain_net_vpn_client_get_stream_ch`; without either they are dropped. `a_pkt_data_size` counts the bytes behind
 the header, at least 8.

 The reply is judged as one that this library's own client gets: the subnet must be in a private network or in one of
 `[vpn_client] allow_subnet`, and must not collide with this host's networks, routes, gateways and name servers.

 Returns the codes of `dap_chain_net_vpn_client_tun_create`; -1 for NULL, and for a reply that is malformed or
 invalid: a prefix outside /8 to /30, equal addresses, the first or last address of the subnet, or a subnet that no
 server may give; -2 for one that collides, or if `allow_subnet` cannot be read, or, on a worker, if other replies come
 faster than one in ten seconds, after eight.

 # Safety
 `a_sf` is NULL or a VPN channel whose `ch` is NULL or open; with a channel, only on its worker's thread. `a_pkt` is
 NULL or points to a header and `a_pkt_data_size` bytes behind it.
 */
int ch_sf_tun_addr_leased(dap_chain_net_srv_ch_vpn_t *a_sf, dap_stream_ch_vpn_pkt_t *a_pkt, size_t a_pkt_data_size);

/*
 Writes a packet from the server to the tunnel's device. Drops and counts data that is not one whole IPv4 packet to
 the leased address.

 # Safety
 `pkt_data` is NULL or points to `pkt_data_size` bytes.
 */
void ch_sf_tun_client_send(dap_chain_net_srv_ch_vpn_t *ch_sf, void *pkt_data, size_t pkt_data_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_VPN_CLIENT_TUN_H */
