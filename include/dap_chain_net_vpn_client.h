/* The VPN client of a node.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#ifndef DAP_CHAIN_NET_VPN_CLIENT_H
#define DAP_CHAIN_NET_VPN_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dap_stream_worker.h"
#include "dap_stream_session.h"
#include "dap_chain_net.h"
#include "dap_chain_net_srv_vpn.h"

/*
 What the client is doing.
 */
enum dap_chain_net_vpn_client_status_enum {
    /*
     Never started, or its last start failed.
     */
    VPN_CLIENT_STATUS_NOT_STARTED = 0,
    /*
     Connected, with a lease, the tunnel up.
     */
    VPN_CLIENT_STATUS_STARTED,
    /*
     Stopped; also while a connection is being made or taken down.
     */
    VPN_CLIENT_STATUS_STOPPED,
    /*
     The connection was lost; start again, or stop.
     */
    VPN_CLIENT_STATUS_CONN_LOST,
};

/*
 Says whether a node serves at the moment: 1 available, 0 not available, anything else unknown.
 */
typedef int (*dap_chain_net_vpn_client_order_state_callback_t)(dap_chain_node_addr_t a_node_addr);

/*
 What the client is doing.
 */
typedef enum dap_chain_net_vpn_client_status_enum dap_chain_net_vpn_client_status_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Sets the function that `dap_chain_net_vpn_client_check_result` asks for the state of an order's node; NULL: none. A
 call of the former function that runs on another thread may end after this returns.
 */
void dap_chain_net_vpn_client_set_order_state_callback(dap_chain_net_vpn_client_order_state_callback_t a_callback);

/*
 The channel 'S' of the running connection, or NULL. It belongs to the SDK and dies with the connection; only its
 worker's thread may use it.
 */
dap_stream_ch_t *dap_chain_net_vpn_client_get_stream_ch(void);

/*
 The worker of the running connection's stream, or NULL. It belongs to the SDK.
 */
dap_stream_worker_t *dap_chain_net_vpn_client_get_stream_worker(void);

/*
 Chooses the wallet, the token and the value (in datoshi) that paid service is bought with, and keeps them in the store.

 Returns 0; -1 when an argument is wrong or the wallet cannot be opened; -2 when the store fails; -3 when no
 conditional transaction can be made (not enough funds).

 # Safety
 Pointers are NULL or valid for the call; strings NUL-terminated.
 */
int dap_chain_net_vpn_client_update(dap_chain_net_t *a_net,
                                    const char *a_wallet_name,
                                    const char *a_str_token,
                                    uint64_t a_value_datoshi);

/*
 What `dap_chain_net_vpn_client_update` chose. Each out pointer may be NULL; the strings are the caller's to free with
 the SDK's allocator, NULL when nothing was chosen. Returns 0; -1 when `a_net` is NULL.

 # Safety
 Pointers are NULL or valid for writing.
 */
int dap_chain_net_vpn_client_get_wallet_info(dap_chain_net_t *a_net,
                                             char **a_wallet_name,
                                             char **a_str_token,
                                             uint64_t *a_value_datoshi);

/*
 The VPN orders known in the network, a line each, with the state of the node where a callback tells it.

 `a_hash_out_type` is "hex" or "base58". The text is the caller's to free with the SDK's allocator; NULL when an
 argument is wrong.

 # Safety
 Pointers are NULL or valid for the call; the string NUL-terminated.
 */
char *dap_chain_net_vpn_client_check_result(dap_chain_net_t *a_net, const char *a_hash_out_type);

/*
 Tests a server: connects, sends `a_data_size_to_send` bytes, asks for `a_data_size_to_recv` bytes back (at most
 65536 each; (size_t)-1 is 1024), and waits at most `a_timeout_test_ms` from the call on (-1 is 10000; less than
 5000 counts as 5000). Of that, connecting may take 10000 at most. Blocks.

 Returns 0; -1 when an argument is wrong; -2 when the connection fails or is not made in time; -3 without an answer
 in time.

 # Safety
 Pointers are NULL or valid for the call; the string NUL-terminated. Not from a worker thread.
 */
int dap_chain_net_vpn_client_check(dap_chain_net_t *a_net,
                                   const char *a_host,
                                   uint16_t a_port,
                                   size_t a_data_size_to_send,
                                   size_t a_data_size_to_recv,
                                   int a_timeout_test_ms);

/*
 Connects to a server, asks for service and an address, and brings the tunnel up. Blocks until it is up or has failed.

 Returns 0; 1 when the client is started already; -1 when an argument is wrong; -2 when the connection fails, the
 server refuses or the tunnel cannot be made; -3 without an answer in time (`[vpn_client] start_timeout`, 10 s).

 # Safety
 Pointers are NULL or valid for the call; the string NUL-terminated. Not from a worker thread.
 */
int dap_chain_net_vpn_client_start(dap_chain_net_t *a_net, const char *a_host, uint16_t a_port);

/*
 Stops the client: takes the tunnel down and closes the connection. Blocks until both are done. Returns 0; also when
 nothing ran.
 */
int dap_chain_net_vpn_client_stop(void);

/*
 What the client is doing. Any thread.
 */
dap_chain_net_vpn_client_status_t dap_chain_net_vpn_client_status(void);

/*
 Registers the command `vpn_client`. Section `[vpn_client]` of `g_config` is read at each start; NULL is the node's
 own configuration. Returns 0; negative when the SDK cannot be started. Calling it again is harmless, the last
 configuration counts.

 # Safety
 `g_config` is NULL or a configuration of the linked SDK that stays open until `dap_chain_net_vpn_client_deinit`.
 */
int dap_chain_net_vpn_client_init(dap_config_t *g_config);

/*
 Stops the client and takes the command back. Any number of times, also before init.
 */
void dap_chain_net_vpn_client_deinit(void);

/*
 Nothing is sent from here: packets go out when the tunnel has them. NULL is logged.
 */
void dap_chain_net_vpn_client_pkt_out(dap_stream_ch_t *a_ch);

/*
 Hands a packet of channel 'S' to the client, as the SDK does when one arrives. Packets of a channel that is not the
 running connection's are dropped.

 # Safety
 `a_pkt` is NULL or a whole channel packet. Only on the channel's worker thread.
 */
void dap_chain_net_vpn_client_pkt_in(dap_stream_ch_t *a_ch, dap_stream_ch_pkt_t *a_pkt);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_VPN_CLIENT_H */
