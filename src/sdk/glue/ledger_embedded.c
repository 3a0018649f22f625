/* The embedded SDK has neither priced orders nor transactions. */
#include "internal.h"
#include "dap_chain_net.h"

bool vpn_glue_net_is_offline(struct dap_chain_net *net)
{
    (void)net;
    return false;
}

uint32_t vpn_glue_net_role(struct dap_chain_net *net)
{
    return (uint32_t)dap_chain_net_get_role(net).enums;
}

bool vpn_glue_order_terms(struct dap_chain_net *net, const uint8_t *hash, vpn_glue_order_terms_t *out)
{
    (void)net, (void)hash, (void)out;
    return false;
}

bool vpn_glue_transaction_terms(struct dap_chain_net *net, const uint8_t *hash, const uint8_t *value, uint64_t units,
                                vpn_glue_transaction_terms_t *out)
{
    (void)net, (void)hash, (void)value, (void)units, (void)out;
    return false;
}

bool vpn_glue_ledger_has(struct dap_chain_net *net, const uint8_t *hash)
{
    (void)net, (void)hash;
    return false;
}

bool vpn_glue_signature_check(const uint8_t *signature, size_t size, const uint8_t *info, const uint8_t *key_hash)
{
    (void)signature, (void)size, (void)info, (void)key_hash;
    return false;
}

size_t vpn_glue_proof_receipt(uint32_t unit, const uint8_t *nonce, uint8_t *out, size_t capacity)
{
    (void)unit, (void)nonce, (void)out, (void)capacity;
    return 0;
}
