/* The C half of the seam to the SDK: all that needs a struct's field, a macro or the SDK's allocator.
 *
 * build.rs compiles glue.c against the headers of the SDK that is linked, embedded or real; Rust calls these functions
 * (hidden symbols) and is called back through the table it hands to vpn_glue_set_callbacks. Nothing here decides
 * anything: decisions are Rust's.
 *
 * Threads: "owner" is the worker thread that owns the channel or socket. A worker is named by its number, 0..count-1.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dap_stream_ch;
struct dap_stream_ch_pkt;
struct dap_stream_worker;
struct dap_events_socket;
struct dap_chain_net;
struct dap_chain_node_client;
struct dap_chain_net_srv;

#define VPN_GLUE_NO_WORKER UINT32_MAX

/* What Rust provides. Every function returns without unwinding. */
typedef struct vpn_glue_callbacks {
    /* Room that tun_readable's data has in front of what was read, bytes. */
    size_t tun_front;

    /* Channel 'S'; all on the owner. opened returns what becomes ch->internal (NULL: the channel stays unused). */
    void *(*channel_opened)(struct dap_stream_ch *ch, bool is_client, uint32_t worker);
    void (*channel_closed)(struct dap_stream_ch *ch, void *internal);
    void (*channel_packet)(void *internal, uint8_t type, const uint8_t *data, size_t size);
    void (*channel_drained)(void *internal);
    /* The stream leaves its worker (on the old one), and has come to another (on the new one). */
    void (*channel_leaving)(void *internal);
    void (*channel_arrived)(void *internal, uint32_t worker);

    /* The service. vpn_internal is ch->internal of the session's channel 'S', or NULL when it has none. */
    int (*service_requested)(uint32_t usage_id);
    int (*service_accepted)(void *vpn_internal, uint32_t usage_id);
    void (*service_refused)(uint32_t usage_id, uint32_t code);

    /* A TUN queue became readable; data is what the SDK's loop has read by itself, if it did. On the owner. */
    void (*tun_readable)(void *inheritor, uint8_t *data, size_t size);
    void (*tun_failed)(void *inheritor, int error);
    void (*tun_deleted)(void *inheritor);

    /* The client's connection; id is what vpn_glue_client_connect was given. On the stream's worker, failed also on others. */
    void (*client_connected)(uint64_t id);
    void (*client_failed)(uint64_t id, int error);
    void (*client_disconnected)(uint64_t id);
    void (*client_service_packet)(uint64_t id, uint8_t type, const uint8_t *data, size_t size);

    /* GET /remain_limits_vpn. reply: call vpn_glue_http_reply. On a thread of the SDK's. */
    void (*http_remain_limits)(void *request, const char *query, size_t query_size);
} vpn_glue_callbacks_t;

void vpn_glue_set_callbacks(const vpn_glue_callbacks_t *callbacks);

/* The SDK's life: the embedded one starts with its first user and ends with its last; the node's is the node's. */
int vpn_glue_retain(void);
void vpn_glue_release(void);
/* Waits, bounded, until what a release on one of the SDK's own threads has begun is done. Not waited for on those. */
void vpn_glue_settle(void);

/* --- log, memory --- */
void vpn_glue_log(int level, const char *message);  /* 7 error, 5 warning, 1 info, 0 debug, as vpn_glue_log_level */
int vpn_glue_log_level(void);
void *vpn_glue_alloc(size_t size);              /* zeroed, from the allocator whose memory C frees; NULL when out of it */
void vpn_glue_free(void *memory);

/* --- configuration; config NULL is the node's g_config --- */
bool vpn_glue_config_bool(void *config, const char *section, const char *key, bool otherwise);
int64_t vpn_glue_config_int(void *config, const char *section, const char *key, int64_t otherwise);
const char *vpn_glue_config_str(void *config, const char *section, const char *key);
const char **vpn_glue_config_list(void *config, const char *section, const char *key, uint16_t *count);

/* --- workers, timers --- */
uint32_t vpn_glue_worker_count(void);
uint32_t vpn_glue_worker_current(void);         /* VPN_GLUE_NO_WORKER off the workers */
bool vpn_glue_worker_exec(uint32_t worker, void (*callback)(void *), void *argument);
/* Repeats while the callback returns true. Returns 0 on failure. */
uint64_t vpn_glue_timer_start(uint32_t worker, uint64_t milliseconds, bool (*callback)(void *), void *argument);
void vpn_glue_timer_stop(uint32_t worker, uint64_t timer);

/* --- TUN queues in a worker's loop; the descriptor stays the caller's --- */
struct dap_events_socket *vpn_glue_tun_add(int fd, uint32_t worker, void *inheritor, uint64_t *uuid);
void vpn_glue_tun_remove(uint32_t worker, uint64_t uuid);
void vpn_glue_tun_set_readable(struct dap_events_socket *es, bool readable);    /* owner */
/* Writes a packet to the descriptor of a TUN socket that a legacy part made, while that part keeps it. */
bool vpn_glue_tun_write(const struct dap_events_socket *es, const void *packet, size_t size);
void *vpn_glue_worker_pointer(uint32_t worker);  /* dap_worker_t * */

/* --- channel 'S'; the owner's thread, but for register --- */
void vpn_glue_channel_register(void);
size_t vpn_glue_channel_send(struct dap_stream_ch *ch, uint8_t type, const void *data, size_t size);
size_t vpn_glue_channel_pending(const struct dap_stream_ch *ch);
void vpn_glue_channel_enable(struct dap_stream_ch *ch);
void vpn_glue_channel_wake_on_drain(struct dap_stream_ch *ch, bool wake);
void vpn_glue_channel_touch(struct dap_stream_ch *ch);
void vpn_glue_channel_close_stream(struct dap_stream_ch *ch);
/* "host:port" of the peer, NUL-terminated, cut at size. */
void vpn_glue_channel_peer(const struct dap_stream_ch *ch, char *out, size_t size);

/* Channels that C has opened. Whether the calling thread is the worker of this stream worker (NULL: no). */
bool vpn_glue_stream_worker_is_here(const struct dap_stream_worker *stream_worker);
/* Where an open channel is, for vpn_glue_channel_find; false off its worker. find: NULL when it is gone. */
bool vpn_glue_channel_place(const struct dap_stream_ch *ch, struct dap_stream_worker **stream_worker, uint64_t *uuid);
struct dap_stream_ch *vpn_glue_channel_find(struct dap_stream_worker *stream_worker, uint64_t uuid);

/* The parts of a channel packet as the SDK hands it around. */
const uint8_t *vpn_glue_packet_parts(const struct dap_stream_ch_pkt *packet, uint8_t *type, size_t *size);

/* What the billing side says of the session's use of the service. */
typedef struct vpn_glue_usage {
    uint32_t id;
    bool is_active;
    int32_t state;              /* 0 idle, 1 grace, 2 normal, 3 error, 4 free */
    bool role_serves;           /* the node's role in that network is master or above */
} vpn_glue_usage_t;
bool vpn_glue_channel_usage(const struct dap_stream_ch *ch, vpn_glue_usage_t *out);
void vpn_glue_channel_usage_activate(struct dap_stream_ch *ch);
/* Session record for vpn_stat: the inner address (network order) and the counters. */
void vpn_glue_channel_set_inner_address(struct dap_stream_ch *ch, uint32_t address);
typedef struct vpn_glue_stats {
    uint64_t bytes_sent, bytes_recv, bytes_sent_lost, bytes_recv_lost;
    uint64_t packets_sent, packets_recv, packets_sent_lost, packets_recv_lost;
} vpn_glue_stats_t;
void vpn_glue_channel_stats_add(struct dap_stream_ch *ch, const vpn_glue_stats_t *delta);
typedef struct vpn_glue_session {
    uint64_t time_created;      /* seconds since 1970 */
    uint32_t address;           /* network order; 0 when there is no lease */
    vpn_glue_stats_t stats;
} vpn_glue_session_t;
/* Any thread. The callback must not call the SDK. */
void vpn_glue_sessions_each(void (*callback)(void *context, const vpn_glue_session_t *session), void *context);

/* --- the service --- */
struct dap_chain_net_srv *vpn_glue_service_add(const char *section);
void vpn_glue_service_remove(struct dap_chain_net_srv *service);
/* What C finds behind the service (dap_chain_net_srv_vpn_t): lists of copies, made anew. On worker 0 alone, so that C
   which runs there sees lists that stay as they are while it looks. Addresses in network order; NULL and 0 for none. */
typedef struct vpn_glue_shown {
    uint32_t usage_id;
    uint32_t address;
    bool is_allowed;
    struct dap_stream_ch *ch;
} vpn_glue_shown_t;
void vpn_glue_service_show(struct dap_chain_net_srv *service, const vpn_glue_shown_t *sessions, size_t session_count,
                           const uint32_t *released, size_t released_count);
int vpn_glue_ledger_tag_register(void);

/* --- networks --- */
struct dap_chain_net *vpn_glue_net_by_name(const char *name);
struct dap_chain_net *vpn_glue_net_by_id(uint64_t id);
uint64_t vpn_glue_net_id(const struct dap_chain_net *net);
const char *vpn_glue_net_name(const struct dap_chain_net *net);
const char *vpn_glue_net_store_prefix(const struct dap_chain_net *net);
/* The hash of an order with price 0 for the VPN service in this network. */
bool vpn_glue_net_free_order(struct dap_chain_net *net, uint8_t hash[32]);
/* Calls back once for each VPN order known in the network. */
void vpn_glue_net_orders(struct dap_chain_net *net, void (*callback)(void *context, const uint8_t hash[32], uint64_t node_address),
                         void *context);

/* --- the client's connection --- */
struct dap_chain_node_client *vpn_glue_client_connect(struct dap_chain_net *net, const char *host, uint16_t port,
                                                      const char *channels, uint64_t id);
void vpn_glue_client_close(struct dap_chain_node_client *client);
struct dap_stream_ch *vpn_glue_client_channel(struct dap_chain_node_client *client, char letter);
struct dap_stream_worker *vpn_glue_client_stream_worker(struct dap_chain_node_client *client);

/* --- store --- */
uint8_t *vpn_glue_store_get(const char *group, const char *key, size_t *size);  /* vpn_glue_free; NULL when absent */
int vpn_glue_store_set(const char *group, const char *key, const void *value, size_t size);

/* --- CLI, HTTP --- */
typedef int (*vpn_glue_command_t)(int argc, char **argv, void **reply, int version);
void vpn_glue_command_add(const char *name, vpn_glue_command_t function, const char *summary, const char *usage);
void vpn_glue_command_remove(const char *name);
void vpn_glue_command_reply(void **reply, const char *text);
/* 0, or -1 when the node has no server. */
int vpn_glue_http_register(void);
void vpn_glue_http_unregister(void);
void vpn_glue_http_reply(void *request, int status, const char *body, size_t size);
/* "0x..." of SHA3-256 over the public key of `[srv_vpn] receipt_sign_cert`; false when there is no such certificate. */
bool vpn_glue_receipt_key_hash(char *out, size_t size);

/* --- wallets --- */
bool vpn_glue_wallet_exists(const char *name);
/* Makes a conditional transaction of value datoshi that pays the VPN service. hash: 32 bytes. */
bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint8_t *hash);
