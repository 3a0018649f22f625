/* The archive in a program with other libraries: one in C whose names the archive's crates have, too (clashes.c), and
 * one in Rust with a standard library of its own (beside.rs). Each calls its own functions, and the VPN's two ends,
 * whose handshake needs what both define, reach each other. */
#include "harness.h"
#include "servers.h"

#include <stdlib.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>

#define SERVER "10.200.0.1"
enum { PORT = 8089 };

/* clashes.c */
int clashes_call(void);
extern int clashes_calls;
/* beside.rs */
int beside_catches(int number);
int beside_threads(int count);

static void others(void)
{
    t_context("the other libraries");
    CHECK_INT(clashes_call(), 3);
    CHECK_INT(beside_catches(7), 107);
    CHECK_INT(beside_threads(4), 4);
}

int main(void)
{
    t_need_box();
    servers_launch();
    others();
    char text[256];
    snprintf(text, sizeof(text), "[general]\nstate_dir=%s\n[server]\nenabled=false\n", t_path("client"));
    setenv("CELLFRAME_VPN_CONFIG", t_write_file("client.cfg", text), 1);
    servers_start();
    t_context("both ends");
    CHECK_INT(dap_chain_net_vpn_client_init(dap_config_default()), 0);
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    if (!CHECK(net != NULL))
        return t_result();
    CHECK_INT(dap_chain_net_vpn_client_start(net, SERVER, PORT), 0);
    CHECK_INT(dap_chain_net_vpn_client_status(), VPN_CLIENT_STATUS_STARTED);
    CHECK_INT(system("ping -c 3 -i 0.2 -W 2 10.77.0.1 > /dev/null"), 0);
    others();
    t_context("the end");
    CHECK_INT(dap_chain_net_vpn_client_stop(), 0);
    dap_chain_net_vpn_client_deinit();
    servers_stop();
    CHECK_INT(clashes_calls, 6);
    return t_result();
}
