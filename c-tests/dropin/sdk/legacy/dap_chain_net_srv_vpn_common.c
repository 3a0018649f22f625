/* Stands in for the part `common` in C. */
#include "standin_legacy.h"

int dap_chain_net_srv_vpn_pre_init(void)
{
    return LEGACY_CODE;
}
