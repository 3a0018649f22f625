/* Stands in for the part `server` in C. */
#include "standin_legacy.h"

int dap_chain_net_srv_vpn_init(dap_config_t *g_config)
{
    (void)g_config;
    dap_chain_net_srv_vpn_cmd_init();
    return LEGACY_CODE;
}

void dap_chain_net_srv_vpn_deinit(void)
{
}
