/* One program runs both ends: a server in one namespace, a client in another, and traffic through their tunnel.
 *
 * `two_ends traffic`   the whole life of a connection, content verified in both directions
 * `two_ends refusals`  ports without a listener, or with one that is no VPN server
 * `two_ends loss`      the server is killed and restarted, and the client starts again
 * `two_ends silence`   the link goes down silently
 *
 * A launcher, forked before this process calls the library, starts, stops and kills the servers on command, so that
 * each server is a fresh process, like a node's. */
#include "harness.h"
#include "peer.h"

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
#include <dap_worker.h>

#define SERVER "10.200.0.1"
#define GATEWAY "10.77.0.1"
#define INNER_PREFIX "10.77.0."
enum { PORT = 8089, DEAD_PORT = 1, MEBIBYTE = 1 << 20 };

/* --- the launcher: 's' starts, 't' terminates, 'k' kills, 'l' lists; it answers each with one int ------------------ */

static int s_launcher = -1;

typedef struct listing {
    int commands;
    int sessions; /* in the service's list, each as its channel shows it; -1 if one differs */
} listing_t;

/* On worker 0, where C may read the service's lists. */
static void list_sessions(void *argument)
{
    listing_t *listing = argument;
    dap_chain_net_srv_t *service = dap_chain_net_srv_get((dap_chain_net_srv_uid_t){.uint64 = 1});
    dap_chain_net_srv_vpn_t *vpn = service ? service->_internal : NULL;
    for (dap_chain_net_srv_ch_vpn_t *each = vpn ? vpn->ch_vpn_ipv4 : NULL; each; each = each->hh.next) {
        const dap_chain_net_srv_ch_vpn_t *own = CH_VPN(each->ch);
        bool is_same = own && each->tun_socket && each->tun_socket == own->tun_socket
                       && each->addr_ipv4.s_addr == own->addr_ipv4.s_addr && each->usage_id == own->usage_id
                       && each->net_srv == service && each->is_allowed == own->is_allowed;
        listing->sessions = is_same && listing->sessions >= 0 ? listing->sessions + 1 : -1;
    }
    if (write(listing->commands, &listing->sessions, sizeof(listing->sessions)) != sizeof(listing->sessions))
        exit(1);
    free(listing);
}

static _Noreturn void server_process(int commands)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("server"), 1);
    dap_config_t *config = dap_config_default();
    int code = config ? dap_chain_net_srv_vpn_pre_init() : -1000;
    if (code == 0)
        code = dap_chain_net_srv_vpn_init(config);
    if (write(commands, &code, sizeof(code)) != sizeof(code))
        exit(1);
    char command;
    ssize_t got;
    while ((got = read(commands, &command, 1)) == 1 || (got < 0 && errno == EINTR)) {
        listing_t *listing = got == 1 ? malloc(sizeof(*listing)) : NULL;
        if (listing) {
            *listing = (listing_t){.commands = commands};
            dap_worker_exec_callback_on(dap_events_worker_get(0), list_sessions, listing);
        }
    }
    dap_chain_net_srv_vpn_deinit();
    exit(code ? 1 : 0);
}

static int start_server(pid_t *pid, int *commands)
{
    int pair[2], code = -1001;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return code;
    *pid = fork();
    if (*pid == 0) {
        close(pair[0]);
        server_process(pair[1]);
    }
    close(pair[1]);
    *commands = pair[0];
    if (read(pair[0], &code, sizeof(code)) != sizeof(code))
        code = -1002;
    return code;
}

static _Noreturn void launcher_process(int orders)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!peer_enter(getenv("VPN_NS_SERVER")))
        exit(1);
    pid_t peer = fork();
    if (peer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(orders);
        peer_serve();
    }
    pid_t server = 0;
    int commands = -1;
    char order;
    while (read(orders, &order, 1) == 1) {
        int answer = 0;
        if (order == 's') {
            answer = start_server(&server, &commands);
        } else if (order == 'l') {
            if (write(commands, &order, 1) != 1 || read(commands, &answer, sizeof(answer)) != sizeof(answer))
                answer = -1004;
        } else if (server > 0) {
            if (order == 'k')
                kill(server, SIGKILL);
            close(commands);
            waitpid(server, &answer, 0);
            server = 0;
        }
        if (write(orders, &answer, sizeof(answer)) != sizeof(answer))
            break;
    }
    kill(peer, SIGKILL);
    exit(0);
}

static void launch(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        exit(1);
    if (fork() == 0) {
        close(pair[0]);
        launcher_process(pair[1]);
    }
    close(pair[1]);
    s_launcher = pair[0];
}

/* Returns the code of init for 's', the count of list_sessions for 'l'; for 't' and 'k' the server's status from
 * waitpid. */
static int order(char what)
{
    int answer = -1003;
    if (write(s_launcher, &what, 1) != 1 || read(s_launcher, &answer, sizeof(answer)) != sizeof(answer))
        CHECK(!"the launcher answers");
    return answer;
}

static void start_the_server(void)
{
    CHECK_INT(order('s'), 0);
}

static void stop_the_server(void)
{
    int how = order('t');
    CHECK(WIFEXITED(how));
    CHECK_INT(WEXITSTATUS(how), 0);
}

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
    start_the_server();
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
    for (int i = 0; i < 30 && order('l') == 0; i++)
        t_sleep_ms(100);
    CHECK_INT(order('l'), 1);

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
    stop_the_server();
}

static void refusals(void)
{
    start_the_server();
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
    stop_the_server();
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

static void loss(void)
{
    start_the_server();
    dap_chain_net_t *net = client_up();
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    for (int i = 0; i < 3; i++) {
        t_context("the server is killed, round %d", i);
        order('k');
        await_loss(30000);
        t_context("start while the server is away, round %d", i);
        CHECK_BETWEEN(start_timed(net, SERVER, PORT, 20000), -3, -2);
        CHECK(dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_STARTED);
        t_context("the server is back, round %d", i);
        start_the_server();
        CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
        check_connected(net);
        check_traffic(1);
    }
    t_context("the server exits in order");
    stop_the_server();
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
    start_the_server();
    dap_chain_net_t *net = client_up();
    CHECK_INT(start_timed(net, SERVER, PORT, 10000), 0);
    check_connected(net);
    t_context("the link is down");
    set_link("veth-cli", false);
    await_loss(60000);
    t_context("the link is up again");
    set_link("veth-cli", true);
    CHECK_INT(start_timed(net, SERVER, PORT, 15000), 0);
    check_connected(net);
    check_traffic(1);
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    dap_chain_net_vpn_client_deinit();
    stop_the_server();
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*body)(void); } TESTS[] = {
        {"traffic", traffic}, {"refusals", refusals}, {"loss", loss}, {"silence", silence}};
    t_need_box();
    for (size_t i = 0; i < sizeof(TESTS) / sizeof(TESTS[0]); i++) {
        if (argc != 2 || strcmp(argv[1], TESTS[i].name) != 0)
            continue;
        launch();
        TESTS[i].body();
        close(s_launcher);
        return t_result();
    }
    fprintf(stderr, "usage: %s traffic|refusals|loss|silence\n", argv[0]);
    return 2;
}
