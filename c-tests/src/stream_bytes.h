/* A reproducible stream of bytes, which both ends generate from the same seed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct stream_bytes {
    uint64_t state;
} stream_bytes_t;

static inline stream_bytes_t stream_bytes(uint32_t seed)
{
    return (stream_bytes_t){.state = 0x9e3779b97f4a7c15u ^ ((uint64_t)seed << 20) ^ seed};
}

/* xorshift64*, Vigna 2016. */
static inline uint8_t stream_bytes_next(stream_bytes_t *bytes)
{
    bytes->state ^= bytes->state >> 12;
    bytes->state ^= bytes->state << 25;
    bytes->state ^= bytes->state >> 27;
    return (uint8_t)((bytes->state * 0x2545f4914f6cdd1du) >> 56);
}

static inline void stream_bytes_fill(stream_bytes_t *bytes, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = stream_bytes_next(bytes);
}

static inline bool stream_bytes_match(stream_bytes_t *bytes, const uint8_t *from, size_t size)
{
    bool same = true;
    for (size_t i = 0; i < size; i++)
        same &= from[i] == stream_bytes_next(bytes);
    return same;
}
