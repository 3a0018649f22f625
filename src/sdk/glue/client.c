/* The client's connection to a server. */
#include "internal.h"
#include "dap_chain_node_client.h"
#include "dap_client.h"
#include "dap_stream_ch_pkt.h"

/* The SDK passes back a pointer. Ours is a number, so a late call finds no connection instead of freed memory. */
static uint64_t s_client_id(void *argument)
{
    return (uint64_t)(uintptr_t)argument;
}

static void s_client_connected(dap_chain_node_client_t *client, void *argument)
{
    (void)client;
    vpn_internal_rust.client_connected(s_client_id(argument));
}

static void s_client_disconnected(dap_chain_node_client_t *client, void *argument)
{
    (void)client;
    vpn_internal_rust.client_disconnected(s_client_id(argument));
}

static void s_client_error(dap_chain_node_client_t *client, int error, void *argument)
{
    (void)client;
    vpn_internal_rust.client_failed(s_client_id(argument), error);
}

static void s_client_service_packet(void *channel, uint8_t kind, dap_stream_ch_pkt_t *packet, void *argument)
{
    (void)channel;
    vpn_internal_rust.client_service_packet(s_client_id(argument), kind, packet->data, packet->hdr.data_size);
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
