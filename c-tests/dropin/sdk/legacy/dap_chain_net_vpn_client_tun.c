/* Stands in for the part `client-tun` in C. */
#include "standin_legacy.h"

int dap_chain_net_vpn_client_tun_init(const char *gateway)
{
    (void)gateway;
    return LEGACY_CODE;
}
int dap_chain_net_vpn_client_tun_create(const char *address, const char *gateway)
{
    (void)address, (void)gateway;
    return LEGACY_CODE;
}
int dap_chain_net_vpn_client_tun_delete(void)
{
    return dap_chain_net_vpn_client_get_stream_ch() ? 0 : LEGACY_CODE;
}
int dap_chain_net_vpn_client_tun_status(void)
{
    return LEGACY_CODE;
}
dap_events_socket_t *dap_chain_net_vpn_client_tun_get_esock(void)
{
    return NULL;
}
int ch_sf_tun_addr_leased(dap_chain_net_srv_ch_vpn_t *channel, dap_stream_ch_vpn_pkt_t *packet, size_t size)
{
    (void)channel, (void)packet, (void)size;
    return LEGACY_CODE;
}
void ch_sf_tun_client_send(dap_chain_net_srv_ch_vpn_t *channel, void *data, size_t size)
{
    (void)channel, (void)data, (void)size;
}
