
/* What follows is an SDK's header: the compiler's warnings are for the code that uses it. */
#pragma GCC system_header

/* Lets C code tell the embedded SDK from the Cellframe SDK. */
#define DAP_EMBEDDED_SDK 1

/* Said early: some structs come before the lines that cbindgen writes for what they hold. */
struct dap_events_socket;
struct dap_chain_node_client;
typedef void (*dap_events_socket_callback_t)(struct dap_events_socket *, void *);
typedef void (*dap_chain_node_client_callback_t)(struct dap_chain_node_client *, void *);

/* uthash's handle, which ends the module's structs: uthash's own where it is installed, else one of the same layout. */
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
