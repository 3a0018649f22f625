/* Functions of the SDK for every program: log, memory, configuration, workers and timers. */
#include "internal.h"
#include "dap_config.h"
#include "dap_timerfd.h"

vpn_glue_callbacks_t vpn_internal_rust;

void vpn_glue_set_callbacks(const vpn_glue_callbacks_t *callbacks)
{
    vpn_internal_rust = *callbacks;
}

/* --- log, memory --- */

/* log_it puts LOG_TAG in front of the line. */
#define LOG_TAG tag

void vpn_glue_log(int level, const char *tag, const char *message)
{
    /* In some releases log_it is a macro that needs the level's name. */
    switch (level) {
    case VPN_GLUE_LOG_ERROR: log_it(L_ERROR, "%s", message); break;
    case VPN_GLUE_LOG_WARNING: log_it(L_WARNING, "%s", message); break;
    case VPN_GLUE_LOG_NOTICE: log_it(L_NOTICE, "%s", message); break;
    case VPN_GLUE_LOG_INFO: log_it(L_INFO, "%s", message); break;
    default: log_it(L_DEBUG, "%s", message); break;
    }
}

#undef LOG_TAG
#define LOG_TAG "dap_chain_net_srv_vpn"

int vpn_glue_log_level(void)
{
    return (int)dap_log_level_get();
}

void *vpn_glue_alloc(size_t size)
{
    return DAP_NEW_Z_SIZE(uint8_t, size);
}

void vpn_glue_free(void *memory)
{
    DAP_DELETE(memory);
}

/* --- configuration --- */

static dap_config_t *s_config(void *config)
{
    return config ? (dap_config_t *)config : g_config;
}

bool vpn_glue_config_has(void *config, const char *section, const char *key, bool *is_list)
{
    dap_config_item_type_t type = dap_config_get_item_type(s_config(config), section, key);
    *is_list = type == DAP_CONFIG_ITEM_ARRAY;
    return type != DAP_CONFIG_ITEM_UNKNOWN;
}

bool vpn_glue_config_bool(void *config, const char *section, const char *key, bool default_value)
{
    return dap_config_get_item_bool_default(s_config(config), section, key, default_value);
}

int64_t vpn_glue_config_int(void *config, const char *section, const char *key, int64_t default_value)
{
    return dap_config_get_item_int64_default(s_config(config), section, key, default_value);
}

const char *vpn_glue_config_str(void *config, const char *section, const char *key)
{
    return dap_config_get_item_str_default(s_config(config), section, key, NULL);
}

const char *const *vpn_glue_config_list(void *config, const char *section, const char *key, uint16_t *count)
{
    *count = 0;
    return dap_config_get_array_str(s_config(config), section, key, count);
}

/* --- workers, timers --- */

uint32_t vpn_glue_worker_count(void)
{
    return dap_events_thread_get_count();
}

uint32_t vpn_glue_worker_current(void)
{
    dap_worker_t *worker = dap_worker_get_current();
    return worker ? worker->id : VPN_GLUE_NO_WORKER;
}

void *vpn_glue_worker_pointer(uint32_t worker)
{
    return vpn_internal_worker(worker);
}

bool vpn_glue_worker_exec(uint32_t worker, void (*callback)(void *), void *argument)
{
    dap_worker_t *target = vpn_internal_worker(worker);
    if (!target)
        return false;
    dap_worker_exec_callback_on(target, callback, argument);
    return true;
}

uint64_t vpn_glue_timer_start(uint32_t worker, uint64_t milliseconds, bool (*callback)(void *), void *argument)
{
    dap_worker_t *target = vpn_internal_worker(worker);
    dap_timerfd_t *timer = target ? dap_timerfd_start_on_worker(target, milliseconds, callback, argument) : NULL;
    return timer ? timer->esocket_uuid : 0;
}

void vpn_glue_timer_stop(uint32_t worker, uint64_t timer)
{
    dap_worker_t *target = vpn_internal_worker(worker);
    if (target && timer)
        dap_timerfd_delete_mt(target, timer);
}
