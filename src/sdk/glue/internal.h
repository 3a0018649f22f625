/* Declarations that the C files of the seam share. vpn_glue.h, which is generated from sdk/raw.rs, declares the
 * functions that Rust calls; only files of this folder call those declared here.
 *
 * A file x_embedded.c and its twin x_node.c define the same functions, one for the embedded SDK and one for the Cellframe
 * SDK; build.rs compiles one of the two. */
#pragma once
#include <string.h>

#include "dap_common.h"
#include "dap_chain_common.h"
#include "dap_chain_net_srv.h"
#include "dap_events.h"
#include "dap_events_socket.h"
#include "dap_http_server.h"
#include "dap_stream.h"
#include "dap_stream_ch.h"
#include "dap_worker.h"

#include "vpn_glue.h"

#define VPN_SERVICE_UID 0x0000000000000001
#define VPN_CHANNEL 'S'

/* The table that Rust has passed to vpn_glue_set_callbacks. */
extern vpn_glue_callbacks_t vpn_internal_rust;

/* The SDK's worker with this number, or NULL. */
static inline dap_worker_t *vpn_internal_worker(uint32_t worker)
{
    return worker < vpn_glue_worker_count() ? dap_events_worker_get((uint8_t)worker) : NULL;
}

/* Channel 'S' of a stream, or NULL. On the stream's worker. */
static inline dap_stream_ch_t *vpn_internal_channel_of(dap_stream_t *stream)
{
    return stream ? dap_stream_ch_by_id_unsafe(stream, VPN_CHANNEL) : NULL;
}

/* The socket of a stream, or NULL: the SDK has taken it away when it deletes the channels. */
static inline dap_events_socket_t *vpn_internal_socket_of(const dap_stream_ch_t *ch)
{
    return ch->stream ? ch->stream->esocket : NULL;
}

static inline dap_chain_net_srv_uid_t vpn_internal_service_uid(void)
{
    dap_chain_net_srv_uid_t uid;
    memset(&uid, 0, sizeof(uid));
    uid.uint64 = VPN_SERVICE_UID;
    return uid;
}

/* --- lifecycle_embedded.c, lifecycle_node.c --- */

/* The descriptor for an event socket on the caller's `fd`; -1 on failure. The caller's stays open when the socket ends. */
int vpn_internal_descriptor(int fd);
/* The stream behind a socket. */
dap_stream_t *vpn_internal_stream_of(dap_events_socket_t *es);
/* Registers the service with the SDK, NULL if the SDK refuses; and unregisters it. */
dap_chain_net_srv_t *vpn_internal_service_register(const char *section, dap_chain_net_srv_callbacks_t *callbacks);
void vpn_internal_service_unregister(dap_chain_net_srv_t *service);
/* Unregisters a path from the server, if the SDK can. */
void vpn_internal_http_remove(dap_http_server_t *http, const char *path);

/* --- usage.c --- */

/* Fills in the receipts, the price and the transaction of a usage. */
void vpn_internal_usage_terms(const dap_chain_net_srv_usage_t *usage, vpn_glue_usage_t *out);
