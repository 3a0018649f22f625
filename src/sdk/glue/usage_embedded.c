/* The embedded SDK has no paid service: a usage has neither receipts nor a price. */
#include "internal.h"
#include "dap_chain_net_srv_stream_session.h"

void vpn_internal_usage_terms(const dap_chain_net_srv_usage_t *usage, vpn_glue_usage_t *out)
{
    (void)usage, (void)out;
}

void vpn_glue_usage_disarm(struct dap_stream_ch *ch)
{
    (void)ch;
}

bool vpn_glue_usage_ask(struct dap_stream_ch *ch)
{
    (void)ch;
    return false;
}

bool vpn_glue_usage_issue_next(struct dap_stream_ch *ch, const uint8_t *transaction)
{
    (void)ch, (void)transaction;
    return false;
}

void vpn_glue_usage_drop_next(struct dap_stream_ch *ch, int32_t substate)
{
    (void)ch, (void)substate;
}

void vpn_glue_usage_switch(struct dap_stream_ch *ch)
{
    (void)ch;
}

bool vpn_glue_usage_is_signed_by(struct dap_stream_ch *ch, bool next, const uint8_t *key_hash)
{
    (void)ch, (void)next, (void)key_hash;
    return false;
}

size_t vpn_glue_usage_waiting(struct dap_stream_ch *ch, uint8_t *out, size_t capacity)
{
    (void)ch, (void)out, (void)capacity;
    return 0;
}

void *vpn_glue_usage_detach(struct dap_stream_ch *ch)
{
    (void)ch;
    return NULL;
}

void vpn_glue_usage_free(void *usage)
{
    (void)usage;
}

void vpn_glue_usage_show_rest(struct dap_stream_ch *ch, uint32_t unit, const vpn_glue_rest_t *rest)
{
    (void)ch, (void)unit, (void)rest;
}

void vpn_glue_usage_show_traffic(struct dap_stream_ch *ch, uint64_t received, uint64_t sent)
{
    (void)ch, (void)received, (void)sent;
}
