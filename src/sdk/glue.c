/* See glue.h. Compiled against the headers of the SDK that is linked. */
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dap_common.h"
#include "dap_config.h"
#include "dap_events.h"
#include "dap_events_socket.h"
#include "dap_timerfd.h"
#include "dap_worker.h"
#include "dap_stream.h"
#include "dap_stream_ch.h"
#include "dap_stream_ch_pkt.h"
#include "dap_stream_ch_proc.h"
#include "dap_stream_session.h"
#include "dap_stream_worker.h"
#include "dap_client.h"
#include "dap_chain_common.h"
#include "dap_chain_ledger.h"
#include "dap_chain_net.h"
#include "dap_chain_net_srv.h"
#include "dap_chain_net_srv_order.h"
#include "dap_chain_net_srv_stream_session.h"
#include "dap_chain_node_client.h"
#include "dap_stream_ch_chain_net_srv.h"
#include "dap_stream_ch_chain_net_srv_pkt.h"
#include "dap_cert.h"
#include "dap_cli_server.h"
#include "dap_global_db.h"
#include "dap_hash.h"
#include "dap_http_server.h"
#include "dap_http_simple.h"
#include "dap_server.h"
#include "http_status_code.h"

#ifndef DAP_EMBEDDED_SDK
#include "dap_chain_mempool.h"
#include "dap_chain_wallet.h"
#include "dap_pkey.h"
#endif

#include "dap_chain_net_srv_vpn.h"

#include "glue.h"

#define LOG_TAG "vpn"
#define VPN_SERVICE_UID 0x0000000000000001
#define VPN_CHANNEL 'S'
#define VPN_PACKET_TYPE_DATA 0x02

static vpn_glue_callbacks_t s_rust;

void vpn_glue_set_callbacks(const vpn_glue_callbacks_t *callbacks)
{
    s_rust = *callbacks;
}

int vpn_glue_retain(void)
{
#ifdef DAP_EMBEDDED_SDK
    return dap_embedded_retain();
#else
    return 0;
#endif
}

void vpn_glue_release(void)
{
#ifdef DAP_EMBEDDED_SDK
    dap_embedded_release();
#endif
}

void vpn_glue_settle(void)
{
#ifdef DAP_EMBEDDED_SDK
    dap_embedded_settle();
#endif
}

/* --- log, memory --- */

void vpn_glue_log(int level, const char *message)
{
    /* In some releases log_it is a macro that wants the level's name. */
    switch (level) {
    case 7: log_it(L_ERROR, "%s", message); break;
    case 5: log_it(L_WARNING, "%s", message); break;
    case 1: log_it(L_INFO, "%s", message); break;
    default: log_it(L_DEBUG, "%s", message); break;
    }
}

int vpn_glue_log_level(void)
{
    return (int)dap_log_level_get();
}

void *vpn_glue_alloc(size_t size)
{
    return DAP_NEW_Z_SIZE(uint8_t, size);
}

void vpn_glue_free(void *memory)
{
    DAP_DELETE(memory);
}

/* --- configuration --- */

static dap_config_t *s_config(void *config)
{
    return config ? (dap_config_t *)config : g_config;
}

bool vpn_glue_config_bool(void *config, const char *section, const char *key, bool otherwise)
{
    return dap_config_get_item_bool_default(s_config(config), section, key, otherwise);
}

int64_t vpn_glue_config_int(void *config, const char *section, const char *key, int64_t otherwise)
{
    return dap_config_get_item_int64_default(s_config(config), section, key, otherwise);
}

const char *vpn_glue_config_str(void *config, const char *section, const char *key)
{
    return dap_config_get_item_str_default(s_config(config), section, key, NULL);
}

const char **vpn_glue_config_list(void *config, const char *section, const char *key, uint16_t *count)
{
    *count = 0;
    return dap_config_get_array_str(s_config(config), section, key, count);
}

/* --- workers, timers --- */

uint32_t vpn_glue_worker_count(void)
{
    return dap_events_thread_get_count();
}

uint32_t vpn_glue_worker_current(void)
{
    dap_worker_t *worker = dap_worker_get_current();
    return worker ? worker->id : VPN_GLUE_NO_WORKER;
}

static dap_worker_t *s_worker(uint32_t worker)
{
    return worker < vpn_glue_worker_count() ? dap_events_worker_get((uint8_t)worker) : NULL;
}

void *vpn_glue_worker_pointer(uint32_t worker)
{
    return s_worker(worker);
}

bool vpn_glue_worker_exec(uint32_t worker, void (*callback)(void *), void *argument)
{
    dap_worker_t *target = s_worker(worker);
    if (!target)
        return false;
    dap_worker_exec_callback_on(target, callback, argument);
    return true;
}

uint64_t vpn_glue_timer_start(uint32_t worker, uint64_t milliseconds, bool (*callback)(void *), void *argument)
{
    dap_worker_t *target = s_worker(worker);
    dap_timerfd_t *timer = target ? dap_timerfd_start_on_worker(target, milliseconds, callback, argument) : NULL;
    return timer ? timer->esocket_uuid : 0;
}

void vpn_glue_timer_stop(uint32_t worker, uint64_t timer)
{
    dap_worker_t *target = s_worker(worker);
    if (target && timer)
        dap_timerfd_delete_mt(target, timer);
}

/* --- TUN queues --- */

/* The SDK's loop reads one packet by itself, behind what it takes for input that is there already: room for headers. */
static void s_tun_read(dap_events_socket_t *es, void *argument)
{
    (void)argument;
    size_t size = es->buf_in_size;
    es->buf_in_size = s_rust.tun_front;
    s_rust.tun_readable(es->_inheritor, size > s_rust.tun_front ? es->buf_in : NULL, size);
}

static bool s_tun_write(dap_events_socket_t *es, void *argument)
{
    (void)es;
    (void)argument;
    return false;   /* packets are written to the descriptor directly, never through the SDK's buffer */
}

static void s_tun_error(dap_events_socket_t *es, int error)
{
    s_rust.tun_failed(es->_inheritor, error);
    /* The SDK leaves a socket with no_close in its loop, which would report the error for ever. */
    if (es->worker)
        dap_events_socket_remove_and_delete_mt(es->worker, es->uuid);
}

static void s_tun_delete(dap_events_socket_t *es, void *argument)
{
    (void)argument;
    void *inheritor = es->_inheritor;
    es->_inheritor = NULL;      /* Rust's memory: the SDK must not free it */
    s_rust.tun_deleted(inheritor);
}

struct dap_events_socket *vpn_glue_tun_add(int fd, uint32_t worker, void *inheritor, uint64_t *uuid)
{
    dap_worker_t *target = s_worker(worker);
    if (!target)
        return NULL;
    dap_events_socket_callbacks_t callbacks;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.read_callback = s_tun_read;
    callbacks.write_callback = s_tun_write;
    callbacks.error_callback = s_tun_error;
    callbacks.delete_callback = s_tun_delete;
    dap_events_socket_t *es = dap_events_socket_wrap_no_add(fd, &callbacks);
    if (!es)
        return NULL;
    es->type = DESCRIPTOR_TYPE_FILE;
    es->no_close = true;
    es->_inheritor = inheritor;
    es->buf_in_size = s_rust.tun_front;
    *uuid = es->uuid;
    dap_events_socket_assign_on_worker_mt(es, target);
    return es;
}

void vpn_glue_tun_remove(uint32_t worker, uint64_t uuid)
{
    dap_worker_t *target = s_worker(worker);
    if (target)
        dap_events_socket_remove_and_delete_mt(target, uuid);
}

void vpn_glue_tun_set_readable(struct dap_events_socket *es, bool readable)
{
    dap_events_socket_set_readable_unsafe(es, readable);
}

bool vpn_glue_tun_write(const struct dap_events_socket *es, const void *packet, size_t size)
{
    return write(es->fd, packet, size) == (ssize_t)size;
}

/* --- channel 'S' --- */

static void s_stream_arrived(dap_events_socket_t *es, dap_worker_t *worker);
static void s_stream_leaving(dap_events_socket_t *es, dap_worker_t *worker);

/* The stream's own callbacks, which ours call first. They are the same functions for all streams of one kind. */
static dap_events_socket_worker_callback_t s_previous_arrived, s_previous_leaving;

static dap_stream_ch_t *s_vpn_channel_of(dap_stream_t *stream)
{
    return stream ? dap_stream_ch_by_id_unsafe(stream, VPN_CHANNEL) : NULL;
}

static dap_stream_t *s_stream_of(dap_events_socket_t *es)
{
#ifdef DAP_EMBEDDED_SDK
    return (dap_stream_t *)es->_inheritor;
#else
    return dap_stream_get_from_es(es);
#endif
}

static void s_stream_arrived(dap_events_socket_t *es, dap_worker_t *worker)
{
    if (s_previous_arrived)
        s_previous_arrived(es, worker);
    dap_stream_ch_t *ch = s_vpn_channel_of(s_stream_of(es));
    if (ch && ch->internal && worker)
        s_rust.channel_arrived(ch->internal, worker->id);
}

static void s_stream_leaving(dap_events_socket_t *es, dap_worker_t *worker)
{
    dap_stream_ch_t *ch = s_vpn_channel_of(s_stream_of(es));
    if (ch && ch->internal)
        s_rust.channel_leaving(ch->internal);
    if (s_previous_leaving)
        s_previous_leaving(es, worker);
}

static void s_channel_new(dap_stream_ch_t *ch, void *argument)
{
    (void)argument;
    dap_events_socket_t *es = ch->stream->esocket;
    if (!ch->stream->is_client_to_uplink) {
        if (ch->stream->session && !ch->stream->session->_inheritor)
            dap_chain_net_srv_stream_session_create(ch->stream->session);
        dap_events_socket_callbacks_t callbacks = es->callbacks;
        if (callbacks.worker_assign_callback != s_stream_arrived) {
            s_previous_arrived = callbacks.worker_assign_callback;
            s_previous_leaving = callbacks.worker_unassign_callback;
            callbacks.worker_assign_callback = s_stream_arrived;
            callbacks.worker_unassign_callback = s_stream_leaving;
            es->callbacks = callbacks;
        }
    }
    uint32_t worker = ch->stream_worker && ch->stream_worker->worker ? ch->stream_worker->worker->id : VPN_GLUE_NO_WORKER;
    ch->internal = s_rust.channel_opened(ch, ch->stream->is_client_to_uplink, worker);
}

static void s_channel_delete(dap_stream_ch_t *ch, void *argument)
{
    (void)argument;
    void *internal = ch->internal;
    ch->internal = NULL;        /* Rust's memory: the SDK must not free it */
    if (internal)
        s_rust.channel_closed(ch, internal);
}

static bool s_channel_packet(dap_stream_ch_t *ch, void *argument)
{
    dap_stream_ch_pkt_t *packet = (dap_stream_ch_pkt_t *)argument;
    if (packet && ch->internal)
        s_rust.channel_packet(ch->internal, packet->hdr.type, packet->data, packet->hdr.data_size);
    return true;
}

static bool s_channel_drained(dap_stream_ch_t *ch, void *argument)
{
    (void)argument;
    if (ch->internal)
        s_rust.channel_drained(ch->internal);
    return false;
}

void vpn_glue_channel_register(void)
{
    dap_stream_ch_proc_add(VPN_CHANNEL, s_channel_new, s_channel_delete, s_channel_packet, s_channel_drained);
}

size_t vpn_glue_channel_send(struct dap_stream_ch *ch, uint8_t type, const void *data, size_t size)
{
    return dap_stream_ch_pkt_write_unsafe(ch, type, data, size);
}

size_t vpn_glue_channel_pending(const struct dap_stream_ch *ch)
{
    return ch->stream->esocket->buf_out_size;
}

void vpn_glue_channel_enable(struct dap_stream_ch *ch)
{
    dap_stream_ch_set_ready_to_read_unsafe(ch, true);
}

void vpn_glue_channel_wake_on_drain(struct dap_stream_ch *ch, bool wake)
{
    dap_stream_ch_set_ready_to_write_unsafe(ch, wake);
}

void vpn_glue_channel_touch(struct dap_stream_ch *ch)
{
    ch->stream->esocket->last_ping_request = time(NULL);
}

void vpn_glue_channel_close_stream(struct dap_stream_ch *ch)
{
    dap_events_socket_t *es = ch->stream->esocket;
    if (es->worker)
        dap_events_socket_remove_and_delete_mt(es->worker, es->uuid);
}

void vpn_glue_channel_peer(const struct dap_stream_ch *ch, char *out, size_t size)
{
    const dap_events_socket_t *es = ch->stream->esocket;
    /* By the socket: on the client's end the SDK keeps the name that was dialled, and no port. */
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof(peer);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getpeername((int)es->fd, (struct sockaddr *)&peer, &peer_size) == 0
        && getnameinfo((struct sockaddr *)&peer, peer_size, host, sizeof(host), port, sizeof(port),
                       NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(out, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    else
        snprintf(out, size, "%s:%u", es->remote_addr_str, (unsigned)es->remote_port);
}

bool vpn_glue_stream_worker_is_here(const struct dap_stream_worker *stream_worker)
{
    return stream_worker && stream_worker->worker && stream_worker->worker == dap_worker_get_current();
}

bool vpn_glue_channel_place(const struct dap_stream_ch *ch, struct dap_stream_worker **stream_worker, uint64_t *uuid)
{
    *stream_worker = ch->stream_worker;
    *uuid = ch->uuid;
    return vpn_glue_stream_worker_is_here(ch->stream_worker);
}

struct dap_stream_ch *vpn_glue_channel_find(struct dap_stream_worker *stream_worker, uint64_t uuid)
{
    return dap_stream_ch_find_by_uuid_unsafe(stream_worker, (dap_stream_ch_uuid_t)uuid);
}

const uint8_t *vpn_glue_packet_parts(const struct dap_stream_ch_pkt *packet, uint8_t *type, size_t *size)
{
    *type = packet->hdr.type;
    *size = packet->hdr.data_size;
    return packet->data;
}

static dap_chain_net_srv_stream_session_t *s_service_session(const dap_stream_ch_t *ch)
{
    dap_stream_session_t *session = ch->stream ? ch->stream->session : NULL;
    return session ? (dap_chain_net_srv_stream_session_t *)session->_inheritor : NULL;
}

bool vpn_glue_channel_usage(const struct dap_stream_ch *ch, vpn_glue_usage_t *out)
{
    dap_chain_net_srv_stream_session_t *session = s_service_session(ch);
    dap_chain_net_srv_usage_t *usage = session ? session->usage_active : NULL;
    if (!usage)
        return false;
    out->id = usage->id;
    out->is_active = usage->is_active;
#if defined(VPN_SDK_USAGE_STATE)
    out->state = (int32_t)usage->service_state;
#elif defined(VPN_SDK_USAGE_FLAGS)
    out->state = usage->is_free ? 4 : usage->is_grace ? 1 : 2;
#else
#error "This SDK's dap_chain_net_srv_usage_t has neither service_state nor is_free and is_grace: how a usage is paid cannot be told."
#endif
    out->role_serves = usage->net && dap_chain_net_get_role(usage->net).enums <= NODE_ROLE_MASTER;
    return true;
}

void vpn_glue_channel_usage_activate(struct dap_stream_ch *ch)
{
    dap_chain_net_srv_stream_session_t *session = s_service_session(ch);
    if (session && session->usage_active) {
        session->usage_active->is_active = true;
        session->last_update_ts = time(NULL);
    }
}

void vpn_glue_channel_set_inner_address(struct dap_stream_ch *ch, uint32_t address)
{
    if (ch->stream->session)
        ch->stream->session->tun_client_addr.s_addr = address;
}

/* vpn_stat reads the counters from another thread, so each is added and read in one piece. */
#define STAT_ADD(stats, field, delta) __atomic_fetch_add(&(stats)->field, (delta)->field, __ATOMIC_RELAXED)
#define STAT_GET(stats, field) ((uint64_t)__atomic_load_n(&(stats)->field, __ATOMIC_RELAXED))

void vpn_glue_channel_stats_add(struct dap_stream_ch *ch, const vpn_glue_stats_t *delta)
{
    dap_chain_net_srv_stream_session_t *session = s_service_session(ch);
    if (!session)
        return;
    STAT_ADD(&session->stats, bytes_sent, delta);
    STAT_ADD(&session->stats, bytes_recv, delta);
    STAT_ADD(&session->stats, bytes_sent_lost, delta);
    STAT_ADD(&session->stats, bytes_recv_lost, delta);
    STAT_ADD(&session->stats, packets_sent, delta);
    STAT_ADD(&session->stats, packets_recv, delta);
    STAT_ADD(&session->stats, packets_sent_lost, delta);
    STAT_ADD(&session->stats, packets_recv_lost, delta);
}

void vpn_glue_sessions_each(void (*callback)(void *context, const vpn_glue_session_t *session), void *context)
{
    dap_list_t *sessions = dap_stream_session_get_list_sessions();
    for (dap_list_t *item = sessions; item; item = item->next) {
        dap_stream_session_t *session = (dap_stream_session_t *)item->data;
        dap_chain_net_srv_stream_session_t *service = (dap_chain_net_srv_stream_session_t *)session->_inheritor;
        if (!service)
            continue;
        vpn_glue_session_t view = { .time_created = (uint64_t)session->time_created,
                                    .address = session->tun_client_addr.s_addr };
        view.stats.bytes_sent = STAT_GET(&service->stats, bytes_sent);
        view.stats.bytes_recv = STAT_GET(&service->stats, bytes_recv);
        view.stats.bytes_sent_lost = STAT_GET(&service->stats, bytes_sent_lost);
        view.stats.bytes_recv_lost = STAT_GET(&service->stats, bytes_recv_lost);
        view.stats.packets_sent = STAT_GET(&service->stats, packets_sent);
        view.stats.packets_recv = STAT_GET(&service->stats, packets_recv);
        view.stats.packets_sent_lost = STAT_GET(&service->stats, packets_sent_lost);
        view.stats.packets_recv_lost = STAT_GET(&service->stats, packets_recv_lost);
        callback(context, &view);
    }
    dap_list_free(sessions);
    dap_stream_session_get_list_sessions_unlock();
}

/* --- the service --- */

static void *s_vpn_internal(dap_chain_net_srv_client_remote_t *client)
{
    dap_stream_ch_t *ch = client && client->ch ? s_vpn_channel_of(client->ch->stream) : NULL;
    return ch ? ch->internal : NULL;
}

static int s_service_requested(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                               const void *data, size_t size)
{
    (void)service, (void)client, (void)data, (void)size;
    return s_rust.service_requested(usage_id);
}

static int s_service_success(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                             const void *data, size_t size)
{
    (void)service, (void)data, (void)size;
    return s_rust.service_accepted(s_vpn_internal(client), usage_id);
}

static int s_service_error(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                           const void *data, size_t size)
{
    (void)service, (void)client;
    if (!data || size != sizeof(dap_stream_ch_chain_net_srv_pkt_error_t))
        return -1;
    dap_stream_ch_chain_net_srv_pkt_error_t error;
    memcpy(&error, data, sizeof(error));
    s_rust.service_refused(usage_id, error.code);
    return 0;
}

static int s_service_next_receipt(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                                  const void *data, size_t size)
{
    (void)service, (void)data, (void)size;
    return s_rust.service_accepted(s_vpn_internal(client), usage_id);
}

/* The SDK calls these two without looking whether they are there: the first when a paid usage begins, the second when
 * a channel 'R' with a usage goes. Nothing is counted yet, so there is nothing to give or to keep. */
static dap_stream_ch_chain_net_srv_remain_service_store_t *s_service_get_remain(dap_chain_net_srv_t *service, uint32_t usage_id,
                                                                                dap_chain_net_srv_client_remote_t *client)
{
    (void)service, (void)usage_id, (void)client;
    return NULL;
}

static int s_service_save_remain(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client)
{
    (void)service, (void)usage_id, (void)client;
    return 0;
}

static dap_chain_net_srv_uid_t s_service_uid(void)
{
    dap_chain_net_srv_uid_t uid;
    memset(&uid, 0, sizeof(uid));
    uid.uint64 = VPN_SERVICE_UID;
    return uid;
}

#ifndef DAP_EMBEDDED_SDK
/* The usages of a node point to their service until their channel 'R' goes, and the SDK's dap_chain_net_srv_del would
 * free it under them. So it stays registered, closed, and the next start takes it up again. */
static dap_chain_net_srv_t *s_kept_service;
#endif

static dap_chain_net_srv_t *s_service_register(const char *section, dap_chain_net_srv_callbacks_t *callbacks)
{
#ifndef DAP_EMBEDDED_SDK
    dap_chain_net_srv_t *kept = s_kept_service;
    if (kept) {
        s_kept_service = NULL;
        kept->allow_free_srv = vpn_glue_config_bool(NULL, section, "allow_free_srv", false);
        return kept;
    }
#endif
    return dap_chain_net_srv_add(s_service_uid(), section, callbacks);
}

static void s_service_unregister(dap_chain_net_srv_t *service)
{
#ifdef DAP_EMBEDDED_SDK
    dap_chain_net_srv_del(service);
#else
    service->allow_free_srv = false;    /* the SDK refuses who asks for free service from now on */
    s_kept_service = service;
#endif
}

struct dap_chain_net_srv *vpn_glue_service_add(const char *section)
{
    dap_chain_net_srv_vpn_t *root = DAP_NEW_Z(dap_chain_net_srv_vpn_t);
    if (!root)
        return NULL;
    dap_chain_net_srv_callbacks_t callbacks;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.requested = s_service_requested;
    callbacks.response_success = s_service_success;
    callbacks.response_error = s_service_error;
    callbacks.receipt_next_success = s_service_next_receipt;
    callbacks.get_remain_service = s_service_get_remain;
    callbacks.save_remain_service = s_service_save_remain;
    dap_chain_net_srv_t *service = s_service_register(section, &callbacks);
    if (!service) {
        DAP_DELETE(root);
        return NULL;
    }
    root->parent = service;
    service->_internal = root;
    return service;
}

static void s_hide(dap_chain_net_srv_vpn_t *root)
{
    dap_chain_net_srv_vpn_item_ipv4_t *item = root->ipv4_unleased;
    dap_chain_net_srv_ch_vpn_t *session = root->ch_vpn_ipv4;
    root->ipv4_unleased = NULL;
    root->ch_vpn_ipv4 = NULL;
    while (item) {
        dap_chain_net_srv_vpn_item_ipv4_t *gone = item;
        item = item->next;
        DAP_DELETE(gone);
    }
#ifdef HASH_CLEAR
    /* Frees the table, not the elements, whose links stay. */
    dap_chain_net_srv_ch_vpn_t *head = session;
    HASH_CLEAR(hh, head);
#endif
    while (session) {
        dap_chain_net_srv_ch_vpn_t *gone = session;
        session = (dap_chain_net_srv_ch_vpn_t *)session->hh.next;
        DAP_DELETE(gone);
    }
}

/* The last element that was added before, where uthash is not there to know. */
static void s_show_session(dap_chain_net_srv_vpn_t *root, dap_chain_net_srv_ch_vpn_t *session,
                           dap_chain_net_srv_ch_vpn_t *last)
{
#ifdef HASH_ADD
    (void)last;
    HASH_ADD(hh, root->ch_vpn_ipv4, addr_ipv4, sizeof(session->addr_ipv4), session);
#else
    session->hh.prev = last;
    if (last)
        last->hh.next = session;
    else
        root->ch_vpn_ipv4 = session;
#endif
}

void vpn_glue_service_show(struct dap_chain_net_srv *service, const vpn_glue_shown_t *sessions, size_t session_count,
                           const uint32_t *released, size_t released_count)
{
    dap_chain_net_srv_vpn_t *root = (dap_chain_net_srv_vpn_t *)service->_internal;
    s_hide(root);
    dap_chain_net_srv_vpn_item_ipv4_t **end = &root->ipv4_unleased;
    for (size_t i = 0; i < released_count; i++) {
        dap_chain_net_srv_vpn_item_ipv4_t *item = DAP_NEW_Z(dap_chain_net_srv_vpn_item_ipv4_t);
        if (!item)
            return;
        item->addr.s_addr = released[i];
        *end = item;
        end = &item->next;
    }
    dap_chain_net_srv_ch_vpn_t *last = NULL;
    for (size_t i = 0; i < session_count; i++) {
        dap_chain_net_srv_ch_vpn_t *session = DAP_NEW_Z(dap_chain_net_srv_ch_vpn_t);
        if (!session)
            return;
        session->usage_id = sessions[i].usage_id;
        session->net_srv = service;
        session->is_allowed = sessions[i].is_allowed;
        session->addr_ipv4.s_addr = sessions[i].address;
        session->ch = sessions[i].ch;
        s_show_session(root, session, last);
        last = session;
    }
}

void vpn_glue_service_remove(struct dap_chain_net_srv *service)
{
    dap_chain_net_srv_vpn_t *root = (dap_chain_net_srv_vpn_t *)service->_internal;
    service->_internal = NULL;
    s_service_unregister(service);
    if (root) {
        s_hide(root);
        DAP_DELETE(root);
    }
}

/* A transaction is the VPN's when it pays into the VPN service (OPEN) or spends what was paid into it (USE). */
static bool s_tag_check(dap_ledger_t *ledger, dap_chain_datum_tx_t *tx, dap_chain_datum_tx_item_groups_t *items,
                        dap_chain_tx_tag_action_type_t *action)
{
    (void)tx;
    for (dap_list_t *item = items->items_out_cond_srv_pay; item; item = item->next) {
        const dap_chain_tx_out_cond_t *out = (const dap_chain_tx_out_cond_t *)item->data;
        if (out && out->header.srv_uid.uint64 == VPN_SERVICE_UID) {
            if (action)
                *action = DAP_CHAIN_TX_TAG_ACTION_OPEN;
            return true;
        }
    }
    for (dap_list_t *item = items->items_in_cond; item; item = item->next) {
        const dap_chain_tx_out_cond_t *out =
            dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(ledger, (dap_chain_tx_in_cond_t *)item->data);
        if (out && out->header.subtype == DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY
            && out->header.srv_uid.uint64 == VPN_SERVICE_UID) {
            if (action)
                *action = DAP_CHAIN_TX_TAG_ACTION_USE;
            return true;
        }
    }
    return false;
}

int vpn_glue_ledger_tag_register(void)
{
    static char tag[] = "vpn";
    return dap_ledger_service_add(s_service_uid(), tag, s_tag_check);
}

/* --- networks --- */

struct dap_chain_net *vpn_glue_net_by_name(const char *name)
{
    return dap_chain_net_by_name(name);
}

struct dap_chain_net *vpn_glue_net_by_id(uint64_t id)
{
    dap_chain_net_id_t net_id;
    memset(&net_id, 0, sizeof(net_id));
    net_id.uint64 = id;
    return dap_chain_net_by_id(net_id);
}

uint64_t vpn_glue_net_id(const struct dap_chain_net *net)
{
    return net->pub.id.uint64;
}

const char *vpn_glue_net_name(const struct dap_chain_net *net)
{
    return net->pub.name;
}

const char *vpn_glue_net_store_prefix(const struct dap_chain_net *net)
{
    return net->pub.gdb_groups_prefix;
}

#ifdef DAP_EMBEDDED_SDK

bool vpn_glue_net_free_order(struct dap_chain_net *net, uint8_t hash[32])
{
    dap_hash_fast_t order;
    if (!dap_embedded_free_order(net, &order))
        return false;
    memcpy(hash, order.raw, 32);
    return true;
}

void vpn_glue_net_orders(struct dap_chain_net *net, void (*callback)(void *context, const uint8_t hash[32], uint64_t node_address),
                         void *context)
{
    uint8_t hash[32];
    if (vpn_glue_net_free_order(net, hash))
        callback(context, hash, 0);
}

#else

static dap_list_t *s_orders(dap_chain_net_t *net, dap_chain_net_srv_order_direction_t direction)
{
    dap_chain_net_srv_price_unit_uid_t any_unit;
    uint256_t any_price;
    memset(&any_unit, 0, sizeof(any_unit));
    memset(&any_price, 0, sizeof(any_price));
    dap_list_t *orders = NULL;
    size_t count = 0;
    if (dap_chain_net_srv_order_find_all_by(net, direction, s_service_uid(), any_unit, NULL, any_price, any_price, &orders, &count))
        return NULL;
    return orders;
}

static void s_order_hash(const dap_chain_net_srv_order_t *order, uint8_t hash[32])
{
    dap_chain_hash_fast_t full;
    dap_hash_fast(order, dap_chain_net_srv_order_get_size(order), &full);
    memcpy(hash, full.raw, 32);
}

bool vpn_glue_net_free_order(struct dap_chain_net *net, uint8_t hash[32])
{
    dap_list_t *orders = s_orders(net, SERV_DIR_SELL);
    bool found = false;
    for (dap_list_t *item = orders; item && !found; item = item->next) {
        const dap_chain_net_srv_order_t *order = (const dap_chain_net_srv_order_t *)item->data;
        if (IS_ZERO_256(order->price)) {
            s_order_hash(order, hash);
            found = true;
        }
    }
    dap_list_free_full(orders, NULL);
    return found;
}

void vpn_glue_net_orders(struct dap_chain_net *net, void (*callback)(void *context, const uint8_t hash[32], uint64_t node_address),
                         void *context)
{
    dap_list_t *orders = s_orders(net, SERV_DIR_UNDEFINED);
    for (dap_list_t *item = orders; item; item = item->next) {
        const dap_chain_net_srv_order_t *order = (const dap_chain_net_srv_order_t *)item->data;
        uint8_t hash[32];
        s_order_hash(order, hash);
        callback(context, hash, order->node_addr.uint64);
    }
    dap_list_free_full(orders, NULL);
}

#endif

/* --- the client's connection --- */

/* The SDK passes back a pointer; ours is a number, so a call that comes late finds nothing instead of freed memory. */
static uint64_t s_client_id(void *argument)
{
    return (uint64_t)(uintptr_t)argument;
}

static void s_client_connected(dap_chain_node_client_t *client, void *argument)
{
    (void)client;
    s_rust.client_connected(s_client_id(argument));
}

static void s_client_disconnected(dap_chain_node_client_t *client, void *argument)
{
    (void)client;
    s_rust.client_disconnected(s_client_id(argument));
}

static void s_client_error(dap_chain_node_client_t *client, int error, void *argument)
{
    (void)client;
    s_rust.client_failed(s_client_id(argument), error);
}

static void s_client_service_packet(void *channel, uint8_t type, dap_stream_ch_pkt_t *packet, void *argument)
{
    (void)channel;
    s_rust.client_service_packet(s_client_id(argument), type, packet->data, packet->hdr.data_size);
}

struct dap_chain_node_client *vpn_glue_client_connect(struct dap_chain_net *net, const char *host, uint16_t port,
                                                      const char *channels, uint64_t id)
{
    size_t host_size = strlen(host) + 1;
    if (host_size > DAP_HOSTADDR_STRLEN)
        return NULL;
    dap_chain_node_info_t *info = (dap_chain_node_info_t *)vpn_glue_alloc(sizeof(*info) + host_size);
    if (!info)
        return NULL;
    info->ext_port = port;
    info->ext_host_len = (uint8_t)(host_size - 1);
    memcpy((char *)info + offsetof(dap_chain_node_info_t, ext_host), host, host_size);
    dap_chain_node_client_callbacks_t callbacks;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.connected = s_client_connected;
    callbacks.disconnected = s_client_disconnected;
    callbacks.error = s_client_error;
    dap_chain_node_client_t *client =
        dap_chain_node_client_create_n_connect(net, info, channels, &callbacks, (void *)(uintptr_t)id);
    vpn_glue_free(info);
    if (client)
        client->notify_callbacks.srv_pkt_in = s_client_service_packet;
    return client;
}

void vpn_glue_client_close(struct dap_chain_node_client *client)
{
    dap_chain_node_client_close_mt(client);
}

struct dap_stream_ch *vpn_glue_client_channel(struct dap_chain_node_client *client, char letter)
{
    return client->client ? dap_client_get_stream_ch_unsafe(client->client, (uint8_t)letter) : NULL;
}

struct dap_stream_worker *vpn_glue_client_stream_worker(struct dap_chain_node_client *client)
{
    return client->client ? dap_client_get_stream_worker(client->client) : NULL;
}

/* --- store --- */

uint8_t *vpn_glue_store_get(const char *group, const char *key, size_t *size)
{
    *size = 0;
    return (uint8_t *)dap_global_db_get_sync(group, key, size, NULL, NULL);
}

int vpn_glue_store_set(const char *group, const char *key, const void *value, size_t size)
{
    return dap_global_db_set_sync(group, key, value, size, false);
}

/* --- CLI, HTTP --- */

void vpn_glue_command_add(const char *name, vpn_glue_command_t function, const char *summary, const char *usage)
{
#if defined(VPN_SDK_COMMAND_WITH_RPC)
    dap_cli_server_cmd_add(name, function, NULL, summary, usage);
#elif defined(VPN_SDK_COMMAND)
    dap_cli_server_cmd_add(name, function, summary, usage);
#else
#error "This SDK's dap_cli_server_cmd_add takes no function (int, char **, void **, int) with a summary and a usage, which the commands need."
#endif
}

void vpn_glue_command_remove(const char *name)
{
#ifdef VPN_SDK_COMMAND_REMOVE
    dap_cli_server_cmd_remove(name);
#else
    (void)name;     /* stays, and answers that nothing runs */
#endif
}

void vpn_glue_command_reply(void **reply, const char *text)
{
    dap_cli_server_cmd_set_reply_text(reply, "%s", text);
}

typedef struct http_request {
    dap_http_simple_t *simple;
    int *status;
} http_request_t;

static void s_http_remain_limits(dap_http_simple_t *simple, void *argument)
{
    http_request_t request = { .simple = simple, .status = (int *)argument };
    const dap_http_client_t *client = simple->http_client;
    s_rust.http_remain_limits(&request, client->in_query_string,
                              strnlen(client->in_query_string, sizeof(client->in_query_string)));
}

static dap_http_server_t *s_http(void)
{
    dap_server_t *server = dap_server_get_default();
    return server ? (dap_http_server_t *)server->_inheritor : NULL;
}

static dap_http_server_t *s_registered_with;

int vpn_glue_http_register(void)
{
    dap_http_server_t *http = s_http();
    if (!http)
        return -1;
    dap_http_simple_proc_add(http, "/remain_limits_vpn", 24000, s_http_remain_limits);
    s_registered_with = http;
    return 0;
}

void vpn_glue_http_unregister(void)
{
#ifdef DAP_EMBEDDED_SDK
    if (s_registered_with)
        dap_http_simple_proc_remove(s_registered_with, "/remain_limits_vpn");
#endif
    /* The node's SDK has no way to take a path back: the handler answers 404 while the service is down. */
    s_registered_with = NULL;
}

void vpn_glue_http_reply(void *request, int status, const char *body, size_t size)
{
    http_request_t *target = (http_request_t *)request;
    *target->status = status;
    strncpy(target->simple->reply_mime, "application/json", sizeof(target->simple->reply_mime) - 1);
    dap_http_simple_reply(target->simple, (void *)(uintptr_t)body, size);
}

bool vpn_glue_receipt_key_hash(char *out, size_t size)
{
    const char *name = vpn_glue_config_str(NULL, "srv_vpn", "receipt_sign_cert");
#ifdef DAP_EMBEDDED_SDK
    if (!name)
        name = "node";
#endif
    dap_cert_t *cert = name ? dap_cert_find_by_name(name) : NULL;
    if (!cert || !cert->enc_key)
        return false;
    size_t key_size = 0;
    uint8_t *key = dap_enc_key_serialize_pub_key(cert->enc_key, &key_size);
    if (!key || !key_size)
        return false;
    dap_hash_fast_t hash;
    dap_hash_fast(key, key_size, &hash);
    DAP_DELETE(key);
    int written = snprintf(out, size, "0x");
    for (size_t i = 0; i < sizeof(hash.raw); i++)
        written += snprintf(out + written, size > (size_t)written ? size - (size_t)written : 0, "%02X", hash.raw[i]);
    return (size_t)written < size;
}

/* --- wallets --- */

#ifdef DAP_EMBEDDED_SDK

/* The embedded SDK has no wallets: its orders are free. */
bool vpn_glue_wallet_exists(const char *name)
{
    (void)name;
    return false;
}

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint8_t *hash)
{
    (void)net, (void)wallet, (void)token, (void)value, (void)hash;
    return false;
}

#else

static dap_chain_wallet_t *s_wallet(const char *name)
{
    return dap_chain_wallet_open(name, dap_chain_wallet_get_path(g_config), NULL);
}

bool vpn_glue_wallet_exists(const char *name)
{
    dap_chain_wallet_t *wallet = s_wallet(name);
    if (wallet)
        dap_chain_wallet_close(wallet);
    return wallet != NULL;
}

static bool s_pay(dap_chain_net_t *net, dap_enc_key_t *key, const char *token, uint64_t value, uint8_t *hash)
{
    dap_pkey_t *public_key = dap_pkey_from_enc_key(key);
    if (!public_key)
        return false;
#if defined(VPN_SDK_PAY_KEY_HASH)
    dap_hash_fast_t key_hash, *payer = &key_hash;
    dap_pkey_get_hash(public_key, payer);
#elif defined(VPN_SDK_PAY_KEY)
    dap_pkey_t *payer = public_key;
#else
#error "This SDK's dap_chain_mempool_tx_create_cond takes neither a dap_hash_fast_t * nor a dap_pkey_t * for the paying key."
#endif

    char ticker[DAP_CHAIN_TICKER_SIZE_MAX];
    memset(ticker, 0, sizeof(ticker));
    strncpy(ticker, token, sizeof(ticker) - 1);
    uint256_t none;
    memset(&none, 0, sizeof(none));
    dap_chain_net_srv_price_unit_uid_t unit;
    memset(&unit, 0, sizeof(unit));
    unit.enm = SERV_UNIT_B;
    char *text = dap_chain_mempool_tx_create_cond(net, key, payer, ticker, GET_256_FROM_64(value), none, unit,
                                                  s_service_uid(), none, NULL, 0, "hex");
    DAP_DELETE(public_key);
    if (!text)
        return false;
    dap_chain_hash_fast_t transaction;
    bool made = dap_chain_hash_fast_from_str(text, &transaction) == 0;
    if (made)
        memcpy(hash, transaction.raw, 32);
    DAP_DELETE(text);
    return made;
}

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint8_t *hash)
{
    dap_chain_wallet_t *opened = s_wallet(wallet);
    if (!opened)
        return false;
    dap_enc_key_t *key = dap_chain_wallet_get_key(opened, 0);
    bool made = key && s_pay(net, key, token, value, hash);
    if (key)
        dap_enc_key_delete(key);
    dap_chain_wallet_close(opened);
    return made;
}

#endif
