/* The gate in front of channel 'R' of the SDK, and what the kernel knows of a client's connection. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "internal.h"
#include "dap_stream_ch_chain_net_srv.h"
#include "dap_stream_ch_pkt.h"
#include "dap_stream_ch_proc.h"

/* The SDK's callbacks of channel 'R', which the gate calls. */
static dap_stream_ch_proc_t s_sdk;

static void *s_vpn_internal(const dap_stream_ch_t *ch)
{
    dap_stream_ch_t *vpn = vpn_internal_channel_of(ch->stream);
    return vpn ? vpn->internal : NULL;
}

/* A stream that this node opened, or a channel that another module uses as a client, is none of the gate's business. */
static bool s_is_guarded(const dap_stream_ch_t *ch)
{
    const dap_stream_ch_chain_net_srv_t *service = DAP_STREAM_CH_CHAIN_NET_SRV(ch);
    return !ch->stream->is_client_to_uplink && !(service && service->notify_callback);
}

static void s_new(dap_stream_ch_t *ch, void *argument)
{
    if (s_sdk.new_callback)
        s_sdk.new_callback(ch, argument);
    if (s_is_guarded(ch))
        vpn_internal_rust.gate_opened(ch);
}

static void s_delete(dap_stream_ch_t *ch, void *argument)
{
    if (s_is_guarded(ch))
        vpn_internal_rust.gate_closed(ch, s_vpn_internal(ch));
    if (s_sdk.delete_callback)
        s_sdk.delete_callback(ch, argument);
}

static bool s_packet_in(dap_stream_ch_t *ch, void *argument)
{
    const dap_stream_ch_pkt_t *packet = (const dap_stream_ch_pkt_t *)argument;
    if (!packet || !s_is_guarded(ch))
        return s_sdk.packet_in_callback(ch, argument);
    vpn_internal_rust.gate_packet(ch, s_vpn_internal(ch), packet->hdr.type, packet->data, packet->hdr.data_size);
    return true;
}

static bool s_packet_out(dap_stream_ch_t *ch, void *argument)
{
    return s_sdk.packet_out_callback ? s_sdk.packet_out_callback(ch, argument) : false;
}

bool vpn_glue_gate_install(void)
{
    const dap_stream_ch_proc_t *current = dap_stream_ch_proc_find(DAP_STREAM_CH_NET_SRV_ID);
    if (!current || !current->packet_in_callback)
        return false;
    if (current->packet_in_callback == s_packet_in)
        return true;
    s_sdk = *current;
    dap_stream_ch_proc_add(DAP_STREAM_CH_NET_SRV_ID, s_new, s_delete, s_packet_in, s_packet_out);
    return true;
}

static dap_stream_ch_t *s_service_channel(struct dap_stream_ch *ch)
{
    return ch->proc->id == DAP_STREAM_CH_NET_SRV_ID ? ch : dap_stream_ch_by_id_unsafe(ch->stream, DAP_STREAM_CH_NET_SRV_ID);
}

void vpn_glue_gate_pass(struct dap_stream_ch *ch, uint8_t kind, const void *data, size_t size)
{
    dap_stream_ch_t *service = s_service_channel(ch);
    /* A copy of its own: the SDK writes into some packets. */
    dap_stream_ch_pkt_t *packet = service ? DAP_NEW_Z_SIZE(dap_stream_ch_pkt_t, sizeof(dap_stream_ch_pkt_hdr_t) + size) : NULL;
    if (!packet)
        return;
    packet->hdr.id = DAP_STREAM_CH_NET_SRV_ID;
    packet->hdr.type = kind;
    packet->hdr.data_size = (uint32_t)size;
    memcpy(packet->data, data, size);
    s_sdk.packet_in_callback(service, packet);
    DAP_DELETE(packet);
}

bool vpn_glue_gate_send(struct dap_stream_ch *ch, uint8_t kind, const void *data, size_t size)
{
    dap_stream_ch_t *service = s_service_channel(ch);
    return service && vpn_internal_socket_of(ch) && dap_stream_ch_pkt_write_unsafe(service, kind, data, size) > 0;
}

void vpn_glue_channel_address(const struct dap_stream_ch *ch, uint8_t *out)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof(peer);
    memset(out, 0, 16);
    const dap_events_socket_t *es = vpn_internal_socket_of(ch);
    if (!es || getpeername((int)es->fd, (struct sockaddr *)&peer, &size) != 0)
        return;
    if (peer.ss_family == AF_INET) {
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    } else if (peer.ss_family == AF_INET6)
        memcpy(out, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
}

int64_t vpn_glue_channel_silence(const struct dap_stream_ch *ch)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    const dap_events_socket_t *es = vpn_internal_socket_of(ch);
    if (!es || getsockopt((int)es->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return -1;
    return info.tcpi_last_data_recv < info.tcpi_last_ack_recv ? info.tcpi_last_data_recv : info.tcpi_last_ack_recv;
}
