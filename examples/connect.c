/* A VPN client: connect HOST PORT
 *
 * Build it as docs/embedded-sdk.md says, then run
 *
 *   sudo CELLFRAME_VPN_CONFIG=examples/client.cfg ./connect vpn.example.com 8079
 *
 * The client needs root (CAP_NET_ADMIN) and /dev/net/tun. It stays connected until its standard input ends (press
 * Ctrl-D) or the connection is lost. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <dap_chain_net_vpn_client.h>

/* Waits until standard input ends and returns 0, or returns 1 if the tunnel goes down first. */
static int stay_connected(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    while (dap_chain_net_vpn_client_status() == VPN_CLIENT_STATUS_STARTED)
        if (poll(&input, 1, 1000) == 1 && read(STDIN_FILENO, &byte, 1) <= 0)
            return 0;
    fprintf(stderr, "the connection was lost\n");
    return 1;
}

int main(int argc, char **argv)
{
    int port = argc == 3 ? atoi(argv[2]) : 0;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "usage: %s HOST PORT\n", argv[0]);
        return 2;
    }
    /* Opens the file that CELLFRAME_VPN_CONFIG names. The log on stderr says why a call failed. */
    dap_config_t *config = dap_config_default();
    if (!config || dap_chain_net_vpn_client_init(config) != 0)
        return 1;

    /* Connects, asks for an address and sets the TUN device up. Returns when the tunnel is up or a step has failed. */
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    int result = 1, code = dap_chain_net_vpn_client_start(net, argv[1], (uint16_t)port);
    if (code == 0) {
        printf("connected to %s:%d, press Ctrl-D to stop\n", argv[1], port);
        fflush(stdout);
        result = stay_connected();
        /* Gives the address back, removes the TUN device and closes the connection. */
        dap_chain_net_vpn_client_stop();
    } else {
        fprintf(stderr, "not connected: %s (code %d)\n", code == -3 ? "no answer" : "refused or unreachable", code);
    }
    dap_chain_net_vpn_client_deinit();
    dap_config_close(config);
    return result;
}
