#include "harness.h"
#include "peer.h"
#include "stream_bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct request {
    uint8_t what; /* 'U' upload, 'D' download, 'C' connect back */
    uint8_t padding;
    uint16_t port; /* of 'C', network order */
    uint32_t seed;
    uint32_t size;
} request_t;

enum { CHUNK = 16384, PATIENCE_S = 20, ECHO_WAIT_MS = 300, ECHO_TRIES = 3, DATAGRAM_MAX = 2048 };

bool peer_enter(const char *netns_path)
{
    int fd = open(netns_path, O_RDONLY | O_CLOEXEC);
    bool entered = fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
    if (fd >= 0)
        close(fd);
    return entered;
}

static bool send_all(int fd, const void *from, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t step = send(fd, (const uint8_t *)from + sent, size - sent, MSG_NOSIGNAL);
        if (step <= 0)
            return false;
        sent += (size_t)step;
    }
    return true;
}

static bool receive_all(int fd, void *to, size_t size)
{
    for (size_t have = 0; have < size;) {
        ssize_t step = recv(fd, (uint8_t *)to + have, size - have, 0);
        if (step <= 0)
            return false;
        have += (size_t)step;
    }
    return true;
}

static bool send_stream(int fd, uint32_t seed, uint32_t size)
{
    stream_bytes_t bytes = stream_bytes(seed);
    uint8_t chunk[CHUNK];
    for (uint32_t left = size; left;) {
        uint32_t step = left < CHUNK ? left : CHUNK;
        stream_bytes_fill(&bytes, chunk, step);
        if (!send_all(fd, chunk, step))
            return false;
        left -= step;
    }
    return true;
}

static uint32_t receive_stream(int fd, uint32_t seed, uint32_t size)
{
    stream_bytes_t bytes = stream_bytes(seed);
    uint8_t chunk[CHUNK];
    uint32_t verified = 0;
    while (verified < size) {
        uint32_t step = size - verified < CHUNK ? size - verified : CHUNK;
        if (!receive_all(fd, chunk, step) || !stream_bytes_match(&bytes, chunk, step))
            break;
        verified += step;
    }
    return verified;
}

static int new_socket(int type)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int yes = 1;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
}

static int bound_socket(int type, uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = new_socket(type);
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || (type == SOCK_STREAM && listen(fd, 16) != 0)) {
        perror("binding a test port");
        exit(1);
    }
    return fd;
}

static int connected_socket(struct sockaddr_in to)
{
    int fd = new_socket(SOCK_STREAM);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* --- the peer's side ---------------------------------------------------------------------------------------------- */

static void answer_connection(int fd, struct sockaddr_in from)
{
    request_t request;
    if (!receive_all(fd, &request, sizeof(request)))
        return;
    peer_transfer_t result = {.seen = from.sin_addr};
    if (request.what == 'U') {
        result.verified = receive_stream(fd, request.seed, request.size);
    } else if (request.what == 'D') {
        send_stream(fd, request.seed, request.size);
    } else if (request.what == 'C') {
        from.sin_port = request.port;
        int back = connected_socket(from);
        if (back >= 0 && send_stream(back, request.seed, request.size))
            result.verified = request.size;
        if (back >= 0)
            close(back);
    }
    send_all(fd, &result, sizeof(result));
}

static _Noreturn void serve_datagrams(void)
{
    int fd = bound_socket(SOCK_DGRAM, PEER_UDP);
    for (;;) {
        uint8_t bytes[DATAGRAM_MAX];
        struct sockaddr_in from;
        socklen_t from_size = sizeof(from);
        ssize_t size = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &from_size);
        for (ssize_t i = 0; i < size; i++)
            bytes[i] ^= 0xff;
        if (size > 0)
            sendto(fd, bytes, (size_t)size, 0, (struct sockaddr *)&from, from_size);
    }
}

_Noreturn void peer_serve(void)
{
    int listener = bound_socket(SOCK_STREAM, PEER_TCP);
    if (fork() == 0)
        serve_datagrams();
    for (;;) {
        struct sockaddr_in from;
        socklen_t from_size = sizeof(from);
        int fd = accept(listener, (struct sockaddr *)&from, &from_size);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (fd >= 0 && fork() == 0) {
            answer_connection(fd, from);
            _exit(0);
        }
        if (fd >= 0)
            close(fd);
    }
}

/* --- this side ---------------------------------------------------------------------------------------------------- */

static int ask(const char *address, request_t request)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PEER_TCP)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = connected_socket(to);
    if (fd >= 0 && !send_all(fd, &request, sizeof(request))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

bool peer_upload(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result)
{
    int fd = ask(address, (request_t){.what = 'U', .seed = seed, .size = size});
    bool done = fd >= 0 && send_stream(fd, seed, size) && receive_all(fd, result, sizeof(*result));
    if (fd >= 0)
        close(fd);
    return done && result->verified == size;
}

bool peer_download(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result)
{
    int fd = ask(address, (request_t){.what = 'D', .seed = seed, .size = size});
    uint32_t verified = fd >= 0 ? receive_stream(fd, seed, size) : 0;
    bool done = verified == size && receive_all(fd, result, sizeof(*result));
    result->verified = verified;
    if (fd >= 0)
        close(fd);
    return done;
}

bool peer_connect_back(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result)
{
    int listener = bound_socket(SOCK_STREAM, 0);
    struct sockaddr_in at;
    socklen_t at_size = sizeof(at);
    getsockname(listener, (struct sockaddr *)&at, &at_size);
    int asked = ask(address, (request_t){.what = 'C', .port = at.sin_port, .seed = seed, .size = size});
    int fd = asked >= 0 ? accept(listener, NULL, NULL) : -1;
    uint32_t verified = fd >= 0 ? receive_stream(fd, seed, size) : 0;
    bool done = verified == size && receive_all(asked, result, sizeof(*result));
    if (fd >= 0)
        close(fd);
    if (asked >= 0)
        close(asked);
    close(listener);
    return done && result->verified == size;
}

/* Sends one datagram and verifies its echo; sends it again if no echo comes, as UDP may lose either. */
static void echo_one(int fd, uint32_t seed, int size, peer_datagrams_t *counts)
{
    uint8_t sent[DATAGRAM_MAX], got[DATAGRAM_MAX];
    stream_bytes_t bytes = stream_bytes(seed);
    stream_bytes_fill(&bytes, sent, (size_t)size);
    for (int i = 0; i < ECHO_TRIES; i++) {
        counts->sent++;
        if (send(fd, sent, (size_t)size, 0) != size)
            continue;
        ssize_t have = recv(fd, got, sizeof(got), 0);
        if (have < 0)
            continue;
        bool same = have == size;
        for (int at = 0; same && at < size; at++)
            same = (got[at] ^ sent[at]) == 0xff;
        counts->returned += same;
        counts->corrupt += !same;
        return;
    }
}

peer_datagrams_t peer_echo(const char *address, uint32_t seed, int count, int largest)
{
    peer_datagrams_t counts = {0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PEER_UDP)};
    struct timeval wait = {.tv_usec = ECHO_WAIT_MS * 1000};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = new_socket(SOCK_DGRAM);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        for (int i = 0; i < count; i++)
            echo_one(fd, seed + (uint32_t)i, 1 + i * 37 % largest, &counts);
    close(fd);
    return counts;
}
