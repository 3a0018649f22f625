/* Orders and wallets with the embedded SDK: each network has one free order, and there are no wallets. */
#include "internal.h"
#include "dap_chain_net.h"
#include "dap_hash.h"

void vpn_glue_net_orders(struct dap_chain_net *net, bool selling_only,
                         void (*callback)(void *context, const uint8_t *hash, uint64_t node_address, bool is_free),
                         void *context)
{
    (void)selling_only;
    dap_hash_fast_t order;
    if (dap_embedded_free_order(net, &order))
        callback(context, order.raw, 0, true);
}

bool vpn_glue_wallet_exists(const char *name)
{
    (void)name;
    return false;
}

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint32_t unit,
                         uint8_t *hash)
{
    (void)net, (void)wallet, (void)token, (void)value, (void)unit, (void)hash;
    return false;
}
