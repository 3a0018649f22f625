/* Orders and wallets with the Cellframe SDK. */
#include "internal.h"
#include "dap_chain_mempool.h"
#include "dap_chain_net.h"
#include "dap_chain_net_srv_order.h"
#include "dap_chain_wallet.h"
#include "dap_config.h"
#include "dap_hash.h"
#include "dap_pkey.h"

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

static void s_order_hash(const dap_chain_net_srv_order_t *order, uint8_t hash[32])
{
    dap_chain_hash_fast_t full;
    dap_hash_fast(order, dap_chain_net_srv_order_get_size(order), &full);
    memcpy(hash, full.raw, 32);
}

void vpn_glue_net_orders(struct dap_chain_net *net, bool selling_only,
                         void (*callback)(void *context, const uint8_t *hash, uint64_t node_address, bool is_free),
                         void *context)
{
    dap_list_t *orders = s_orders(net, selling_only ? SERV_DIR_SELL : SERV_DIR_UNDEFINED);
    for (dap_list_t *item = orders; item; item = item->next) {
        const dap_chain_net_srv_order_t *order = (const dap_chain_net_srv_order_t *)item->data;
        uint8_t hash[32];
        s_order_hash(order, hash);
        callback(context, hash, order->node_addr.uint64, IS_ZERO_256(order->price));
    }
    dap_list_free_full(orders, NULL);
}

static dap_chain_wallet_t *s_wallet(const char *name)
{
    return dap_chain_wallet_open(name, dap_chain_wallet_get_path(g_config), NULL);
}

bool vpn_glue_wallet_exists(const char *name)
{
    dap_chain_wallet_t *wallet = s_wallet(name);
    if (wallet)
        dap_chain_wallet_close(wallet);
    return wallet != NULL;
}

/* Converts a unit of raw.rs to the SDK's. */
static bool s_price_unit(uint32_t unit, dap_chain_net_srv_price_unit_uid_t *out)
{
    memset(out, 0, sizeof(*out));
    switch (unit) {
    case VPN_GLUE_UNIT_BYTES: out->enm = SERV_UNIT_B; return true;
    default: return false;
    }
}

static bool s_pay(dap_chain_net_t *net, dap_enc_key_t *key, const char *token, uint64_t value,
                  dap_chain_net_srv_price_unit_uid_t unit, uint8_t *hash)
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
    uint256_t none;
    memset(&none, 0, sizeof(none));
    char *text = dap_chain_mempool_tx_create_cond(net, key, payer, ticker, GET_256_FROM_64(value), none, unit,
                                                  vpn_internal_service_uid(), none, NULL, 0, "hex");
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

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint32_t unit,
                         uint8_t *hash)
{
    dap_chain_net_srv_price_unit_uid_t price_unit;
    if (!s_price_unit(unit, &price_unit))
        return false;
    dap_chain_wallet_t *opened = s_wallet(wallet);
    if (!opened)
        return false;
    dap_enc_key_t *key = dap_chain_wallet_get_key(opened, 0);
    bool made = key && s_pay(net, key, token, value, price_unit, hash);
    if (key)
        dap_enc_key_delete(key);
    dap_chain_wallet_close(opened);
    return made;
}
