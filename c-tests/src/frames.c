/* ch_sf_tun_addr_leased and ch_sf_tun_client_send: a lease creates a device, which delivers only whole packets. */
#include "harness.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client_tun.h>

#define ADDRESS "10.66.0.2"
#define GATEWAY "10.66.0.1"
enum { PORT = 4000, REPLY_SIZE = 8 };

typedef struct reply {
    dap_stream_ch_vpn_pkt_t *pkt;
    unsigned char bytes[sizeof(dap_stream_ch_vpn_pkt_t) + REPLY_SIZE];
} reply_t;

static void fill_reply(reply_t *reply, const char *address, const char *gateway)
{
    memset(reply->bytes, 0, sizeof(reply->bytes));
    reply->pkt = (dap_stream_ch_vpn_pkt_t *)reply->bytes;
    reply->pkt->header.op_code = VPN_PACKET_OP_CODE_VPN_ADDR_REPLY;
    reply->pkt->header.op_data.data_size = REPLY_SIZE;
    inet_pton(AF_INET, address, reply->pkt->data);
    inet_pton(AF_INET, gateway, reply->pkt->data + 4);
}

static void bad_replies(void)
{
    dap_chain_net_srv_ch_vpn_t ch_vpn = {0};
    reply_t reply;
    fill_reply(&reply, ADDRESS, GATEWAY);
    for (size_t size = 0; size < REPLY_SIZE; size++) {
        t_context("a reply of %zu bytes", size);
        CHECK_INT(ch_sf_tun_addr_leased(&ch_vpn, reply.pkt, size), -1);
    }
    static const char *const BAD[][2] = {{"0.0.0.0", GATEWAY},     {ADDRESS, "0.0.0.0"},      {"255.255.255.255", GATEWAY},
                                         {"224.0.0.1", GATEWAY},   {"127.0.0.1", GATEWAY},    {ADDRESS, "255.255.255.255"}};
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        t_context("address %s, gateway %s", BAD[i][0], BAD[i][1]);
        fill_reply(&reply, BAD[i][0], BAD[i][1]);
        CHECK(ch_sf_tun_addr_leased(&ch_vpn, reply.pkt, REPLY_SIZE) < 0);
    }
    /* Public, link-local and reserved addresses are refused in a server's reply; a program may choose them itself. */
    static const char *const NOT_PRIVATE[][2] = {{"8.0.0.2", "8.0.0.1"},           {"198.18.0.5", "198.18.0.1"},
                                                 {"169.254.169.2", "169.254.169.1"}, {"240.0.0.2", "240.0.0.1"}};
    for (size_t i = 0; i < sizeof(NOT_PRIVATE) / sizeof(NOT_PRIVATE[0]); i++) {
        t_context("address %s, gateway %s", NOT_PRIVATE[i][0], NOT_PRIVATE[i][1]);
        fill_reply(&reply, NOT_PRIVATE[i][0], NOT_PRIVATE[i][1]);
        CHECK_INT(ch_sf_tun_addr_leased(&ch_vpn, reply.pkt, REPLY_SIZE), -1);
        CHECK_INT(dap_chain_net_vpn_client_tun_create(NOT_PRIVATE[i][0], NOT_PRIVATE[i][1]), 0);
        CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    }
    t_context("a reply with a network that is a destination of this host's routes");
    fill_reply(&reply, ADDRESS, GATEWAY);
    CHECK_INT(system("ip route add blackhole " ADDRESS), 0);
    CHECK_INT(ch_sf_tun_addr_leased(&ch_vpn, reply.pkt, REPLY_SIZE), -2);
    CHECK_INT(system("ip route del blackhole " ADDRESS), 0);
    t_context("after bad replies");
    CHECK_INT(t_tun_devices(), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), -1);
}

static uint16_t checksum(const void *from, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < size; i += 2)
        sum += (uint32_t)((const uint8_t *)from)[i] << 8 | ((const uint8_t *)from)[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Writes a whole IPv4 UDP packet from the gateway to this host. */
static size_t udp_packet(uint8_t *to, const char *text)
{
    size_t size = sizeof(struct iphdr) + sizeof(struct udphdr) + strlen(text);
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons((uint16_t)size)};
    inet_pton(AF_INET, GATEWAY, &ip.saddr);
    inet_pton(AF_INET, ADDRESS, &ip.daddr);
    ip.check = checksum(&ip, sizeof(ip));
    struct udphdr udp = {.source = htons(53), .dest = htons(PORT), .len = htons((uint16_t)(size - sizeof(ip)))};
    memcpy(to, &ip, sizeof(ip));
    memcpy(to + sizeof(ip), &udp, sizeof(udp));
    memcpy(to + sizeof(ip) + sizeof(udp), text, strlen(text));
    return size;
}

static void check_received(int fd, const char *text)
{
    char got[256] = "";
    ssize_t size = recv(fd, got, sizeof(got) - 1, 0);
    CHECK_INT(size, (long long)strlen(text));
    CHECK_STR(got, text);
}

static void packets(dap_chain_net_srv_ch_vpn_t *ch_vpn)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct timeval patience = {.tv_sec = 3};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    inet_pton(AF_INET, ADDRESS, &at.sin_addr);
    CHECK_INT(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));

    uint8_t packet[2048] = {0};
    t_context("a whole packet arrives");
    size_t size = udp_packet(packet, "through the tunnel");
    ch_sf_tun_client_send(ch_vpn, packet, size);
    check_received(fd, "through the tunnel");

    t_context("broken packets do not arrive");
    for (size_t cut = 0; cut < size; cut++) {
        /* Memory of exactly this size lets valgrind detect a read past its end. */
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, packet, cut);
        ch_sf_tun_client_send(ch_vpn, part, cut);
        free(part);
    }
    uint8_t wrong[2048];
    memcpy(wrong, packet, sizeof(wrong));
    ch_sf_tun_client_send(ch_vpn, wrong, size + 7);
    wrong[0] = 0x65;
    ch_sf_tun_client_send(ch_vpn, wrong, size);
    wrong[0] = 0x4f;
    ch_sf_tun_client_send(ch_vpn, wrong, size);
    wrong[0] = 0x41;
    ch_sf_tun_client_send(ch_vpn, wrong, size);
    ch_sf_tun_client_send(ch_vpn, NULL, size);

    t_context("the next whole packet arrives");
    size = udp_packet(packet, "still here");
    ch_sf_tun_client_send(ch_vpn, packet, size);
    check_received(fd, "still here");
    close(fd);
}

int main(void)
{
    t_need_box();
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("frames"), 1);
    CHECK(dap_config_default() != NULL);
    bad_replies();

    dap_chain_net_srv_ch_vpn_t ch_vpn = {0};
    reply_t reply;
    t_context("a packet before a lease");
    uint8_t packet[256] = {0};
    ch_sf_tun_client_send(&ch_vpn, packet, udp_packet(packet, "too early"));
    CHECK_INT(t_tun_devices(), 0);

    t_context("a lease");
    fill_reply(&reply, ADDRESS, GATEWAY);
    CHECK_INT(ch_sf_tun_addr_leased(&ch_vpn, reply.pkt, REPLY_SIZE), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    CHECK_INT(t_tun_devices(), 1);
    packets(&ch_vpn);
    t_context("the same lease again");
    CHECK_INT(ch_sf_tun_addr_leased(&ch_vpn, reply.pkt, REPLY_SIZE), 0);
    CHECK_INT(t_tun_devices(), 1);
    packets(&ch_vpn);
    t_context("deleted");
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    CHECK_INT(t_tun_devices(), 0);
    ch_sf_tun_client_send(&ch_vpn, packet, udp_packet(packet, "too late"));
    CHECK_INT(t_tun_devices(), 0);
    return t_result();
}
