/* A host that reads its signals from a descriptor gets all of them: no thread of the library takes one. */
#include "harness.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>

enum { ROUNDS = 100 };

/* Raised by what a thread itself does; blocked, they would bypass the host's handlers. */
static const uint64_t FAULTS = 1ULL << (SIGILL - 1) | 1ULL << (SIGTRAP - 1) | 1ULL << (SIGABRT - 1)
                               | 1ULL << (SIGBUS - 1) | 1ULL << (SIGFPE - 1) | 1ULL << (SIGSEGV - 1)
                               | 1ULL << (SIGSYS - 1);
static const uint64_t STANDARD = (1ULL << 31) - 1;
static const uint64_t NEVER_BLOCKED = 1ULL << (SIGKILL - 1) | 1ULL << (SIGSTOP - 1);

/* Checks the signal masks of all threads but the calling one. Returns how many there are. */
static int check_masks(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
            continue;
        char path[300], line[256], name[64] = "";
        unsigned long long blocked = 0;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "r");
        if (!status)
            continue;
        while (fgets(line, sizeof(line), status)) {
            sscanf(line, "Name: %63s", name);
            sscanf(line, "SigBlk: %llx", &blocked);
        }
        fclose(status);
        t_context("thread %s", name);
        CHECK((blocked & STANDARD) == (STANDARD & ~FAULTS & ~NEVER_BLOCKED));
        count++;
    }
    if (tasks)
        closedir(tasks);
    t_context("%s", "");
    return count;
}

static void host(void *unused)
{
    (void)unused;
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("server"), 1);
    dap_config_t *config = dap_config_default();
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    CHECK_INT(dap_chain_net_vpn_client_init(config), 0);
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    CHECK_INT(dap_chain_net_vpn_client_check(net, "127.0.0.1", 8089, 16, 16, 10000), 0);
    int threads = check_masks();
    t_note("%d threads of the library", threads);
    CHECK_BETWEEN(threads, 3, 100);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    CHECK_INT(sigprocmask(SIG_BLOCK, &signals, NULL), 0);
    int fd = signalfd(-1, &signals, SFD_CLOEXEC);
    CHECK(fd >= 0);
    int arrived = 0;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_INT(kill(getpid(), SIGTERM), 0);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        struct signalfd_siginfo info;
        if (poll(&wait, 1, 1000) == 1 && read(fd, &info, sizeof(info)) == sizeof(info))
            arrived += info.ssi_signo == SIGTERM;
    }
    CHECK_INT(arrived, ROUNDS);
    close(fd);
    dap_chain_net_vpn_client_deinit();
    dap_chain_net_srv_vpn_deinit();
}

int main(void)
{
    t_need_box();
    CHECK(t_in_child("the host", host, NULL));
    return t_result();
}
