/* The names and prototypes that the VPN module uses from the Cellframe SDK and that the embedded SDK lacks. */
#pragma once
/* The embedded SDK has only a part of this struct. */
#define dap_chain_tx_out_cond standin_part_of_out_cond
#define dap_chain_tx_out_cond_header standin_part_of_out_cond_header
#define dap_chain_tx_out_cond_t standin_part_of_out_cond_t
#define dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond standin_part_linked
#define dap_ledger_tx_out_cond_add standin_part_add
#define dap_chain_tx_out_cond_subtype standin_part_of_subtypes
#define dap_sign_hdr standin_part_of_sign_header
#define dap_sign_hdr_t standin_part_of_sign_header_t
#define dap_sign standin_part_of_sign
#define dap_sign_t standin_part_of_sign_t
#define dap_sign_get_size standin_part_get_size
#define dap_sign_verify_all standin_part_verify
#define dap_sign_get_pkey_hash standin_part_key_hash
#define dap_chain_datum_tx_receipt_sign_get standin_part_sign_get
#define DAP_CHAIN_TX_OUT_COND_SUBTYPE_UNDEFINED STANDIN_SUBTYPE_UNDEFINED
#define DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY STANDIN_SUBTYPE_SRV_PAY
#include <dap_embedded_sdk.h>
#undef dap_chain_tx_out_cond
#undef dap_chain_tx_out_cond_header
#undef dap_chain_tx_out_cond_t
#undef dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond
#undef dap_ledger_tx_out_cond_add
#undef dap_chain_tx_out_cond_subtype
#undef dap_sign_hdr
#undef dap_sign_hdr_t
#undef dap_sign
#undef dap_sign_t
#undef dap_sign_get_size
#undef dap_sign_verify_all
#undef dap_sign_get_pkey_hash
#undef dap_chain_datum_tx_receipt_sign_get
#undef DAP_CHAIN_TX_OUT_COND_SUBTYPE_UNDEFINED
#undef DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY
#include "standin_made.h"
#undef DAP_EMBEDDED_SDK     /* so that the module treats this as the Cellframe SDK */

#if !defined(STANDIN) || !defined(STANDIN_OF_CORE)
#error "the SDK's compile definitions did not reach this file"
#endif

/* Numbers of this stand-in have 64 bits in fact. */
static inline uint64_t dap_chain_uint256_to(uint256_t value)
{
    uint64_t low;
    memcpy(&low, value.bytes, sizeof(low));
    return low;
}
static inline bool IS_ZERO_256(uint256_t value)
{
    return !dap_chain_uint256_to(value);
}
static inline uint256_t GET_256_FROM_64(uint64_t value)
{
    uint256_t made;
    memset(&made, 0, sizeof(made));
    memcpy(made.bytes, &value, sizeof(value));
    return made;
}
static inline int compare256(uint256_t a, uint256_t b)
{
    uint64_t left = dap_chain_uint256_to(a), right = dap_chain_uint256_to(b);
    return left < right ? -1 : left > right;
}
static inline int SUM_256_256(uint256_t a, uint256_t b, uint256_t *sum)
{
    *sum = GET_256_FROM_64(dap_chain_uint256_to(a) + dap_chain_uint256_to(b));
    return compare256(*sum, a) < 0;
}
static inline void DIV_256(uint256_t a, uint256_t b, uint256_t *quotient)
{
    *quotient = GET_256_FROM_64(dap_chain_uint256_to(a) / dap_chain_uint256_to(b));
}

struct dap_enc_key {
    void *priv_key_data;
    size_t priv_key_data_size;
};
enum { NET_STATE_OFFLINE };
typedef struct dap_pkey dap_pkey_t;
typedef struct dap_chain_wallet dap_chain_wallet_t;
typedef enum { SERV_DIR_UNDEFINED, SERV_DIR_BUY, SERV_DIR_SELL } dap_chain_net_srv_order_direction_t;
typedef struct dap_chain_net_srv_order {
    dap_chain_net_srv_uid_t srv_uid;
    uint32_t ext_size;
    dap_chain_node_addr_t node_addr;
    dap_chain_net_srv_price_unit_uid_t price_unit;
    uint256_t price;
    char price_ticker[DAP_CHAIN_TICKER_SIZE_MAX];
    uint64_t units;
    uint8_t ext_n_sign[];
} dap_chain_net_srv_order_t;

enum {
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_UNDEFINED = 0,
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY = 1,
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_FEE = 4,
};
typedef uint8_t dap_chain_tx_out_cond_subtype_t;
typedef struct dap_chain_tx_out_cond {
    struct {
        dap_chain_tx_out_cond_subtype_t subtype;
        uint256_t value;
        dap_chain_net_srv_uid_t srv_uid;
    } header;
    union {
        struct {
            dap_chain_hash_fast_t pkey_hash;
            dap_chain_net_srv_price_unit_uid_t unit;
            uint256_t unit_price_max_datoshi;
        } srv_pay;
    } subtype;
} dap_chain_tx_out_cond_t;
typedef struct dap_chain_datum_tx dap_chain_datum_tx_t;
typedef struct dap_ledger_tx_item dap_ledger_tx_item_t;
enum { SIG_TYPE_DILITHIUM = 0x0102 };
#define DAP_SIGN_GET_PKEY_HASHING_FLAG(type) ((type) & 0x80)
typedef struct dap_sign {
    struct {
        struct {
            uint32_t type;
        } type;
        uint8_t hash_type;
    } header;
} dap_sign_t;
typedef struct dap_chain_addr {
    dap_chain_net_id_t net_id;
    uint8_t bytes[69];
} dap_chain_addr_t;
struct dap_config {
    char *path;
};
extern dap_chain_node_addr_t g_node_addr;

dap_chain_tx_out_cond_t *dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(dap_ledger_t *ledger,
                                                                               dap_chain_tx_in_cond_t *in);
dap_ledger_t *dap_ledger_by_net_name(const char *name);
dap_chain_datum_tx_t *dap_ledger_tx_find_datum_by_hash(dap_ledger_t *ledger, const dap_chain_hash_fast_t *hash,
                                                       dap_ledger_tx_item_t **item, bool unspent_only);
dap_hash_fast_t dap_ledger_get_final_chain_tx_hash(dap_ledger_t *ledger, dap_chain_tx_out_cond_subtype_t subtype,
                                                   dap_chain_hash_fast_t *hash, bool unspent_only);
const char *dap_ledger_tx_get_token_ticker_by_hash(dap_ledger_t *ledger, dap_chain_hash_fast_t *hash);
dap_chain_tx_out_cond_t *dap_chain_datum_tx_out_cond_get(dap_chain_datum_tx_t *tx,
                                                         dap_chain_tx_out_cond_subtype_t subtype, int *number);
dap_hash_fast_t dap_ledger_get_first_chain_tx_hash(dap_ledger_t *ledger, dap_chain_datum_tx_t *tx,
                                                   dap_chain_tx_out_cond_subtype_t subtype);
#define dap_ledger_tx_find_by_hash(ledger, hash) dap_ledger_tx_find_datum_by_hash(ledger, hash, NULL, false)
dap_chain_net_srv_order_t *dap_chain_net_srv_order_find_by_hash(dap_chain_net_t *net, dap_chain_hash_fast_t *hash);
int dap_chain_net_get_state(dap_chain_net_t *net);
int dap_sign_verify_size(dap_sign_t *sign, size_t size);
int dap_sign_verify_all(dap_sign_t *sign, size_t size, const void *data, size_t data_size);
bool dap_sign_get_pkey_hash(dap_sign_t *sign, dap_chain_hash_fast_t *hash);
dap_sign_t *dap_chain_datum_tx_receipt_sign_get(dap_chain_datum_tx_receipt_t *receipt, size_t size, uint16_t position);
dap_chain_datum_tx_receipt_t *dap_chain_datum_tx_receipt_create(dap_chain_net_srv_uid_t uid,
                                                                dap_chain_net_srv_price_unit_uid_t unit, uint64_t units,
                                                                uint256_t value, const void *ext, size_t ext_size,
                                                                dap_hash_fast_t *previous);
dap_chain_datum_tx_receipt_t *dap_chain_datum_tx_receipt_sign_add(dap_chain_datum_tx_receipt_t *receipt,
                                                                  struct dap_enc_key *key);
bool dap_hash_fast_compare(const dap_hash_fast_t *a, const dap_hash_fast_t *b);
bool dap_hash_fast_is_blank(const dap_hash_fast_t *hash);
dap_chain_addr_t *dap_chain_addr_from_str(const char *text);
bool dap_chain_addr_is_blank(const dap_chain_addr_t *address);
bool dap_chain_net_tx_get_fee(dap_chain_net_id_t id, uint256_t *value, dap_chain_addr_t *address);
dap_chain_node_info_t *dap_chain_node_info_read(dap_chain_net_t *net, dap_chain_node_addr_t *address);
dap_sign_t *dap_sign_create(struct dap_enc_key *key, const void *data, const size_t size);
size_t dap_sign_get_size(dap_sign_t *sign);
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
