/* Stands in for the part `client` in C. */
#include "standin_legacy.h"

int dap_chain_net_vpn_client_init(dap_config_t *g_config)
{
    (void)g_config;
    return LEGACY_CODE;
}
void dap_chain_net_vpn_client_deinit(void)
{
    dap_chain_net_vpn_client_tun_delete();
}
int dap_chain_net_vpn_client_start(dap_chain_net_t *net, const char *host, uint16_t port)
{
    (void)net, (void)host, (void)port;
    return LEGACY_CODE;
}
int dap_chain_net_vpn_client_stop(void)
{
    return LEGACY_CODE;
}
dap_chain_net_vpn_client_status_t dap_chain_net_vpn_client_status(void)
{
    return VPN_CLIENT_STATUS_CONN_LOST;
}
int dap_chain_net_vpn_client_check(dap_chain_net_t *net, const char *host, uint16_t port, size_t send, size_t receive, int ms)
{
    (void)net, (void)host, (void)port, (void)send, (void)receive, (void)ms;
    return LEGACY_CODE;
}
char *dap_chain_net_vpn_client_check_result(dap_chain_net_t *net, const char *format)
{
    (void)net, (void)format;
    return strdup("legacy");
}
int dap_chain_net_vpn_client_update(dap_chain_net_t *net, const char *wallet, const char *token, uint64_t value)
{
    (void)net, (void)wallet, (void)token, (void)value;
    return LEGACY_CODE;
}
int dap_chain_net_vpn_client_get_wallet_info(dap_chain_net_t *net, char **wallet, char **token, uint64_t *value)
{
    (void)net;
    *wallet = *token = NULL;
    *value = LEGACY_CODE;
    return 0;
}
dap_stream_ch_t *dap_chain_net_vpn_client_get_stream_ch(void)
{
    return NULL;
}
dap_stream_worker_t *dap_chain_net_vpn_client_get_stream_worker(void)
{
    return NULL;
}
void dap_chain_net_vpn_client_set_order_state_callback(int (*callback)(dap_chain_node_addr_t))
{
    (void)callback;
}
void dap_chain_net_vpn_client_pkt_in(dap_stream_ch_t *ch, dap_stream_ch_pkt_t *packet)
{
    (void)ch, (void)packet;
}
void dap_chain_net_vpn_client_pkt_out(dap_stream_ch_t *ch)
{
    (void)ch;
}
