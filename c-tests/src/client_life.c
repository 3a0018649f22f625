/* The client's life cycle against what happens beside it.
 *
 * `client_life stops`   a stop ends every start before it, at any moment, whatever the start waits for
 * `client_life device`  the host deletes the client's device, moves it away, sets it down
 * `client_life loss`    the status and the device agree after a loss; the host deletes the server's device
 */
#include "harness.h"
#include "peer.h"
#include "servers.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

#define SERVER "10.200.0.1"
#define HERE "10.200.0.2"
#define GATEWAY "10.77.0.1"
enum { PORT = 8089, SILENT = 7100, STARTS = 3 };

static dap_chain_net_t *client_up(int start_timeout)
{
    char text[256];
    snprintf(text, sizeof(text),
             "[general]\nstate_dir=%s\n[server]\nenabled=false\n[resources]\nthreads_cnt=2\n"
             "[vpn_client]\nstart_timeout=%d\nreconnect=false\n",
             t_path("client"), start_timeout);
    setenv("CELLFRAME_VPN_CONFIG", t_write_file("client.cfg", text), 1);
    CHECK_INT(dap_chain_net_vpn_client_init(dap_config_default()), 0);
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    if (!CHECK(net != NULL))
        exit(t_result());
    return net;
}

/* --- stops ---------------------------------------------------------------------------------------------------------- */

typedef struct start {
    pthread_t thread;
    dap_chain_net_t *net;
    const char *host;
    bool entered, done;
    int code;
} start_t;

static void *start_here(void *arg)
{
    start_t *start = arg;
    __atomic_store_n(&start->entered, true, __ATOMIC_RELEASE);
    start->code = dap_chain_net_vpn_client_start(start->net, start->host, SILENT);
    __atomic_store_n(&start->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* A listener whose queue takes connections, and that never answers. */
static int listen_silently(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(SILENT)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    CHECK_INT(inet_pton(AF_INET, HERE, &address.sin_addr), 1);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_INT(listen(fd, 512), 0);
    return fd;
}

static long long stop_timed(int *code)
{
    long long begin = t_now_ms();
    *code = dap_chain_net_vpn_client_stop();
    return t_now_ms() - begin;
}

/* `count` starts wait, `delay` ms after they are seen to; one stop ends them all. */
static long long one_stop(dap_chain_net_t *net, const char *host, int count, long delay)
{
    start_t starts[STARTS] = {0};
    for (int i = 0; i < count; i++) {
        starts[i].net = net;
        starts[i].host = host;
        CHECK_INT(pthread_create(&starts[i].thread, NULL, start_here, &starts[i]), 0);
    }
    for (int i = 0; i < count; i++)
        while (!__atomic_load_n(&starts[i].entered, __ATOMIC_ACQUIRE))
            t_sleep_ms(1);
    /* STOPPED while it connects. */
    while (dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_STOPPED)
        ;
    if (count > 1)
        t_sleep_ms(20);
    if (delay)
        t_sleep_ms(delay);
    int code;
    long long took = stop_timed(&code);
    CHECK_INT(code, 0);
    CHECK_BETWEEN(took, 0, 1000);
    long long begin = t_now_ms();
    for (int i = 0; i < count; i++) {
        while (!__atomic_load_n(&starts[i].done, __ATOMIC_ACQUIRE) && t_now_ms() - begin < 2000)
            t_sleep_ms(1);
        /* Nothing else ends a start that a stop has missed. */
        if (!CHECK(__atomic_load_n(&starts[i].done, __ATOMIC_ACQUIRE)))
            exit(t_result());
        pthread_join(starts[i].thread, NULL);
        CHECK_INT(starts[i].code, -2);
    }
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STOPPED);
    CHECK_INT(t_tun_devices(), 0);
    return took;
}

/* A name server that never answers; a look-up waits ten seconds for it. */
static int serve_no_names(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
    CHECK_INT(inet_pton(AF_INET, HERE, &address.sin_addr), 1);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    char command[600];
    snprintf(command, sizeof(command), "mount --bind %s /etc/resolv.conf",
             t_write_file("resolv.conf", "nameserver " HERE "\noptions timeout:5 attempts:2\n"));
    CHECK_INT(system(command), 0);
    return fd;
}

static void *starts_again_and_again(void *arg)
{
    start_t *start = arg;
    while (!__atomic_load_n(&start->done, __ATOMIC_ACQUIRE))
        dap_chain_net_vpn_client_start(start->net, start->host, SILENT);
    return NULL;
}

static void stops(void)
{
    servers_launch();
    servers_start();
    int listener = listen_silently();
    dap_chain_net_t *net = client_up(300);
    long long worst = 0;
    static const long DELAYS[] = {0, 0, 1, 2, 5, 10, 20, 50, 70, 100, 200, 300};
    for (int count = 1; count <= STARTS; count += STARTS - 1)
        for (size_t i = 0; i < sizeof(DELAYS) / sizeof(DELAYS[0]); i++) {
            t_context("%d starts, stop after %ld ms", count, DELAYS[i]);
            long long took = one_stop(net, HERE, count, DELAYS[i]);
            worst = took > worst ? took : worst;
        }
    t_note("the slowest stop took %lld ms", worst);

    int names = serve_no_names();
    for (int count = 1; count <= STARTS; count += STARTS - 1) {
        t_context("%d starts, stop while the name is looked up", count);
        long long took = one_stop(net, "vpn.example.com", count, 200);
        t_note("stopped in %lld ms while a name is looked up", took);
    }
    close(names);

    t_context("what the log says");
    t_capture_begin();
    one_stop(net, HERE, 1, 20);
    char *text = t_capture_end();
    CHECK_HAS(text, "VPN client not started: stopped while connecting");
    free(text);

    t_context("new starts come while a stop waits");
    start_t busy[STARTS] = {0};
    for (int i = 0; i < STARTS; i++) {
        busy[i].net = net;
        busy[i].host = HERE;
        CHECK_INT(pthread_create(&busy[i].thread, NULL, starts_again_and_again, &busy[i]), 0);
    }
    for (int round = 0; round < 20; round++) {
        int code;
        t_sleep_ms(round * 3);
        CHECK_BETWEEN(stop_timed(&code), 0, 1000);
        CHECK_INT(code, 0);
    }
    for (int i = 0; i < STARTS; i++)
        __atomic_store_n(&busy[i].done, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 50; i++) {
        dap_chain_net_vpn_client_stop();
        t_sleep_ms(5);
    }
    for (int i = 0; i < STARTS; i++)
        pthread_join(busy[i].thread, NULL);

    t_context("deinit ends a start too");
    start_t start = {.net = net, .host = HERE};
    CHECK_INT(pthread_create(&start.thread, NULL, start_here, &start), 0);
    while (dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_STOPPED || !start.entered)
        t_sleep_ms(1);
    t_sleep_ms(50);
    long long begin = t_now_ms();
    dap_chain_net_vpn_client_deinit();
    CHECK_BETWEEN(t_now_ms() - begin, 0, 1000);
    pthread_join(start.thread, NULL);
    CHECK_INT(start.code, -2);

    t_context("a start after the stop is not affected");
    net = client_up(10);
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    CHECK_INT(dap_chain_net_vpn_client_start(net, SERVER, PORT), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    dap_chain_net_vpn_client_deinit();
    CHECK_INT(t_tun_devices(), 0);
    close(listener);
    servers_stop();
}

/* --- the device ----------------------------------------------------------------------------------------------------- */

static void await_loss(long limit_ms)
{
    long long begin = t_now_ms();
    while (dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_CONN_LOST && t_now_ms() - begin < limit_ms)
        t_sleep_ms(10);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_CONN_LOST);
    t_note("lost after %lld ms", t_now_ms() - begin);
}

/* Waits until the client has noticed that its device is gone, unless it has a new one already. */
static void await_loss_or_device(long limit_ms)
{
    long long begin = t_now_ms();
    while (dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_CONN_LOST && t_tun_devices() == 0
           && t_now_ms() - begin < limit_ms)
        t_sleep_ms(10);
}

static void start_and_use(dap_chain_net_t *net)
{
    peer_transfer_t result = {0};
    CHECK_INT(dap_chain_net_vpn_client_start(net, SERVER, PORT), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    CHECK_INT(t_tun_devices(), 1);
    CHECK(peer_upload(GATEWAY, 7, 100000, &result));
}

static void device(void)
{
    servers_launch();
    servers_start();
    dap_chain_net_t *net = client_up(10);
    CHECK_INT(system("ip netns add elsewhere"), 0);
    static const struct { const char *name, *command; int status; } WAYS[] = {
        {"deleted", "ip link del tun0", -1},
        {"set down", "ip link set tun0 down", 1},
        {"moved away", "ip link set tun0 netns elsewhere", -1},
        {"deleted again", "ip link del tun0", -1},
    };
    start_and_use(net);
    for (size_t i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); i++) {
        t_context("the device is %s", WAYS[i].name);
        CHECK_INT(system(WAYS[i].command), 0);
        CHECK_INT(dap_chain_net_vpn_client_tun_status(), WAYS[i].status);
        await_loss(4000);
        CHECK_INT(dap_chain_net_vpn_client_tun_status(), WAYS[i].status);
        t_context("start after the device was %s", WAYS[i].name);
        start_and_use(net);
    }
    t_context("a device that is down for a moment is no loss");
    for (int i = 0; i < 5; i++) {
        CHECK_INT(system("ip link set tun0 down; ip link set tun0 up"), 0);
        t_sleep_ms(400);
        CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    }
    t_context("a start right after the device was deleted does not report a tunnel");
    for (int i = 0; i < 4; i++) {
        CHECK_INT(system("ip link del tun0"), 0);
        int code = dap_chain_net_vpn_client_start(net, SERVER, PORT);
        if (code == 1)
            CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
        await_loss_or_device(4000);
        if (t_tun_devices() == 0)
            start_and_use(net);
    }
    t_context("the host removes the device's address: a start brings the tunnel back");
    CHECK_INT(system("ip address flush dev tun0"), 0);
    t_sleep_ms(2500);
    peer_transfer_t result = {0};
    CHECK_BETWEEN(dap_chain_net_vpn_client_start(net, SERVER, PORT), 0, 1);
    CHECK(peer_upload(GATEWAY, 7, 100000, &result));
    t_context("deleted, then stop");
    CHECK_INT(system("ip link del tun0"), 0);
    await_loss(4000);
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STOPPED);
    dap_chain_net_vpn_client_deinit();
    servers_stop();
}

/* --- loss ----------------------------------------------------------------------------------------------------------- */

static void loss(void)
{
    servers_launch();
    servers_start();
    dap_chain_net_t *net = client_up(2);
    start_and_use(net);
    t_context("the server is killed");
    servers_kill();
    await_loss(30000);
    for (int i = 0; i < 2; i++) {
        t_context("failed start %d: the device stays, and there is something to stop", i);
        CHECK_BETWEEN(dap_chain_net_vpn_client_start(net, SERVER, PORT), -3, -2);
        CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_CONN_LOST);
        CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
        CHECK_INT(t_tun_devices(), 1);
    }
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STOPPED);
    CHECK_INT(t_tun_devices(), 0);
    t_context("a failed start without a device");
    CHECK_BETWEEN(dap_chain_net_vpn_client_start(net, SERVER, PORT), -3, -2);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_NOT_STARTED);
    CHECK_INT(t_tun_devices(), 0);

    static const char *const WAYS[] = {"ip -n srv link del tun0", "ip -n srv link set tun0 netns elsewhere"};
    CHECK_INT(system("ip netns add elsewhere"), 0);
    for (size_t i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); i++) {
        t_context("the server's device: %s", WAYS[i]);
        servers_start();
        start_and_use(net);
        CHECK_INT(system(WAYS[i]), 0);
        /* It makes the device again; the session goes on. */
        t_sleep_ms(3500);
        peer_transfer_t result = {0};
        CHECK(peer_upload(GATEWAY, 7, 100000, &result));
        CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
        CHECK_INT(dap_chain_net_vpn_client_start(net, SERVER, PORT), 1);
        CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
        CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STOPPED);
        servers_stop();
    }
    t_context("the next server");
    servers_start();
    start_and_use(net);
    dap_chain_net_vpn_client_deinit();
    servers_stop();
}

int main(int argc, char **argv)
{
    t_need_box();
    if (argc == 2 && strcmp(argv[1], "stops") == 0) {
        stops();
    } else if (argc == 2 && strcmp(argv[1], "device") == 0) {
        device();
    } else if (argc == 2 && strcmp(argv[1], "loss") == 0) {
        loss();
    } else {
        fprintf(stderr, "usage: %s stops | device | loss\n", argv[0]);
        return 2;
    }
    return t_result();
}
