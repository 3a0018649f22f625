/* The commands vpn_stat and vpn_client.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#ifndef DAP_CHAIN_NET_SRV_VPN_CMD_H
#define DAP_CHAIN_NET_SRV_VPN_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The command `vpn_stat`: one block for each session.

 `a_argc` and `a_argv` are the command's words, the first its name. The text goes to `*a_reply`, from the SDK's
 allocator, the caller's to free. Any thread. Returns 0; -1 when an argument is wrong.

 # Safety
 `a_argv` is NULL or holds `a_argc` strings; `a_reply` is NULL or points to NULL or to an earlier reply.
 */
int com_vpn_statistics(int a_argc, char **a_argv, void **a_reply, int a_version);

/*
 The command `vpn_client`: start, stop, status, check, check result, init.

 As `com_vpn_statistics`; returns what the client's function returned, -1 for a wrong parameter, -2 for an unknown
 network.

 # Safety
 As `com_vpn_statistics`.
 */
int com_vpn_client(int a_argc, char **a_argv, void **a_reply, int a_version);

/*
 Nothing to do: the commands register with the service and the client. Returns 0.
 */
int dap_chain_net_srv_vpn_cmd_init(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_SRV_VPN_CMD_H */
