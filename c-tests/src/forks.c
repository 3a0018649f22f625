/* A child that is forked while the library runs touches nothing of its parent's, and waits for nothing.
 *
 * `forks server`  beside a running service
 * `forks client`  beside a client with a tunnel, and beside one that is connecting
 */
#include "harness.h"
#include "peer.h"
#include "servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

extern int tun_device_create(char *dev);

#define SERVER "10.200.0.1"
#define HERE "10.200.0.2"
#define GATEWAY "10.77.0.1"
enum { PORT = 8089, SILENT = 7100 };

static dap_config_t *s_config;
static dap_chain_net_t *s_net;

/* Every function, in the child: each returns at once. The caller exits by exit(). */
static void call_everything(void *arg)
{
    (void)arg;
    alarm(1);
    char name[16] = "", *reply = NULL, *words[] = {"vpn_stat", "-net", "backbone", NULL};
    uint64_t value = 0;
    t_context("in the child");
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_NOT_STARTED);
    CHECK_INT(dap_chain_net_vpn_client_start(s_net, SERVER, PORT), -2);
    CHECK_INT(dap_chain_net_vpn_client_check(s_net, SERVER, PORT, 10, 10, 10000), -2);
    CHECK(dap_chain_net_vpn_client_check_result(s_net, "hex") == NULL);
    CHECK_INT(dap_chain_net_vpn_client_update(s_net, "wallet", "token", 1), -1);
    CHECK_INT(dap_chain_net_vpn_client_get_wallet_info(s_net, NULL, NULL, &value), -1);
    CHECK(dap_chain_net_vpn_client_get_stream_ch() == NULL);
    CHECK(dap_chain_net_vpn_client_get_stream_worker() == NULL);
    dap_chain_net_vpn_client_set_order_state_callback(NULL);
    dap_chain_net_vpn_client_deinit();
    CHECK_INT(dap_chain_net_vpn_client_init(s_config), -1);
    CHECK_INT(dap_chain_net_vpn_client_tun_init("10.66.0.1"), -1);
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), -2);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), -1);
    CHECK(dap_chain_net_vpn_client_tun_get_esock() == NULL);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    CHECK_INT(tun_device_create(name), -EIO);
    CHECK_INT(com_vpn_statistics(3, words, (void **)&reply, 0), -1);
    CHECK_INT(com_vpn_client(3, words, (void **)&reply, 0), -1);
    CHECK_INT(dap_chain_net_srv_vpn_pre_init(), -1);
    CHECK_INT(dap_chain_net_srv_vpn_init(s_config), -3);
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(dap_embedded_retain(), -1);
    dap_embedded_release();
    dap_embedded_settle();
    CHECK_INT(dap_events_thread_get_count(), 0);
    CHECK(dap_chain_net_by_name("backbone") == NULL);
    CHECK(dap_config_get_item_str(s_config, "general", "state_dir") == NULL);
}

/* The child of a child has nothing either. */
static void fork_again(void *arg)
{
    alarm(1);
    t_in_child("the child's child", call_everything, arg);
}

static void configure(const char *path)
{
    setenv("CELLFRAME_VPN_CONFIG", path, 1);
    s_config = dap_config_default();
    s_net = dap_chain_net_by_name("backbone");
    CHECK(s_config != NULL && s_net != NULL);
}

static void *forks_here(void *arg)
{
    t_in_child("forked on another thread", call_everything, arg);
    return NULL;
}

static void beside_a_server(void)
{
    configure(t_server_config("forks"));
    CHECK_INT(dap_chain_net_srv_vpn_init(s_config), 0);
    t_usage_t before = t_usage();
    for (int i = 0; i < 20; i++) {
        t_context("round %d", i);
        t_in_child("beside a server", call_everything, NULL);
        CHECK_INT(t_tun_devices(), 1);
    }
    t_in_child("two children", fork_again, NULL);
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, forks_here, NULL), 0);
    pthread_join(thread, NULL);
    t_context("the parent");
    CHECK_USAGE(before);
    CHECK_INT(dap_chain_net_srv_vpn_init(s_config), -3);
    CHECK_INT(dap_chain_net_vpn_client_check(s_net, "127.0.0.1", PORT, 10, 10, 10000), 0);
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(t_tun_devices(), 0);
}

/* A child of a process in which everything has ended may begin anew. */
static void begin_anew(void *arg)
{
    (void)arg;
    CHECK_INT(dap_chain_net_srv_vpn_init(s_config), 0);
    CHECK_INT(t_tun_devices(), 1);
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(t_tun_devices(), 0);
}

static void *start_silent(void *arg)
{
    *(int *)arg = dap_chain_net_vpn_client_start(s_net, HERE, SILENT);
    return NULL;
}

static void beside_a_client(void)
{
    servers_launch();
    servers_start();
    char text[256];
    snprintf(text, sizeof(text),
             "[general]\nstate_dir=%s\n[server]\nenabled=false\n[resources]\nthreads_cnt=2\n"
             "[vpn_client]\nstart_timeout=60\n",
             t_path("client"));
    configure(t_write_file("client.cfg", text));
    CHECK_INT(dap_chain_net_vpn_client_init(s_config), 0);

    t_context("a start is waiting, and holds what a stop waits for");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), code = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(SILENT)};
    CHECK_INT(inet_pton(AF_INET, HERE, &address.sin_addr), 1);
    CHECK_INT(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_INT(listen(listener, 8), 0);
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, start_silent, &code), 0);
    while (dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_STOPPED)
        t_sleep_ms(1);
    for (int i = 0; i < 10; i++) {
        t_in_child("beside a start", call_everything, NULL);
        t_sleep_ms(10);
    }
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    pthread_join(thread, NULL);
    CHECK_INT(code, -2);
    close(listener);

    t_context("the tunnel is up");
    CHECK_INT(dap_chain_net_vpn_client_start(s_net, SERVER, PORT), 0);
    peer_transfer_t result = {0};
    for (int i = 0; i < 20; i++) {
        t_context("round %d", i);
        CHECK(peer_upload(GATEWAY, 3, 200000, &result));
        t_in_child("beside a client", call_everything, NULL);
        CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
        CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
        CHECK(peer_download(GATEWAY, 4, 200000, &result));
    }
    dap_chain_net_vpn_client_deinit();
    CHECK_INT(t_tun_devices(), 0);
    servers_stop();
}

int main(int argc, char **argv)
{
    t_need_box();
    if (argc == 2 && strcmp(argv[1], "server") == 0) {
        beside_a_server();
        t_in_child("after the end", begin_anew, NULL);
    } else if (argc == 2 && strcmp(argv[1], "client") == 0) {
        beside_a_client();
    } else {
        fprintf(stderr, "usage: %s server | client\n", argv[0]);
        return 2;
    }
    return t_result();
}
