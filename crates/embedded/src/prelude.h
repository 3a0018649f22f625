
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
