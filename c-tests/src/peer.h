/* The far end of the traffic: a process in the server's namespace that verifies received data and sends data on
 * request, and the calls that control it. It uses no function of the library. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { PEER_TCP = 7001, PEER_UDP = 7002 };

/* Moves the calling process into the namespace at `netns_path`, permanently. */
bool peer_enter(const char *netns_path);
/* Serves until it is killed. */
_Noreturn void peer_serve(void);

typedef struct peer_transfer {
    struct in_addr seen; /* the source address the peer saw */
    uint32_t verified;   /* bytes with the expected content */
} peer_transfer_t;

/* Transfer `size` bytes of the stream `seed`. Each returns false if the transfer fails. */
bool peer_upload(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result);
bool peer_download(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result);
/* Asks the peer to connect back to the address it saw, at a port that this call listens on. */
bool peer_connect_back(const char *address, uint32_t seed, uint32_t size, peer_transfer_t *result);

typedef struct peer_datagrams {
    int sent;
    int returned; /* echoed with the expected content */
    int corrupt;
} peer_datagrams_t;

/* Sends `count` datagrams of different sizes up to `largest` bytes, one at a time, and verifies each echo. */
peer_datagrams_t peer_echo(const char *address, uint32_t seed, int count, int largest);
