/* init and deinit leave nothing behind: `life_cycle cycles N`; `life_cycle edges` tests unusual orders of calls,
 * `life_cycle beside N` an init beside another thread's deinit. */
#include "harness.h"

#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>

/* The cycle after which the resident size is compared: pools and caches have settled by then. */
enum { SETTLED = 100, RSS_GROWTH_KIB = 4096 };

static dap_config_t *configuration(void)
{
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("life"), 1);
    dap_config_t *config = dap_config_default();
    if (!CHECK(config != NULL))
        exit(1);
    return config;
}

static void one_cycle(dap_config_t *config)
{
    CHECK_INT(dap_chain_net_srv_vpn_pre_init(), 0);
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    CHECK_INT(dap_chain_net_vpn_client_init(config), 0);
    CHECK_INT(t_tun_devices(), 1);
    dap_chain_net_vpn_client_deinit();
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(t_tun_devices(), 0);
}

static void cycles(int count)
{
    t_usage_t before = t_usage();
    dap_config_t *config = configuration();
    one_cycle(config);
    t_usage_t settled = t_usage();
    /* Descriptors must not grow with each cycle; the store and the logger may keep some open once. */
    CHECK_BETWEEN(settled.fds, before.fds, before.fds + 3);
    CHECK_INT(settled.devices, before.devices);
    long long start = t_now_ms();
    long resident = 0;
    for (int i = 1; i < count; i++) {
        if (i == SETTLED)
            resident = t_rss_kib();
        t_context("cycle %d", i);
        one_cycle(config);
    }
    t_context("%d cycles", count);
    CHECK_USAGE(settled);
    t_note("%d cycles in %lld ms, %d descriptors, %d threads, %ld KiB resident", count, t_now_ms() - start, settled.fds,
           settled.threads, t_rss_kib());
    CHECK_INT(settled.threads, before.threads);
    if (count > SETTLED)
        CHECK_BETWEEN(t_rss_kib() - resident, -1000000, RSS_GROWTH_KIB);
}

static void *deinit_here(void *arg)
{
    dap_chain_net_srv_vpn_deinit();
    return arg;
}

static void *init_here(void *config)
{
    return (void *)(intptr_t)dap_chain_net_srv_vpn_init(config);
}

static void *on_another_thread(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    void *result = (void *)-1;
    if (CHECK_INT(pthread_create(&thread, NULL, body, arg), 0))
        CHECK_INT(pthread_join(thread, &result), 0);
    return result;
}

static void deinit_first(void *arg)
{
    (void)arg;
    t_usage_t before = t_usage();
    dap_chain_net_srv_vpn_deinit();
    dap_chain_net_vpn_client_deinit();
    dap_chain_net_srv_vpn_deinit();
    CHECK_USAGE(before);
    one_cycle(configuration());
}

static void deinit_twice(void *arg)
{
    (void)arg;
    dap_config_t *config = configuration();
    for (int i = 0; i < 3; i++) {
        one_cycle(config);
        dap_chain_net_srv_vpn_deinit();
        dap_chain_net_vpn_client_deinit();
        CHECK_INT(t_tun_devices(), 0);
    }
}

static void deinit_on_another_thread(void *arg)
{
    (void)arg;
    dap_config_t *config = configuration();
    one_cycle(config);
    t_usage_t before = t_usage();
    for (int i = 0; i < 10; i++) {
        t_context("round %d", i);
        CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
        on_another_thread(deinit_here, NULL);
        CHECK_USAGE(before);
        CHECK_INT((intptr_t)on_another_thread(init_here, config), 0);
        dap_chain_net_srv_vpn_deinit();
        CHECK_USAGE(before);
    }
}

static void init_twice(void *arg)
{
    (void)arg;
    dap_config_t *config = configuration();
    one_cycle(config);
    t_usage_t before = t_usage();
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    t_usage_t running = t_usage();
    CHECK_INT(dap_chain_net_srv_vpn_init(config), -3);
    CHECK_USAGE(running);
    dap_chain_net_srv_vpn_deinit();
    CHECK_USAGE(before);
}

static void deinit_in_callback(void *arg)
{
    dap_chain_net_vpn_client_stop();
    dap_chain_net_vpn_client_deinit();
    dap_chain_net_srv_vpn_deinit();
    __atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
}

/* A worker and this thread stop everything at the same time: they must not wait for each other for ever. */
static void deinit_on_a_worker_too(void *arg)
{
    (void)arg;
    alarm(60);
    dap_config_t *config = configuration();
    one_cycle(config);
    t_usage_t before = t_usage();
    for (int i = 0; i < 20; i++) {
        t_context("round %d", i);
        CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
        CHECK_INT(dap_chain_net_vpn_client_init(config), 0);
        int done = 0;
        dap_worker_exec_callback_on(dap_events_worker_get(0), deinit_in_callback, &done);
        if (i % 2)
            t_sleep_ms(1);
        dap_chain_net_vpn_client_deinit();
        dap_chain_net_srv_vpn_deinit();
        /* If the worker was first, it may still be stopping. */
        while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
            t_sleep_ms(1);
        dap_chain_net_srv_vpn_deinit();
        CHECK_USAGE(before);
    }
}

static void start_and_exit(void *arg)
{
    dap_config_t *config = configuration();
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    CHECK_INT(dap_chain_net_vpn_client_init(config), 0);
    CHECK_INT(t_tun_devices(), 1);
    if (arg)
        _exit(0);
}

static void *exit_here(void *arg)
{
    exit((int)(intptr_t)arg);
}

static void exit_on_another_thread(void *arg)
{
    start_and_exit(NULL);
    on_another_thread(exit_here, arg);
}

static void gone_soon(t_usage_t before)
{
    CHECK_USAGE(before);
    CHECK_INT(t_tun_devices(), 0);
}

static void init_without_privilege(void *arg)
{
    (void)arg;
    dap_config_t *config = configuration();
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};
    CHECK_INT(syscall(SYS_capget, &header, sets), 0);
    sets[0].effective &= ~(1u << CAP_NET_ADMIN);
    CHECK_INT(syscall(SYS_capset, &header, sets), 0);
    CHECK_INT(dap_chain_net_srv_vpn_init(config), -1);
    CHECK_INT(t_tun_devices(), 0);
}

static void edges(void)
{
    t_usage_t before = t_usage();
    t_in_child("deinit before init", deinit_first, NULL);
    gone_soon(before);
    t_in_child("deinit twice", deinit_twice, NULL);
    gone_soon(before);
    t_in_child("init and deinit on different threads", deinit_on_another_thread, NULL);
    gone_soon(before);
    t_in_child("deinit on a worker and on another thread at once", deinit_on_a_worker_too, NULL);
    gone_soon(before);
    t_in_child("init without CAP_NET_ADMIN", init_without_privilege, NULL);
    gone_soon(before);
    t_in_child("init twice", init_twice, NULL);
    gone_soon(before);
    t_in_child("exit without deinit", start_and_exit, NULL);
    gone_soon(before);
    t_in_child("_exit without deinit", start_and_exit, "_exit");
    gone_soon(before);
    t_in_child("exit on another thread without deinit", exit_on_another_thread, NULL);
    gone_soon(before);
}

/* Either the service still runs, or nothing of it is left. */
static void beside(int count)
{
    dap_config_t *config = configuration();
    one_cycle(config);
    t_usage_t before = t_usage();
    int started = 0;
    for (int i = 0; i < count; i++) {
        t_context("round %d", i);
        CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
        pthread_t thread;
        if (!CHECK_INT(pthread_create(&thread, NULL, deinit_here, NULL), 0))
            return;
        if (i % 4)
            t_sleep_ms(i % 4);
        int code = dap_chain_net_srv_vpn_init(config);
        CHECK(code == 0 || code == -3);
        pthread_join(thread, NULL);
        started += code == 0;
        CHECK_INT(t_tun_devices(), code == 0 ? 1 : 0);
        dap_chain_net_srv_vpn_deinit();
    }
    t_context("%s", "");
    t_note("%d of %d started", started, count);
    /* An init that the deinit refuses every time would not test one beside it. */
    CHECK(started > 0);
    CHECK_USAGE(before);
}

int main(int argc, char **argv)
{
    t_need_box();
    if (argc == 3 && strcmp(argv[1], "cycles") == 0 && atoi(argv[2]) > 0) {
        cycles(atoi(argv[2]));
    } else if (argc == 3 && strcmp(argv[1], "beside") == 0 && atoi(argv[2]) > 0) {
        beside(atoi(argv[2]));
    } else if (argc == 2 && strcmp(argv[1], "edges") == 0) {
        edges();
    } else {
        fprintf(stderr, "usage: %s cycles N | edges | beside N\n", argv[0]);
        return 2;
    }
    return t_result();
}
