/* Channel 'S' of a stream. */
#include <linux/sockios.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "internal.h"
#include "dap_chain_net_srv_stream_session.h"
#include "dap_stream_ch_pkt.h"
#include "dap_stream_ch_proc.h"
#include "dap_stream_session.h"
#include "dap_stream_worker.h"

/* The stream's own callbacks, which ours call first. All streams of one kind have the same ones. */
static dap_events_socket_worker_callback_t s_previous_arrived, s_previous_leaving;

static void s_stream_arrived(dap_events_socket_t *es, dap_worker_t *worker)
{
    if (s_previous_arrived)
        s_previous_arrived(es, worker);
    dap_stream_ch_t *ch = vpn_internal_channel_of(vpn_internal_stream_of(es));
    if (ch && ch->internal && worker)
        vpn_internal_rust.channel_arrived(ch->internal, worker->id);
}

static void s_stream_leaving(dap_events_socket_t *es, dap_worker_t *worker)
{
    dap_stream_ch_t *ch = vpn_internal_channel_of(vpn_internal_stream_of(es));
    if (ch && ch->internal)
        vpn_internal_rust.channel_leaving(ch->internal);
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
    ch->internal = vpn_internal_rust.channel_opened(ch, ch->stream->is_client_to_uplink, worker);
}

static void s_channel_delete(dap_stream_ch_t *ch, void *argument)
{
    (void)argument;
    void *internal = ch->internal;
    ch->internal = NULL;        /* it is Rust's memory, which the SDK must not free */
    if (internal)
        vpn_internal_rust.channel_closed(ch, internal);
}

static bool s_channel_packet(dap_stream_ch_t *ch, void *argument)
{
    dap_stream_ch_pkt_t *packet = (dap_stream_ch_pkt_t *)argument;
    if (packet && ch->internal)
        vpn_internal_rust.channel_packet(ch->internal, packet->hdr.type, packet->data, packet->hdr.data_size);
    return true;
}

static bool s_channel_drained(dap_stream_ch_t *ch, void *argument)
{
    (void)argument;
    dap_events_socket_t *es = vpn_internal_socket_of(ch);
    bool more = es && ch->internal && vpn_internal_rust.channel_drained(ch->internal, es->buf_out_size);
    /* Another channel's callback may have cleared the flag just before: the Cellframe SDK's of channel 'R' does. */
    if (more)
        dap_events_socket_set_writable_unsafe(es, true);
    return more;
}

void vpn_glue_channel_register(void)
{
    dap_stream_ch_proc_add(VPN_CHANNEL, s_channel_new, s_channel_delete, s_channel_packet, s_channel_drained);
}

size_t vpn_glue_channel_send(struct dap_stream_ch *ch, uint8_t kind, const void *data, size_t size)
{
    return vpn_internal_socket_of(ch) ? dap_stream_ch_pkt_write_unsafe(ch, kind, data, size) : 0;
}

size_t vpn_glue_channel_pending(const struct dap_stream_ch *ch)
{
    const dap_events_socket_t *es = vpn_internal_socket_of(ch);
    return es ? es->buf_out_size : 0;
}

size_t vpn_glue_channel_unacknowledged(const struct dap_stream_ch *ch)
{
    int bytes = 0;
    const dap_events_socket_t *es = vpn_internal_socket_of(ch);
    return es && ioctl((int)es->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

void vpn_glue_channel_enable(struct dap_stream_ch *ch)
{
    dap_stream_ch_set_ready_to_read_unsafe(ch, true);
}

void vpn_glue_channel_wake_on_drain(struct dap_stream_ch *ch, bool wake)
{
    dap_events_socket_t *es = vpn_internal_socket_of(ch);
    if (!es)
        return;
    dap_stream_ch_set_ready_to_write_unsafe(ch, wake);
    /* In the Cellframe SDK every write sets the channel's flag, and an empty buffer clears the socket's: the call above
     * may have found nothing to change. And it clears the socket's also while the buffer holds output. */
    if (wake || es->buf_out_size > 0)
        dap_events_socket_set_writable_unsafe(es, true);
}

void vpn_glue_channel_touch(struct dap_stream_ch *ch)
{
    dap_events_socket_t *es = vpn_internal_socket_of(ch);
    if (es)
        es->last_ping_request = time(NULL);
}

void vpn_glue_channel_close_stream(struct dap_stream_ch *ch)
{
    dap_events_socket_t *es = vpn_internal_socket_of(ch);
    if (es && es->worker)
        dap_events_socket_remove_and_delete_mt(es->worker, es->uuid);
}

void vpn_glue_channel_peer(const struct dap_stream_ch *ch, char *out, size_t size)
{
    const dap_events_socket_t *es = vpn_internal_socket_of(ch);
    if (!es) {
        snprintf(out, size, "?");
        return;
    }
    /* Taken from the socket: on the client's end the SDK keeps the dialled name, without a port. */
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

const uint8_t *vpn_glue_packet_parts(const struct dap_stream_ch_pkt *packet, uint8_t *kind, size_t *size)
{
    *kind = packet->hdr.type;
    *size = packet->hdr.data_size;
    return packet->data;
}
