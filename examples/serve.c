/* A VPN server.
 *
 * Build it as docs/embedded-sdk.md says, then run
 *
 *   sudo CELLFRAME_VPN_CONFIG=examples/server.cfg ./serve
 *
 * The server needs root (CAP_NET_ADMIN) and /dev/net/tun. It runs until its standard input ends: press Ctrl-D. */
#include <stdio.h>

#include <dap_chain_net_srv_vpn.h>

static const char *explain(int code)
{
    switch (code) {
    case -1:
        return "the TUN driver cannot be used";
    case -2:
        return "the configuration or the TUN device is refused";
    case -3:
        return "the service cannot be registered";
    case -100:
        return "the address to listen on cannot be used";
    default:
        return "unknown error";
    }
}

int main(void)
{
    /* Opens the file that CELLFRAME_VPN_CONFIG names. The log on stderr says why a call failed. */
    dap_config_t *config = dap_config_default();
    if (!config)
        return 1;

    /* Registers the service's tag with the ledger, then starts the service with its TUN device and threads. */
    int code = dap_chain_net_srv_vpn_pre_init();
    if (code == 0)
        code = dap_chain_net_srv_vpn_init(config);
    if (code != 0) {
        fprintf(stderr, "the server cannot start: %s (code %d)\n", explain(code), code);
        dap_config_close(config);
        return 1;
    }
    printf("ready, press Ctrl-D to stop\n");
    fflush(stdout);
    while (getchar() != EOF)
        ;

    /* Ends all sessions, removes the TUN device and stops the threads. The configuration must stay open until then. */
    dap_chain_net_srv_vpn_deinit();
    dap_config_close(config);
    return 0;
}
