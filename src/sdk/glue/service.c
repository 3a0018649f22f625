/* The VPN as a service of the node: the SDK's callbacks, C's snapshot behind the service, the tag in the ledger. */
#include "internal.h"
#include "dap_chain_ledger.h"
#include "dap_stream_ch_chain_net_srv.h"
#include "dap_stream_ch_chain_net_srv_pkt.h"

#include "dap_chain_net_srv_vpn.h"

static void *s_vpn_internal(dap_chain_net_srv_client_remote_t *client)
{
    dap_stream_ch_t *ch = client && client->ch ? vpn_internal_channel_of(client->ch->stream) : NULL;
    return ch ? ch->internal : NULL;
}

static int s_service_requested(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                               const void *data, size_t size)
{
    (void)service, (void)client, (void)data, (void)size;
    return vpn_internal_rust.service_requested(usage_id);
}

static int s_service_success(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                             const void *data, size_t size)
{
    (void)service, (void)data, (void)size;
    return vpn_internal_rust.service_accepted(s_vpn_internal(client), usage_id);
}

/* The SDK gives no client before there is a usage. */
static int s_service_error(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                           const void *data, size_t size)
{
    (void)service;
    if (!data || size != sizeof(dap_stream_ch_chain_net_srv_pkt_error_t))
        return -1;
    dap_stream_ch_chain_net_srv_pkt_error_t error;
    memcpy(&error, data, sizeof(error));
    vpn_internal_rust.service_refused(s_vpn_internal(client), usage_id, error.code);
    return 0;
}

static int s_service_next_receipt(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client,
                                  const void *data, size_t size)
{
    (void)service, (void)data, (void)size;
    return vpn_internal_rust.service_next_accepted(s_vpn_internal(client), usage_id);
}

/* The SDK calls these two without a check for NULL. It reads the first one's result at once and never frees it. */
static dap_stream_ch_chain_net_srv_remain_service_store_t *s_service_get_remain(dap_chain_net_srv_t *service, uint32_t usage_id,
                                                                                dap_chain_net_srv_client_remote_t *client)
{
    (void)service;
    static _Thread_local dap_stream_ch_chain_net_srv_remain_service_store_t remain;
    vpn_glue_rest_t rest = { 0 };
    if (!vpn_internal_rust.service_get_rest(s_vpn_internal(client), usage_id, &rest))
        return NULL;
    remain.limits_bytes = rest.bytes;
    remain.limits_ts = rest.seconds;
    return &remain;
}

static int s_service_save_remain(dap_chain_net_srv_t *service, uint32_t usage_id, dap_chain_net_srv_client_remote_t *client)
{
    (void)service;
    vpn_internal_rust.service_save_rest(s_vpn_internal(client), usage_id);
    return 0;
}

struct dap_chain_net_srv *vpn_glue_service_add(const char *section)
{
    dap_chain_net_srv_vpn_t *root = DAP_NEW_Z(dap_chain_net_srv_vpn_t);
    if (!root)
        return NULL;
    dap_chain_net_srv_callbacks_t callbacks;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.requested = s_service_requested;
    callbacks.response_success = s_service_success;
    callbacks.response_error = s_service_error;
    callbacks.receipt_next_success = s_service_next_receipt;
    callbacks.get_remain_service = s_service_get_remain;
    callbacks.save_remain_service = s_service_save_remain;
    dap_chain_net_srv_t *service = vpn_internal_service_register(section, &callbacks);
    if (!service) {
        DAP_DELETE(root);
        return NULL;
    }
    root->parent = service;
    service->_internal = root;
    return service;
}

static void s_clear_snapshot(dap_chain_net_srv_vpn_t *root)
{
    dap_chain_net_srv_vpn_item_ipv4_t *item = root->ipv4_unleased;
    dap_chain_net_srv_ch_vpn_t *session = root->ch_vpn_ipv4;
    root->ipv4_unleased = NULL;
    root->ch_vpn_ipv4 = NULL;
    while (item) {
        dap_chain_net_srv_vpn_item_ipv4_t *gone = item;
        item = item->next;
        DAP_DELETE(gone);
    }
#ifdef HASH_CLEAR
    /* Frees the table but not the elements, whose links stay valid. */
    dap_chain_net_srv_ch_vpn_t *head = session;
    HASH_CLEAR(hh, head);
#endif
    while (session) {
        dap_chain_net_srv_ch_vpn_t *gone = session;
        session = (dap_chain_net_srv_ch_vpn_t *)session->hh.next;
        DAP_DELETE(gone);
    }
}

/* Adds a session to the snapshot. The Cellframe SDK has uthash, whose UT_hash_handle is part of each element: the
 * session joins a hash table. The embedded SDK lacks it: the session follows `last`, the one that was added before. */
static void s_list_session(dap_chain_net_srv_vpn_t *root, dap_chain_net_srv_ch_vpn_t *session,
                           dap_chain_net_srv_ch_vpn_t *last)
{
#ifdef HASH_ADD
    (void)last;
    HASH_ADD(hh, root->ch_vpn_ipv4, addr_ipv4, sizeof(session->addr_ipv4), session);
#else
    session->hh.prev = last;
    if (last)
        last->hh.next = session;
    else
        root->ch_vpn_ipv4 = session;
#endif
}

void vpn_glue_service_publish(struct dap_chain_net_srv *service, const vpn_glue_listed_session_t *sessions,
                              size_t session_count, const uint32_t *released, size_t released_count)
{
    dap_chain_net_srv_vpn_t *root = (dap_chain_net_srv_vpn_t *)service->_internal;
    s_clear_snapshot(root);
    dap_chain_net_srv_vpn_item_ipv4_t **end = &root->ipv4_unleased;
    for (size_t i = 0; i < released_count; i++) {
        dap_chain_net_srv_vpn_item_ipv4_t *item = DAP_NEW_Z(dap_chain_net_srv_vpn_item_ipv4_t);
        if (!item)
            return;
        item->addr.s_addr = released[i];
        *end = item;
        end = &item->next;
    }
    dap_chain_net_srv_ch_vpn_t *last = NULL;
    for (size_t i = 0; i < session_count; i++) {
        dap_chain_net_srv_ch_vpn_t *session = DAP_NEW_Z(dap_chain_net_srv_ch_vpn_t);
        if (!session)
            return;
        session->usage_id = sessions[i].usage_id;
        session->net_srv = service;
        session->is_allowed = sessions[i].is_allowed;
        session->tun_socket = sessions[i].tun_socket;
        session->addr_ipv4.s_addr = sessions[i].address;
        s_list_session(root, session, last);
        last = session;
    }
}

void vpn_glue_service_remove(struct dap_chain_net_srv *service)
{
    dap_chain_net_srv_vpn_t *root = (dap_chain_net_srv_vpn_t *)service->_internal;
    service->_internal = NULL;
    vpn_internal_service_unregister(service);
    if (root) {
        s_clear_snapshot(root);
        DAP_DELETE(root);
    }
}

/* A transaction belongs to the VPN if it pays into the VPN service (OPEN) or spends such a payment (USE). */
static bool s_tag_check(dap_ledger_t *ledger, dap_chain_datum_tx_t *tx, dap_chain_datum_tx_item_groups_t *items,
                        dap_chain_tx_tag_action_type_t *action)
{
    (void)tx;
    for (dap_list_t *item = items->items_out_cond_srv_pay; item; item = item->next) {
        const dap_chain_tx_out_cond_t *out = (const dap_chain_tx_out_cond_t *)item->data;
        if (out && out->header.srv_uid.uint64 == VPN_SERVICE_UID) {
            if (action)
                *action = DAP_CHAIN_TX_TAG_ACTION_OPEN;
            return true;
        }
    }
    for (dap_list_t *item = items->items_in_cond; item; item = item->next) {
        const dap_chain_tx_out_cond_t *out =
            dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(ledger, (dap_chain_tx_in_cond_t *)item->data);
        if (out && out->header.subtype == DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY
            && out->header.srv_uid.uint64 == VPN_SERVICE_UID) {
            if (action)
                *action = DAP_CHAIN_TX_TAG_ACTION_USE;
            return true;
        }
    }
    return false;
}

int vpn_glue_ledger_tag_register(void)
{
    static char tag[] = "vpn";
    return dap_ledger_service_add(vpn_internal_service_uid(), tag, s_tag_check);
}
