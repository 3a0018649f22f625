/* The smallest program that uses the library: it starts the embedded SDK, asks it for its workers and a network, and
 * asks the VPN client for its status. Each directory beside this file builds it in another way. */
#include <stdio.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>

int main(void)
{
    /* Opens the file that CELLFRAME_VPN_CONFIG names; without one, the defaults. The log on stderr says why it failed. */
    dap_config_t *config = dap_config_default();
    if (!config || dap_embedded_retain() != 0)
        return 1;
    if (dap_chain_net_srv_vpn_pre_init() != 0)
        return 1;
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    printf("workers: %s, network: %s, client: %s\n", dap_events_thread_get_count() > 0 ? "running" : "none",
           net ? net->pub.name : "none",
           dap_chain_net_vpn_client_status() == VPN_CLIENT_STATUS_NOT_STARTED ? "not started" : "?");
    dap_embedded_release();
    dap_config_close(config);
    return 0;
}
