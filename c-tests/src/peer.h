/* The far end of the traffic: a process in the server's namespace that verifies what it gets and sends what is asked
 * for, and the calls that talk to it. It uses no function of the library. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { PEER_TCP = 7001, PEER_UDP = 7002 };

/* Enters the namespace at `netns_path` (the calling process for good). */
bool peer_enter(const char *netns_path);
/* Serves until it is killed. */
_Noreturn void peer_serve(void);

typedef struct peer_transfer {
    struct in_addr seen; /* the source address the peer saw */
    uint32_t verified;   /* bytes whose content was right */
} peer_transfer_t;

/* Each returns false when the transfer broke; `size` bytes of the stream `seed`. */
bool peer_upload(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result);
bool peer_download(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result);
/* The peer connects back to the address it saw, at a port this call listens on. */
bool peer_connect_back(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result);

typedef struct peer_datagrams {
    int sent;
    int returned; /* came back, content right */
    int corrupt;
} peer_datagrams_t;

/* Sends `count` datagrams of different sizes up to `largest` bytes, one after the other, and verifies each echo. */
peer_datagrams_t peer_echo(const char *address, uint32_t seed, int count, int largest);
