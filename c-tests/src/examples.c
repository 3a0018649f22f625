/* Runs the specification's three examples, verbatim: examples server|client|tun
 *
 * `server` serves until its stdin ends and then shuts down. spec/ holds the functions byte for byte as the
 * specification prints them; scripts/examples.py starts the ends and compares their logs line by line. */
#include <stdio.h>
#include <string.h>

#include "../spec/service_init.c"
#include "../spec/client_connect.c"
#include "../spec/tun_interface.c"

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "";
    if (strcmp(mode, "server") == 0) {
        vpn_service_initialization_example();
        while (getchar() != EOF)
            ;
        dap_chain_net_srv_vpn_deinit();
    } else if (strcmp(mode, "client") == 0) {
        if (dap_chain_net_vpn_client_init(dap_config_default()) != 0)
            return 1;
        vpn_client_connection_example();
        dap_chain_net_vpn_client_stop();
        dap_chain_net_vpn_client_deinit();
    } else if (strcmp(mode, "bare-client") == 0) {
        /* Only the example: no init, no stop, no deinit. */
        vpn_client_connection_example();
    } else if (strcmp(mode, "tun") == 0) {
        vpn_tun_interface_example();
    } else {
        fprintf(stderr, "usage: %s server|client|bare-client|tun\n", argv[0]);
        return 2;
    }
    return 0;
}
