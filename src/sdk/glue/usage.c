/* Receipts and fields of a session's usage. */
#include <time.h>

#include "internal.h"
#include "dap_chain_datum_tx_receipt.h"
#include "dap_chain_net_srv_stream_session.h"
#include "dap_sign.h"
#include "dap_stream_ch_chain_net_srv_pkt.h"
#include "dap_stream_ch_pkt.h"
#include "dap_stream_session.h"
#include "dap_timerfd.h"

_Static_assert(DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_FIRST_RECEIPT_SIGN == VPN_GLUE_SUBSTATE_FIRST_SIGN
               && DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEXT_RECEIPT_SIGN == VPN_GLUE_SUBSTATE_NEXT_SIGN
               && DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_NORMAL == VPN_GLUE_SUBSTATE_NORMAL
               && DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_ERROR == VPN_GLUE_SUBSTATE_ERROR,
               "SUBSTATE_* in sdk/raw.rs are not this SDK's");

static dap_chain_net_srv_stream_session_t *s_session(const dap_stream_ch_t *ch)
{
    dap_stream_session_t *session = ch->stream ? ch->stream->session : NULL;
    return session ? (dap_chain_net_srv_stream_session_t *)session->_inheritor : NULL;
}

static dap_chain_net_srv_usage_t *s_usage(const dap_stream_ch_t *ch)
{
    dap_chain_net_srv_stream_session_t *session = s_session(ch);
    return session ? session->usage_active : NULL;
}

/* The receipt that waits for the client's signature, or NULL. */
static dap_chain_datum_tx_receipt_t *s_waiting(const dap_chain_net_srv_usage_t *usage)
{
    switch ((int)usage->service_substate) {
    case VPN_GLUE_SUBSTATE_FIRST_SIGN: return usage->receipt;
    case VPN_GLUE_SUBSTATE_NEXT_SIGN: return usage->receipt_next;
    default: return NULL;
    }
}

void vpn_internal_usage_terms(const dap_chain_net_srv_usage_t *usage, vpn_glue_usage_t *out)
{
    out->substate = (int32_t)usage->service_substate;
    if (usage->price) {
        out->unit = (uint32_t)usage->price->units_uid.enm;
        out->units = usage->price->units;
        memcpy(out->value, &usage->price->value_datoshi, sizeof(out->value));
    }
    memcpy(out->transaction, usage->tx_cond_hash.raw, sizeof(out->transaction));
    memcpy(out->client_key, usage->client_pkey_hash.raw, sizeof(out->client_key));
}

void vpn_glue_usage_disarm(struct dap_stream_ch *ch)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    if (usage && usage->receipts_timeout_timer) {
        dap_timerfd_delete_unsafe(usage->receipts_timeout_timer);
        usage->receipts_timeout_timer = NULL;
    }
}

bool vpn_glue_usage_ask(struct dap_stream_ch *ch)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    const dap_chain_datum_tx_receipt_t *receipt = usage ? s_waiting(usage) : NULL;
    return receipt && vpn_glue_gate_send(ch, DAP_STREAM_CH_CHAIN_NET_SRV_PKT_TYPE_SIGN_REQUEST, receipt, receipt->size);
}

bool vpn_glue_usage_issue_next(struct dap_stream_ch *ch, const uint8_t *transaction)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    if (!usage || !usage->price || usage->receipt_next)
        return false;
    memcpy(usage->tx_cond_hash.raw, transaction, sizeof(usage->tx_cond_hash.raw));
#ifdef VPN_SDK_USAGE_PREVIOUS
    /* The ledger has the payment before, which is what these fields wait for; the SDK's own module clears them then, too.
     * Left as they are, they would have the SDK go on without a payment if the ledger loses the one before. */
    memset(&usage->tx_cond_hash_prev, 0, sizeof(usage->tx_cond_hash_prev));
    usage->mempool_wait_count = 0;
    usage->tx_recreate_count = 0;
#endif
    usage->receipt_next = dap_chain_net_srv_issue_receipt(usage->service, usage->price, NULL, 0, &usage->tx_cond_hash);
    if (!usage->receipt_next)
        return false;
    usage->service_substate = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEXT_RECEIPT_SIGN;
    return true;
}

void vpn_glue_usage_drop_next(struct dap_stream_ch *ch, int32_t substate)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    if (!usage)
        return;
    DAP_DEL_Z(usage->receipt_next);
    usage->service_substate = (dap_chain_net_srv_usage_service_substate_t)substate;
}

void vpn_glue_usage_switch(struct dap_stream_ch *ch)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    if (!usage || !usage->receipt_next)
        return;
    DAP_DELETE(usage->receipt);
    usage->receipt = usage->receipt_next;
    usage->receipt_next = NULL;
}

bool vpn_glue_usage_is_signed_by(struct dap_stream_ch *ch, bool next, const uint8_t *key_hash)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    dap_chain_datum_tx_receipt_t *receipt = !usage ? NULL : next ? usage->receipt_next : usage->receipt;
    if (!receipt)
        return false;
    dap_sign_t *sign = dap_chain_datum_tx_receipt_sign_get(receipt, receipt->size, 1);
    return sign && vpn_glue_signature_check((const uint8_t *)sign, dap_sign_get_size(sign),
                                            (const uint8_t *)&receipt->receipt_info, key_hash);
}

size_t vpn_glue_usage_waiting(struct dap_stream_ch *ch, uint8_t *out, size_t capacity)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    const dap_chain_datum_tx_receipt_t *receipt = usage ? s_waiting(usage) : NULL;
    if (!receipt || receipt->size > capacity)
        return 0;
    memcpy(out, receipt, receipt->size);
    return receipt->size;
}

void *vpn_glue_usage_detach(struct dap_stream_ch *ch)
{
    dap_chain_net_srv_stream_session_t *session = s_session(ch);
    dap_chain_net_srv_usage_t *usage = session ? session->usage_active : NULL;
    if (session)
        session->usage_active = NULL;
    return usage;
}

void vpn_glue_usage_free(void *usage)
{
    /* The SDK frees the usage of a session, and nothing else of it. */
    dap_chain_net_srv_stream_session_t session;
    memset(&session, 0, sizeof(session));
    session.usage_active = (dap_chain_net_srv_usage_t *)usage;
    dap_chain_net_srv_usage_delete(&session);
}

void vpn_glue_usage_show_rest(struct dap_stream_ch *ch, uint32_t unit, const vpn_glue_rest_t *rest)
{
    dap_chain_net_srv_stream_session_t *session = s_session(ch);
    if (!session)
        return;
    session->limits_bytes = rest->bytes;
    session->limits_ts = rest->seconds;
    session->limits_units_type.enm = unit;
    session->last_update_ts = time(NULL);
    if (session->usage_active)
        session->usage_active->is_limits_changed = true;
}

void vpn_glue_usage_show_traffic(struct dap_stream_ch *ch, uint64_t received, uint64_t sent)
{
    dap_chain_net_srv_usage_t *usage = s_usage(ch);
    if (!usage || !usage->client)
        return;
    usage->client->bytes_received = received;
    usage->client->bytes_sent = sent;
}
