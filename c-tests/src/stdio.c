/* Descriptors 0 to 2 are the host's: the library opens none of its own there, whatever the host has closed, and a closed
 * pipe as stderr does not end the host. */
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>

/* No header declares it. */
extern int tun_device_create(char *name);

enum { STEPS = 16 };

static const char *s_steps[STEPS];
static int s_open[STEPS];
static int s_count;

/* Notes which of 0 to 2 are open; nothing can be printed meanwhile. */
static void note(const char *step)
{
    for (int fd = 0; fd < 3; fd++)
        s_open[s_count] |= (fcntl(fd, F_GETFD) >= 0) << fd;
    s_steps[s_count++] = step;
}

static void closed(void *unused)
{
    (void)unused;
    const char *file = t_server_config("server");
    setenv("CELLFRAME_VPN_CONFIG", file, 1);
    int saved = fcntl(1, F_DUPFD_CLOEXEC, 100);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    int codes[6];
    dap_config_t *config = dap_config_default();
    note("configuration");
    codes[0] = dap_chain_net_srv_vpn_init(config);
    note("init");
    codes[1] = dap_chain_net_vpn_client_init(config);
    note("client init");
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    codes[2] = dap_chain_net_vpn_client_check(net, "127.0.0.1", 8089, 16, 16, 10000);
    note("check: store, dial, accept");
    dap_global_db_set_sync("local.test", "key", "value", 5, false);
    /* What a host without stderr does to it when it prints. */
    codes[3] = write(2, "lines of the host\n", 18) < 0 ? 0 : 1;
    note("a write of the host");
    codes[4] = dap_chain_net_vpn_client_check(net, "127.0.0.1", 8089, 16, 16, 10000);
    note("check again");
    char name[16] = "";
    int tun = tun_device_create(name);
    codes[5] = tun > 2 ? 0 : tun;
    note("tun_device_create");
    if (tun >= 0)
        close(tun);
    dap_chain_net_srv_vpn_deinit();
    dap_chain_net_vpn_client_deinit();
    note("deinit");
    for (int fd = 0; fd < 3; fd++)
        dup2(saved, fd);
    for (int i = 0; i < s_count; i++) {
        t_context("after %s", s_steps[i]);
        CHECK_INT(s_open[i], 0);
    }
    t_context("%s", "");
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        CHECK_INT(codes[i], 0);
    size_t size = 0;
    char *value = (char *)dap_global_db_get_sync("local.test", "key", &size, NULL, NULL);
    CHECK(value && size == 5 && !memcmp(value, "value", 5));
    free(value);
}

static void broken_pipe(void *unused)
{
    (void)unused;
    int pipes[2], saved = dup(2);
    CHECK_INT(pipe(pipes), 0);
    close(pipes[0]);
    dup2(pipes[1], 2);
    signal(SIGPIPE, SIG_DFL);
    /* Each is an error of the caller, which is a line of the log on this thread. */
    for (int i = 0; i < 3; i++)
        CHECK_INT(dap_chain_net_vpn_client_check(NULL, NULL, 0, 0, 0, 0), -1);
    dup2(saved, 2);
    sigset_t pending, mask;
    sigpending(&pending);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    CHECK(!sigismember(&pending, SIGPIPE) && !sigismember(&mask, SIGPIPE));
}

int main(void)
{
    t_need_box();
    t_in_child("descriptors 0 to 2 closed", closed, NULL);
    t_in_child("stderr is a closed pipe", broken_pipe, NULL);
    return t_result();
}
