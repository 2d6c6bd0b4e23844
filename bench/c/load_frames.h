/*
 * The frames that the load generator sends. They are made once, so that a message costs it little besides the kernel's
 * work; consecutive ones have different masking keys. A real client must draw a fresh, unpredictable key for each frame
 * (RFC 6455 section 5.3).
 */
#ifndef BENCH_LOAD_FRAMES_H
#define BENCH_LOAD_FRAMES_H

#include "common.h"
#include "frame.h"
#include "load_options.h"

#define DIFFERENT_FRAMES 16 /* small ones; of large ones one is enough to fill the caches */

/* Ready frames: `pattern_length` bytes that repeat, and behind them as many more as may be sent in one run. */
static uint8_t *payload, *pattern;
static size_t frame_length, pattern_length;

static uint64_t next_random(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15; /* xorshift64; the same bytes in every run */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static size_t write_masked(uint8_t *at, uint8_t first, const uint8_t *data, size_t length)
{
    uint8_t key[MASKING_KEY_LENGTH];
    uint32_t bits = (uint32_t)next_random();
    memcpy(key, &bits, sizeof key);
    size_t head = frame_encode(at, FIN | first, length);
    at[1] |= MASKED;
    memcpy(at + head, key, sizeof key);
    frame_mask(at + head + sizeof key, data, length, key);
    return head + sizeof key + length;
}

/*
 * Makes the payload what a sender of permessage-deflate makes of it without compressing (RFC 7692 section 7.2.3.3): a
 * stored block. A server has to inflate it all the same, and is free to compress what it sends back.
 */
static void store_payload(void)
{
    uint16_t size = (uint16_t)chosen.size, inverted = (uint16_t)~size;
    uint8_t *stored = allocate(chosen.size + 7, 1);
    memcpy(stored + 1, &size, 2); /* both in the order of this machine, which is the format's: little-endian */
    memcpy(stored + 3, &inverted, 2);
    memcpy(stored + 5, payload, chosen.size);
    free(payload);
    payload = stored;
}

static void prepare_frames(void)
{
    payload = allocate(chosen.size + 1, 1);
    for (size_t i = 0; i < chosen.size; i++)
        payload[i] = (uint8_t)(chosen.opcode == TEXT ? 'a' + next_random() % 26 : next_random());

    size_t length = chosen.size;
    uint8_t first = chosen.opcode;
    if (chosen.deflate) {
        store_payload();
        length += 6; /* its head of 5 bytes, and an empty byte behind it */
        first |= RSV1;
    }
    frame_length = head_size(length) + MASKING_KEY_LENGTH + length;
    size_t different = frame_length < 4096 ? DIFFERENT_FRAMES : 1;
    pattern_length = different * frame_length;
    pattern = allocate(pattern_length + chosen.outstanding * frame_length, 1);
    for (size_t i = 0; i < different; i++)
        write_masked(pattern + i * frame_length, first, payload, length);
    for (size_t i = 0; i < chosen.outstanding; i++)
        memcpy(pattern + pattern_length + i * frame_length, pattern + i % different * frame_length, frame_length);
}

#endif
