/* Orders, wallets and ledger with the Cellframe SDK. */
#include "internal.h"
#include "dap_chain_datum_tx_items.h"
#include "dap_chain_ledger.h"
#include "dap_chain_mempool.h"
#include "dap_chain_net.h"
#include "dap_chain_net_srv_order.h"
#include "dap_chain_net_tx.h"
#include "dap_chain_node.h"
#include "dap_chain_wallet.h"
#include "dap_config.h"
#include "dap_hash.h"
#include "dap_pkey.h"
#include "dap_sign.h"
/* The validators' fee of networks that have one; others take a transaction without it. */
#if __has_include("dap_chain_cs_esbocs.h")
#include "dap_chain_cs_esbocs.h"
#define VPN_SDK_VALIDATORS_FEE
#endif

static uint64_t s_saturated(uint256_t value)
{
    return compare256(value, GET_256_FROM_64(UINT64_MAX)) > 0 ? UINT64_MAX : dap_chain_uint256_to(value);
}

/* --- orders --- */

static dap_list_t *s_orders(dap_chain_net_t *net, dap_chain_net_srv_order_direction_t direction)
{
    dap_chain_net_srv_price_unit_uid_t any_unit;
    uint256_t any_price;
    memset(&any_unit, 0, sizeof(any_unit));
    memset(&any_price, 0, sizeof(any_price));
    dap_list_t *orders = NULL;
    size_t count = 0;
    if (dap_chain_net_srv_order_find_all_by(net, direction, vpn_internal_service_uid(), any_unit, NULL, any_price,
                                            any_price, &orders, &count))
        return NULL;
    return orders;
}

void vpn_glue_net_orders(struct dap_chain_net *net, bool selling_only, bool with_places,
                         void (*callback)(void *context, const vpn_glue_order_view_t *order), void *context)
{
    dap_list_t *orders = s_orders(net, selling_only ? SERV_DIR_SELL : SERV_DIR_UNDEFINED);
    for (dap_list_t *item = orders; item; item = item->next) {
        const dap_chain_net_srv_order_t *order = (const dap_chain_net_srv_order_t *)item->data;
        vpn_glue_order_view_t view;
        memset(&view, 0, sizeof(view));
        dap_chain_hash_fast_t hash;
        dap_hash_fast(order, dap_chain_net_srv_order_get_size(order), &hash);
        memcpy(view.hash, hash.raw, sizeof(view.hash));
        /* The order is packed and its ticker may lack a NUL. */
        char token[sizeof(order->price_ticker) + 1];
        memset(token, 0, sizeof(token));
        memcpy(token, order->price_ticker, sizeof(order->price_ticker));
        view.token = token;
        view.node = order->node_addr.uint64;
        view.is_here = order->node_addr.uint64 == g_node_addr.uint64;
        view.price = s_saturated(order->price);
        view.units = order->units;
        view.unit = (uint32_t)order->price_unit.enm;
        dap_chain_node_addr_t address = order->node_addr;
        dap_chain_node_info_t *info = with_places && address.uint64 ? dap_chain_node_info_read(net, &address) : NULL;
        if (info) {
            view.host = info->ext_host;
            view.port = info->ext_port;
        }
        callback(context, &view);
        DAP_DELETE(info);
    }
    dap_list_free_full(orders, NULL);
}

/* --- fees and the ledger --- */

int vpn_glue_ledger_open(struct dap_chain_net *net, const char *host, uint16_t port, char *why, size_t why_size)
{
    (void)net, (void)host, (void)port, (void)why, (void)why_size;
    return 0;
}

int vpn_glue_ledger_owner(struct dap_chain_net *net, uint8_t *server)
{
    (void)net, (void)server;
    return VPN_GLUE_LEDGER_NETWORK;
}

void vpn_glue_net_fees(struct dap_chain_net *net, uint64_t *network, uint64_t *validators)
{
    uint256_t fee;
    memset(&fee, 0, sizeof(fee));
    dap_chain_addr_t collector;
    *network = dap_chain_net_tx_get_fee(net->pub.id, &fee, &collector) ? s_saturated(fee) : 0;
#ifdef VPN_SDK_VALIDATORS_FEE
    *validators = s_saturated(dap_chain_esbocs_get_fee(net->pub.id));
#else
    *validators = 0;
#endif
}

int vpn_glue_ledger_payments(struct dap_chain_net *net, const uint8_t *tx, vpn_glue_tx_view_t *out)
{
    dap_chain_hash_fast_t first;
    memcpy(first.raw, tx, sizeof(first.raw));
    dap_ledger_t *ledger = dap_ledger_by_net_name(net->pub.name);
    /* The SDK answers with the hash that it gets if it does not know the transaction. */
    if (!ledger || dap_hash_fast_is_blank(&first) || !dap_ledger_tx_find_datum_by_hash(ledger, &first, NULL, false))
        return VPN_GLUE_TX_UNKNOWN;
    dap_chain_hash_fast_t last =
        dap_ledger_get_final_chain_tx_hash(ledger, DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY, &first, true);
    dap_chain_datum_tx_t *found =
        dap_hash_fast_is_blank(&last) ? NULL : dap_ledger_tx_find_datum_by_hash(ledger, &last, NULL, false);
    int index = 0;
    dap_chain_tx_out_cond_t *left =
        found ? dap_chain_datum_tx_out_cond_get(found, DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY, &index) : NULL;
    if (!left || left->header.srv_uid.uint64 != VPN_SERVICE_UID)
        return VPN_GLUE_TX_SPENT;
    memset(out, 0, sizeof(*out));
    memcpy(out->hash, last.raw, sizeof(out->hash));
    memcpy(out->key_hash, left->subtype.srv_pay.pkey_hash.raw, sizeof(out->key_hash));
    out->value = s_saturated(left->header.value);
    out->unit = (uint32_t)left->subtype.srv_pay.unit.enm;
    out->unit_price_max = s_saturated(left->subtype.srv_pay.unit_price_max_datoshi);
    /* A payment repeats the fee of the transaction that it spends, and pays the network's. */
    dap_chain_tx_out_cond_t *fee = dap_chain_datum_tx_out_cond_get(found, DAP_CHAIN_TX_OUT_COND_SUBTYPE_FEE, &index);
    uint64_t repeated = fee ? s_saturated(fee->header.value) : 0, network = 0, validators = 0;
    vpn_glue_net_fees(net, &network, &validators);
    out->fee = network > UINT64_MAX - repeated ? UINT64_MAX : network + repeated;
    const char *ticker = dap_ledger_tx_get_token_ticker_by_hash(ledger, &last);
    if (ticker)
        strncpy(out->token, ticker, sizeof(out->token) - 1);
    return VPN_GLUE_TX_OPEN;
}

/* --- wallets --- */

/* Opens the wallet's key, which the caller deletes; NULL if the wallet cannot be opened. */
static dap_enc_key_t *s_key(const char *name)
{
    dap_chain_wallet_t *wallet = dap_chain_wallet_open(name, dap_chain_wallet_get_path(g_config), NULL);
    if (!wallet)
        return NULL;
    dap_enc_key_t *key = dap_chain_wallet_get_key(wallet, 0);
    dap_chain_wallet_close(wallet);
    return key;
}

bool vpn_glue_wallet_key_hash(const char *name, uint8_t *hash)
{
    dap_enc_key_t *key = s_key(name);
    dap_pkey_t *public_key = key ? dap_pkey_from_enc_key(key) : NULL;
    dap_hash_fast_t key_hash;
    bool found = public_key && dap_pkey_get_hash(public_key, &key_hash);
    if (found)
        memcpy(hash, key_hash.raw, 32);
    DAP_DELETE(public_key);
    if (key)
        dap_enc_key_delete(key);
    return found;
}

uint8_t *vpn_glue_wallet_sign(const char *name, const void *data, size_t size, size_t *signature_size)
{
    *signature_size = 0;
    dap_enc_key_t *key = s_key(name);
    dap_sign_t *signature = key ? dap_sign_create(key, data, size) : NULL;
    if (key)
        dap_enc_key_delete(key);
    if (signature)
        *signature_size = dap_sign_get_size(signature);
    return (uint8_t *)signature;
}

static bool s_pay(dap_chain_net_t *net, dap_enc_key_t *key, const char *token, uint64_t value, uint64_t fee,
                  uint32_t unit, uint8_t *hash)
{
    dap_pkey_t *public_key = dap_pkey_from_enc_key(key);
    if (!public_key)
        return false;
#if defined(VPN_SDK_PAY_KEY_HASH)
    dap_hash_fast_t key_hash, *payer = &key_hash;
    dap_pkey_get_hash(public_key, payer);
#elif defined(VPN_SDK_PAY_KEY)
    dap_pkey_t *payer = public_key;
#else
#error "This SDK's dap_chain_mempool_tx_create_cond takes neither a dap_hash_fast_t * nor a dap_pkey_t * for the paying key."
#endif

    char ticker[DAP_CHAIN_TICKER_SIZE_MAX];
    memset(ticker, 0, sizeof(ticker));
    strncpy(ticker, token, sizeof(ticker) - 1);
    dap_chain_net_srv_price_unit_uid_t price_unit;
    memset(&price_unit, 0, sizeof(price_unit));
    price_unit.enm = unit;
    uint256_t no_limit;
    memset(&no_limit, 0, sizeof(no_limit));
    char *text =
        dap_chain_mempool_tx_create_cond(net, key, payer, ticker, GET_256_FROM_64(value), no_limit, price_unit,
                                         vpn_internal_service_uid(), GET_256_FROM_64(fee), NULL, 0, "hex");
    DAP_DELETE(public_key);
    if (!text)
        return false;
    dap_chain_hash_fast_t transaction;
    bool made = dap_chain_hash_fast_from_str(text, &transaction) == 0;
    if (made)
        memcpy(hash, transaction.raw, 32);
    DAP_DELETE(text);
    return made;
}

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint64_t fee,
                         uint32_t unit, uint8_t *hash, char *why, size_t why_size)
{
    (void)why, (void)why_size;
    dap_enc_key_t *key = s_key(wallet);
    if (!key)
        return false;
    bool made = s_pay(net, key, token, value, fee, unit, hash);
    dap_enc_key_delete(key);
    return made;
}

/* The node's command tx_cond does. */
bool vpn_glue_wallet_close(struct dap_chain_net *net, const char *wallet, const uint8_t *tx)
{
    (void)net, (void)wallet, (void)tx;
    return false;
}
