/* The VPN service of a node: packets, structs, start and stop.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#ifndef DAP_CHAIN_NET_SRV_VPN_H
#define DAP_CHAIN_NET_SRV_VPN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>

#include "dap_common.h"
#include "dap_config.h"
#include "dap_events.h"
#include "dap_events_socket.h"
#include "dap_stream_ch.h"
#include "dap_stream_ch_pkt.h"
#include "dap_chain_net_srv.h"
#include "dap_chain_net_srv_vpn_common.h"
#define DAP_CHAIN_NET_SRV_VPN_CDB_GDB_PREFIX "srv.vpn"

/* Packet types on channel 'S'. */
#define DAP_STREAM_CH_PKT_TYPE_NET_SRV_VPN_CLIENT 0x01
#define DAP_STREAM_CH_PKT_TYPE_NET_SRV_VPN_DATA 0x02

#define DAP_STREAM_CH_NET_SRV_ID_VPN 'S'

#define VPN_PACKET_OP_CODE_CONNECTED 0x000000a9
#define VPN_PACKET_OP_CODE_CONNECT 0x000000aa
#define VPN_PACKET_OP_CODE_DISCONNECT 0x000000ab
#define VPN_PACKET_OP_CODE_SEND 0x000000ac
#define VPN_PACKET_OP_CODE_RECV 0x000000ad
#define VPN_PACKET_OP_CODE_PROBLEM 0x000000ae
#define VPN_PACKET_OP_CODE_VPN_METADATA 0x000000b0
#define VPN_PACKET_OP_CODE_VPN_RESERVED 0x000000b1
#define VPN_PACKET_OP_CODE_VPN_ADDR_REQUEST 0x000000b2
#define VPN_PACKET_OP_CODE_VPN_ADDR_REPLY 0x000000b3
#define VPN_PACKET_OP_CODE_VPN_SEND 0x000000bc
#define VPN_PACKET_OP_CODE_VPN_RECV 0x000000bd
#define VPN_PACKET_OP_CODE_PING 0xc0
#define VPN_PACKET_OP_CODE_PONG 0xc1

#define VPN_PROBLEM_CODE_NO_FREE_ADDR 0x00000001
#define VPN_PROBLEM_CODE_TUNNEL_DOWN 0x00000002
#define VPN_PROBLEM_CODE_PACKET_LOST 0x00000003
#define VPN_PROBLEM_CODE_ALREADY_ASSIGNED_ADDR 0x00000004

#define TUN_MTU 0xFFFF

/* A VPN packet: a header of 20 bytes, little-endian, and the data. docs/wire.md says who may send what. */
typedef struct dap_stream_ch_vpn_pkt {
    struct {
        int sock_id;
        uint32_t op_code;
        uint32_t usage_id;
        union {
            struct {
                uint32_t addr_size;
                uint16_t port DAP_ALIGNED(4);
            } DAP_PACKED op_connect;
            struct {
                uint32_t data_size DAP_ALIGNED(8);
            } DAP_PACKED op_data;
            struct {
                uint32_t code DAP_ALIGNED(8);
            } DAP_PACKED op_problem;
            struct {
                uint64_t op_data_raw DAP_ALIGNED(8);
            } DAP_PACKED raw;
        };
    } DAP_ALIGN_PACKED header;
    byte_t data[];
} DAP_ALIGN_PACKED dap_stream_ch_vpn_pkt_t;

/* The VPN channel's object, and a TUN queue's, from what the SDK hands around. */
#define CH_VPN(a) ((dap_chain_net_srv_ch_vpn_t *)((a)->internal))
#define CH_SF_TUN_SOCKET(a) ((dap_chain_net_srv_vpn_tun_socket_t *)((a)->_inheritor))


/*
 A VPN channel: what `ch->internal` of a channel 'S' points to, on both ends.
 */
struct dap_chain_net_srv_ch_vpn {
    /*
     The usage that REQUEST opened; 0 before.
     */
    uint32_t usage_id;
    /*
     The service; NULL on the client's end.
     */
    dap_chain_net_srv_t *net_srv;
    /*
     The peer may send: its REQUEST was accepted.
     */
    bool is_allowed;
    /*
     The TUN queue of the channel's worker; NULL while there is none.
     */
    struct dap_chain_net_srv_vpn_tun_socket *tun_socket;
    /*
     The leased inner address, network order; 0 without a lease.
     */
    struct in_addr addr_ipv4;
    /*
     The channel itself.
     */
    dap_stream_ch_t *ch;
    /*
     uthash's handle, used in the copies that `ch_vpn_ipv4` lists.
     */
    UT_hash_handle hh;
};

/*
 What a TUN queue knew of a session in the legacy module. Kept for its layout.
 */
struct dap_chain_net_srv_ch_vpn_info {
    /*
     Leased inner address, network order.
     */
    struct in_addr addr_ipv4;
    /*
     The session's stream is on this queue's worker.
     */
    bool is_on_this_worker;
    /*
     The stream has been moved to another worker.
     */
    bool is_reassigned_once;
    /*
     The usage that REQUEST opened.
     */
    uint32_t usage_id;
    /*
     The session's channel.
     */
    struct dap_chain_net_srv_ch_vpn *ch_vpn;
    /*
     Its number.
     */
    uint64_t ch_vpn_uuid;
    /*
     Queue to the session's worker.
     */
    dap_events_socket_t *queue_msg;
    /*
     The session's worker.
     */
    dap_worker_t *worker;
    /*
     The stream's event socket.
     */
    dap_events_socket_t *esocket;
    /*
     Its number.
     */
    uint64_t esocket_uuid;
    /*
     uthash's handle.
     */
    UT_hash_handle hh;
};

/*
 One queue of the server's TUN device, in one worker: what the event socket's `_inheritor` points to.
 */
struct dap_chain_net_srv_vpn_tun_socket {
    /*
     Number of the worker that owns the queue.
     */
    uint8_t worker_id;
    /*
     That worker.
     */
    dap_worker_t *worker;
    /*
     The queue's event socket.
     */
    dap_events_socket_t *es;
    /*
     Always NULL: routes are kept in a table that readers do not lock.
     */
    struct dap_chain_net_srv_ch_vpn_info *clients;
    /*
     Always NULL: packets cross workers in batches, not one queue message each.
     */
    dap_events_socket_t **queue_tun_msg_input;
    /*
     Always 0.
     */
    size_t buf_size_aux;
};

/*
 One queue of the server's TUN device.
 */
typedef struct dap_chain_net_srv_vpn_tun_socket dap_chain_net_srv_vpn_tun_socket_t;

/*
 A VPN channel.
 */
typedef struct dap_chain_net_srv_ch_vpn dap_chain_net_srv_ch_vpn_t;

/*
 What a TUN queue knew of a session.
 */
typedef struct dap_chain_net_srv_ch_vpn_info dap_chain_net_srv_ch_vpn_info_t;

/*
 An address that was released and waits to be leased again.
 */
struct dap_chain_net_srv_vpn_item_ipv4 {
    /*
     The address, network order.
     */
    struct in_addr addr;
    /*
     The one that is leased after it.
     */
    struct dap_chain_net_srv_vpn_item_ipv4 *next;
};

/*
 An address that waits to be leased again.
 */
typedef struct dap_chain_net_srv_vpn_item_ipv4 dap_chain_net_srv_vpn_item_ipv4_t;

/*
 The service as a whole: what `dap_chain_net_srv_t::_internal` points to.

 Both lists are copies, made anew at most once a second. They may be read on worker 0 alone, where they do not change
 while a callback runs; a session's `ch` belongs to that session's own worker.
 */
struct dap_chain_net_srv_vpn {
    /*
     Released addresses, in the order of their next lease.
     */
    struct dap_chain_net_srv_vpn_item_ipv4 *ipv4_unleased;
    /*
     Sessions with a lease: a uthash table by `addr_ipv4`; without uthash linked by `hh.prev` and `hh.next` alone.
     */
    struct dap_chain_net_srv_ch_vpn *ch_vpn_ipv4;
    /*
     The SDK's service.
     */
    dap_chain_net_srv_t *parent;
};

/*
 The service as a whole.
 */
typedef struct dap_chain_net_srv_vpn dap_chain_net_srv_vpn_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Starts the VPN service: the TUN device with a queue for each worker, the channel 'S', the service, `vpn_stat` and
 `GET /remain_limits_vpn`.

 `g_config` is the node's configuration, section `[srv_vpn]` (docs/config.md); NULL is the node's own.
 Returns 0; -1 when the TUN driver cannot be used (privilege, /dev/net/tun); -2 when the configuration or the device
 is refused; -3 when the service cannot be registered, or is up already; -100 when the node has no server
 (`[server] enabled`). After a failure nothing is left behind.

 # Safety
 `g_config` is NULL or a configuration of the linked SDK that stays open until `dap_chain_net_srv_vpn_deinit`.
 */
int dap_chain_net_srv_vpn_init(dap_config_t *g_config);

/*
 Stops the VPN service: sessions lose their lease, the TUN device disappears, what was registered is taken back.

 Any thread, any number of times, also before `dap_chain_net_srv_vpn_init`. Not needed before the process exits.
 */
void dap_chain_net_srv_vpn_deinit(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_SRV_VPN_H */
