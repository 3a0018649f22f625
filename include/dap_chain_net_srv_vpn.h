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

/* A VPN packet: a header of 20 bytes, little-endian, and the data. docs/wire.md lists the packets of each side. */
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

/* The VPN channel's object, from the SDK's channel; the TUN queue's object, from its event socket. */
#define CH_VPN(a) ((dap_chain_net_srv_ch_vpn_t *)((a)->internal))
#define CH_SF_TUN_SOCKET(a) ((dap_chain_net_srv_vpn_tun_socket_t *)((a)->_inheritor))


/*
 A VPN channel. `ch->internal` of a channel 'S' points to it, on both ends.
 */
struct dap_chain_net_srv_ch_vpn {
    /*
     Number of the usage that REQUEST opened; 0 before.
     */
    uint32_t usage_id;
    /*
     The SDK's service; NULL on the client's end.
     */
    dap_chain_net_srv_t *net_srv;
    /*
     True once the peer's REQUEST was accepted: the peer may send packets.
     */
    bool is_allowed;
    /*
     The TUN queue of the channel's worker, or NULL.
     */
    struct dap_chain_net_srv_vpn_tun_socket *tun_socket;
    /*
     The leased inner address in network order; 0 without a lease.
     */
    struct in_addr addr_ipv4;
    /*
     The channel itself; NULL in the copies in `ch_vpn_ipv4`, because it may end at any moment on its own worker.
     */
    dap_stream_ch_t *ch;
    /*
     uthash's handle; only the copies in `ch_vpn_ipv4` use it.
     */
    UT_hash_handle hh;
};

/*
 A TUN queue's view of a session in the legacy module. Kept for its layout; this library creates none.
 */
struct dap_chain_net_srv_ch_vpn_info {
    /*
     The leased inner address in network order.
     */
    struct in_addr addr_ipv4;
    /*
     True if the session's stream is on this queue's worker.
     */
    bool is_on_this_worker;
    /*
     True if the stream has been moved to another worker.
     */
    bool is_reassigned_once;
    /*
     Number of the usage that REQUEST opened.
     */
    uint32_t usage_id;
    /*
     The session's channel.
     */
    struct dap_chain_net_srv_ch_vpn *ch_vpn;
    /*
     The channel's UUID.
     */
    uint64_t ch_vpn_uuid;
    /*
     The queue to the session's worker.
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
     The event socket's UUID.
     */
    uint64_t esocket_uuid;
    /*
     uthash's handle.
     */
    UT_hash_handle hh;
};

/*
 A queue of the server's TUN device, owned by one worker. The event socket's `_inheritor` points to it.
 */
struct dap_chain_net_srv_vpn_tun_socket {
    /*
     Number of the worker that owns the queue.
     */
    uint8_t worker_id;
    /*
     The worker that owns the queue.
     */
    dap_worker_t *worker;
    /*
     The queue's event socket.
     */
    dap_events_socket_t *es;
    /*
     Always NULL: routes are in a table that readers do not lock.
     */
    struct dap_chain_net_srv_ch_vpn_info *clients;
    /*
     Always NULL: packets cross workers in batches, not in a message each.
     */
    dap_events_socket_t **queue_tun_msg_input;
    /*
     Always 0.
     */
    size_t buf_size_aux;
};

/*
 A queue of the server's TUN device.
 */
typedef struct dap_chain_net_srv_vpn_tun_socket dap_chain_net_srv_vpn_tun_socket_t;

/*
 A VPN channel.
 */
typedef struct dap_chain_net_srv_ch_vpn dap_chain_net_srv_ch_vpn_t;

/*
 A TUN queue's view of a session.
 */
typedef struct dap_chain_net_srv_ch_vpn_info dap_chain_net_srv_ch_vpn_info_t;

/*
 A released address, which can be leased again.
 */
struct dap_chain_net_srv_vpn_item_ipv4 {
    /*
     The address in network order.
     */
    struct in_addr addr;
    /*
     The address that is leased after this one.
     */
    struct dap_chain_net_srv_vpn_item_ipv4 *next;
};

/*
 A released address.
 */
typedef struct dap_chain_net_srv_vpn_item_ipv4 dap_chain_net_srv_vpn_item_ipv4_t;

/*
 The service as a whole. `dap_chain_net_srv_t::_internal` points to it.

 Both lists are snapshots, renewed at most once a second. Read them on worker 0 only, where they do not change while
 a callback runs. A copy's `ch` is NULL.
 */
struct dap_chain_net_srv_vpn {
    /*
     Snapshot of the released addresses, in the order in which they are leased next.
     */
    struct dap_chain_net_srv_vpn_item_ipv4 *ipv4_unleased;
    /*
     Snapshot of the sessions with a lease: a uthash table by `addr_ipv4`, or, without uthash, a list by `hh`'s
     links.
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
 Starts the VPN service: the TUN device with a queue per worker, the channel 'S', the SDK's service, `vpn_stat` and
 `GET /remain_limits_vpn`.

 Section `[srv_vpn]` of `g_config` is read (docs/config.md); NULL selects the node's own configuration. Call it on
 any thread that is not a worker. Returns 0; -1 if the TUN driver cannot be used (privilege, /dev/net/tun); -2 if the
 configuration is invalid or the device cannot be set up; -3 if the service cannot be registered or already runs;
 -100 if the node has no server (`[server] enabled`). A failure leaves nothing behind.

 # Safety
 `g_config` is NULL or a configuration of the linked SDK that stays open until `dap_chain_net_srv_vpn_deinit`.
 */
int dap_chain_net_srv_vpn_init(dap_config_t *g_config);

/*
 Stops the VPN service: ends the leases of all sessions, removes the TUN device, and undoes all registrations.

 Call it on any thread, any number of times, also before `dap_chain_net_srv_vpn_init`. A process may exit without it.
 */
void dap_chain_net_srv_vpn_deinit(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DAP_CHAIN_NET_SRV_VPN_H */
