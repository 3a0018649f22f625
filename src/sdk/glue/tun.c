/* TUN queues in a worker's loop. */
#include <unistd.h>

#include "internal.h"

/* The SDK's loop reads one packet itself, behind the bytes that it takes for pending input: headroom for headers. */
static void s_tun_read(dap_events_socket_t *es, void *argument)
{
    (void)argument;
    size_t size = es->buf_in_size;
    es->buf_in_size = vpn_internal_rust.tun_headroom;
    vpn_internal_rust.tun_readable(es->_inheritor, size > vpn_internal_rust.tun_headroom ? es->buf_in : NULL, size);
}

static bool s_tun_write(dap_events_socket_t *es, void *argument)
{
    (void)es;
    (void)argument;
    return false;   /* packets go to the descriptor directly, never through the SDK's buffer */
}

static void s_tun_error(dap_events_socket_t *es, int error)
{
    vpn_internal_rust.tun_failed(es->_inheritor, error);
    /* The SDK leaves a socket with no_close in its loop, which would report the error endlessly. */
    if (es->worker)
        dap_events_socket_remove_and_delete_mt(es->worker, es->uuid);
}

static void s_tun_delete(dap_events_socket_t *es, void *argument)
{
    (void)argument;
    void *inheritor = es->_inheritor;
    es->_inheritor = NULL;      /* it is Rust's memory, which the SDK must not free */
    vpn_internal_rust.tun_deleted(inheritor);
}

struct dap_events_socket *vpn_glue_tun_add(int fd, uint32_t worker, void *inheritor, uint64_t *uuid)
{
    dap_worker_t *target = vpn_internal_worker(worker);
    if (!target)
        return NULL;
    dap_events_socket_callbacks_t callbacks;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.read_callback = s_tun_read;
    callbacks.write_callback = s_tun_write;
    callbacks.error_callback = s_tun_error;
    callbacks.delete_callback = s_tun_delete;
    int descriptor = vpn_internal_descriptor(fd);
    if (descriptor < 0)
        return NULL;
    dap_events_socket_t *es = dap_events_socket_wrap_no_add(descriptor, &callbacks);
    if (!es) {
        if (descriptor != fd)
            close(descriptor);
        return NULL;
    }
    es->type = DESCRIPTOR_TYPE_FILE;
    es->no_close = true;
    es->_inheritor = inheritor;
    es->buf_in_size = vpn_internal_rust.tun_headroom;
    *uuid = es->uuid;
    dap_events_socket_assign_on_worker_mt(es, target);
    return es;
}

void vpn_glue_tun_remove(uint32_t worker, uint64_t uuid)
{
    dap_worker_t *target = vpn_internal_worker(worker);
    if (target)
        dap_events_socket_remove_and_delete_mt(target, uuid);
}

bool vpn_glue_tun_write(const struct dap_events_socket *es, const void *packet, size_t size)
{
    return write(es->fd, packet, size) == (ssize_t)size;
}
