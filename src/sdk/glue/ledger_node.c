/* Orders and transactions as means of payment, with the Cellframe SDK. */
#include "internal.h"
#include "dap_cert.h"
#include "dap_chain_datum_tx_items.h"
#include "dap_chain_datum_tx_receipt.h"
#include "dap_chain_ledger.h"
#include "dap_chain_net.h"
#include "dap_chain_net_srv_order.h"
#include "dap_chain_net_tx.h"
#include "dap_config.h"
#include "dap_sign.h"

#define SECTION "srv_vpn"

_Static_assert(sizeof(uint256_t) == 32, "sdk/raw.rs says that a value has 256 bits");

static dap_hash_fast_t s_hash(const uint8_t *bytes)
{
    dap_hash_fast_t hash;
    memcpy(hash.raw, bytes, sizeof(hash.raw));
    return hash;
}

static dap_cert_t *s_receipt_cert(void)
{
    const char *name = dap_config_get_item_str_default(g_config, SECTION, "receipt_sign_cert", NULL);
    dap_cert_t *cert = name ? dap_cert_find_by_name(name) : NULL;
    return cert && cert->enc_key ? cert : NULL;
}

bool vpn_glue_net_is_offline(struct dap_chain_net *net)
{
    return dap_chain_net_get_state(net) == NET_STATE_OFFLINE;
}

bool vpn_glue_net_has_payee(struct dap_chain_net *net)
{
    const char *text = dap_config_get_item_str_default(g_config, SECTION, "wallet_addr", NULL);
    dap_chain_addr_t *address = text ? dap_chain_addr_from_str(text) : NULL;
    /* The SDK takes "0" and "null" for an address, and what is paid there is lost. */
    bool is_payee = address && !dap_chain_addr_is_blank(address) && address->net_id.uint64 == net->pub.id.uint64;
    DAP_DELETE(address);
    return is_payee;
}

uint32_t vpn_glue_net_role(struct dap_chain_net *net)
{
    return (uint32_t)dap_chain_net_get_role(net).enums;
}

/* As dap_chain_net_srv_get_price_from_order judges: the order's signature is of the key that signs receipts. */
static bool s_is_signed_by_us(dap_chain_net_srv_order_t *order)
{
    dap_cert_t *cert = s_receipt_cert();
    size_t size = 0;
    uint8_t *key = cert ? dap_enc_key_serialize_pub_key(cert->enc_key, &size) : NULL;
    if (!key)
        return false;
    dap_hash_fast_t ours, signer;
    memset(&signer, 0, sizeof(signer));
    dap_hash_fast(key, size, &ours);
    DAP_DELETE(key);
    return dap_sign_get_pkey_hash((dap_sign_t *)(order->ext_n_sign + order->ext_size), &signer)
        && dap_hash_fast_compare(&ours, &signer);
}

bool vpn_glue_order_terms(struct dap_chain_net *net, const uint8_t *hash, vpn_glue_order_terms_t *out)
{
    dap_hash_fast_t order_hash = s_hash(hash);
    dap_chain_net_srv_order_t *order = dap_chain_net_srv_order_find_by_hash(net, &order_hash);
    if (!order)
        return false;
    out->is_free = IS_ZERO_256(order->price);
    /* With the public key alone the SDK makes no receipt, and reads the one that it did not make. */
    const dap_cert_t *cert = s_receipt_cert();
    bool can_bill = cert && cert->enc_key->priv_key_data && cert->enc_key->priv_key_data_size;
    out->is_ours = order->srv_uid.uint64 == VPN_SERVICE_UID && s_is_signed_by_us(order) && (out->is_free || can_bill);
    out->is_native = !strncmp(order->price_ticker, net->pub.native_ticker, DAP_CHAIN_TICKER_SIZE_MAX);
    out->allows_free = dap_config_get_item_bool_default(g_config, SECTION, "allow_free_srv", false);
    out->unit = (uint32_t)order->price_unit.enm;
    out->units = order->units;
    memcpy(out->value, &order->price, sizeof(out->value));
    DAP_DELETE(order);
    return true;
}

/* As the SDK's payment adds up: the value, the network's fee, and the fee that the transaction itself names. */
static bool s_is_enough(dap_chain_net_t *net, dap_chain_datum_tx_t *tx, const dap_chain_tx_out_cond_t *out, uint256_t value)
{
    uint256_t net_fee, needed;
    dap_chain_addr_t fee_address;
    memset(&net_fee, 0, sizeof(net_fee));
    memset(&fee_address, 0, sizeof(fee_address));
    dap_chain_net_tx_get_fee(net->pub.id, &net_fee, &fee_address);
    const dap_chain_tx_out_cond_t *fee = dap_chain_datum_tx_out_cond_get(tx, DAP_CHAIN_TX_OUT_COND_SUBTYPE_FEE, NULL);
    if (SUM_256_256(value, net_fee, &needed) || (fee && SUM_256_256(needed, fee->header.value, &needed)))
        return false;
    return compare256(out->header.value, needed) >= 0;
}

static bool s_fits_max_price(const dap_chain_tx_out_cond_t *out, uint256_t value, uint64_t units)
{
    uint256_t unit_price;
    memset(&unit_price, 0, sizeof(unit_price));
    if (!units)
        return false;
    uint256_t max_price = out->subtype.srv_pay.unit_price_max_datoshi;
    DIV_256(value, GET_256_FROM_64(units), &unit_price);
    return IS_ZERO_256(max_price) || compare256(unit_price, max_price) <= 0;
}

bool vpn_glue_transaction_terms(struct dap_chain_net *net, const uint8_t *hash, const uint8_t *value, uint64_t units,
                                vpn_glue_transaction_terms_t *out)
{
    dap_ledger_t *ledger = dap_ledger_by_net_name(net->pub.name);
    dap_hash_fast_t tx_hash = s_hash(hash);
    dap_chain_datum_tx_t *tx = dap_ledger_tx_find_by_hash(ledger, &tx_hash);
    if (!tx)
        return false;
    memset(out, 0, sizeof(*out));
    const dap_chain_tx_out_cond_t *output = dap_chain_datum_tx_out_cond_get(tx, DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY, NULL);
    dap_hash_fast_t first = dap_ledger_get_first_chain_tx_hash(ledger, tx, DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY);
    dap_hash_fast_t last = dap_ledger_get_final_chain_tx_hash(ledger, DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY, &tx_hash, true);
    memcpy(out->first, dap_hash_fast_is_blank(&first) ? hash : first.raw, sizeof(out->first));
    memcpy(out->last, last.raw, sizeof(out->last));
    if (!output)
        return true;
    uint256_t price;
    memcpy(&price, value, sizeof(price));
    const char *ticker = dap_ledger_tx_get_token_ticker_by_hash(ledger, &tx_hash);
    out->has_output = true;
    out->is_for_vpn = output->header.srv_uid.uint64 == VPN_SERVICE_UID;
    out->is_native = ticker && !strncmp(ticker, net->pub.native_ticker, DAP_CHAIN_TICKER_SIZE_MAX);
    out->unit = (uint32_t)output->subtype.srv_pay.unit.enm;
    out->fits_max_price = s_fits_max_price(output, price, units);
    out->is_enough = s_is_enough(net, tx, output, price);
    out->is_last = dap_hash_fast_compare(&last, &tx_hash);
    memcpy(out->client_key, output->subtype.srv_pay.pkey_hash.raw, sizeof(out->client_key));
    return true;
}

bool vpn_glue_ledger_has(struct dap_chain_net *net, const uint8_t *hash)
{
    dap_hash_fast_t tx_hash = s_hash(hash);
    return dap_ledger_tx_find_by_hash(dap_ledger_by_net_name(net->pub.name), &tx_hash) != NULL;
}

bool vpn_glue_billing_follows_chains(void)
{
    /* Both came with one change of the SDK. */
#ifdef VPN_SDK_USAGE_PREVIOUS
    return true;
#else
    return false;
#endif
}

/* The SDK's verification of other types reads past keys and signatures that lie about their sizes, or ends the process
 * (SPHINCS+, BLISS, Falcon, Picnic). Dilithium is what wallets have unless their owner chose another type. */
static bool s_is_verifiable(const dap_sign_t *sign)
{
    /* A signature that carries a hash in place of its key would name any key that its maker likes. */
    return sign->header.type.type == SIG_TYPE_DILITHIUM && !DAP_SIGN_GET_PKEY_HASHING_FLAG(sign->header.hash_type);
}

bool vpn_glue_signature_check(const uint8_t *signature, size_t size, const uint8_t *info, const uint8_t *key_hash)
{
    /* A copy: the SDK takes pointers to what it may change, and packed structs need no alignment but get one here. */
    dap_sign_t *sign = size >= sizeof(dap_sign_t) ? DAP_NEW_Z_SIZE(dap_sign_t, size) : NULL;
    if (!sign)
        return false;
    memcpy(sign, signature, size);
    dap_hash_fast_t hash;
    memset(&hash, 0, sizeof(hash));
    /* The key first: it costs less, and strangers get no further. */
    bool good = s_is_verifiable(sign) && dap_sign_verify_size(sign, size) == 0 && dap_sign_get_pkey_hash(sign, &hash)
        && !memcmp(hash.raw, key_hash, sizeof(hash.raw))
        && dap_sign_verify_all(sign, size, info, sizeof(dap_chain_receipt_info_t)) == 0;
    DAP_DELETE(sign);
    return good;
}

size_t vpn_glue_proof_receipt(uint32_t unit, const uint8_t *nonce, uint8_t *out, size_t capacity)
{
    dap_cert_t *cert = s_receipt_cert();
    if (!cert || !cert->enc_key->priv_key_data)
        return 0;
    dap_chain_net_srv_price_unit_uid_t unit_uid;
    memset(&unit_uid, 0, sizeof(unit_uid));
    unit_uid.enm = unit;
    uint256_t none;
    memset(&none, 0, sizeof(none));
    dap_hash_fast_t hash = s_hash(nonce);
    dap_chain_datum_tx_receipt_t *bare =
        dap_chain_datum_tx_receipt_create(vpn_internal_service_uid(), unit_uid, 0, none, NULL, 0, &hash);
    dap_chain_datum_tx_receipt_t *receipt = bare ? dap_chain_datum_tx_receipt_sign_add(bare, cert->enc_key) : NULL;
    size_t size = receipt && receipt->size <= capacity ? (size_t)receipt->size : 0;
    if (size)
        memcpy(out, receipt, size);
    DAP_DELETE(receipt);
    return size;
}
