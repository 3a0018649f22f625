/* Start and stop of the embedded SDK, which runs while it has users. */
#include "internal.h"
#include "dap_http_simple.h"

void vpn_glue_settle(void)
{
    dap_embedded_settle();
}

void vpn_glue_channel_serve(struct dap_stream_ch *ch, bool is_served)
{
    dap_embedded_stream_ch_serve(ch, is_served);
}

int vpn_internal_descriptor(int fd)
{
    return fd;  /* no_close keeps it open */
}

dap_stream_t *vpn_internal_stream_of(dap_events_socket_t *es)
{
    return (dap_stream_t *)es->_inheritor;
}

dap_chain_net_srv_t *vpn_internal_service_register(const char *section, dap_chain_net_srv_callbacks_t *callbacks)
{
    return dap_chain_net_srv_add(vpn_internal_service_uid(), section, callbacks);
}

void vpn_internal_service_unregister(dap_chain_net_srv_t *service)
{
    dap_chain_net_srv_del(service);
}

void vpn_internal_http_remove(dap_http_server_t *http, const char *path)
{
    dap_http_simple_proc_remove(http, path);
}
