#include "servers.h"
#include "harness.h"
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_worker.h>

/* The launcher's orders: 's' starts, 't' terminates, 'k' kills, 'l' lists; it answers each with one int. */
static int s_launcher = -1;

typedef struct listing {
    int commands;
    int sessions; /* in the service's list; -1 if one is not that of a client that is served */
} listing_t;

/* On worker 0, where C may read the service's lists. */
static void list_sessions(void *argument)
{
    listing_t *listing = argument;
    dap_chain_net_srv_t *service = dap_chain_net_srv_get((dap_chain_net_srv_uid_t){.uint64 = 1});
    dap_chain_net_srv_vpn_t *vpn = service ? service->_internal : NULL;
    for (dap_chain_net_srv_ch_vpn_t *each = vpn ? vpn->ch_vpn_ipv4 : NULL; each; each = each->hh.next) {
        bool is_served = each->tun_socket && each->addr_ipv4.s_addr && each->usage_id && each->net_srv == service
                         && each->is_allowed && !each->ch;
        listing->sessions = is_served && listing->sessions >= 0 ? listing->sessions + 1 : -1;
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

void servers_launch(void)
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

void servers_start(void)
{
    CHECK_INT(order('s'), 0);
}

void servers_stop(void)
{
    int how = order('t');
    CHECK(WIFEXITED(how));
    CHECK_INT(WEXITSTATUS(how), 0);
}

void servers_kill(void)
{
    order('k');
}

int servers_list(void)
{
    return order('l');
}
