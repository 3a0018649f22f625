/* Orders, wallets and ledger with the embedded SDK. Without a node no chain carries orders and transactions from one
 * machine to another: the ledger of the server that the client connects to is asked over the stream's protocol. */
#include "internal.h"
#include "dap_chain_net.h"
#include "dap_hash.h"
#include "dap_sign.h"

/* --- the server's ledger --- */

int vpn_glue_ledger_open(struct dap_chain_net *net, const char *host, uint16_t port, char *why, size_t why_size)
{
    return dap_embedded_bank_open(net, host, port, why, why_size);
}

int vpn_glue_ledger_owner(struct dap_chain_net *net, uint8_t *server)
{
    dap_hash_fast_t identity;
    if (!dap_embedded_bank_identity(net, &identity))
        return VPN_GLUE_LEDGER_NONE;
    memcpy(server, identity.raw, sizeof(identity.raw));
    return VPN_GLUE_LEDGER_SERVER;
}

/* Passes orders on under the seam's name. */
struct order_reader {
    void (*callback)(void *context, const vpn_glue_order_view_t *order);
    void *context;
};

static void s_order(void *context, const dap_embedded_offer_t *offer)
{
    const struct order_reader *reader = (const struct order_reader *)context;
    vpn_glue_order_view_t order;
    memset(&order, 0, sizeof(order));
    memcpy(order.hash, offer->hash.raw, sizeof(order.hash));
    order.is_here = true;
    order.price = offer->value;
    order.units = offer->units;
    order.unit = offer->unit;
    order.token = offer->token;
    reader->callback(reader->context, &order);
}

void vpn_glue_net_orders(struct dap_chain_net *net, bool selling_only, bool with_places,
                         void (*callback)(void *context, const vpn_glue_order_view_t *order), void *context)
{
    (void)selling_only, (void)with_places;
    struct order_reader reader = {callback, context};
    dap_embedded_bank_orders(net, s_order, &reader);
}

void vpn_glue_net_fees(struct dap_chain_net *net, uint64_t *network, uint64_t *validators)
{
    *network = dap_embedded_bank_fee(net);
    *validators = 0;
}

int vpn_glue_ledger_payments(struct dap_chain_net *net, const uint8_t *tx, vpn_glue_tx_view_t *out)
{
    dap_hash_fast_t hash;
    memcpy(hash.raw, tx, sizeof(hash.raw));
    dap_embedded_chain_t chain;
    switch (dap_embedded_bank_chain(net, &hash, &chain)) {
    case DAP_EMBEDDED_CHAIN_UNKNOWN:
        return VPN_GLUE_TX_UNKNOWN;
    case DAP_EMBEDDED_CHAIN_SPENT:
        return VPN_GLUE_TX_SPENT;
    case DAP_EMBEDDED_CHAIN_OPEN:
        break;
    default:
        return VPN_GLUE_TX_UNAVAILABLE;
    }
    memset(out, 0, sizeof(*out));
    memcpy(out->hash, chain.last.raw, sizeof(out->hash));
    memcpy(out->key_hash, chain.key_hash.raw, sizeof(out->key_hash));
    out->value = chain.value;
    out->fee = chain.fee;
    out->unit_price_max = chain.max_unit_price;
    out->unit = chain.unit;
    _Static_assert(sizeof(out->token) == sizeof(chain.token), "a ticker with its NUL");
    memcpy(out->token, chain.token, sizeof(out->token));
    return VPN_GLUE_TX_OPEN;
}

/* --- wallets --- */

bool vpn_glue_wallet_key_hash(const char *name, uint8_t *hash)
{
    dap_hash_fast_t key_hash;
    bool found = dap_embedded_wallet_key_hash(name, &key_hash);
    if (found)
        memcpy(hash, key_hash.raw, sizeof(key_hash.raw));
    return found;
}

uint8_t *vpn_glue_wallet_sign(const char *name, const void *data, size_t size, size_t *signature_size)
{
    dap_sign_t *signature = dap_embedded_wallet_sign(name, data, size);
    *signature_size = signature ? (size_t)dap_sign_get_size(signature) : 0;
    return (uint8_t *)signature;
}

bool vpn_glue_wallet_pay(struct dap_chain_net *net, const char *wallet, const char *token, uint64_t value, uint64_t fee,
                         uint32_t unit, uint8_t *hash, char *why, size_t why_size)
{
    dap_hash_fast_t transaction;
    bool made = dap_embedded_bank_pay(net, wallet, token, value, fee, unit, &transaction, why, why_size);
    if (made)
        memcpy(hash, transaction.raw, sizeof(transaction.raw));
    return made;
}

bool vpn_glue_wallet_close(struct dap_chain_net *net, const char *wallet, const uint8_t *tx)
{
    dap_hash_fast_t hash;
    memcpy(hash.raw, tx, sizeof(hash.raw));
    return dap_embedded_bank_close(net, wallet, &hash);
}
