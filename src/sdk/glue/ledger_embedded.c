/* Orders and transactions as means of payment, with the embedded SDK. */
#include "internal.h"
#include "dap_chain_datum_tx_receipt.h"
#include "dap_chain_net.h"
#include "dap_sign.h"

static dap_hash_fast_t s_hash(const uint8_t *bytes)
{
    dap_hash_fast_t hash;
    memcpy(hash.raw, bytes, sizeof(hash.raw));
    return hash;
}

bool vpn_glue_net_is_offline(struct dap_chain_net *net)
{
    return dap_embedded_net_is_offline(net);
}

bool vpn_glue_net_has_payee(struct dap_chain_net *net)
{
    (void)net;
    return true;
}

uint32_t vpn_glue_net_role(struct dap_chain_net *net)
{
    return (uint32_t)dap_chain_net_get_role(net).enums;
}

bool vpn_glue_order_terms(struct dap_chain_net *net, const uint8_t *hash, vpn_glue_order_terms_t *out)
{
    static const uint256_t nothing;
    dap_hash_fast_t order_hash = s_hash(hash);
    dap_embedded_order_t order;
    dap_chain_net_srv_t *service = dap_chain_net_srv_get(vpn_internal_service_uid());
    if (!service || !dap_embedded_order_find(net, &order_hash, &order))
        return false;
    out->is_free = !memcmp(&order.value, &nothing, sizeof(nothing));
    out->is_ours = order.is_ours;
    out->is_native = order.is_native;
    out->allows_free = service->allow_free_srv;
    out->unit = order.unit;
    out->units = order.units;
    memcpy(out->value, &order.value, sizeof(out->value));
    return true;
}

bool vpn_glue_transaction_terms(struct dap_chain_net *net, const uint8_t *hash, const uint8_t *value, uint64_t units,
                                vpn_glue_transaction_terms_t *out)
{
    dap_hash_fast_t tx_hash = s_hash(hash);
    uint256_t price;
    memcpy(&price, value, sizeof(price));
    dap_embedded_transaction_t tx;
    if (!dap_embedded_transaction_find(net, &tx_hash, &price, units, &tx))
        return false;
    out->has_output = tx.has_output;
    out->is_for_vpn = tx.srv_uid.uint64 == VPN_SERVICE_UID;
    out->is_native = tx.is_native;
    out->unit = tx.unit;
    out->fits_max_price = tx.fits_max_price;
    out->is_enough = tx.is_enough;
    out->is_last = !memcmp(tx.last.raw, hash, sizeof(tx.last.raw));
    memcpy(out->client_key, tx.client_key.raw, sizeof(out->client_key));
    memcpy(out->first, tx.first.raw, sizeof(out->first));
    memcpy(out->last, tx.last.raw, sizeof(out->last));
    return true;
}

bool vpn_glue_ledger_has(struct dap_chain_net *net, const uint8_t *hash)
{
    dap_hash_fast_t tx_hash = s_hash(hash);
    uint256_t nothing;
    memset(&nothing, 0, sizeof(nothing));
    dap_embedded_transaction_t tx;
    return dap_embedded_transaction_find(net, &tx_hash, &nothing, 1, &tx);
}

bool vpn_glue_billing_follows_chains(void)
{
    return dap_embedded_billing_follows_chains();
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
    dap_hash_fast_t hash = s_hash(nonce);
    dap_chain_datum_tx_receipt_t *receipt =
        service ? dap_chain_net_srv_issue_receipt(service, &price, NULL, 0, &hash) : NULL;
    size_t size = receipt && receipt->size <= capacity ? (size_t)receipt->size : 0;
    if (size)
        memcpy(out, receipt, size);
    DAP_DELETE(receipt);
    return size;
}
