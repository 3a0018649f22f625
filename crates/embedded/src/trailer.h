
/* --- attributes, memory, log: the SDK's macros ------------------------------------------------------------------- */

typedef unsigned char byte_t;

#define DAP_ALIGNED(x) __attribute__((aligned(x)))
#define DAP_PACKED __attribute__((packed))
#define DAP_ALIGN_PACKED __attribute__((aligned(1), packed))
#define DAP_STATIC_INLINE static __attribute__((always_inline)) inline

#define DAP_NEW_Z(type) ((type *)calloc(1, sizeof(type)))
#define DAP_NEW_Z_SIZE(type, size) ((type *)calloc(1, (size_t)(size)))
#define DAP_DELETE(memory) free((void *)(memory))
#define DAP_DEL_Z(memory) do { free((void *)(memory)); (memory) = NULL; } while (0)

#define DAP_STREAM_CH_NET_SRV_ID 'R'

#define DAP_STREAM_CH(a) ((dap_stream_ch_t *)((a)->internal))
#define DAP_STREAM_CH_CHAIN_NET_SRV(a) ((dap_stream_ch_chain_net_srv_t *)((a)->internal))

/* Writes a line to the log, printf style. log_it needs LOG_TAG, as in the SDK; the others use the file's name. */
static inline __attribute__((format(printf, 3, 4), unused))
void _log_it_tag(enum dap_log_level level, const char *tag, const char *format, ...)
{
    if (level < dap_log_level_get())
        return;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *message = size < 0 ? NULL : (char *)malloc((size_t)size + 1);
    if (message) {
        vsnprintf(message, (size_t)size + 1, format, again);
        dap_log_write(level, tag, message);
        free(message);
    }
    va_end(again);
}

#define log_it(level, ...) _log_it_tag((level), LOG_TAG, __VA_ARGS__)
#define log_it_debug(...) _log_it_tag(L_DEBUG, __FILE__, __VA_ARGS__)
#define log_it_info(...) _log_it_tag(L_INFO, __FILE__, __VA_ARGS__)
#define log_it_warning(...) _log_it_tag(L_WARNING, __FILE__, __VA_ARGS__)
#define log_it_error(...) _log_it_tag(L_ERROR, __FILE__, __VA_ARGS__)

/* --- configuration: the SDK's macros for typed values ------------------------------------------------------------- */

#define dap_config_get_item_bool(c, section, key) dap_config_get_item_bool_default((c), (section), (key), false)
#define dap_config_get_item_str(c, section, key) dap_config_get_item_str_default((c), (section), (key), NULL)
#define dap_config_get_item_uint16_default(c, section, key, otherwise) ((uint16_t)_dap_config_get_item_uint((c), (section), (key), (otherwise)))
#define dap_config_get_item_uint16(c, section, key) dap_config_get_item_uint16_default((c), (section), (key), 0)
#define dap_config_get_item_int32_default(c, section, key, otherwise) ((int32_t)_dap_config_get_item_int((c), (section), (key), (otherwise)))
#define dap_config_get_item_int32(c, section, key) dap_config_get_item_int32_default((c), (section), (key), 0)
#define dap_config_get_item_uint32_default(c, section, key, otherwise) ((uint32_t)_dap_config_get_item_uint((c), (section), (key), (otherwise)))
#define dap_config_get_item_uint32(c, section, key) dap_config_get_item_uint32_default((c), (section), (key), 0)
#define dap_config_get_item_int64_default(c, section, key, otherwise) _dap_config_get_item_int((c), (section), (key), (otherwise))
#define dap_config_get_item_int64(c, section, key) dap_config_get_item_int64_default((c), (section), (key), 0)
#define dap_config_get_item_uint64_default(c, section, key, otherwise) _dap_config_get_item_uint((c), (section), (key), (otherwise))
#define dap_config_get_item_uint64(c, section, key) dap_config_get_item_uint64_default((c), (section), (key), 0)
#define dap_config_get_item_double(c, section, key) dap_config_get_item_double_default((c), (section), (key), 0)

/* --- replies of commands and of HTTP handlers, printf style ------------------------------------------------------- */

static inline __attribute__((format(printf, 2, 3), unused))
void dap_cli_server_cmd_set_reply_text(void **reply, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = size < 0 ? NULL : (char *)malloc((size_t)size + 1);
    if (text) {
        vsnprintf(text, (size_t)size + 1, format, again);
        dap_cli_server_cmd_set_reply_str(reply, text);
        free(text);
    }
    va_end(again);
}
