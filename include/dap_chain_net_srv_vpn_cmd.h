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
 Runs the command `vpn_stat`: reports each session with a lease, or with `-history` the account book.

 `a_argc` and `a_argv` are the command's words, beginning with its name. The reply is stored in `*a_reply`; the
 caller frees it with the SDK's allocator. Call it on any thread. Returns 0; -1 if an argument is invalid, -2 for an
 unknown network.

 # Safety
 `a_argv` is NULL or holds `a_argc` strings; `a_reply` is NULL or points to NULL or to an earlier reply.
 */
int com_vpn_statistics(int a_argc, char **a_argv, void **a_reply, int a_version);

/*
 Runs the command `vpn_client`: start, stop, status, check, check result, init.

 Arguments and reply are as in `com_vpn_statistics`. Returns the code of the client's function; -1 for an invalid
 parameter, -2 for an unknown network.

 # Safety
 As `com_vpn_statistics`.
 */
int com_vpn_client(int a_argc, char **a_argv, void **a_reply, int a_version);

/*
 Does nothing: the service and the client register the commands. Returns 0.
 */
int dap_chain_net_srv_vpn_cmd_init(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_SRV_VPN_CMD_H */
