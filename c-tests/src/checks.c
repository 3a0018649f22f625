/* `dap_chain_net_vpn_client_check` against peers that answer late, not at all, or do not exist: the code and the time. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_stream_ch_proc.h>

enum { PORT = 8089, CLOSED_PORT = 1, LATENESS_MS = 100, SLACK_MS = 900, TIMES = 3 };
#define HERE "127.0.0.1"
/* An address on the link to which the kernel sends, and which nothing has. */
#define SWALLOWED "10.200.0.99"

static const int TIMEOUTS_MS[TIMES] = {1, 300, 1500};

/* --- servers, each a process of its own --------------------------------------------------------------------------- */

static dap_stream_ch_read_callback_t s_served;
static int s_lose;

/* How many packets on channel 'R' are dropped before each one that is served; negative: all are dropped. */
static bool lossy_packet_in(dap_stream_ch_t *ch, void *packet)
{
    static int lost;
    if (s_lose < 0 || lost++ < s_lose)
        return false;
    lost = 0;
    return s_served(ch, packet);
}

static _Noreturn void serve(int commands, int lose)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const char *config = t_server_config("server");
    setenv("CELLFRAME_VPN_CONFIG", config, 1);
    /* The gate would answer the checks, and put itself in front of this program's callback. */
    FILE *more = fopen(config, "a");
    if (more) {
        fputs("[srv_vpn]\ngate=false\n", more);
        fclose(more);
    }
    int code = dap_chain_net_srv_vpn_init(dap_config_default());
    dap_stream_ch_proc_t *service = dap_stream_ch_proc_find('R');
    if (service) {
        s_served = service->packet_in_callback;
        s_lose = lose;
        dap_stream_ch_proc_add('R', service->new_callback, service->delete_callback, lossy_packet_in,
                               service->packet_out_callback);
    }
    if (write(commands, &code, sizeof(code)) != sizeof(code))
        exit(1);
    char end;
    while (read(commands, &end, 1) < 0 && errno == EINTR)
        ;
    dap_chain_net_srv_vpn_deinit();
    exit(0);
}

typedef struct server {
    pid_t pid;
    int commands;
} server_t;

static server_t start_server(int lose)
{
    int pair[2], code = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        exit(1);
    server_t server = {fork(), pair[0]};
    if (server.pid == 0) {
        close(pair[0]);
        serve(pair[1], lose);
    }
    close(pair[1]);
    CHECK_INT(read(server.commands, &code, sizeof(code)), sizeof(code));
    CHECK_INT(code, 0);
    return server;
}

static void stop_server(server_t server)
{
    int how = -1;
    close(server.commands);
    CHECK_INT(waitpid(server.pid, &how, 0), server.pid);
    CHECK_INT(WIFSIGNALED(how) ? WTERMSIG(how) : 0, 0);
    CHECK_INT(WEXITSTATUS(how), 0);
}

/* --- checks --------------------------------------------------------------------------------------------------------- */

static long long check_at(dap_chain_net_t *net, const char *host, uint16_t port, int timeout_ms, int code)
{
    long long begin = t_now_ms();
    int actual = dap_chain_net_vpn_client_check(net, host, port, 1024, 1024, timeout_ms);
    long long took = t_now_ms() - begin;
    /* Within one millisecond even this host's own kernel may not have answered. */
    CHECK_BETWEEN(actual, code, timeout_ms == 1 ? -2 : code);
    t_note("%s:%u, %d ms: %d after %lld ms", host, port, timeout_ms, actual, took);
    return took;
}

static dap_chain_net_t *client_net(void)
{
    char text[256];
    snprintf(text, sizeof(text), "[general]\nstate_dir=%s\n[server]\nenabled=false\n[resources]\nthreads_cnt=2\n",
             t_path("client"));
    setenv("CELLFRAME_VPN_CONFIG", t_write_file("client.cfg", text), 1);
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    if (!CHECK(net != NULL))
        exit(1);
    return net;
}

/* Checks until the time is over, with each of the timeouts from number `first` on. */
static void check_timed(dap_chain_net_t *net, size_t first, const char *what, const char *host, uint16_t port, int code)
{
    for (size_t i = first; i < TIMES; i++) {
        t_note("%s", what);
        t_context("%s, %d ms", what, TIMEOUTS_MS[i]);
        /* Each is near its time, and one of three is within the promise: a loaded machine delays single ones. */
        long long best = LLONG_MAX;
        for (int attempt = 0; attempt < 3 && best > TIMEOUTS_MS[i] + LATENESS_MS; attempt++) {
            long long took = check_at(net, host, port, TIMEOUTS_MS[i], code);
            CHECK_BETWEEN(took, TIMEOUTS_MS[i], TIMEOUTS_MS[i] + LATENESS_MS + SLACK_MS);
            best = took < best ? took : best;
        }
        CHECK_BETWEEN(best, TIMEOUTS_MS[i], TIMEOUTS_MS[i] + LATENESS_MS);
    }
    t_context("%s", "");
}

/* Listens on a free port, which it writes to `port`. Returns the socket. */
static int listen_here(int backlog, uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(listener, (struct sockaddr *)&address, size), 0);
    CHECK_INT(listen(listener, backlog), 0);
    CHECK_INT(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return listener;
}

static void silent_peers(void *unused)
{
    (void)unused;
    dap_chain_net_t *net = client_net();
    uint16_t port = 0;
    int listener = listen_here(64, &port);
    /* The first connection that nobody takes from the queue is up as well: the kernel has accepted it. */
    check_timed(net, 0, "a listener that never answers", HERE, port, -3);
    close(listener);

    listener = listen_here(0, &port);
    int fillers[8];
    for (size_t i = 0; i < 8; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK(connect(fillers[i], (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS);
    }
    t_sleep_ms(50);
    check_timed(net, 0, "a listener with a full queue", HERE, port, -2);
    for (size_t i = 0; i < 8; i++)
        close(fillers[i]);
    close(listener);
}

static void unreachable_peers(void *unused)
{
    (void)unused;
    dap_chain_net_t *net = client_net();
    t_context("a closed port");
    long long took = check_at(net, HERE, CLOSED_PORT, 10000, -2);
    CHECK_BETWEEN(took, 0, 1000);
    t_context("no route");
    took = check_at(net, "192.0.2.1", PORT, 10000, -2);
    CHECK_BETWEEN(took, 0, 1000);
    t_context("a name that does not exist");
    took = check_at(net, "no-such-host.invalid", PORT, 1000, -2);
    CHECK_BETWEEN(took, 0, 1000 + LATENESS_MS + SLACK_MS);

    t_context("%s", "");
    CHECK_INT(system("ip neighbour add " SWALLOWED " lladdr 02:00:00:00:00:99 dev veth-cli"), 0);
    check_timed(net, 0, "an address that swallows packets", SWALLOWED, PORT, -2);

    /* In the box's own view of the files. */
    char command[300];
    snprintf(command, sizeof(command), "mount --bind %s /etc/resolv.conf",
             t_write_file("resolv.conf", "nameserver " SWALLOWED "\noptions timeout:3 attempts:1\n"));
    if (system(command) == 0)
        check_timed(net, 0, "a name server that swallows packets", "vpn.example.com", PORT, -2);
    else
        t_note("no /etc/resolv.conf to replace");
}

/* Checks the server three times; the fastest check takes at most so long. */
static void answered(void *limit_ms)
{
    dap_chain_net_t *net = client_net();
    long long fastest = 10000;
    for (int i = 0; i < 3; i++) {
        long long took = check_at(net, HERE, PORT, 10000, 0);
        fastest = took < fastest ? took : fastest;
    }
    CHECK_BETWEEN(fastest, 0, *(const long *)limit_ms);
}

static void unanswered(void *unused)
{
    (void)unused;
    /* Within the first timeout no stream comes up. */
    check_timed(client_net(), 1, "a server that answers no check", HERE, PORT, -3);
}

/* Before this process has used the library, which does not survive a fork. */
static void with_server(const char *name, int lose, void (*body)(void *), void *arg)
{
    server_t server = start_server(lose);
    CHECK(t_in_child(name, body, arg));
    stop_server(server);
}

int main(void)
{
    t_need_box();
    long usual = 2000, one_loss = 900;
    CHECK(t_in_child("silent peers", silent_peers, NULL));
    CHECK(t_in_child("unreachable peers", unreachable_peers, NULL));
    with_server("a server", 0, answered, &usual);
    with_server("a server that loses the first request", 1, answered, &one_loss);
    with_server("a server that answers no check", -1, unanswered, NULL);
    return t_result();
}
