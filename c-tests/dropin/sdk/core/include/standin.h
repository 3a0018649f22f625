/* The names and prototypes that the VPN module uses from the Cellframe SDK and that the embedded SDK lacks. */
#pragma once
#include <dap_embedded_sdk.h>
#include "standin_made.h"
#undef DAP_EMBEDDED_SDK     /* so that the module treats this as the Cellframe SDK */

#if !defined(STANDIN) || !defined(STANDIN_OF_CORE)
#error "the SDK's compile definitions did not reach this file"
#endif

typedef struct uint256 {
    uint64_t parts[4];
} uint256_t;
static inline bool IS_ZERO_256(uint256_t value)
{
    return !(value.parts[0] | value.parts[1] | value.parts[2] | value.parts[3]);
}
static inline uint256_t GET_256_FROM_64(uint64_t value)
{
    return (uint256_t){{value, 0, 0, 0}};
}

struct dap_enc_key;
typedef struct dap_pkey dap_pkey_t;
typedef struct dap_chain_wallet dap_chain_wallet_t;
typedef union dap_chain_net_srv_price_unit_uid {
    uint32_t uint32;
    uint32_t enm;
} dap_chain_net_srv_price_unit_uid_t;
enum { SERV_UNIT_B = 2 };
typedef enum { SERV_DIR_UNDEFINED, SERV_DIR_BUY, SERV_DIR_SELL } dap_chain_net_srv_order_direction_t;
typedef struct dap_chain_net_srv_order {
    dap_chain_node_addr_t node_addr;
    uint256_t price;
} dap_chain_net_srv_order_t;

dap_stream_t *dap_stream_get_from_es(dap_events_socket_t *es);
int dap_chain_net_srv_order_find_all_by(dap_chain_net_t *net, dap_chain_net_srv_order_direction_t direction,
                                        dap_chain_net_srv_uid_t uid, dap_chain_net_srv_price_unit_uid_t unit,
                                        const char *ticker, uint256_t least, uint256_t most, dap_list_t **orders,
                                        size_t *count);
size_t dap_chain_net_srv_order_get_size(const dap_chain_net_srv_order_t *order);
void dap_list_free_full(dap_list_t *list, void (*free_one)(void *));
dap_chain_wallet_t *dap_chain_wallet_open(const char *name, const char *path, unsigned *status);
const char *dap_chain_wallet_get_path(dap_config_t *config);
struct dap_enc_key *dap_chain_wallet_get_key(dap_chain_wallet_t *wallet, uint32_t index);
void dap_chain_wallet_close(dap_chain_wallet_t *wallet);
dap_pkey_t *dap_pkey_from_enc_key(struct dap_enc_key *key);
bool dap_pkey_get_hash(dap_pkey_t *key, dap_hash_fast_t *hash);
void dap_enc_key_delete(struct dap_enc_key *key);
char *dap_chain_mempool_tx_create_cond(dap_chain_net_t *net, struct dap_enc_key *key, dap_hash_fast_t *key_hash,
                                       const char *ticker, uint256_t value, uint256_t most,
                                       dap_chain_net_srv_price_unit_uid_t unit, dap_chain_net_srv_uid_t uid,
                                       uint256_t fee, const void *data, size_t size, const char *hash_type);
int dap_chain_hash_fast_from_str(const char *text, dap_chain_hash_fast_t *hash);

#ifdef STANDIN_OTHER_COMMANDS
/* A release that registers commands in a way that the module does not know. */
int standin_other_command_add(const char *name);
#define dap_cli_server_cmd_add standin_other_command_add
#endif

/* The stand-in's records, for node.c. */
extern const char *standin_tag;         /* the ledger tag that was registered */
