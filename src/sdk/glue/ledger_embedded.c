/* The embedded SDK has neither priced orders nor transactions. */
#include "internal.h"
#include "dap_chain_datum_tx_receipt.h"
#include "dap_chain_net.h"
#include "dap_sign.h"

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
    dap_hash_fast_t order;
    dap_chain_net_srv_t *service = dap_chain_net_srv_get(vpn_internal_service_uid());
    if (!service || !dap_embedded_free_order(net, &order) || memcmp(order.raw, hash, sizeof(order.raw)))
        return false;
    memset(out, 0, sizeof(*out));
    out->is_free = out->is_ours = out->is_native = true;
    out->allows_free = service->allow_free_srv;
    return true;
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
    dap_sign_t *sign = (dap_sign_t *)(uintptr_t)signature;
    dap_hash_fast_t hash;
    /* dap_sign_verify_all refuses a signature that carries a hash in place of its key. */
    return dap_sign_verify_all(sign, size, info, sizeof(dap_chain_receipt_info_t)) == 0
        && dap_sign_get_pkey_hash(sign, &hash) && !memcmp(hash.raw, key_hash, sizeof(hash.raw));
}

size_t vpn_glue_proof_receipt(uint32_t unit, const uint8_t *nonce, uint8_t *out, size_t capacity)
{
    dap_chain_net_srv_t *service = dap_chain_net_srv_get(vpn_internal_service_uid());
    dap_chain_net_srv_price_t price;
    memset(&price, 0, sizeof(price));
    price.units_uid.enm = unit;
    dap_hash_fast_t hash;
    memcpy(hash.raw, nonce, sizeof(hash.raw));
    dap_chain_datum_tx_receipt_t *receipt =
        service ? dap_chain_net_srv_issue_receipt(service, &price, NULL, 0, &hash) : NULL;
    size_t size = receipt && receipt->size <= capacity ? (size_t)receipt->size : 0;
    if (size)
        memcpy(out, receipt, size);
    DAP_DELETE(receipt);
    return size;
}
