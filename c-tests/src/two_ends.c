/* One program runs both ends: a server in one namespace, a client in another, and traffic through their tunnel.
 *
 * `two_ends traffic`   the whole life of a connection, content verified in both directions
 * `two_ends refusals`  ports without a listener, or with one that is no VPN server
 * `two_ends loss`      the server is killed and restarted, and the client starts again
 * `two_ends silence`   the link goes down silently
 */
#include "harness.h"
#include "peer.h"
#include "servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

#define SERVER "10.200.0.1"
#define GATEWAY "10.77.0.1"
#define INNER_PREFIX "10.77.0."
enum { PORT = 8089, DEAD_PORT = 1, MEBIBYTE = 1 << 20 };

/* --- the client ----------------------------------------------------------------------------------------------------- */

static dap_chain_net_t *client_up(void)
{
    char text[256];
    snprintf(text, sizeof(text), "[general]\nstate_dir=%s\n[server]\nenabled=false\n[resources]\nthreads_cnt=2\n",
             t_path("client"));
    setenv("CELLFRAME_VPN_CONFIG", t_write_file("client.cfg", text), 1);
    CHECK_INT(dap_chain_net_vpn_client_init(dap_config_default()), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_NOT_STARTED);
    CHECK(dap_chain_net_vpn_client_get_stream_ch() == NULL);
    CHECK(dap_chain_net_vpn_client_get_stream_worker() == NULL);
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    if (!CHECK(net != NULL))
        exit(t_result());
    return net;
}

static int start_timed(dap_chain_net_t *net, const char *host, uint16_t port, long limit_ms)
{
    long long begin = t_now_ms();
    int code = dap_chain_net_vpn_client_start(net, host, port);
    CHECK_BETWEEN(t_now_ms() - begin, 0, limit_ms);
    return code;
}

/* Returns the address of the tunnel's device, or "" if there is none. */
static const char *leased_address(void)
{
    static char address[INET_ADDRSTRLEN];
    address[0] = 0;
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return address;
    for (struct ifaddrs *each = all; each; each = each->ifa_next) {
        if (!each->ifa_addr || each->ifa_addr->sa_family != AF_INET || strncmp(each->ifa_name, "tun", 3) != 0)
            continue;
        inet_ntop(AF_INET, &((struct sockaddr_in *)each->ifa_addr)->sin_addr, address, sizeof(address));
    }
    freeifaddrs(all);
    return address;
}

static void check_connected(dap_chain_net_t *net)
{
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    dap_stream_ch_t *ch = dap_chain_net_vpn_client_get_stream_ch();
    dap_stream_worker_t *worker = dap_chain_net_vpn_client_get_stream_worker();
    CHECK(ch != NULL);
    CHECK(worker != NULL);
    CHECK(!ch || ch->stream_worker == worker);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    CHECK(dap_chain_net_vpn_client_tun_get_esock() != NULL);
    CHECK_INT(t_tun_devices(), 1);
    CHECK_HAS(leased_address(), INNER_PREFIX);
    CHECK(strcmp(leased_address(), GATEWAY) != 0);
    /* A second start changes nothing. */
    CHECK_INT(start_timed(net, SERVER, PORT, 1000), 1);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    CHECK(dap_chain_net_vpn_client_get_stream_ch() == ch);
}

static void check_no_stream(dap_chain_net_vpn_client_status_t status)
{
    CHECK_INT(dap_chain_net_vpn_client_status(), status);
    CHECK(dap_chain_net_vpn_client_get_stream_ch() == NULL);
    CHECK(dap_chain_net_vpn_client_get_stream_worker() == NULL);
}

static void check_stopped(dap_chain_net_vpn_client_status_t status)
{
    check_no_stream(status);
    CHECK_INT(t_tun_devices(), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), -1);
}

static void check_source(const peer_transfer_t *result)
{
    char seen[INET_ADDRSTRLEN];
    CHECK_STR(inet_ntop(AF_INET, &result->seen, seen, sizeof(seen)), leased_address());
}

static void *upload_meanwhile(void *arg)
{
    peer_transfer_t result = {0};
    *(bool *)arg = peer_upload(GATEWAY, 91, 4 * MEBIBYTE, &result);
    return NULL;
}

/* Sends `mebibytes` in each direction by TCP, one after the other and at once, then over a connection that the far end
 * opens, and then datagrams. */
static void check_traffic(uint32_t mebibytes)
{
    peer_transfer_t result = {0};
    long long begin = t_now_ms();
    CHECK(peer_upload(GATEWAY, 1, mebibytes * MEBIBYTE, &result));
    check_source(&result);
    CHECK(peer_download(GATEWAY, 2, mebibytes * MEBIBYTE, &result));
    CHECK_INT(result.verified, mebibytes * MEBIBYTE);
    check_source(&result);
    CHECK(peer_connect_back(GATEWAY, 3, MEBIBYTE, &result));
    check_source(&result);

    pthread_t thread;
    bool uploaded = false;
    CHECK_INT(pthread_create(&thread, NULL, upload_meanwhile, &uploaded), 0);
    CHECK(peer_download(GATEWAY, 92, 4 * MEBIBYTE, &result));
    pthread_join(thread, NULL);
    CHECK(uploaded);
    t_note("%u MiB up, %u MiB down, both at once: %lld ms", mebibytes, mebibytes, t_now_ms() - begin);

    peer_datagrams_t datagrams = peer_echo(GATEWAY, 4, 500, 1200);
    CHECK_INT(datagrams.corrupt, 0);
    CHECK_BETWEEN(datagrams.returned, 495, 500);
    t_note("%d of 500 datagrams came back, %d sent", datagrams.returned, datagrams.sent);
}

/* --- the tests ------------------------------------------------------------------------------------------------------ */

static void traffic(void)
{
    t_context("the server starts");
    servers_start();
    t_usage_t before = t_usage();
    dap_chain_net_t *net = client_up();
    CHECK_INT(dap_chain_net_vpn_client_check(net, SERVER, PORT, 1024, 1024, 10000), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_NOT_STARTED);

    t_context("first start");
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    char first[INET_ADDRSTRLEN];
    snprintf(first, sizeof(first), "%s", leased_address());
    check_traffic(16);
    check_connected(net);
    /* The list for C is renewed once a second. */
    for (int i = 0; i < 30 && servers_list() == 0; i++)
        t_sleep_ms(100);
    CHECK_INT(servers_list(), 1);

    t_context("stop");
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    check_stopped(VPN_CLIENT_STATUS_STOPPED);
    peer_transfer_t result;
    CHECK(!peer_upload(GATEWAY, 5, 1, &result));

    t_context("started again: the client gets the same address");
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    CHECK_STR(leased_address(), first);
    check_traffic(2);

    for (int i = 0; i < 10; i++) {
        t_context("stop and start, round %d", i);
        CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
        CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
        CHECK(peer_upload(GATEWAY, 6, 100000, &result));
    }
    t_context("start without init, after the SDK has stopped");
    dap_chain_net_vpn_client_deinit();
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    check_traffic(1);
    t_context("deinit while connected");
    dap_chain_net_vpn_client_deinit();
    CHECK_INT(t_tun_devices(), 0);
    t_usage_t after = t_usage();
    CHECK_INT(after.threads, before.threads);
    CHECK_INT(after.devices, before.devices);
    /* The store may keep descriptors open. */
    CHECK_BETWEEN(after.fds, before.fds, before.fds + 3);
    t_context("the server ends");
    servers_stop();
}

static void refusals(void)
{
    servers_start();
    dap_chain_net_t *net = client_up();
    t_context("a port without a listener");
    CHECK_BETWEEN(start_timed(net, SERVER, DEAD_PORT, 10000), -3, -2);
    check_stopped(VPN_CLIENT_STATUS_NOT_STARTED);
    CHECK_INT(dap_chain_net_vpn_client_check(net, SERVER, DEAD_PORT, 1024, 1024, 5000), -2);
    t_context("an unreachable address");
    CHECK_BETWEEN(start_timed(net, "192.0.2.1", PORT, 20000), -3, -2);
    t_context("a name that does not exist");
    CHECK_INT(start_timed(net, "no-such-host.invalid", PORT, 30000), -2);
    t_context("a port where something else answers");
    CHECK_BETWEEN(start_timed(net, SERVER, PEER_TCP, 30000), -3, -2);
    check_stopped(VPN_CLIENT_STATUS_NOT_STARTED);
    long long begin = t_now_ms();
    CHECK_INT(dap_chain_net_vpn_client_check(net, SERVER, PEER_TCP, 1024, 1024, 2000), -2);
    CHECK_BETWEEN(t_now_ms() - begin, 0, 2000);
    t_context("checks of every size");
    static const size_t SIZES[] = {0, 1, 1024, 16384, 65536, (size_t)-1};
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++)
        CHECK_INT(dap_chain_net_vpn_client_check(net, SERVER, PORT, SIZES[i], SIZES[i], 10000), 0);
    t_context("then the server's port");
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    check_traffic(1);
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    dap_chain_net_vpn_client_deinit();
    servers_stop();
}

static void await_loss(long limit_ms)
{
    long long begin = t_now_ms();
    while (dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_CONN_LOST && t_now_ms() - begin < limit_ms)
        t_sleep_ms(50);
    check_no_stream(VPN_CLIENT_STATUS_CONN_LOST);
    /* The device stays until stop or the next start: packets for the tunnel must not leave by another route. */
    CHECK_INT(t_tun_devices(), 1);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    t_note("the client noticed the loss after %lld ms", t_now_ms() - begin);
}

/* The library connects again by itself. */
static void await_return(long limit_ms)
{
    long long begin = t_now_ms();
    while (dap_chain_net_vpn_client_status() == VPN_CLIENT_STATUS_CONN_LOST && t_now_ms() - begin < limit_ms)
        t_sleep_ms(50);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    t_note("the client is back after %lld ms", t_now_ms() - begin);
}

static void loss(void)
{
    servers_start();
    dap_chain_net_t *net = client_up();
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    for (int i = 0; i < 3; i++) {
        t_context("the server is killed, round %d", i);
        servers_kill();
        await_loss(30000);
        t_context("start while the server is away, round %d", i);
        CHECK_BETWEEN(start_timed(net, SERVER, PORT, 20000), -3, -2);
        CHECK(dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_STARTED);
        t_context("the server is back, round %d", i);
        servers_start();
        if (i == 0)
            CHECK_BETWEEN(start_timed(net, SERVER, PORT, 10000), 0, 1);
        else
            await_return(45000);
        check_connected(net);
        check_traffic(1);
    }
    t_context("the server exits in order");
    servers_stop();
    await_loss(30000);
    t_context("stop after a loss");
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    check_stopped(VPN_CLIENT_STATUS_STOPPED);
    dap_chain_net_vpn_client_deinit();
}

static void set_link(const char *device, bool up)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    CHECK_INT(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void silence(void)
{
    servers_start();
    dap_chain_net_t *net = client_up();
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    t_context("the link is down");
    set_link("veth-cli", false);
    await_loss(60000);
    t_context("the link is up again");
    set_link("veth-cli", true);
    await_return(5000);
    check_connected(net);
    check_traffic(1);
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    dap_chain_net_vpn_client_deinit();
    servers_stop();
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*body)(void); } TESTS[] = {
        {"traffic", traffic}, {"refusals", refusals}, {"loss", loss}, {"silence", silence}};
    t_need_box();
    for (size_t i = 0; i < sizeof(TESTS) / sizeof(TESTS[0]); i++) {
        if (argc != 2 || strcmp(argv[1], TESTS[i].name) != 0)
            continue;
        servers_launch();
        TESTS[i].body();
        return t_result();
    }
    fprintf(stderr, "usage: %s traffic|refusals|loss|silence\n", argv[0]);
    return 2;
}
