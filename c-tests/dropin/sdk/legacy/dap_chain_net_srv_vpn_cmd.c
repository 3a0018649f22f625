/* Stands in for the part `cmd` in C. */
#include "standin_legacy.h"

int com_vpn_statistics(int argc, char **argv, void **reply, int version)
{
    (void)argc, (void)argv, (void)reply, (void)version;
    return LEGACY_CODE;
}

int com_vpn_client(int argc, char **argv, void **reply, int version)
{
    (void)argc, (void)argv, (void)version;
    dap_cli_server_cmd_set_reply_text(reply, "legacy client status %d", (int)dap_chain_net_vpn_client_status());
    return LEGACY_CODE;
}

int dap_chain_net_srv_vpn_cmd_init(void)
{
    return LEGACY_CODE;
}
