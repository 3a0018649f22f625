/* Start and stop with the Cellframe SDK, which the node starts and stops, and which keeps registrations. */
#include <fcntl.h>

#include "internal.h"
#include "dap_config.h"

void vpn_glue_settle(void)
{
}

/* A node's SDK ends no stream for want of a service. */
void vpn_glue_channel_serve(struct dap_stream_ch *ch, bool is_served)
{
    (void)ch, (void)is_served;
}

/* The SDK closes a socket's descriptor when it deletes the socket, even with no_close: it gets one of its own. */
int vpn_internal_descriptor(int fd)
{
    /* 0 to 2 are the host program's. */
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

dap_stream_t *vpn_internal_stream_of(dap_events_socket_t *es)
{
    return dap_stream_get_from_es(es);
}

/* A node's usages point to their service until their channel 'R' is closed, and the SDK's dap_chain_net_srv_del
 * would free it too early. So the service stays registered, but closed, and the next start uses it again. */
static dap_chain_net_srv_t *s_kept_service;

dap_chain_net_srv_t *vpn_internal_service_register(const char *section, dap_chain_net_srv_callbacks_t *callbacks)
{
    dap_chain_net_srv_t *kept = s_kept_service;
    if (kept) {
        s_kept_service = NULL;
        kept->allow_free_srv = vpn_glue_config_bool(NULL, section, "allow_free_srv", false);
        return kept;
    }
    return dap_chain_net_srv_add(vpn_internal_service_uid(), section, callbacks);
}

void vpn_internal_service_unregister(dap_chain_net_srv_t *service)
{
    service->allow_free_srv = false;    /* from now on the SDK refuses requests for free service */
    s_kept_service = service;
}

/* The node keeps the configuration of its start: other parts of it have texts of that one. */
void *vpn_glue_config_reread(void)
{
    return g_config && g_config->path ? dap_config_open(g_config->path) : NULL;
}

void vpn_glue_config_close(void *config)
{
    dap_config_close((dap_config_t *)config);
}

/* The SDK cannot unregister a path: the handler answers 404 while the service is down. */
void vpn_internal_http_remove(dap_http_server_t *http, const char *path)
{
    (void)http, (void)path;
}
