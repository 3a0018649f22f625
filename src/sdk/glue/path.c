/* The TCP connection below channel 'S': what the kernel knows of its path, and how it sends. The kernel's own header, not
 * the C library's, has the whole struct tcp_info; no file may include both. */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "internal.h"

/* The stream's descriptor, or -1. */
static int s_descriptor(const struct dap_stream_ch *ch)
{
    const dap_events_socket_t *es = vpn_internal_socket_of(ch);
    return es ? (int)es->fd : -1;
}

/* Whether a kernel that has written `size` bytes of a struct tcp_info has written this field. */
#define HAS(field) (size >= offsetof(struct tcp_info, field) + sizeof(info.field))

bool vpn_glue_channel_path(const struct dap_stream_ch *ch, vpn_glue_path_info_t *out)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    int fd = s_descriptor(ch);
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || !HAS(tcpi_total_retrans))
        return false;
    out->rtt = info.tcpi_rtt;
    out->mss = info.tcpi_snd_mss;
    out->cwnd = (uint64_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss;
    out->unacked = info.tcpi_unacked;
    out->retransmits = info.tcpi_total_retrans;
    out->ca_state = info.tcpi_ca_state;
    out->timeouts = info.tcpi_backoff;
    out->pacing_rate = HAS(tcpi_pacing_rate) ? info.tcpi_pacing_rate : UINT64_MAX;
    out->unsent = HAS(tcpi_notsent_bytes) ? info.tcpi_notsent_bytes : UINT32_MAX;
    out->min_rtt = HAS(tcpi_min_rtt) ? info.tcpi_min_rtt : UINT32_MAX;
    /* A kernel that has the rate has the bit, which lies in a byte that older ones left 0. */
    out->delivery_rate = HAS(tcpi_delivery_rate) ? info.tcpi_delivery_rate : UINT64_MAX;
    out->is_app_limited = HAS(tcpi_delivery_rate) ? info.tcpi_delivery_rate_app_limited : true;
    return true;
}

bool vpn_glue_channel_bbr(const struct dap_stream_ch *ch, vpn_glue_bbr_t *out)
{
    /* The kernel does not say whose figures these are: other controls tell fewer, later versions of bbr more. */
    struct {
        struct tcp_bbr_info bbr;
        char more[256];
    } info;
    socklen_t size = sizeof(info);
    int fd = s_descriptor(ch);
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_CC_INFO, &info, &size) != 0 || size != sizeof(info.bbr))
        return false;
    out->rate = (uint64_t)info.bbr.bbr_bw_hi << 32 | info.bbr.bbr_bw_lo;
    out->window_gain = info.bbr.bbr_cwnd_gain;
    return true;
}

int64_t vpn_glue_channel_unsent(const struct dap_stream_ch *ch)
{
    int bytes = 0;
    int fd = s_descriptor(ch);
    return fd >= 0 && ioctl(fd, SIOCOUTQNSD, &bytes) == 0 && bytes >= 0 ? bytes : -1;
}

/* Sets an option of the stream's socket; 0, or an errno. */
static int s_set(const struct dap_stream_ch *ch, int level, int option, const void *value, size_t size)
{
    int fd = s_descriptor(ch);
    if (fd < 0)
        return ENOTCONN;
    return setsockopt(fd, level, option, value, (socklen_t)size) == 0 ? 0 : errno;
}

int vpn_glue_channel_set_unsent_limit(struct dap_stream_ch *ch, uint32_t bytes)
{
    return s_set(ch, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

int vpn_glue_channel_set_rate_limit(struct dap_stream_ch *ch, uint64_t bytes_per_second)
{
    return s_set(ch, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_second, sizeof(bytes_per_second));
}

int vpn_glue_channel_allow_fragments(struct dap_stream_ch *ch)
{
    int how = IP_PMTUDISC_DONT;
    return s_set(ch, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof(how));
}

int vpn_glue_channel_set_congestion(struct dap_stream_ch *ch, const char *name)
{
    return s_set(ch, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name));
}

int vpn_glue_channel_congestion(const struct dap_stream_ch *ch, char *out, size_t size)
{
    int fd = s_descriptor(ch);
    /* The kernel writes 16 bytes at most, the last of which is a NUL unless there is room for fewer. */
    char name[16] = "";
    socklen_t length = sizeof(name);
    if (fd < 0 || size == 0)
        return ENOTCONN;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) != 0)
        return errno;
    snprintf(out, size, "%.*s", (int)sizeof(name), name);
    return 0;
}
