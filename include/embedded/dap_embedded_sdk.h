/* The embedded SDK, for C programs that run without a Cellframe node. See docs/embedded-sdk.md.
 *
 * Written by cbindgen; change the Rust source, then VPN_UPDATE_HEADERS=1 cargo build. */

#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

/* A system header, so that the compiler warns about the caller's code only. */
#pragma GCC system_header

/* C code can test this to tell the embedded SDK from the Cellframe SDK. */
#define DAP_EMBEDDED_SDK 1

/* Forward declarations: cbindgen writes some structs before the types of their members. */
struct dap_events_socket;
struct dap_chain_node_client;
struct dap_stream_ch_chain_net_srv;
struct dap_stream_ch_pkt;
typedef void (*dap_events_socket_callback_t)(struct dap_events_socket *, void *);
typedef void (*dap_chain_node_client_callback_t)(struct dap_chain_node_client *, void *);
typedef void (*dap_stream_ch_chain_net_srv_callback_packet_t)(struct dap_stream_ch_chain_net_srv *, uint8_t,
                                                              struct dap_stream_ch_pkt *, void *);

/* uthash's handle, the last member of the VPN's structs: from uthash.h if installed, else a struct of equal layout. */
#if __has_include("uthash.h")
#include "uthash.h"
#else
typedef struct UT_hash_handle {
    void *tbl;
    void *prev;
    void *next;
    struct UT_hash_handle *hh_prev;
    struct UT_hash_handle *hh_next;
    const void *key;
    unsigned keylen;
    unsigned hashv;
} UT_hash_handle;
#endif
struct dap_list;
struct dap_hash_fast;
struct dap_chain_net_id;
struct dap_chain_net_srv_uid;
struct dap_chain_node_addr;
struct dap_config;
struct dap_chain_net_pub;
struct dap_chain_net;
struct dap_chain_node_role;
struct dap_worker;
struct dap_events_socket_callbacks;
struct dap_events_socket;
struct dap_timerfd;
struct dap_stream_ch_pkt_hdr;
struct dap_stream_ch_pkt;
struct dap_stream_worker;
struct dap_stream_session;
struct dap_stream;
struct dap_stream_ch;
struct dap_stream_ch_proc;
struct uint256;
struct dap_chain_net_srv_price_unit_uid;
struct dap_chain_net_srv_price;
struct dap_chain_receipt_info;
struct dap_chain_datum_tx_receipt;
struct dap_sign_hdr;
struct dap_sign;
struct dap_net_stats;
struct dap_chain_net_srv_usage;
struct dap_chain_net_srv_stream_session;
struct dap_chain_net_srv_client_remote;
struct dap_stream_ch_chain_net_srv_remain_service_store;
struct dap_stream_ch_chain_net_srv_pkt_error;
struct dap_chain_net_srv_callbacks;
struct dap_chain_net_srv;
struct dap_stream_ch_chain_net_srv;
struct dap_client;
struct dap_chain_node_info;
struct dap_chain_node_client_callbacks;
struct dap_chain_node_client_notify_callbacks;
struct dap_chain_node_client;
struct dap_cli_cmd;
struct dap_http_server;
struct dap_server;
struct dap_http_client;
struct dap_http_simple;
struct dap_http_url_proc;
struct dap_embedded_offer;
struct dap_embedded_chain;
struct dap_ledger;
struct dap_chain_datum_tx;
struct dap_chain_tx_out_cond_header;
struct dap_chain_tx_out_cond;
struct dap_chain_tx_in_cond;
struct dap_chain_datum_tx_item_groups;
struct dap_embedded_order;
struct dap_embedded_transaction;
struct dap_enc_key;
struct dap_cert;


/*
 Most letters that a client may name when it opens a stream.
 */
#define DAP_STREAM_CHANNELS_MAX 15

/*
 Length of an array for these letters and a NUL.
 */
#define DAP_STREAM_CHANNELS_SIZE 16

#define DAP_CHAIN_NET_NAME_MAX 134

/*
 Length of an array for a name and a NUL.
 */
#define DAP_CHAIN_NET_NAME_SIZE 135

#define DAP_CHAIN_HASH_FAST_SIZE 32

#define DAP_CHAIN_TICKER_SIZE_MAX 10

#define DAP_HOSTADDR_STRLEN 256

/*
 Server to client: a receipt that the client has to sign.
 */
#define DAP_STREAM_CH_CHAIN_NET_SRV_PKT_TYPE_SIGN_REQUEST 16

/*
 The server's ledger cannot be asked at present.
 */
#define DAP_EMBEDDED_CHAIN_UNAVAILABLE -1

/*
 The ledger does not have the transaction.
 */
#define DAP_EMBEDDED_CHAIN_UNKNOWN 0

/*
 Nothing is left.
 */
#define DAP_EMBEDDED_CHAIN_SPENT 1

/*
 Something is left.
 */
#define DAP_EMBEDDED_CHAIN_OPEN 2

#define DAP_CHAIN_TX_TAG_ACTION_OPEN (1 << 6)

#define DAP_CHAIN_TX_TAG_ACTION_USE (1 << 7)

enum dap_events_desc_type {
    DESCRIPTOR_TYPE_SOCKET_CLIENT = 0,
    DESCRIPTOR_TYPE_SOCKET_LISTENING = 2,
    DESCRIPTOR_TYPE_FILE = 7,
    DESCRIPTOR_TYPE_QUEUE = 9,
    DESCRIPTOR_TYPE_TIMER = 10,
};

/*
 The SDK's levels, in ascending severity.
 */
enum dap_log_level {
    L_DEBUG = 0,
    L_INFO = 1,
    L_NOTICE = 2,
    L_MSG = 3,
    L_DAP = 4,
    L_WARNING = 5,
    L_ATT = 6,
    L_ERROR = 7,
    L_CRITICAL = 8,
    L_TOTAL = 9,
};

/*
 A node's role in a network, in descending trust, with the SDK's numbers.
 */
enum dap_chain_node_role_enum {
    NODE_ROLE_ROOT_MASTER = 0,
    NODE_ROLE_ROOT = 1,
    NODE_ROLE_ARCHIVE = 2,
    NODE_ROLE_CELL_MASTER = 16,
    NODE_ROLE_MASTER = 32,
    NODE_ROLE_FULL = 240,
    NODE_ROLE_LIGHT = 255,
};

enum dap_chain_net_srv_usage_service_state {
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_IDLE = 0,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_GRACE,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_NORMAL,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_ERROR,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE,
};

/*
 What the payment of a usage waits for.
 */
enum dap_chain_net_srv_usage_service_substate {
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_IDLE = 0,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_FIRST_RECEIPT_SIGN,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEXT_RECEIPT_SIGN,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_TX_FOR_PAYING,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEW_TX_FROM_CLIENT,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_RECEIPT_FOR_NEW_TX_FROM_CLIENT,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEW_TX_IN_LEDGER,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_NORMAL,
    DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_ERROR,
};

enum dap_chain_tx_out_cond_subtype {
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_UNDEFINED = 0,
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY = 1,
};

/*
 Opaque.
 */
struct dap_chain_datum_tx;

/*
 Opaque: a registered command.
 */
struct dap_cli_cmd;

/*
 Opaque: the connection under a node client.
 */
struct dap_client;

/*
 A configuration that was read. Opaque to C.
 */
struct dap_config;

/*
 Opaque: a key pair.
 */
struct dap_enc_key;

/*
 Opaque: the HTTP side of the listener.
 */
struct dap_http_server;

/*
 Opaque: a registered path.
 */
struct dap_http_url_proc;

/*
 Opaque.
 */
struct dap_ledger;

/*
 (argc, argv, reply, version) -> the command's exit code.
 */
typedef int (*dap_cli_server_cmd_callback_t)(int, char**, void**, int);

struct dap_chain_net_id {
    uint64_t uint64;
};

struct dap_chain_net_pub {
    struct dap_chain_net_id id;
    char name[DAP_CHAIN_NET_NAME_SIZE];
    const char *gdb_groups_prefix;
    const char *native_ticker;
    struct dap_config *config;
};

struct dap_chain_net {
    struct dap_chain_net_pub pub;
};

typedef void (*dap_chain_node_client_callback_t)(struct dap_chain_node_client*, void*);

typedef void (*dap_chain_node_client_callback_error_t)(struct dap_chain_node_client*, int, void*);

struct dap_chain_node_client_callbacks {
    /*
     Called on the stream's worker when the stream is up and its channels exist.
     */
    dap_chain_node_client_callback_t connected;
    /*
     Called when the stream is gone, on its worker, or on the connecting thread if it never came up.
     */
    dap_chain_node_client_callback_t disconnected;
    /*
     The last callback; the node client is freed when it returns.
     */
    dap_chain_node_client_callback_t delete_;
    dap_chain_node_client_callback_error_t error;
};

/*
 One channel packet's header on the wire (16 bytes, little-endian), inside TLS in the embedded SDK.
 */
struct __attribute__((packed)) dap_stream_ch_pkt_hdr {
    uint8_t id;
    uint8_t enc_type;
    uint8_t type;
    uint8_t padding;
    uint64_t seq_id;
    uint32_t data_size;
};

struct __attribute__((packed)) dap_stream_ch_pkt {
    struct dap_stream_ch_pkt_hdr hdr;
    uint8_t data[0];
};

typedef void (*dap_stream_ch_callback_packet_t)(void*, uint8_t, struct dap_stream_ch_pkt*, void*);

struct dap_chain_node_client_notify_callbacks {
    /*
     Called when a packet on channel 'R' arrives at the client: (channel, type, packet, `callbacks_arg`).
     */
    dap_stream_ch_callback_packet_t srv_pkt_in;
};

struct dap_chain_node_client {
    struct dap_client *client;
    struct dap_chain_net *net;
    struct dap_chain_node_client_callbacks callbacks;
    struct dap_chain_node_client_notify_callbacks notify_callbacks;
    void *callbacks_arg;
};

typedef struct dap_chain_node_client dap_chain_node_client_t;

typedef struct dap_chain_net dap_chain_net_t;

struct dap_chain_node_addr {
    uint64_t uint64;
};

struct dap_chain_node_info {
    struct dap_chain_node_addr address;
    uint16_t ext_port;
    uint8_t ext_host_len;
    /*
     `ext_host_len` bytes and a NUL; allocated with the struct.
     */
    char ext_host[0];
};

typedef struct dap_chain_node_info dap_chain_node_info_t;

typedef struct dap_chain_node_client_callbacks dap_chain_node_client_callbacks_t;

struct dap_stream_session {
    uint32_t id;
    /*
     Seconds since 1970.
     */
    uint64_t time_created;
    char active_channels[DAP_STREAM_CHANNELS_SIZE];
    struct in_addr tun_client_addr;
    /*
     The service session (`dap_chain_net_srv_stream_session_t`), or NULL.
     */
    void *_inheritor;
};

struct dap_worker {
    uint32_t id;
    void *_inheritor;
};

typedef void (*dap_events_socket_callback_queue_ptr_t)(struct dap_events_socket*, void*);

typedef void (*dap_events_socket_callback_t)(struct dap_events_socket*, void*);

typedef bool (*dap_events_socket_write_callback_t)(struct dap_events_socket*, void*);

typedef void (*dap_events_socket_callback_error_t)(struct dap_events_socket*, int);

typedef void (*dap_events_socket_worker_callback_t)(struct dap_events_socket*, struct dap_worker*);

struct dap_events_socket_callbacks {
    dap_events_socket_callback_queue_ptr_t queue_ptr_callback;
    dap_events_socket_callback_t new_callback;
    dap_events_socket_callback_t delete_callback;
    dap_events_socket_callback_t read_callback;
    dap_events_socket_write_callback_t write_callback;
    dap_events_socket_callback_t write_finished_callback;
    dap_events_socket_callback_error_t error_callback;
    dap_events_socket_worker_callback_t worker_assign_callback;
    dap_events_socket_worker_callback_t worker_unassign_callback;
    void *arg;
};

/*
 An event socket: a descriptor, or a stream's connection, in one worker's loop.

 Made by `dap_events_socket_wrap_no_add` or by the SDK, freed by the SDK after `delete_callback`. The fields are for
 the owning worker's thread.
 */
struct dap_events_socket {
    int fd;
    enum dap_events_desc_type type;
    uint64_t uuid;
    uint32_t flags;
    /*
     True if the SDK must not close the descriptor.
     */
    bool no_close;
    bool was_reassigned;
    /*
     Data that the loop has read; the embedded SDK leaves reading to `read_callback` and keeps the size at 0.
     */
    uint8_t *buf_in;
    size_t buf_in_size;
    /*
     Bytes accepted for sending and not yet passed to the kernel.
     */
    size_t buf_out_size;
    size_t buf_out_size_max;
    char remote_addr_str[DAP_HOSTADDR_STRLEN];
    uint16_t remote_port;
    struct dap_worker *worker;
    struct dap_events_socket_callbacks callbacks;
    long last_time_active;
    long last_ping_request;
    void *_inheritor;
    void *_pvt;
};

struct dap_stream_worker {
    struct dap_worker *worker;
};

struct dap_stream {
    struct dap_stream_session *session;
    struct dap_events_socket *esocket;
    uint64_t esocket_uuid;
    struct dap_stream_worker *stream_worker;
    /*
     This end opened the stream.
     */
    bool is_client_to_uplink;
    struct dap_stream_ch **channel;
    size_t channel_count;
};

typedef uint32_t dap_stream_ch_uuid_t;

typedef void (*dap_stream_ch_callback_t)(struct dap_stream_ch*, void*);

typedef bool (*dap_stream_ch_read_callback_t)(struct dap_stream_ch*, void*);

typedef bool (*dap_stream_ch_write_callback_t)(struct dap_stream_ch*, void*);

struct dap_stream_ch_proc {
    uint8_t id;
    dap_stream_ch_callback_t new_callback;
    dap_stream_ch_callback_t delete_callback;
    /*
     The second argument is the `dap_stream_ch_pkt_t` that arrived.
     */
    dap_stream_ch_read_callback_t packet_in_callback;
    /*
     Called on the owning worker while the channel is ready to write, each time the stream's output has gone to the
     kernel and the kernel takes more. A call that writes nothing and returns false is the last one until there has
     been output again, or the channel is made ready to write; one that returns true is repeated, at most every 5 ms
     after eight in a row.
     */
    dap_stream_ch_write_callback_t packet_out_callback;
    void *internal;
};

struct dap_stream_ch {
    bool ready_to_write;
    bool ready_to_read;
    struct dap_stream *stream;
    dap_stream_ch_uuid_t uuid;
    struct dap_stream_worker *stream_worker;
    struct dap_stream_ch_proc *proc;
    /*
     For the channel owner's data; the VPN server stores a `dap_chain_net_srv_ch_vpn_t`.
     */
    void *internal;
};

typedef struct dap_stream_ch dap_stream_ch_t;

typedef struct dap_client dap_client_t;

typedef struct dap_stream_worker dap_stream_worker_t;

/*
 The type of a configuration's value.
 */
typedef int dap_config_item_type_t;

typedef struct dap_worker dap_worker_t;

typedef void (*dap_worker_callback_t)(void*);

typedef struct dap_events_socket dap_events_socket_t;

typedef struct dap_events_socket_callbacks dap_events_socket_callbacks_t;

typedef uint64_t dap_events_socket_uuid_t;

typedef bool (*dap_timerfd_callback_t)(void*);

struct dap_timerfd {
    uint64_t timeout_ms;
    struct dap_worker *worker;
    uint64_t esocket_uuid;
    dap_timerfd_callback_t callback;
    void *callback_arg;
};

typedef struct dap_timerfd dap_timerfd_t;

struct dap_server {
    /*
     The `dap_http_server_t`.
     */
    void *_inheritor;
};

struct dap_http_client {
    char url_path[1024];
    char in_query_string[1024];
    uint32_t url_path_len;
    uint32_t in_query_string_len;
};

struct dap_http_simple {
    struct dap_http_client *http_client;
    char reply_mime[256];
    void *_pvt;
};

/*
 The second argument is a `http_status_code_t *` (an int) with the status of the reply.
 */
typedef void (*dap_http_simple_callback_t)(struct dap_http_simple*, void*);

struct dap_chain_net_srv_uid {
    uint64_t uint64;
};

struct dap_list {
    void *data;
    struct dap_list *next;
    struct dap_list *prev;
};

struct dap_chain_datum_tx_item_groups {
    struct dap_list *items_in_cond;
    struct dap_list *items_out_cond_srv_pay;
};

typedef uint32_t dap_chain_tx_tag_action_type_t;

typedef bool (*dap_ledger_tag_check_callback_t)(struct dap_ledger*,
                                                struct dap_chain_datum_tx*,
                                                struct dap_chain_datum_tx_item_groups*,
                                                dap_chain_tx_tag_action_type_t*);

struct dap_chain_tx_out_cond_header {
    uint8_t subtype;
    struct dap_chain_net_srv_uid srv_uid;
};

struct dap_chain_tx_out_cond {
    struct dap_chain_tx_out_cond_header header;
};

struct dap_hash_fast {
    uint8_t raw[DAP_CHAIN_HASH_FAST_SIZE];
};

struct dap_chain_tx_in_cond {
    struct dap_hash_fast tx_prev_hash;
    uint32_t tx_out_prev_idx;
};

struct dap_chain_node_role {
    enum dap_chain_node_role_enum enums;
};

struct dap_cert {
    struct dap_enc_key *enc_key;
    char name[40];
};

typedef struct dap_hash_fast dap_hash_fast_t;

/*
 An order of the server whose ledger this process asks.
 */
struct dap_embedded_offer {
    struct dap_hash_fast hash;
    /*
     What `units` cost, in datoshi; UINT64_MAX if it is more; 0 if the service is free.
     */
    uint64_t value;
    /*
     The units of one receipt.
     */
    uint64_t units;
    uint32_t unit;
    /*
     The token's ticker; valid during the callback.
     */
    const char *token;
};

/*
 Called for each order.
 */
typedef void (*dap_embedded_offer_callback_t)(void *context, const struct dap_embedded_offer *offer);

/*
 What is left in a chain of payments.
 */
struct dap_embedded_chain {
    /*
     The last transaction, which the next payment spends.
     */
    struct dap_hash_fast last;
    /*
     The hash of the key that may spend it.
     */
    struct dap_hash_fast key_hash;
    /*
     What it holds, in datoshi; UINT64_MAX if it is more.
     */
    uint64_t value;
    /*
     What a payment costs beside its value, in datoshi.
     */
    uint64_t fee;
    /*
     The most that a unit may cost, in datoshi; 0 for no limit.
     */
    uint64_t max_unit_price;
    uint32_t unit;
    /*
     The token's ticker, NUL-terminated.
     */
    char token[16];
};

typedef struct dap_embedded_chain dap_embedded_chain_t;

/*
 A signature's header (14 bytes, little-endian).
 */
struct __attribute__((packed)) dap_sign_hdr {
    uint32_t type;
    /*
     With the bit 0x80, a hash takes the public key's place.
     */
    uint8_t hash_type;
    uint8_t padding;
    uint32_t sign_size;
    uint32_t sign_pkey_size;
};

/*
 A signature: the header, the public key, the signature itself.
 */
struct __attribute__((packed)) dap_sign {
    struct dap_sign_hdr header;
    uint8_t pkey_n_sign[0];
};

typedef struct dap_sign dap_sign_t;

/*
 A number of 256 bits: two little-endian halves of 128 bits, the upper one first.
 */
struct uint256 {
    uint8_t bytes[32];
};

/*
 An order of this node.
 */
struct dap_embedded_order {
    /*
     The value of one receipt; 0 if the service is free.
     */
    struct uint256 value;
    /*
     The units of one receipt.
     */
    uint64_t units;
    uint32_t unit;
    /*
     This node's key has signed it.
     */
    bool is_ours;
    /*
     The price is in the network's own token.
     */
    bool is_native;
};

typedef struct dap_embedded_order dap_embedded_order_t;

typedef struct uint256 uint256_t;

/*
 A transaction in the ledger, as a means to pay.
 */
struct dap_embedded_transaction {
    /*
     The first transaction of its chain of payments.
     */
    struct dap_hash_fast first;
    /*
     The last one, which nothing has spent; zeros if it holds nothing.
     */
    struct dap_hash_fast last;
    /*
     It holds something, or did before it was spent; if not, all that follows is 0.
     */
    bool has_output;
    /*
     It holds the value and the fees of one payment.
     */
    bool is_enough;
    /*
     The price of a unit is within its limit.
     */
    bool fits_max_price;
    /*
     It holds the network's own token.
     */
    bool is_native;
    uint32_t unit;
    struct dap_chain_net_srv_uid srv_uid;
    /*
     The hash of the key that signs receipts.
     */
    struct dap_hash_fast client_key;
};

typedef struct dap_embedded_transaction dap_embedded_transaction_t;

typedef struct dap_hash_fast dap_chain_hash_fast_t;

/*
 The unit of a price: seconds 0x02, bytes 0x11, pieces 0x22.
 */
struct dap_chain_net_srv_price_unit_uid {
    uint32_t enm;
};

/*
 The part of a receipt that is signed (96 bytes, little-endian).
 */
struct __attribute__((packed)) dap_chain_receipt_info {
    struct dap_chain_net_srv_uid srv_uid;
    uint64_t addition;
    struct dap_chain_net_srv_price_unit_uid units_type;
    /*
     2.
     */
    uint8_t version;
    uint8_t padding[3];
    uint64_t units;
    struct uint256 value_datoshi;
    struct dap_hash_fast prev_tx_cond_hash;
};

/*
 A receipt (113 bytes, little-endian), with extensions and up to two signatures behind it.
 */
struct __attribute__((packed)) dap_chain_datum_tx_receipt {
    /*
     0x71.
     */
    uint8_t type;
    struct dap_chain_receipt_info receipt_info;
    /*
     The size of everything, in bytes.
     */
    uint64_t size;
    uint64_t exts_size;
    uint8_t exts_n_signs[0];
};

typedef struct dap_chain_datum_tx_receipt dap_chain_datum_tx_receipt_t;

struct dap_chain_net_srv_client_remote {
    struct dap_stream_ch *ch;
    long ts_created;
    struct dap_stream_worker *stream_worker;
    uint64_t bytes_received;
    uint64_t bytes_sent;
};

typedef int (*dap_chain_net_srv_callback_data_t)(struct dap_chain_net_srv*,
                                                 uint32_t,
                                                 struct dap_chain_net_srv_client_remote*,
                                                 const void*,
                                                 size_t);

/*
 The rest of a client's paid service, as the node stores it: 16 bytes.
 */
struct dap_stream_ch_chain_net_srv_remain_service_store {
    int64_t limits_bytes;
    long limits_ts;
};

typedef struct dap_stream_ch_chain_net_srv_remain_service_store *(*dap_chain_net_srv_callback_get_remain_srvice_t)(struct dap_chain_net_srv*,
                                                                                                                   uint32_t,
                                                                                                                   struct dap_chain_net_srv_client_remote*);

typedef int (*dap_chain_net_srv_callback_save_remain_srvice_t)(struct dap_chain_net_srv*,
                                                               uint32_t,
                                                               struct dap_chain_net_srv_client_remote*);

struct dap_chain_net_srv_callbacks {
    /*
     Called first: 0 admits the request, any other code refuses it with that code.
     */
    dap_chain_net_srv_callback_data_t requested;
    /*
     Called when the request is accepted (free order, or first receipt signed): SUCCESS follows if this returns 0.
     */
    dap_chain_net_srv_callback_data_t response_success;
    dap_chain_net_srv_callback_data_t response_error;
    dap_chain_net_srv_callback_data_t receipt_next_success;
    dap_chain_net_srv_callback_get_remain_srvice_t get_remain_service;
    dap_chain_net_srv_callback_save_remain_srvice_t save_remain_service;
};

struct dap_chain_net_srv {
    struct dap_chain_net_srv_uid uid;
    /*
     It and the next one may change between two requests; Rust accesses both atomically.
     */
    bool allow_free_srv;
    uint32_t grace_period;
    struct dap_chain_net_srv_callbacks callbacks;
    void *_inheritor;
    void *_internal;
};

typedef struct dap_chain_net_srv dap_chain_net_srv_t;

/*
 The price of one receipt.
 */
struct dap_chain_net_srv_price {
    /*
     The value of one receipt.
     */
    struct uint256 value_datoshi;
    /*
     NUL padded.
     */
    char token[DAP_CHAIN_TICKER_SIZE_MAX];
    /*
     The units of one receipt.
     */
    uint64_t units;
    struct dap_chain_net_srv_price_unit_uid units_uid;
};

typedef struct dap_chain_net_srv_price dap_chain_net_srv_price_t;

typedef struct dap_chain_net_srv_uid dap_chain_net_srv_uid_t;

typedef struct dap_chain_net_srv_callbacks dap_chain_net_srv_callbacks_t;

/*
 One use of a service by one client, from REQUEST to the end of the stream.
 */
struct dap_chain_net_srv_usage {
    uint32_t id;
    long ts_created;
    struct dap_chain_net *net;
    struct dap_chain_net_srv *service;
    /*
     The current receipt, or the first one, which waits for the client's signature; from `malloc`, or NULL.
     */
    struct dap_chain_datum_tx_receipt *receipt;
    /*
     The receipt for the next units; from `malloc`, or NULL.
     */
    struct dap_chain_datum_tx_receipt *receipt_next;
    /*
     NULL if the order is free or unknown.
     */
    struct dap_chain_net_srv_price *price;
    struct dap_chain_net_srv_client_remote *client;
    /*
     The transaction that pays: the request's, later the last payment.
     */
    struct dap_hash_fast tx_cond_hash;
    struct dap_hash_fast client_pkey_hash;
    struct dap_hash_fast static_order_hash;
    /*
     The timer that waits for a signature. Stale once it has ended by itself.
     */
    struct dap_timerfd *receipts_timeout_timer;
    /*
     Starts that timer for the receipt that waits now. Called on the stream's worker.
     */
    void (*receipt_timeout_timer_start_callback)(struct dap_chain_net_srv_usage*);
    int receipt_sign_req_cnt;
    bool is_active;
    bool is_limits_changed;
    enum dap_chain_net_srv_usage_service_state service_state;
    enum dap_chain_net_srv_usage_service_substate service_substate;
    uint32_t last_err_code;
};

struct dap_net_stats {
    size_t bytes_sent;
    size_t bytes_recv;
    size_t bytes_sent_lost;
    size_t bytes_recv_lost;
    size_t packets_sent;
    size_t packets_recv;
    size_t packets_sent_lost;
    ptrdiff_t packets_recv_lost;
};

struct dap_chain_net_srv_stream_session {
    long ts_activated;
    struct dap_stream_session *parent;
    struct dap_chain_net_srv_usage *usage_active;
    int64_t limits_bytes;
    long limits_ts;
    long last_update_ts;
    struct dap_chain_net_srv_price_unit_uid limits_units_type;
    struct dap_net_stats stats;
};

typedef struct dap_chain_net_srv_stream_session dap_chain_net_srv_stream_session_t;

typedef struct dap_stream_session dap_stream_session_t;

typedef struct dap_chain_net_srv_usage dap_chain_net_srv_usage_t;

typedef struct dap_stream_ch_proc dap_stream_ch_proc_t;

typedef struct dap_stream dap_stream_t;

typedef struct dap_list dap_list_t;

typedef struct dap_chain_net_id dap_chain_net_id_t;

typedef struct dap_chain_node_addr dap_chain_node_addr_t;

typedef struct dap_config dap_config_t;

typedef struct dap_chain_node_role dap_chain_node_role_t;

typedef enum dap_events_desc_type dap_events_desc_type_t;

typedef struct dap_stream_ch_pkt_hdr dap_stream_ch_pkt_hdr_t;

typedef struct dap_stream_ch_pkt dap_stream_ch_pkt_t;

typedef void (*dap_stream_session_callback_t)(struct dap_stream_session*, void*);

typedef struct dap_chain_net_srv_price_unit_uid dap_chain_net_srv_price_unit_uid_t;

typedef struct dap_chain_receipt_info dap_chain_receipt_info_t;

typedef struct dap_sign_hdr dap_sign_hdr_t;

typedef enum dap_chain_net_srv_usage_service_state dap_chain_net_srv_usage_service_state_t;

typedef enum dap_chain_net_srv_usage_service_substate dap_chain_net_srv_usage_service_substate_t;

typedef struct dap_net_stats dap_net_stats_t;

typedef struct dap_chain_net_srv_client_remote dap_chain_net_srv_client_remote_t;

typedef struct dap_stream_ch_chain_net_srv_remain_service_store dap_stream_ch_chain_net_srv_remain_service_store_t;

/*
 The body of an ERROR on channel 'R' (24 bytes, little-endian).
 */
struct __attribute__((packed)) dap_stream_ch_chain_net_srv_pkt_error {
    struct dap_chain_net_id net_id;
    struct dap_chain_net_srv_uid srv_uid;
    uint32_t usage_id;
    uint32_t code;
};

typedef struct dap_stream_ch_chain_net_srv_pkt_error dap_stream_ch_chain_net_srv_pkt_error_t;

/*
 What `internal` of a channel 'R' points to in the SDK. In the embedded SDK it is NULL.
 */
struct dap_stream_ch_chain_net_srv {
    struct dap_chain_net_srv_uid srv_uid;
    struct dap_stream_ch *ch;
    dap_stream_ch_uuid_t ch_uuid;
    dap_stream_ch_chain_net_srv_callback_packet_t notify_callback;
    void *notify_callback_arg;
};

typedef void (*dap_stream_ch_chain_net_srv_callback_packet_t)(struct dap_stream_ch_chain_net_srv*,
                                                              uint8_t,
                                                              struct dap_stream_ch_pkt*,
                                                              void*);

typedef struct dap_stream_ch_chain_net_srv dap_stream_ch_chain_net_srv_t;

typedef struct dap_chain_node_client_notify_callbacks dap_chain_node_client_notify_callbacks_t;

typedef struct dap_cli_cmd dap_cli_cmd_t;

typedef struct dap_http_server dap_http_server_t;

typedef struct dap_server dap_server_t;

typedef struct dap_http_client dap_http_client_t;

typedef struct dap_http_simple dap_http_simple_t;

typedef struct dap_embedded_offer dap_embedded_offer_t;

typedef struct dap_ledger dap_ledger_t;

typedef struct dap_chain_datum_tx dap_chain_datum_tx_t;

typedef struct dap_chain_tx_out_cond dap_chain_tx_out_cond_t;

typedef struct dap_chain_tx_in_cond dap_chain_tx_in_cond_t;

typedef struct dap_chain_datum_tx_item_groups dap_chain_datum_tx_item_groups_t;

typedef struct dap_enc_key dap_enc_key_t;

typedef struct dap_cert dap_cert_t;

typedef enum dap_log_level dap_log_level_t;

/*
 There is no such key.
 */
#define DAP_CONFIG_ITEM_UNKNOWN 0

/*
 A list.
 */
#define DAP_CONFIG_ITEM_ARRAY (int)'a'

/*
 `true` or `false`.
 */
#define DAP_CONFIG_ITEM_BOOL (int)'b'

/*
 A decimal number.
 */
#define DAP_CONFIG_ITEM_DECIMAL (int)'d'

/*
 Another text.
 */
#define DAP_CONFIG_ITEM_STRING (int)'s'

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The process-wide configuration, NULL until one is opened. C reads it and may set it; Rust uses [`global`].
 */
extern struct dap_config *g_config;

/*
 Adds a command, or replaces the one with that name. It is called on its own thread with a NULL-terminated argv that
 it may change until it returns; it leaves its reply in `*reply` through `dap_cli_server_cmd_set_reply_str`.
 `func_rpc` is not used. Returns NULL when `name` or `func` is NULL, else a pointer that identifies the command,
 which the caller must neither free nor follow. Any thread.

 # Safety
 The strings are NULL or NUL-terminated; `func` stays callable until the command is removed and has returned.
 */
struct dap_cli_cmd *dap_cli_server_cmd_add(const char *name,
                                           dap_cli_server_cmd_callback_t func,
                                           void *func_rpc,
                                           const char *doc,
                                           const char *doc_ex);

/*
 Removes a command; false if none has that name. A running call continues to its end. Any thread.

 # Safety
 `name` is NULL or a NUL-terminated string.
 */
bool dap_cli_server_cmd_remove(const char *name);

/*
 Searches `argv[start..end]` for the word `name`. Returns its index, or 0 if it is not there (or an argument is NULL
 or negative). With `value`, returns the index behind it and points `*value` to the word there; if `name` is the last
 word, `*value` is unchanged. Any thread.

 # Safety
 `argv` is NULL or a NULL-terminated array of at least `end` NUL-terminated strings; `name` is NULL or a
 NUL-terminated string; `value` is NULL or writable.
 */
int dap_cli_server_cmd_find_option_val(char **argv, int start, int end, const char *name, const char **value);

/*
 Replaces the reply of a command: frees `*reply` and sets it to a `malloc`ed copy of `text` (NULL for NULL). To be
 called on the thread that runs the command.

 # Safety
 `reply` is NULL (logged) or the pointer that the command was called with: `*reply` is NULL or from `malloc`. `text`
 is NULL or a NUL-terminated string; it may be `*reply` itself.
 */
void dap_cli_server_cmd_set_reply_str(void **reply, const char *text);

/*
 Connects to a node and opens channels there, in the background. `info` is copied; `channels` are 1 to 15 distinct
 letters that are registered in this process too. Returns NULL and logs the reason if an argument is invalid or the
 SDK is not retained.

 # Safety
 May be called from any thread. `info` is NULL or points to a node info with `ext_host_len` bytes of host and a NUL
 behind it; `channels` is NULL or a string; `callbacks` is NULL or points to a struct, which is copied, and whose
 functions may be called on workers and on the connecting thread until `delete` has been called.
 */
dap_chain_node_client_t *dap_chain_node_client_create_n_connect(dap_chain_net_t *net,
                                                                dap_chain_node_info_t *info,
                                                                const char *channels,
                                                                const dap_chain_node_client_callbacks_t *callbacks,
                                                                void *callbacks_arg);

/*
 Ends a node client in any state: `delete` is its last callback, after which the struct is freed.

 # Safety
 May be called from any thread, also in the client's callbacks; a stale address is compared, not followed.
 */
void dap_chain_node_client_close_mt(dap_chain_node_client_t *client);

/*
 The channel with this letter; NULL while not connected. Use it on the stream's worker.

 # Safety
 May be called from any thread; a stale address is compared, not followed.
 */
dap_stream_ch_t *dap_client_get_stream_ch_unsafe(dap_client_t *client, uint8_t id);

/*
 The stream's worker; NULL while not connected.

 # Safety
 May be called from any thread; a stale address is compared, not followed.
 */
dap_stream_worker_t *dap_client_get_stream_worker(dap_client_t *client);

/*
 Sets the directory in which `dap_config_open` looks for files; NULL for the working directory. Returns 0, or -1 if
 the directory does not exist. Any thread.

 # Safety
 `dir` is NULL or a NUL-terminated string.
 */
int dap_config_init(const char *dir);

/*
 Reads `<directory of dap_config_init>/<name>.cfg`, or the file itself if `name` is an absolute path, and then
 `<file>.d/*.cfg`. The first configuration opened becomes `g_config`. Returns NULL if the file cannot be read. Close
 the result with `dap_config_close`. Any thread.

 # Safety
 `name` is NULL (the result is NULL) or a NUL-terminated string.
 */
struct dap_config *dap_config_open(const char *name);

/*
 Closes a configuration; strings obtained from it become invalid. If it was `g_config`, `g_config` becomes NULL and
 the built-in defaults apply. NULL is ignored; a pointer that is not an open configuration is logged. Any thread.

 # Safety
 No thread uses a string of this configuration any more.
 */
void dap_config_close(struct dap_config *config);

/*
 Closes every configuration and clears the directory. Any thread.

 # Safety
 No thread uses a string of any configuration any more.
 */
void dap_config_deinit(void);

/*
 Returns the configuration for a program that has none of its own: `g_config` if it is set, else the file that the
 environment variable CELLFRAME_VPN_CONFIG names, else `/etc/cellframe-vpn/cellframe-vpn.cfg` if it exists, else the
 built-in defaults. The result becomes `g_config`; repeated calls return the same. NULL if the file cannot be read:
 until a configuration is opened, nothing starts with the built-in defaults in its place. Any thread.

 # Safety
 None.
 */
struct dap_config *dap_config_default(void);

/*
 Reads a truth value: true/on/yes/1 or false/off/no/0. Returns `default_value` if the value is absent or invalid, or
 an argument is NULL. Any thread.

 # Safety
 `section` and `item` are NULL or NUL-terminated strings.
 */
bool dap_config_get_item_bool_default(struct dap_config *config,
                                      const char *section,
                                      const char *item,
                                      bool default_value);

/*
 Returns the type of a value; `DAP_CONFIG_ITEM_UNKNOWN` if it is absent, or an argument is NULL. Any thread.

 # Safety
 As for `dap_config_get_item_bool_default`.
 */
dap_config_item_type_t dap_config_get_item_type(struct dap_config *config, const char *section, const char *item);

/*
 Reads an integer, decimal or 0x hexadecimal. Returns `default_value` if the value is absent or invalid, or an
 argument is NULL. Any thread.

 # Safety
 As for `dap_config_get_item_bool_default`.
 */
int64_t _dap_config_get_item_int(struct dap_config *config,
                                 const char *section,
                                 const char *item,
                                 int64_t default_value);

/*
 Like `_dap_config_get_item_int`, for integers from 0.

 # Safety
 As for `dap_config_get_item_bool_default`.
 */
uint64_t _dap_config_get_item_uint(struct dap_config *config,
                                   const char *section,
                                   const char *item,
                                   uint64_t default_value);

/*
 Reads a decimal number. Returns `default_value` if the value is absent or invalid, or an argument is NULL. Any
 thread.

 # Safety
 As for `dap_config_get_item_bool_default`.
 */
double dap_config_get_item_double_default(struct dap_config *config,
                                          const char *section,
                                          const char *item,
                                          double default_value);

/*
 Reads a text, which belongs to the configuration and lives as long. Returns `default_value`, the same pointer, if
 the value is absent or a list, or an argument is NULL. Any thread.

 # Safety
 As for `dap_config_get_item_bool_default`.
 */
const char *dap_config_get_item_str_default(struct dap_config *config,
                                            const char *section,
                                            const char *item,
                                            const char *default_value);

/*
 Reads the items of a list and stores their number in `*array_length`; array and strings belong to the configuration
 and live as long. A single value is a list of one. Returns NULL (and 0) if the list is absent or empty, or an
 argument is NULL. Any thread.

 # Safety
 As for `dap_config_get_item_bool_default`; `array_length` is NULL or writable.
 */
const char **dap_config_get_array_str(struct dap_config *config,
                                      const char *section,
                                      const char *item,
                                      uint16_t *array_length);

/*
 Counts a user of the embedded SDK; the first one starts worker threads and CLI. Returns 0, or -1 with a log line.

 # Safety
 May be called from any thread.
 */
int dap_embedded_retain(void);

/*
 Releases one `dap_embedded_retain`. The last release stops everything: it deletes streams, sockets, timers and
 queues, runs their callbacks, and joins the threads before it returns; on a worker, the stop ends soon after the
 return.

 # Safety
 May be called from any thread; pointers from the SDK are invalid after the last release.
 */
void dap_embedded_release(void);

/*
 Waits up to 10 s until running callbacks have returned, closed node clients are deleted, and a stop that is in
 progress, such as by a release in one of these callbacks, is complete. Returns at once on a thread of the SDK.

 # Safety
 May be called from any thread.
 */
void dap_embedded_settle(void);

/*
 The number of worker threads; 0 while the SDK is not retained.

 # Safety
 May be called from any thread.
 */
uint32_t dap_events_thread_get_count(void);

/*
 Worker number `index`; NULL past the end and while the SDK is not retained. Valid until the last release.

 # Safety
 May be called from any thread.
 */
dap_worker_t *dap_events_worker_get(uint8_t index);

/*
 The worker of the calling thread; NULL if the calling thread is not a worker, or was one of an SDK that has been
 stopped since.

 # Safety
 May be called from any thread.
 */
dap_worker_t *dap_worker_get_current(void);

/*
 Runs `callback(arg)` on `worker`, after all jobs posted to it before. Does nothing if `worker` is not a worker.

 # Safety
 May be called from any thread; `callback` may be called with `arg` on the worker's thread.
 */
void dap_worker_exec_callback_on(dap_worker_t *worker, dap_worker_callback_t callback, void *arg);

/*
 Makes an event socket for a descriptor, of type FILE, on no worker yet; it waits for "readable" unless told
 otherwise. Returns NULL if the SDK is not retained or the descriptor is negative. The SDK owns the socket: the
 caller removes it, or the last release does.

 # Safety
 May be called from any thread. `fd` stays open until `delete_callback`; `callbacks` is NULL or points to a struct,
 which is copied.
 */
dap_events_socket_t *dap_events_socket_wrap_no_add(int fd, dap_events_socket_callbacks_t *callbacks);

/*
 Adds a socket of `dap_events_socket_wrap_no_add` to a worker's loop; `new_callback` and `worker_assign_callback` run
 there. A socket that already has a worker stays there, with a log line.

 # Safety
 May be called from any thread; `es` is a socket that has not been deleted, or NULL.
 */
void dap_events_socket_assign_on_worker_mt(dap_events_socket_t *es, dap_worker_t *worker);

/*
 Starts or stops waiting for "readable". For a stream's socket: resumes or pauses its packets.

 # Safety
 Called on the socket's worker, or, before it has one, on any one thread; a socket of another worker is refused.
 */
void dap_events_socket_set_readable_unsafe(dap_events_socket_t *es, bool is_ready);

/*
 Starts or stops waiting for "writable". A stream's socket manages this itself.

 # Safety
 As for `dap_events_socket_set_readable_unsafe`.
 */
void dap_events_socket_set_writable_unsafe(dap_events_socket_t *es, bool is_ready);

/*
 Deletes the socket: leaves the loop, runs `delete_callback`, closes the descriptor unless `no_close`, and frees the
 struct. In one of the socket's own callbacks, the last three steps follow its return. Deleting a stream's socket
 ends the stream. With `preserve_inheritor` false, `_inheritor` is passed to `free` if `delete_callback` leaves it
 set.

 # Safety
 Called on the socket's worker, or, for one without a worker, on any one thread; a socket of another worker is
 refused.
 */
void dap_events_socket_remove_and_delete_unsafe(dap_events_socket_t *es, bool preserve_inheritor);

/*
 Like `dap_events_socket_remove_and_delete_unsafe(es, false)`, run on the socket's worker, which is found by uuid,
 also after a move. An unknown uuid is ignored.

 # Safety
 May be called from any thread.
 */
void dap_events_socket_remove_and_delete_mt(dap_worker_t *worker, dap_events_socket_uuid_t uuid);

/*
 Moves a socket or a stream from worker `old` to worker `new`: `worker_unassign_callback` runs on the old one, then
 `worker_assign_callback` on the new one. A stream's received and unsent data moves with it. A socket that has left
 `old` meanwhile moves from its current worker.

 # Safety
 May be called from any thread; `es` has not been deleted (a stale address is compared, not followed).
 */
void dap_events_socket_reassign_between_workers_mt(dap_worker_t *old, dap_events_socket_t *es, dap_worker_t *new_);

/*
 Makes a queue of pointers into `worker`, which calls `callback(es, pointer)` for each, in order. Returns NULL if
 `worker` is not a worker, `callback` is NULL, or no descriptor is available. The queue is deleted like any socket;
 the pointers it still holds are passed to `callback` first.

 # Safety
 May be called from any thread; `callback` may be called on the worker's thread.
 */
dap_events_socket_t *dap_events_socket_create_type_queue_ptr_mt(dap_worker_t *worker,
                                                                dap_events_socket_callback_queue_ptr_t callback);

/*
 Sends a pointer through a queue: 0, EAGAIN if 65,536 are already queued, EINVAL if `es` is not a queue or is closed.

 # Safety
 May be called from any thread; a stale address is compared, not followed.
 */
int dap_events_socket_queue_ptr_send(dap_events_socket_t *es, void *arg);

/*
 Calls `callback(arg)` on `worker` every `timeout_ms` while it returns true. Returns NULL if `worker` is not a worker
 or `callback` is NULL. The struct is freed when the timer ends.

 # Safety
 May be called from any thread; `callback` may be called with `arg` on the worker's thread.
 */
dap_timerfd_t *dap_timerfd_start_on_worker(dap_worker_t *worker,
                                           uint64_t timeout_ms,
                                           dap_timerfd_callback_t callback,
                                           void *arg);

/*
 Ends a timer by its uuid; a timer that has ended is ignored. On the timer's worker it has ended on return; on
 another thread the callback may still be running, or run once more.

 # Safety
 May be called from any thread.
 */
void dap_timerfd_delete_mt(dap_worker_t *worker, dap_events_socket_uuid_t uuid);

/*
 Ends a timer of the calling worker, also in the timer's own callback.

 # Safety
 Called on the timer's worker; a stale address is compared, not followed.
 */
void dap_timerfd_delete_unsafe(dap_timerfd_t *timer);

/*
 Returns the node's listener; NULL if `[server] enabled` is false or the server cannot listen (logged). `_inheritor`
 is its `dap_http_server_t`. Both stay the same until the process ends; the caller frees neither. Any thread.

 # Safety
 None.
 */
struct dap_server *dap_server_get_default(void);

/*
 Registers `callback` for the requests to `url_path`, replacing any previous one. It is called on threads of the HTTP
 server, several at once, with the reply and a `http_status_code_t *` (an int) that starts at 200. A reply has at
 most `reply_size_max` bytes. Returns NULL and logs the reason if an argument is NULL or the path does not start with
 `/`, else a pointer that identifies the path, which the caller must neither free nor follow. Any thread.

 # Safety
 `url_path` is NULL or a NUL-terminated string; `callback` stays callable until it is removed and has returned.
 */
struct dap_http_url_proc *dap_http_simple_proc_add(struct dap_http_server *server,
                                                   const char *url_path,
                                                   size_t reply_size_max,
                                                   dap_http_simple_callback_t callback);

/*
 Unregisters the callback of `url_path`; false if none is registered. A running call continues to its end. Never
 starts the listener: `server` may be an `_inheritor` from before the node stopped listening. Any thread.

 # Safety
 `url_path` is NULL or a NUL-terminated string.
 */
bool dap_http_simple_proc_remove(struct dap_http_server *server, const char *url_path);

/*
 Appends `data` to the reply as far as its maximum allows; returns the number of bytes appended, 0 for NULL. To be
 called on the thread that runs the callback, with the callback's own reply; another reply is left unchanged.

 # Safety
 `data` is NULL or has `size` readable bytes. `simple` is compared, not followed.
 */
size_t dap_http_simple_reply(struct dap_http_simple *simple, void *data, size_t size);

/*
 Registers the check that recognises a service's transactions, under a tag (which is copied). Returns 0; -1 if the
 service is already registered with another check or tag, or `tag` or `callback` is NULL. Repeating a registration
 returns 0. Any thread.

 # Safety
 `tag` is NULL or a NUL-terminated string; `callback` stays callable until the process ends.
 */
int dap_ledger_service_add(struct dap_chain_net_srv_uid uid, char *tag, dap_ledger_tag_check_callback_t callback);

/*
 Runs the check that a service registered, which sets `*action`, and returns its result. False if the service is not
 registered. Any thread; the check is called with the pointers as they are.

 # Safety
 The pointers are valid for the registered check.
 */
bool dap_ledger_service_tag(struct dap_ledger *ledger,
                            struct dap_chain_datum_tx *tx,
                            struct dap_chain_datum_tx_item_groups *items,
                            struct dap_chain_net_srv_uid uid,
                            dap_chain_tx_tag_action_type_t *action);

/*
 Returns the conditional output that an input spends; NULL if `in_cond` is NULL or `dap_ledger_tx_out_cond_add` has
 not registered the output. It belongs to the ledger and stays valid until the process ends. `ledger` is not used:
 there is one. Any thread.

 # Safety
 `in_cond` is NULL or points to an input.
 */
struct dap_chain_tx_out_cond *dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(struct dap_ledger *ledger,
                                                                                    struct dap_chain_tx_in_cond *in_cond);

/*
 Registers a conditional output (which is copied) with the ledger: number `idx` of the transaction with this hash.
 Returns 0; -1 for NULL, or if another output is registered for this hash and number: a transaction never changes.
 Any thread.

 # Safety
 `tx_hash` is NULL or points to a hash, `out_cond` is NULL or points to an output.
 */
int dap_ledger_tx_out_cond_add(const struct dap_hash_fast *tx_hash,
                               uint32_t idx,
                               struct dap_chain_tx_out_cond *out_cond);

/*
 Writes a log line unless its level (a `dap_log_level_t`) is below the level set. Invalid UTF-8 in the message
 becomes replacement characters. Writes nothing if an argument is NULL. Any thread.

 # Safety
 `tag` and `message` are NULL or NUL-terminated strings.
 */
void dap_log_write(int log_level, const char *tag, const char *message);

/*
 The lowest level written. Any thread.

 # Safety
 None.
 */
enum dap_log_level dap_log_level_get(void);

/*
 Sets the lowest level (a `dap_log_level_t`) that C and this library write, overriding `RUST_LOG`; a level beyond
 L_TOTAL counts as L_TOTAL, which writes nothing. Any thread.

 # Safety
 None.
 */
void dap_log_level_set(int log_level);

/*
 Returns the network with this name; NULL if the configuration names no such network. The pointer stays valid until
 the process ends. Any thread.

 # Safety
 `name` is NULL (the result is NULL) or a NUL-terminated string.
 */
struct dap_chain_net *dap_chain_net_by_name(const char *name);

/*
 Returns the network with this id; NULL if the configuration names no such network. Any thread.

 # Safety
 None.
 */
struct dap_chain_net *dap_chain_net_by_id(struct dap_chain_net_id id);

/*
 Returns this node's role in a network; NODE_ROLE_LIGHT, the least trusted, for NULL or an unknown pointer. Any
 thread.

 # Safety
 None: the pointer is compared, not followed.
 */
struct dap_chain_node_role dap_chain_net_get_role(const struct dap_chain_net *net);

/*
 Returns the node's own certificate under the name `[srv_vpn] receipt_sign_cert` (default "node"); NULL for any other
 name and when the identity cannot be read. The pointer stays valid until the process ends. Any thread.

 # Safety
 `name` is NULL (the result is NULL) or a NUL-terminated string.
 */
struct dap_cert *dap_cert_find_by_name(const char *name);

/*
 Returns the public key of a certificate as SubjectPublicKeyInfo (DER, RFC 5280), `malloc`ed, its length in `*size`;
 NULL (and 0) if `key` is NULL or not a certificate's key. Any thread.

 # Safety
 `size` is NULL or writable. `key` is compared, not followed.
 */
uint8_t *dap_enc_key_serialize_pub_key(struct dap_enc_key *key, size_t *size);

/*
 Writes the SHA3-256 of `size` bytes at `data` to `hash`; false (logged) if a pointer is NULL or `size` is 0. Any
 thread.

 # Safety
 `data` is NULL or has `size` readable bytes; `hash` is NULL or writable.
 */
bool dap_hash_fast(const void *data, size_t size, struct dap_hash_fast *hash);

/*
 Connects to the bank of a server, whose ledger is the network's from now on, and reads its prices. Returns 0; the errno
 of a connection that failed; with a sentence in `why` (of `why_size` bytes) -1 if the server refuses, and -2 if it does
 not answer or not now. -1 also if an argument is NULL.

 # Safety
 Blocks; may be called from any thread but a worker. `net` is compared, not followed; `host` is NULL or NUL-terminated,
 `why` is NULL or writable.
 */
int dap_embedded_bank_open(const dap_chain_net_t *net, const char *host, uint16_t port, char *why, size_t why_size);

/*
 Writes the fingerprint of the server whose ledger is the network's; false if [`dap_embedded_bank_open`] has not
 succeeded yet.

 # Safety
 May be called from any thread. `net` is compared, not followed; `out` is NULL or writable.
 */
bool dap_embedded_bank_identity(const dap_chain_net_t *net, dap_hash_fast_t *out);

/*
 Calls back for each order of the server whose ledger is the network's, the free one first if it gives its service
 away. Without such a server it is the free order alone.

 # Safety
 May be called from any thread. `net` is compared, not followed; `callback` is NULL or takes `context`.
 */
void dap_embedded_bank_orders(const dap_chain_net_t *net, dap_embedded_offer_callback_t callback, void *context);

/*
 Returns what a payment costs beside its value in the ledger of the server, in datoshi; UINT64_MAX if it is more; 0
 without a server.

 # Safety
 May be called from any thread. `net` is compared, not followed.
 */
uint64_t dap_embedded_bank_fee(const dap_chain_net_t *net);

/*
 Follows the chain of payments from a transaction in the ledger of the server. Returns one of `DAP_EMBEDDED_CHAIN_*`,
 and writes `out` for `DAP_EMBEDDED_CHAIN_OPEN`.

 # Safety
 Blocks; may be called from any thread but a worker. `net` is compared, not followed; `hash` is NULL or a hash, `out` is
 NULL or writable.
 */
int dap_embedded_bank_chain(const dap_chain_net_t *net, const dap_hash_fast_t *hash, dap_embedded_chain_t *out);

/*
 Makes a conditional transaction that pays the VPN service by `unit` out of a wallet of the state directory, and enters
 it into the ledger of the server; writes its hash. False, with a sentence in `why` (of `why_size` bytes), if that is
 not possible, or an argument is NULL.

 # Safety
 Blocks; may be called from any thread but a worker. `net` is compared, not followed; the texts are NULL or
 NUL-terminated, `out` and `why` are NULL or writable.
 */
bool dap_embedded_bank_pay(const dap_chain_net_t *net,
                           const char *wallet,
                           const char *token,
                           uint64_t value,
                           uint64_t fee,
                           uint32_t unit,
                           dap_hash_fast_t *out,
                           char *why,
                           size_t why_size);

/*
 Closes a chain of payments in the server's ledger: returns the rest to the wallet of the state directory that made its
 first transaction, which `hash` names. False, and a line in the log, if that is not possible or an argument is NULL.

 # Safety
 Blocks; may be called from any thread but a worker. `net` is compared, not followed; `wallet` is NULL or
 NUL-terminated, `hash` is NULL or a hash.
 */
bool dap_embedded_bank_close(const dap_chain_net_t *net, const char *wallet, const dap_hash_fast_t *hash);

/*
 Writes the hash of the key of a wallet of the state directory; false, and a line in the log, if it cannot be opened.

 # Safety
 May be called from any thread. `name` is NULL or NUL-terminated, `out` is NULL or writable.
 */
bool dap_embedded_wallet_key_hash(const char *name, dap_hash_fast_t *out);

/*
 Signs `size` bytes of data with the key of a wallet of the state directory. The caller frees the signature; NULL, and a
 line in the log, on failure.

 # Safety
 May be called from any thread. `name` is NULL or NUL-terminated, `data` is NULL or readable for `size` bytes.
 */
dap_sign_t *dap_embedded_wallet_sign(const char *name, const void *data, size_t size);

/*
 Looks up an order of this node in a network, the free one or a priced one. False, and nothing is written, if it is
 unknown or an argument is NULL.

 # Safety
 May be called from any thread. `net` is compared, not followed; `hash` is NULL or a hash, `out` is NULL or writable.
 */
bool dap_embedded_order_find(const dap_chain_net_t *net, const dap_hash_fast_t *hash, dap_embedded_order_t *out);

/*
 Looks up a transaction in a network's ledger, as a means to pay `value` for `units`. False, and nothing is written,
 if the ledger does not have it or an argument is NULL.

 # Safety
 May be called from any thread. `net` is compared, not followed; `hash` and `value` are NULL or readable, `out` is
 NULL or writable.
 */
bool dap_embedded_transaction_find(const dap_chain_net_t *net,
                                   const dap_hash_fast_t *hash,
                                   const uint256_t *value,
                                   uint64_t units,
                                   dap_embedded_transaction_t *out);

/*
 Returns whether this node is not connected to a network; false for NULL.

 # Safety
 May be called from any thread; `net` is compared, not followed.
 */
bool dap_embedded_net_is_offline(const dap_chain_net_t *net);

/*
 Returns whether the billing takes the last transaction of the chain of payments that REQUEST names, and knows none if
 that one holds nothing. Any thread.
 */
bool dap_embedded_billing_follows_chains(void);

/*
 Returns a signature's size with its header and its key, as the header tells it; 0 for NULL.

 # Safety
 May be called from any thread; `sign` is NULL or points to a signature's header.
 */
uint64_t dap_sign_get_size(dap_sign_t *sign);

/*
 Checks a signature of `size_max` bytes at most over `size` bytes of data: 0 if it is good, -1 if not, -2 if the
 sizes in its header do not fit.

 # Safety
 May be called from any thread; `sign` is NULL or readable for `size_max` bytes, `data` for `size`.
 */
int dap_sign_verify_all(dap_sign_t *sign, size_t size_max, const void *data, size_t size);

/*
 Writes the hash of the key in a signature; false for NULL. A signer may have put a hash in the key's place
 (`hash_type`), which is then written as it is.

 # Safety
 May be called from any thread; `sign` is NULL or a whole signature, `out` is NULL or writable.
 */
bool dap_sign_get_pkey_hash(dap_sign_t *sign, dap_chain_hash_fast_t *out);

/*
 Returns the signature of a receipt at a position: 0 is the server's, 1 the client's. NULL unless the receipt has
 exactly two, and `size` is the size that it states.

 # Safety
 May be called from any thread; `receipt` is NULL or readable for `size` bytes, and so is the result.
 */
dap_sign_t *dap_chain_datum_tx_receipt_sign_get(dap_chain_datum_tx_receipt_t *receipt, size_t size, uint16_t position);

/*
 Issues a receipt of a price, to be paid out of a transaction, signed by the node's key. The caller frees it; NULL on
 failure. Extensions are not supported.

 # Safety
 May be called from any thread. `srv` is NULL or a service that is alive, `price` is NULL or points to a price,
 `prev_tx_hash` is NULL or points to a hash.
 */
dap_chain_datum_tx_receipt_t *dap_chain_net_srv_issue_receipt(dap_chain_net_srv_t *srv,
                                                              dap_chain_net_srv_price_t *price,
                                                              const void *ext,
                                                              size_t ext_size,
                                                              dap_hash_fast_t *prev_tx_hash);

/*
 Registers a service. Reads `allow_free_srv` (default true, unless `[srv_vpn] prices` has entries) and `grace_period`
 (seconds, default 60) from `config_section`. Returns NULL if the uid is taken, `callbacks` is NULL, the prices of the
 VPN cannot be read, or the SDK is not retained.

 # Safety
 May be called from any thread. `config_section` is NULL or a string; `callbacks` is NULL or points to a struct,
 which is copied, and whose functions may be called on every worker until `dap_chain_net_srv_del`.
 */
dap_chain_net_srv_t *dap_chain_net_srv_add(dap_chain_net_srv_uid_t uid,
                                           const char *config_section,
                                           dap_chain_net_srv_callbacks_t *callbacks);

/*
 The service with this uid, or NULL. Valid until `dap_chain_net_srv_del` or the last release.

 # Safety
 May be called from any thread.
 */
dap_chain_net_srv_t *dap_chain_net_srv_get(dap_chain_net_srv_uid_t uid);

/*
 Ends a service, which then accepts no more requests. The struct lives until the last session that uses it has ended.

 # Safety
 May be called from any thread; a callback that runs on a worker may still be running on return. A stale address is
 compared, not followed.
 */
void dap_chain_net_srv_del(dap_chain_net_srv_t *srv);

/*
 The service part of a session that a client opened to this node, made on the first call. NULL for any other session.

 # Safety
 Called on the worker of the session's stream; a stale address is compared, not followed.
 */
dap_chain_net_srv_stream_session_t *dap_chain_net_srv_stream_session_create(dap_stream_session_t *session);

/*
 The usage with this id in a session, or NULL.

 # Safety
 Called on the worker of the session's stream; `srv_session` is NULL or the service part of a session that is alive.
 */
dap_chain_net_srv_usage_t *dap_chain_net_srv_usage_find_unsafe(dap_chain_net_srv_stream_session_t *srv_session,
                                                               uint32_t id);

/*
 Deletes a session's active usage with its receipts; nothing happens without one.

 # Safety
 Called on the worker of the usage's stream; `srv_session` is NULL or points to a struct whose `usage_active` is NULL
 or was a session's. The address is compared, not followed.
 */
void dap_chain_net_srv_usage_delete(dap_chain_net_srv_stream_session_t *srv_session);

/*
 Writes the hash of the order by which this node gives the VPN service away in a network. False if `out` is NULL or
 `net` is not a network.

 # Safety
 May be called from any thread; `out` is NULL or writable. A stale network address is compared, not followed.
 */
bool dap_embedded_free_order(const dap_chain_net_t *net, dap_hash_fast_t *out);

/*
 Returns a copy of the value, `malloc`ed, with a NUL behind it; stores its length in `*size`, whether it is pinned in
 `*is_pinned`, and when it was set (nanoseconds since 1970) in `*ts`. If there is no such value, the store fails
 (logged), or a name is NULL, returns NULL and writes only 0 to `*size`. The out pointers may be NULL. Any thread;
 reads the disk.

 # Safety
 `group` and `key` are NULL or NUL-terminated strings; the out pointers are NULL or writable.
 */
uint8_t *dap_global_db_get_sync(const char *group, const char *key, size_t *size, bool *is_pinned, uint64_t *ts);

/*
 Sets a value; it is on the disk on return. A `len` of `(size_t)-1` means a C string, stored with its NUL, as in the
 SDK. Returns 0, or -EINVAL (NULL, or a name or value beyond the store's bounds), -EBUSY (another process uses the
 store), -EIO; failures are logged. Any thread; writes the disk.

 # Safety
 `group` and `key` are NULL or NUL-terminated strings; `value` is NULL or has `len` readable bytes, or is a
 NUL-terminated string when `len` is `(size_t)-1`.
 */
int dap_global_db_set_sync(const char *group, const char *key, const void *value, size_t len, bool pin);

/*
 Removes a value; succeeds if there is none. Returns the codes of `dap_global_db_set_sync`. Any thread; writes the
 disk.

 # Safety
 `group` and `key` are NULL or NUL-terminated strings.
 */
int dap_global_db_del_sync(const char *group, const char *key);

/*
 Registers the callbacks of a channel letter, replacing earlier ones; streams opened later use them. The registration
 lasts until the process ends, across releases and retains.

 # Safety
 May be called from any thread; the callbacks may be called on every worker until the process ends.
 */
void dap_stream_ch_proc_add(uint8_t id,
                            dap_stream_ch_callback_t new_callback,
                            dap_stream_ch_callback_t delete_callback,
                            dap_stream_ch_read_callback_t packet_in_callback,
                            dap_stream_ch_write_callback_t packet_out_callback);

/*
 The registration of a letter, or NULL. Valid until the process ends.

 # Safety
 May be called from any thread.
 */
dap_stream_ch_proc_t *dap_stream_ch_proc_find(uint8_t id);

/*
 Queues a packet on a channel; it is sent at the end of the loop's turn. Returns the bytes of data accepted: all, or
 0 if the stream is closing, the data is larger than 129 KiB, the calling worker does not own the channel, or too much
 is queued: 4 MiB, 64 KiB while the stream's client has no granted service, or all that `[server] max_memory` allows.

 # Safety
 Called on the channel's worker (a stale or foreign address is compared, not followed); `data` is readable for `size`
 bytes.
 */
size_t dap_stream_ch_pkt_write_unsafe(dap_stream_ch_t *ch, uint8_t kind, const void *data, size_t size);

/*
 Like `dap_stream_ch_pkt_write_unsafe`, for any thread: the packet is copied, and the stream's worker sends it, also
 after a move, in the order of the calls. Returns 0 also if 1 MiB of such packets are queued, or the channel is gone.

 # Safety
 May be called from any thread; `data` is readable for `size` bytes.
 */
size_t dap_stream_ch_pkt_write_mt(dap_stream_worker_t *worker,
                                  dap_stream_ch_uuid_t uuid,
                                  uint8_t kind,
                                  const void *data,
                                  size_t size);

/*
 Resumes or pauses this channel's packets. The stream is read only while all its channels are ready.

 # Safety
 Called on the channel's worker; a stale or foreign address is compared, not followed.
 */
void dap_stream_ch_set_ready_to_read_unsafe(dap_stream_ch_t *ch, bool is_ready);

/*
 Enables or disables `packet_out_callback`, which is called each time there is room for output: at once if there is
 now.

 # Safety
 Called on the channel's worker; a stale or foreign address is compared, not followed.
 */
void dap_stream_ch_set_ready_to_write_unsafe(dap_stream_ch_t *ch, bool is_ready);

/*
 The channel with this letter of a stream, or NULL.

 # Safety
 Called on the stream's worker; a stale or foreign address is compared, not followed.
 */
dap_stream_ch_t *dap_stream_ch_by_id_unsafe(dap_stream_t *stream, char id);

/*
 The channel with this uuid on the calling worker, or NULL.

 # Safety
 Called on the worker that is named; another thread gets NULL.
 */
dap_stream_ch_t *dap_stream_ch_find_by_uuid_unsafe(dap_stream_worker_t *worker, dap_stream_ch_uuid_t uuid);

/*
 Says that the service serves the client of this channel's stream, or no more, besides a usage on channel 'R' that is
 not free. A stream whose client nobody serves ends after `[server] idle_timeout`, has at most 64 KiB of output on the
 way, and takes packets of at most 66 KiB.

 # Safety
 Called on the channel's worker; a stale or foreign address is compared, not followed.
 */
void dap_embedded_stream_ch_serve(dap_stream_ch_t *ch, bool is_served);

/*
 Returns the sessions that clients have opened to this node, oldest first: `data` is a `dap_stream_session_t *`. They
 stay alive until `dap_stream_session_get_list_sessions_unlock`; the caller frees the list with `dap_list_free`.

 # Safety
 May be called from any thread.
 */
dap_list_t *dap_stream_session_get_list_sessions(void);

/*
 Releases one lock of `dap_stream_session_get_list_sessions`.

 # Safety
 May be called from any thread, once for each call of `dap_stream_session_get_list_sessions`.
 */
void dap_stream_session_get_list_sessions_unlock(void);

/*
 Frees a list's cells, not what they point to.

 # Safety
 `list` is NULL or the first cell of a list whose cells came from `malloc`; it is not used afterwards.
 */
void dap_list_free(dap_list_t *list);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus


/* --- attributes, memory, log: the SDK's macros ------------------------------------------------------------------- */

typedef unsigned char byte_t;

#define DAP_ALIGNED(x) __attribute__((aligned(x)))
#define DAP_PACKED __attribute__((packed))
#define DAP_ALIGN_PACKED __attribute__((aligned(1), packed))
#define DAP_STATIC_INLINE static __attribute__((always_inline)) inline

#define DAP_NEW_Z(type) ((type *)calloc(1, sizeof(type)))
#define DAP_NEW_Z_SIZE(type, size) ((type *)calloc(1, (size_t)(size)))
#define DAP_DELETE(memory) free((void *)(memory))
#define DAP_DEL_Z(memory) do { free((void *)(memory)); (memory) = NULL; } while (0)

#define DAP_STREAM_CH_NET_SRV_ID 'R'

#define DAP_STREAM_CH(a) ((dap_stream_ch_t *)((a)->internal))
#define DAP_STREAM_CH_CHAIN_NET_SRV(a) ((dap_stream_ch_chain_net_srv_t *)((a)->internal))

/* Writes a line to the log, printf style. log_it needs LOG_TAG, as in the SDK; the others use the file's name. */
static inline __attribute__((format(printf, 3, 4), unused))
void _log_it_tag(enum dap_log_level level, const char *tag, const char *format, ...)
{
    if (level < dap_log_level_get())
        return;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *message = size < 0 ? NULL : (char *)malloc((size_t)size + 1);
    if (message) {
        vsnprintf(message, (size_t)size + 1, format, again);
        dap_log_write(level, tag, message);
        free(message);
    }
    va_end(again);
}

#define log_it(level, ...) _log_it_tag((level), LOG_TAG, __VA_ARGS__)
#define log_it_debug(...) _log_it_tag(L_DEBUG, __FILE__, __VA_ARGS__)
#define log_it_info(...) _log_it_tag(L_INFO, __FILE__, __VA_ARGS__)
#define log_it_warning(...) _log_it_tag(L_WARNING, __FILE__, __VA_ARGS__)
#define log_it_error(...) _log_it_tag(L_ERROR, __FILE__, __VA_ARGS__)

/* --- configuration: the SDK's macros for typed values ------------------------------------------------------------- */

#define dap_config_get_item_bool(c, section, key) dap_config_get_item_bool_default((c), (section), (key), false)
#define dap_config_get_item_str(c, section, key) dap_config_get_item_str_default((c), (section), (key), NULL)
#define dap_config_get_item_uint16_default(c, section, key, otherwise) ((uint16_t)_dap_config_get_item_uint((c), (section), (key), (otherwise)))
#define dap_config_get_item_uint16(c, section, key) dap_config_get_item_uint16_default((c), (section), (key), 0)
#define dap_config_get_item_int32_default(c, section, key, otherwise) ((int32_t)_dap_config_get_item_int((c), (section), (key), (otherwise)))
#define dap_config_get_item_int32(c, section, key) dap_config_get_item_int32_default((c), (section), (key), 0)
#define dap_config_get_item_uint32_default(c, section, key, otherwise) ((uint32_t)_dap_config_get_item_uint((c), (section), (key), (otherwise)))
#define dap_config_get_item_uint32(c, section, key) dap_config_get_item_uint32_default((c), (section), (key), 0)
#define dap_config_get_item_int64_default(c, section, key, otherwise) _dap_config_get_item_int((c), (section), (key), (otherwise))
#define dap_config_get_item_int64(c, section, key) dap_config_get_item_int64_default((c), (section), (key), 0)
#define dap_config_get_item_uint64_default(c, section, key, otherwise) _dap_config_get_item_uint((c), (section), (key), (otherwise))
#define dap_config_get_item_uint64(c, section, key) dap_config_get_item_uint64_default((c), (section), (key), 0)
#define dap_config_get_item_double(c, section, key) dap_config_get_item_double_default((c), (section), (key), 0)

/* --- replies of commands and of HTTP handlers, printf style ------------------------------------------------------- */

static inline __attribute__((format(printf, 2, 3), unused))
void dap_cli_server_cmd_set_reply_text(void **reply, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = size < 0 ? NULL : (char *)malloc((size_t)size + 1);
    if (text) {
        vsnprintf(text, (size_t)size + 1, format, again);
        dap_cli_server_cmd_set_reply_str(reply, text);
        free(text);
    }
    va_end(again);
}
