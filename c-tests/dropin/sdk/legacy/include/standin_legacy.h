/* Stands in for the legacy module's header: a part in C is compiled with the legacy headers. */
#pragma once
#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

#define LEGACY_CODE 42
