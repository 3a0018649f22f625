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
 The client's state.
 */
enum dap_chain_net_vpn_client_status_enum {
    /*
     The client was never started, or its last start failed; it has no device.
     */
    VPN_CLIENT_STATUS_NOT_STARTED = 0,
    /*
     The client is connected and has a lease, and the tunnel is up.
     */
    VPN_CLIENT_STATUS_STARTED,
    /*
     The client is stopped, connecting or disconnecting.
     */
    VPN_CLIENT_STATUS_STOPPED,
    /*
     The connection was lost, and the device stays until stop or a start that succeeds.
     */
    VPN_CLIENT_STATUS_CONN_LOST,
};

/*
 Tells whether a node serves at the moment: 1 available, 0 not available, any other value unknown.
 */
typedef int (*dap_chain_net_vpn_client_order_state_callback_t)(dap_chain_node_addr_t a_node_addr);

/*
 The client's state.
 */
typedef enum dap_chain_net_vpn_client_status_enum dap_chain_net_vpn_client_status_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Sets the function that `dap_chain_net_vpn_client_check_result` calls for the state of an order's node; NULL removes
 it. A call of the previous function that runs on another thread may return after this function does.
 */
void dap_chain_net_vpn_client_set_order_state_callback(dap_chain_net_vpn_client_order_state_callback_t a_callback);

/*
 Returns the channel 'S' of the running connection, or NULL. The SDK owns it and frees it with the connection; use it
 on its worker's thread only.
 */
dap_stream_ch_t *dap_chain_net_vpn_client_get_stream_ch(void);

/*
 Returns the worker of the running connection's stream, or NULL. The SDK owns it.
 */
dap_stream_worker_t *dap_chain_net_vpn_client_get_stream_worker(void);

/*
 Sets the wallet, the token and the value (in datoshi) that pay for service, keeps them in the store, and makes a
 conditional transaction. Blocks.

 Returns 0; -1 if an argument is invalid or the wallet cannot be opened; -2 if the store fails; -3 if no conditional
 transaction can be made (not enough funds).

 # Safety
 Pointers are NULL or valid for the call; strings NUL-terminated.
 */
int dap_chain_net_vpn_client_update(dap_chain_net_t *a_net,
                                    const char *a_wallet_name,
                                    const char *a_str_token,
                                    uint64_t a_value_datoshi);

/*
 Returns the values that `dap_chain_net_vpn_client_update` set. Each out pointer may be NULL; the caller frees the
 strings with the SDK's allocator; they are NULL if nothing was set. Returns 0; -1 if `a_net` is NULL.

 # Safety
 Pointers are NULL or valid for writing.
 */
int dap_chain_net_vpn_client_get_wallet_info(dap_chain_net_t *a_net,
                                             char **a_wallet_name,
                                             char **a_str_token,
                                             uint64_t *a_value_datoshi);

/*
 Lists the VPN orders known in the network, one per line, with the state of the node if the callback tells it.

 `a_hash_out_type` is "hex" or "base58". The caller frees the text with the SDK's allocator. Returns NULL if an
 argument is invalid.

 # Safety
 Pointers are NULL or valid for the call; the string NUL-terminated.
 */
char *dap_chain_net_vpn_client_check_result(dap_chain_net_t *a_net, const char *a_hash_out_type);

/*
 Tests a server: connects, sends `a_data_size_to_send` bytes and requests `a_data_size_to_recv` bytes (at most 65536
 each; (size_t)-1 means 1024). The whole call takes at most `a_timeout_test_ms` (0 or less means 10000), connecting at
 most 10000 of that. Blocks.

 Returns 0; -1 if an argument is invalid; -2 if nothing accepts the connection, or the server ends it or refuses; -3
 if what accepts it does not answer in time.

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
 Connects to a server, requests service and an address, and brings the tunnel up. Blocks until it is up or has
 failed.

 Returns 0; 1 if the client is already started; -1 if an argument is invalid; -2 if the connection fails, the server
 refuses, the tunnel cannot be created or the client is stopped; -3 if the answer times out
 (`[vpn_client] start_timeout`, 10 s).

 Time may heal -3, and -2 when the server cannot be reached, has no free address, or its tunnel or network is down. It
 heals neither -1 nor -2 for a wrong identity, another protocol, an order or offer that does not fit, or this host's
 device and state. The log's last ERROR line names the reason.

 # Safety
 Pointers are NULL or valid for the call; the string NUL-terminated. Not from a worker thread.
 */
int dap_chain_net_vpn_client_start(dap_chain_net_t *a_net, const char *a_host, uint16_t a_port);

/*
 Stops the client: takes the tunnel down and closes the connection, and ends every start that waits, whatever it waits
 for. Blocks until all is done. Returns 0, also if the client did not run.
 */
int dap_chain_net_vpn_client_stop(void);

/*
 Returns the client's state. Call it on any thread.
 */
dap_chain_net_vpn_client_status_t dap_chain_net_vpn_client_status(void);

/*
 Registers the command `vpn_client`. Section `[vpn_client]` of `g_config` is read at each start and update; NULL selects
 the node's own configuration. Returns 0; a negative code if the SDK cannot be started. It may be called again; the last
 configuration counts.

 # Safety
 `g_config` is NULL or a configuration of the linked SDK that stays open until `dap_chain_net_vpn_client_deinit`.
 */
int dap_chain_net_vpn_client_init(dap_config_t *g_config);

/*
 Stops the client and unregisters the command. It may be called any number of times, also before init.
 */
void dap_chain_net_vpn_client_deinit(void);

/*
 Sends nothing: packets leave when the tunnel has them. Logs a NULL argument.
 */
void dap_chain_net_vpn_client_pkt_out(dap_stream_ch_t *a_ch);

/*
 Passes a packet of channel 'S' to the client, as the SDK does when a packet arrives. Drops packets of a channel that
 is not the running connection's.

 # Safety
 `a_pkt` is NULL or a whole channel packet. Only on the channel's worker thread.
 */
void dap_chain_net_vpn_client_pkt_in(dap_stream_ch_t *a_ch, dap_stream_ch_pkt_t *a_pkt);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_VPN_CLIENT_H */
