/* Services of the node: store, commands, HTTP, certificates. */
#include "internal.h"
#include "dap_cert.h"
#include "dap_cli_server.h"
#include "dap_global_db.h"
#include "dap_hash.h"
#include "dap_http_simple.h"
#include "dap_server.h"
#include "http_status_code.h"

#define REMAIN_LIMITS "/remain_limits_vpn"

/* --- store --- */

uint8_t *vpn_glue_store_get(const char *group, const char *key, size_t *size)
{
    *size = 0;
    return (uint8_t *)dap_global_db_get_sync(group, key, size, NULL, NULL);
}

int vpn_glue_store_set(const char *group, const char *key, const void *value, size_t size)
{
    return dap_global_db_set_sync(group, key, value, size, false);
}

/* --- commands --- */

void vpn_glue_command_add(const char *name, vpn_glue_command_t function, const char *summary, const char *usage)
{
#if defined(VPN_SDK_COMMAND_WITH_RPC)
    dap_cli_server_cmd_add(name, function, NULL, summary, usage);
#elif defined(VPN_SDK_COMMAND)
    dap_cli_server_cmd_add(name, function, summary, usage);
#else
#error "This SDK's dap_cli_server_cmd_add takes no function (int, char **, void **, int) with a summary and a usage, which the commands need."
#endif
}

void vpn_glue_command_remove(const char *name)
{
#ifdef VPN_SDK_COMMAND_REMOVE
    dap_cli_server_cmd_remove(name);
#else
    (void)name;     /* the command stays, and answers that the service is not running */
#endif
}

void vpn_glue_command_reply(void **reply, const char *text)
{
    dap_cli_server_cmd_set_reply_text(reply, "%s", text);
}

/* --- HTTP --- */

typedef struct http_request {
    dap_http_simple_t *simple;
    int *status;
} http_request_t;

static void s_http_remain_limits(dap_http_simple_t *simple, void *argument)
{
    http_request_t request = { .simple = simple, .status = (int *)argument };
    const dap_http_client_t *client = simple->http_client;
    vpn_internal_rust.http_remain_limits(&request, client->in_query_string,
                                         strnlen(client->in_query_string, sizeof(client->in_query_string)));
}

static dap_http_server_t *s_http(void)
{
    dap_server_t *server = dap_server_get_default();
    return server ? (dap_http_server_t *)server->_inheritor : NULL;
}

static dap_http_server_t *s_registered_with;

int vpn_glue_http_register(void)
{
    dap_http_server_t *http = s_http();
    if (!http)
        return -1;
    dap_http_simple_proc_add(http, REMAIN_LIMITS, 24000, s_http_remain_limits);
    s_registered_with = http;
    return 0;
}

void vpn_glue_http_unregister(void)
{
    if (s_registered_with)
        vpn_internal_http_remove(s_registered_with, REMAIN_LIMITS);
    s_registered_with = NULL;
}

void vpn_glue_http_reply(void *request, int status, const char *body, size_t size)
{
    http_request_t *target = (http_request_t *)request;
    *target->status = status;
    strncpy(target->simple->reply_mime, "application/json", sizeof(target->simple->reply_mime) - 1);
    dap_http_simple_reply(target->simple, (void *)(uintptr_t)body, size);
}

/* --- certificates --- */

bool vpn_glue_certificate_key_hash(const char *name, uint8_t *hash)
{
    dap_cert_t *cert = dap_cert_find_by_name(name);
    if (!cert || !cert->enc_key)
        return false;
    size_t key_size = 0;
    uint8_t *key = dap_enc_key_serialize_pub_key(cert->enc_key, &key_size);
    if (!key || !key_size)
        return false;
    dap_hash_fast_t full;
    dap_hash_fast(key, key_size, &full);
    DAP_DELETE(key);
    memcpy(hash, full.raw, 32);
    return true;
}
