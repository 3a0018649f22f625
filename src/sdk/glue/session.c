/* The SDK's record of a session: how it is paid, and its counters. */
#include <time.h>

#include "internal.h"
#include "dap_chain_net.h"
#include "dap_chain_net_srv_stream_session.h"
#include "dap_stream_session.h"

#if !defined(VPN_SDK_USAGE_STATE)
#error "This SDK's dap_chain_net_srv_usage_t has no service_state and service_substate: what a payment waits for cannot be told. Releases before August 2025 and the branch kelvpn-master are not supported."
#endif

_Static_assert(NODE_ROLE_MASTER == VPN_GLUE_ROLE_MASTER, "ROLE_MASTER in sdk/raw.rs is not this SDK's");
_Static_assert(DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_IDLE == VPN_GLUE_USAGE_IDLE
               && DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_GRACE == VPN_GLUE_USAGE_GRACE
               && DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_NORMAL == VPN_GLUE_USAGE_NORMAL
               && DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE == VPN_GLUE_USAGE_FREE,
               "USAGE_* in sdk/raw.rs are not this SDK's");

static dap_chain_net_srv_stream_session_t *s_service_session(const dap_stream_ch_t *ch)
{
    dap_stream_session_t *session = ch->stream ? ch->stream->session : NULL;
    return session ? (dap_chain_net_srv_stream_session_t *)session->_inheritor : NULL;
}

bool vpn_glue_channel_usage(const struct dap_stream_ch *ch, vpn_glue_usage_t *out)
{
    dap_chain_net_srv_stream_session_t *session = s_service_session(ch);
    dap_chain_net_srv_usage_t *usage = session ? session->usage_active : NULL;
    if (!usage)
        return false;
    memset(out, 0, sizeof(*out));
    out->id = usage->id;
    out->is_active = usage->is_active;
    out->state = (int32_t)usage->service_state;
    out->net = usage->net;
    vpn_internal_usage_terms(usage, out);
    out->role = usage->net ? (uint32_t)dap_chain_net_get_role(usage->net).enums : VPN_GLUE_NO_ROLE;
    return true;
}

void vpn_glue_channel_usage_activate(struct dap_stream_ch *ch)
{
    dap_chain_net_srv_stream_session_t *session = s_service_session(ch);
    if (session && session->usage_active) {
        session->usage_active->is_active = true;
        session->last_update_ts = time(NULL);
    }
}

void vpn_glue_channel_set_inner_address(struct dap_stream_ch *ch, uint32_t address)
{
    if (ch->stream->session)
        __atomic_store_n(&ch->stream->session->tun_client_addr.s_addr, address, __ATOMIC_RELAXED);
}

/* vpn_stat reads these on another thread, so each is read and written atomically. */
#define STAT_ADD(stats, field, delta) __atomic_fetch_add(&(stats)->field, (delta)->field, __ATOMIC_RELAXED)
#define STAT_GET(stats, field) ((uint64_t)__atomic_load_n(&(stats)->field, __ATOMIC_RELAXED))

void vpn_glue_channel_stats_add(struct dap_stream_ch *ch, const vpn_glue_session_stats_t *delta)
{
    dap_chain_net_srv_stream_session_t *session = s_service_session(ch);
    if (!session)
        return;
    STAT_ADD(&session->stats, bytes_sent, delta);
    STAT_ADD(&session->stats, bytes_recv, delta);
    STAT_ADD(&session->stats, bytes_sent_lost, delta);
    STAT_ADD(&session->stats, bytes_recv_lost, delta);
    STAT_ADD(&session->stats, packets_sent, delta);
    STAT_ADD(&session->stats, packets_recv, delta);
    STAT_ADD(&session->stats, packets_sent_lost, delta);
    STAT_ADD(&session->stats, packets_recv_lost, delta);
}

void vpn_glue_sessions_each(void (*callback)(void *context, const vpn_glue_session_view_t *session), void *context)
{
    dap_list_t *sessions = dap_stream_session_get_list_sessions();
    for (dap_list_t *item = sessions; item; item = item->next) {
        dap_stream_session_t *session = (dap_stream_session_t *)item->data;
        /* The session's worker adds this part, which is complete before the pointer is seen. */
        dap_chain_net_srv_stream_session_t *service =
            (dap_chain_net_srv_stream_session_t *)__atomic_load_n(&session->_inheritor, __ATOMIC_ACQUIRE);
        if (!service)
            continue;
        vpn_glue_session_view_t view = { .time_created = (uint64_t)session->time_created,
                                         .address = __atomic_load_n(&session->tun_client_addr.s_addr, __ATOMIC_RELAXED) };
        view.stats.bytes_sent = STAT_GET(&service->stats, bytes_sent);
        view.stats.bytes_recv = STAT_GET(&service->stats, bytes_recv);
        view.stats.bytes_sent_lost = STAT_GET(&service->stats, bytes_sent_lost);
        view.stats.bytes_recv_lost = STAT_GET(&service->stats, bytes_recv_lost);
        view.stats.packets_sent = STAT_GET(&service->stats, packets_sent);
        view.stats.packets_recv = STAT_GET(&service->stats, packets_recv);
        view.stats.packets_sent_lost = STAT_GET(&service->stats, packets_sent_lost);
        view.stats.packets_recv_lost = STAT_GET(&service->stats, packets_recv_lost);
        callback(context, &view);
    }
    dap_list_free(sessions);
    dap_stream_session_get_list_sessions_unlock();
}
