
/* What follows is an SDK's header: the compiler's warnings are for the code that uses it. */
#pragma GCC system_header

/* Lets C code tell the embedded SDK from the Cellframe SDK. */
#define DAP_EMBEDDED_SDK 1

/* Said early: some structs come before the lines that cbindgen writes for what they hold. */
struct dap_events_socket;
struct dap_chain_node_client;
typedef void (*dap_events_socket_callback_t)(struct dap_events_socket *, void *);
typedef void (*dap_chain_node_client_callback_t)(struct dap_chain_node_client *, void *);
