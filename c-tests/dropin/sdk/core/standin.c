/* The stand-in's functions. It has no workers and no node, knows one network, and records what the module registers. */
#include "standin.h"

dap_config_t *g_config;
dap_chain_node_addr_t g_node_addr;
const char *standin_tag;

static dap_chain_net_t s_net = {.pub = {.id = {0x77}, .name = "standin", .gdb_groups_prefix = "standin"}};

/* --- log, configuration: there is none --- */
enum dap_log_level dap_log_level_get(void) { return L_DEBUG; }
void dap_log_write(int level, const char *tag, const char *message) { fprintf(stderr, "[%d] %s: %s\n", level, tag, message); }
bool dap_config_get_item_bool_default(dap_config_t *c, const char *s, const char *i, bool d) { (void)c, (void)s, (void)i; return d; }
dap_config_item_type_t dap_config_get_item_type(dap_config_t *c, const char *s, const char *i) { (void)c, (void)s, (void)i; return DAP_CONFIG_ITEM_UNKNOWN; }
int64_t _dap_config_get_item_int(dap_config_t *c, const char *s, const char *i, int64_t d) { (void)c, (void)s, (void)i; return d; }
const char *dap_config_get_item_str_default(dap_config_t *c, const char *s, const char *i, const char *d) { (void)c, (void)s, (void)i; return d; }
const char **dap_config_get_array_str(dap_config_t *c, const char *s, const char *i, uint16_t *n) { (void)c, (void)s, (void)i; *n = 0; return NULL; }

dap_config_t *dap_config_open(const char *n) { (void)n; return NULL; }
void dap_config_close(dap_config_t *c) { (void)c; }

/* --- workers, sockets, timers: none --- */
uint32_t dap_events_thread_get_count(void) { return 0; }
dap_worker_t *dap_events_worker_get(uint8_t i) { (void)i; return NULL; }
dap_worker_t *dap_worker_get_current(void) { return NULL; }
void dap_worker_exec_callback_on(dap_worker_t *w, dap_worker_callback_t c, void *a) { (void)w, (void)c, (void)a; }
dap_timerfd_t *dap_timerfd_start_on_worker(dap_worker_t *w, uint64_t t, dap_timerfd_callback_t c, void *a) { (void)w, (void)t, (void)c, (void)a; return NULL; }
void dap_timerfd_delete_mt(dap_worker_t *w, dap_events_socket_uuid_t u) { (void)w, (void)u; }
dap_events_socket_t *dap_events_socket_wrap_no_add(int fd, dap_events_socket_callbacks_t *c) { (void)fd, (void)c; return NULL; }
void dap_events_socket_assign_on_worker_mt(dap_events_socket_t *e, dap_worker_t *w) { (void)e, (void)w; }
void dap_events_socket_set_readable_unsafe(dap_events_socket_t *e, bool r) { (void)e, (void)r; }
void dap_events_socket_set_writable_unsafe(dap_events_socket_t *e, bool r) { (void)e, (void)r; }
void dap_events_socket_remove_and_delete_mt(dap_worker_t *w, dap_events_socket_uuid_t u) { (void)w, (void)u; }

/* --- streams --- */
dap_stream_t *dap_stream_get_from_es(dap_events_socket_t *e) { (void)e; return NULL; }
void dap_stream_ch_proc_add(uint8_t i, dap_stream_ch_callback_t n, dap_stream_ch_callback_t d, dap_stream_ch_read_callback_t r, dap_stream_ch_write_callback_t w) { (void)i, (void)n, (void)d, (void)r, (void)w; }
size_t dap_stream_ch_pkt_write_unsafe(dap_stream_ch_t *c, uint8_t t, const void *d, size_t s) { (void)c, (void)t, (void)d; return s; }
void dap_stream_ch_set_ready_to_read_unsafe(dap_stream_ch_t *c, bool r) { (void)c, (void)r; }
void dap_stream_ch_set_ready_to_write_unsafe(dap_stream_ch_t *c, bool r) { (void)c, (void)r; }
dap_stream_ch_t *dap_stream_ch_by_id_unsafe(dap_stream_t *s, char i) { (void)s, (void)i; return NULL; }
dap_stream_ch_t *dap_stream_ch_find_by_uuid_unsafe(dap_stream_worker_t *w, dap_stream_ch_uuid_t u) { (void)w, (void)u; return NULL; }
dap_list_t *dap_stream_session_get_list_sessions(void) { return NULL; }
void dap_stream_session_get_list_sessions_unlock(void) {}
void dap_list_free(dap_list_t *l) { (void)l; }
void dap_list_free_full(dap_list_t *l, void (*f)(void *)) { (void)l, (void)f; }

/* --- networks, services, ledger --- */
dap_chain_net_t *dap_chain_net_by_name(const char *n) { return n && !strcmp(n, s_net.pub.name) ? &s_net : NULL; }
dap_chain_net_t *dap_chain_net_by_id(dap_chain_net_id_t i) { return i.uint64 == s_net.pub.id.uint64 ? &s_net : NULL; }
dap_chain_node_role_t dap_chain_net_get_role(const dap_chain_net_t *n) { (void)n; dap_chain_node_role_t r; memset(&r, 0, sizeof(r)); return r; }
dap_chain_net_srv_t *dap_chain_net_srv_add(dap_chain_net_srv_uid_t u, const char *s, dap_chain_net_srv_callbacks_t *c) { (void)u, (void)s, (void)c; return NULL; }
void dap_chain_net_srv_del(dap_chain_net_srv_t *s) { (void)s; }
dap_chain_net_srv_stream_session_t *dap_chain_net_srv_stream_session_create(dap_stream_session_t *s) { (void)s; return NULL; }
int dap_chain_net_srv_order_find_all_by(dap_chain_net_t *n, dap_chain_net_srv_order_direction_t d, dap_chain_net_srv_uid_t u, dap_chain_net_srv_price_unit_uid_t p, const char *t, uint256_t a, uint256_t b, dap_list_t **o, size_t *c) { (void)n, (void)d, (void)u, (void)p, (void)t, (void)a, (void)b; *o = NULL; *c = 0; return 0; }
size_t dap_chain_net_srv_order_get_size(const dap_chain_net_srv_order_t *o) { return sizeof(*o); }
int dap_ledger_service_add(dap_chain_net_srv_uid_t u, char *t, dap_ledger_tag_check_callback_t c) { (void)u, (void)c; standin_tag = t; return 0; }
dap_chain_tx_out_cond_t *dap_chain_ledger_get_tx_out_cond_linked_to_tx_in_cond(dap_ledger_t *l, dap_chain_tx_in_cond_t *i) { (void)l, (void)i; return NULL; }
dap_ledger_t *dap_ledger_by_net_name(const char *n) { (void)n; return NULL; }
dap_chain_datum_tx_t *dap_ledger_tx_find_datum_by_hash(dap_ledger_t *l, const dap_chain_hash_fast_t *h, dap_ledger_tx_item_t **i, bool u) { (void)l, (void)h, (void)i, (void)u; return NULL; }
dap_hash_fast_t dap_ledger_get_first_chain_tx_hash(dap_ledger_t *l, dap_chain_datum_tx_t *x, dap_chain_tx_out_cond_subtype_t t) { (void)l, (void)x, (void)t; dap_hash_fast_t h; memset(&h, 0, sizeof(h)); return h; }
dap_chain_net_srv_order_t *dap_chain_net_srv_order_find_by_hash(dap_chain_net_t *n, dap_chain_hash_fast_t *h) { (void)n, (void)h; return NULL; }
dap_chain_addr_t *dap_chain_addr_from_str(const char *t) { (void)t; return NULL; }
bool dap_chain_addr_is_blank(const dap_chain_addr_t *a) { (void)a; return true; }
int dap_chain_net_get_state(dap_chain_net_t *n) { (void)n; return 1; }
dap_hash_fast_t dap_ledger_get_final_chain_tx_hash(dap_ledger_t *l, dap_chain_tx_out_cond_subtype_t t, dap_chain_hash_fast_t *h, bool u) { (void)l, (void)t, (void)u; return *h; }
const char *dap_ledger_tx_get_token_ticker_by_hash(dap_ledger_t *l, dap_chain_hash_fast_t *h) { (void)l, (void)h; return NULL; }
dap_chain_tx_out_cond_t *dap_chain_datum_tx_out_cond_get(dap_chain_datum_tx_t *x, dap_chain_tx_out_cond_subtype_t t, int *n) { (void)x, (void)t, (void)n; return NULL; }
bool dap_hash_fast_is_blank(const dap_hash_fast_t *h) { (void)h; return false; }
bool dap_chain_net_tx_get_fee(dap_chain_net_id_t i, uint256_t *v, dap_chain_addr_t *a) { (void)i, (void)v, (void)a; return false; }
dap_chain_node_info_t *dap_chain_node_info_read(dap_chain_net_t *n, dap_chain_node_addr_t *a) { (void)n, (void)a; return NULL; }

/* --- receipts, signatures: none --- */
int dap_sign_verify_size(dap_sign_t *s, size_t z) { (void)s, (void)z; return -1; }
int dap_sign_verify_all(dap_sign_t *s, size_t z, const void *d, size_t n) { (void)s, (void)z, (void)d, (void)n; return -1; }
bool dap_sign_get_pkey_hash(dap_sign_t *s, dap_chain_hash_fast_t *h) { (void)s, (void)h; return false; }
dap_sign_t *dap_chain_datum_tx_receipt_sign_get(dap_chain_datum_tx_receipt_t *r, size_t z, uint16_t p) { (void)r, (void)z, (void)p; return NULL; }
dap_chain_datum_tx_receipt_t *dap_chain_datum_tx_receipt_create(dap_chain_net_srv_uid_t u, dap_chain_net_srv_price_unit_uid_t t, uint64_t n, uint256_t v, const void *e, size_t z, dap_hash_fast_t *h) { (void)u, (void)t, (void)n, (void)v, (void)e, (void)z, (void)h; return NULL; }
dap_chain_datum_tx_receipt_t *dap_chain_datum_tx_receipt_sign_add(dap_chain_datum_tx_receipt_t *r, struct dap_enc_key *k) { (void)k; return r; }
dap_chain_datum_tx_receipt_t *dap_chain_net_srv_issue_receipt(dap_chain_net_srv_t *s, dap_chain_net_srv_price_t *p, const void *e, size_t z, dap_chain_hash_fast_t *h) { (void)s, (void)p, (void)e, (void)z, (void)h; return NULL; }
void dap_chain_net_srv_usage_delete(dap_chain_net_srv_stream_session_t *s) { (void)s; }
bool dap_hash_fast_compare(const dap_hash_fast_t *a, const dap_hash_fast_t *b) { return !memcmp(a, b, sizeof(*a)); }
void dap_timerfd_delete_unsafe(dap_timerfd_t *t) { (void)t; }
dap_stream_ch_proc_t *dap_stream_ch_proc_find(uint8_t i) { (void)i; return NULL; }

/* --- the client's connection: never made --- */
dap_chain_node_client_t *dap_chain_node_client_create_n_connect(dap_chain_net_t *n, dap_chain_node_info_t *i, const char *c, const dap_chain_node_client_callbacks_t *b, void *a) { (void)n, (void)i, (void)c, (void)b, (void)a; return NULL; }
void dap_chain_node_client_close_mt(dap_chain_node_client_t *c) { (void)c; }
dap_stream_ch_t *dap_client_get_stream_ch_unsafe(dap_client_t *c, uint8_t i) { (void)c, (void)i; return NULL; }
dap_stream_worker_t *dap_client_get_stream_worker(dap_client_t *c) { (void)c; return NULL; }

/* --- store, commands, HTTP --- */
uint8_t *dap_global_db_get_sync(const char *g, const char *k, size_t *s, bool *p, uint64_t *t) { (void)g, (void)k, (void)p, (void)t; *s = 0; return NULL; }
int dap_global_db_set_sync(const char *g, const char *k, const void *v, size_t l, bool p) { (void)g, (void)k, (void)v, (void)l, (void)p; return 0; }
#ifndef STANDIN_OTHER_COMMANDS
struct dap_cli_cmd *dap_cli_server_cmd_add(const char *n, dap_cli_server_cmd_callback_t f, void *r, const char *d, const char *e) { (void)n, (void)f, (void)r, (void)d, (void)e; return NULL; }
#endif
bool dap_cli_server_cmd_remove(const char *n) { (void)n; return true; }
void dap_cli_server_cmd_set_reply_str(void **r, const char *t) { *r = strdup(t); }
dap_server_t *dap_server_get_default(void) { return NULL; }
struct dap_http_url_proc *dap_http_simple_proc_add(struct dap_http_server *s, const char *p, size_t m, dap_http_simple_callback_t c) { (void)s, (void)p, (void)m, (void)c; return NULL; }
size_t dap_http_simple_reply(dap_http_simple_t *r, void *d, size_t s) { (void)r, (void)d; return s; }

/* --- keys and wallets: none --- */
dap_cert_t *dap_cert_find_by_name(const char *n) { (void)n; return NULL; }
uint8_t *dap_enc_key_serialize_pub_key(struct dap_enc_key *k, size_t *s) { (void)k; *s = 0; return NULL; }
void dap_enc_key_delete(struct dap_enc_key *k) { (void)k; }
bool dap_hash_fast(const void *d, size_t s, dap_hash_fast_t *h) { (void)d, (void)s; memset(h, 0, sizeof(*h)); return true; }
int dap_chain_hash_fast_from_str(const char *t, dap_chain_hash_fast_t *h) { (void)t, (void)h; return -1; }
dap_chain_wallet_t *dap_chain_wallet_open(const char *n, const char *p, unsigned *s) { (void)n, (void)p, (void)s; return NULL; }
const char *dap_chain_wallet_get_path(dap_config_t *c) { (void)c; return "."; }
struct dap_enc_key *dap_chain_wallet_get_key(dap_chain_wallet_t *w, uint32_t i) { (void)w, (void)i; return NULL; }
void dap_chain_wallet_close(dap_chain_wallet_t *w) { (void)w; }
dap_sign_t *dap_sign_create(struct dap_enc_key *k, const void *d, const size_t s) { (void)k, (void)d, (void)s; return NULL; }
size_t dap_sign_get_size(dap_sign_t *s) { (void)s; return 0; }
dap_pkey_t *dap_pkey_from_enc_key(struct dap_enc_key *k) { (void)k; return NULL; }
bool dap_pkey_get_hash(dap_pkey_t *k, dap_hash_fast_t *h) { (void)k, (void)h; return false; }
char *dap_chain_mempool_tx_create_cond(dap_chain_net_t *n, struct dap_enc_key *k, dap_hash_fast_t *h, const char *t, uint256_t v, uint256_t m, dap_chain_net_srv_price_unit_uid_t u, dap_chain_net_srv_uid_t i, uint256_t f, const void *d, size_t s, const char *o) { (void)n, (void)k, (void)h, (void)t, (void)v, (void)m, (void)u, (void)i, (void)f, (void)d, (void)s, (void)o; return NULL; }
