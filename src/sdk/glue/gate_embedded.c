/* The embedded SDK's channel 'R' needs no gate in front of it. */
#include "internal.h"

bool vpn_glue_gate_install(void)
{
    return false;
}

void vpn_glue_gate_pass(struct dap_stream_ch *ch, uint8_t kind, const void *data, size_t size)
{
    (void)ch, (void)kind, (void)data, (void)size;
}

bool vpn_glue_gate_send(struct dap_stream_ch *ch, uint8_t kind, const void *data, size_t size)
{
    (void)ch, (void)kind, (void)data, (void)size;
    return false;
}

void vpn_glue_channel_address(const struct dap_stream_ch *ch, uint8_t *out)
{
    (void)ch;
    memset(out, 0, 16);
}

int64_t vpn_glue_channel_silence(const struct dap_stream_ch *ch)
{
    (void)ch;
    return -1;
}
