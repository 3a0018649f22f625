/* Orders, wallets and ledger with the embedded SDK: each network has one free order; there are no wallets and no ledger. */
#include "internal.h"
#include "dap_chain_net.h"
#include "dap_hash.h"

void vpn_glue_net_orders(struct dap_chain_net *net, bool selling_only,
                         void (*callback)(void *context, const vpn_glue_order_view_t *order), void *context)
{
    (void)selling_only;
    dap_hash_fast_t hash;
    if (!dap_embedded_free_order(net, &hash))
        return;
    vpn_glue_order_view_t order;
    memset(&order, 0, sizeof(order));
    memcpy(order.hash, hash.raw, sizeof(order.hash));
    order.token = net->pub.native_ticker;
    callback(context, &order);
}

void vpn_glue_net_fees(struct dap_chain_net *net, uint64_t *network, uint64_t *validators)
{
    (void)net;
    *network = *validators = 0;
}

int vpn_glue_ledger_payments(struct dap_chain_net *net, const uint8_t *tx, vpn_glue_tx_view_t *out)
{
    (void)net, (void)tx, (void)out;
    return VPN_GLUE_TX_UNKNOWN;
}

bool vpn_glue_wallet_key_hash(const char *name, uint8_t *hash)
{
    (void)name, (void)hash;
    return false;
}

uint8_t *vpn_glue_wallet_sign(const char *name, const void *data, size_t size, size_t *signature_size)
{
    (void)name, (void)data, (void)size;
    *signature_size = 0;
    return NULL;
}

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint64_t fee,
                         uint32_t unit, uint8_t *hash)
{
    (void)net, (void)wallet, (void)token, (void)value, (void)fee, (void)unit, (void)hash;
    return false;
}
