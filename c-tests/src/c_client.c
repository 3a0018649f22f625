/* The tunnel with a client in C: C calls ch_sf_tun_addr_leased on the worker of a channel that it has opened, and
 * packets that the host sends into the tunnel arrive at the other end of that channel. */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client_tun.h>

#define ADDRESS "10.66.0.2"
#define GATEWAY "10.66.0.1"
enum { PORT = 4000, SERVER_PORT = 8089, USAGE = 77, PATIENCE_MS = 10000 };

static pthread_mutex_t s_lock = PTHREAD_MUTEX_INITIALIZER;
static int s_connected, s_lease_code = -1000, s_closed;
/* The first packet with the test's payload that the server's end of the channel received. */
static size_t s_got_size;
static uint8_t s_got_type, s_got[2048];

static dap_chain_net_srv_ch_vpn_t s_vpn;

static bool wait_for(const int *what)
{
    for (long long begin = t_now_ms(); t_now_ms() - begin < PATIENCE_MS; t_sleep_ms(5)) {
        pthread_mutex_lock(&s_lock);
        int value = *what;
        pthread_mutex_unlock(&s_lock);
        if (value)
            return true;
    }
    return false;
}

static void set(int *what, int value)
{
    pthread_mutex_lock(&s_lock);
    *what = value;
    pthread_mutex_unlock(&s_lock);
}

static void channel_new(dap_stream_ch_t *ch, void *arg)
{
    (void)ch, (void)arg;
}

static void channel_delete(dap_stream_ch_t *ch, void *arg)
{
    (void)arg;
    if (ch->stream->is_client_to_uplink)
        set(&s_closed, 1);
}

static bool channel_packet(dap_stream_ch_t *ch, void *arg)
{
    dap_stream_ch_pkt_t *packet = arg;
    /* The host may send other packets into a new device. */
    if (!ch->stream->is_client_to_uplink && memmem(packet->data, packet->hdr.data_size, "up the tunnel", 13)) {
        pthread_mutex_lock(&s_lock);
        if (!s_got_size && packet->hdr.data_size <= sizeof(s_got)) {
            memcpy(s_got, packet->data, packet->hdr.data_size);
            s_got_type = packet->hdr.type;
            s_got_size = packet->hdr.data_size;
        }
        pthread_mutex_unlock(&s_lock);
    }
    return true;
}

static bool channel_drained(dap_stream_ch_t *ch, void *arg)
{
    (void)ch, (void)arg;
    return false;
}

/* Runs on the stream's worker, where a client in C receives its ADDR_REPLY too. */
static void connected(dap_chain_node_client_t *client, void *arg)
{
    (void)arg;
    uint8_t bytes[sizeof(dap_stream_ch_vpn_pkt_t) + 8] = {0};
    dap_stream_ch_vpn_pkt_t *reply = (dap_stream_ch_vpn_pkt_t *)bytes;
    reply->header.op_code = VPN_PACKET_OP_CODE_VPN_ADDR_REPLY;
    reply->header.op_data.data_size = 8;
    inet_pton(AF_INET, ADDRESS, reply->data);
    inet_pton(AF_INET, GATEWAY, reply->data + 4);
    s_vpn.ch = dap_client_get_stream_ch_unsafe(client->client, 'S');
    s_vpn.usage_id = USAGE;
    int code = s_vpn.ch ? ch_sf_tun_addr_leased(&s_vpn, reply, 8) : -1001;
    set(&s_lease_code, code);
    set(&s_connected, 1);
}

static dap_chain_node_client_t *connect_client(void)
{
    static const char HOST[] = "127.0.0.1";
    dap_chain_node_info_t *info = calloc(1, sizeof(*info) + sizeof(HOST));
    info->ext_port = SERVER_PORT;
    info->ext_host_len = sizeof(HOST) - 1;
    memcpy((char *)info + offsetof(dap_chain_node_info_t, ext_host), HOST, sizeof(HOST));
    dap_chain_node_client_callbacks_t callbacks = {.connected = connected};
    dap_chain_node_client_t *client = dap_chain_node_client_create_n_connect(NULL, info, "S", &callbacks, NULL);
    free(info);
    return client;
}

static void send_into_the_tunnel(int fd)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    inet_pton(AF_INET, GATEWAY, &to.sin_addr);
    CHECK_INT(sendto(fd, "up the tunnel", 13, 0, (struct sockaddr *)&to, sizeof(to)), 13);
}

static void check_what_arrived(void)
{
    const dap_stream_ch_vpn_pkt_t *packet = (const dap_stream_ch_vpn_pkt_t *)s_got;
    struct iphdr ip;
    char source[INET_ADDRSTRLEN], target[INET_ADDRSTRLEN];
    CHECK_INT(s_got_type, 2);
    CHECK_INT(packet->header.op_code, VPN_PACKET_OP_CODE_VPN_SEND);
    CHECK_INT(packet->header.usage_id, USAGE);
    CHECK_INT(packet->header.op_data.data_size, s_got_size - sizeof(packet->header));
    CHECK_INT(s_got_size, sizeof(packet->header) + sizeof(ip) + 8 + 13);
    memcpy(&ip, packet->data, sizeof(ip));
    CHECK_STR(inet_ntop(AF_INET, &ip.saddr, source, sizeof(source)), ADDRESS);
    CHECK_STR(inet_ntop(AF_INET, &ip.daddr, target, sizeof(target)), GATEWAY);
}

int main(void)
{
    t_need_box();
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("c_client"), 1);
    CHECK(dap_config_default() != NULL);
    CHECK_INT(dap_embedded_retain(), 0);
    dap_stream_ch_proc_add('S', channel_new, channel_delete, channel_packet, channel_drained);
    CHECK(dap_server_get_default() != NULL);

    t_context("a lease");
    dap_chain_node_client_t *client = connect_client();
    CHECK(client != NULL);
    CHECK(wait_for(&s_connected));
    CHECK_INT(s_lease_code, 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);

    t_context("a packet from the host");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (int i = 0; i < 50 && !s_got_size; i++) {
        send_into_the_tunnel(fd);
        t_sleep_ms(100);
    }
    CHECK(s_got_size > 0);
    check_what_arrived();

    t_context("the channel is gone");
    dap_chain_node_client_close_mt(client);
    CHECK(wait_for(&s_closed));
    for (int i = 0; i < 20; i++)
        send_into_the_tunnel(fd);
    t_sleep_ms(100);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    close(fd);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    CHECK_INT(t_tun_devices(), 0);
    dap_embedded_release();
    return t_result();
}
