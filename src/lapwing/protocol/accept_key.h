/* The value of Sec-WebSocket-Accept (RFC 6455 section 4.2.2 item 5.4): SHA-1 (RFC 3174) of two blocks, and base64.
 *
 * No security rests on this hash (RFC 6455 section 10.8). Written out, it takes a third of the instructions that
 * `hashlib` needs to begin. */
#ifndef LAPWING_ACCEPT_KEY_H
#define LAPWING_ACCEPT_KEY_H

#include <stdint.h>
#include <string.h>

enum { LAPWING_KEY_SIZE = 24, LAPWING_ACCEPT_SIZE = 28 };

static inline uint32_t lapwing_rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

/* The words of a block, spread over the 80 steps. */
static inline void lapwing_sha1_spread(uint32_t words[80])
{
    for (int i = 16; i < 80; i++)
        words[i] = lapwing_rotate(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
}

#define LAPWING_SHA1_STEPS(from, mixed, constant)                                                                      \
    for (int i = from; i < (from) + 20; i++) {                                                                         \
        uint32_t next = lapwing_rotate(a, 5) + (mixed) + e + words[i] + constant;                                      \
        e = d, d = c, c = lapwing_rotate(b, 30), b = a, a = next;                                                      \
    }

static inline void lapwing_sha1_block(uint32_t state[5], const uint32_t words[80])
{
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    LAPWING_SHA1_STEPS(0, d ^ (b & (c ^ d)), 0x5A827999)
    LAPWING_SHA1_STEPS(20, b ^ c ^ d, 0x6ED9EBA1)
    LAPWING_SHA1_STEPS(40, (b & c) | (d & (b | c)), 0x8F1BBCDC)
    LAPWING_SHA1_STEPS(60, b ^ c ^ d, 0xCA62C1D6)
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

static void lapwing_accept_key(const char key[LAPWING_KEY_SIZE], char accept[LAPWING_ACCEPT_SIZE])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum { SIZE = LAPWING_KEY_SIZE + sizeof guid - 1 };
    unsigned char block[64] = {0}, digest[21] = {0};
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, words[80];
    memcpy(block, key, LAPWING_KEY_SIZE);
    memcpy(block + LAPWING_KEY_SIZE, guid, sizeof guid - 1);
    block[SIZE] = 0x80;
    for (int i = 0; i < 16; i++)
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8
                   | block[4 * i + 3];
    lapwing_sha1_spread(words);
    lapwing_sha1_block(state, words);
    memset(words, 0, 16 * sizeof *words);
    words[15] = SIZE * 8; /* the length in bits, at the end of the last block */
    lapwing_sha1_spread(words);
    lapwing_sha1_block(state, words);
    for (int i = 0; i < 20; i++)
        digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) { /* 21 bytes: the last one is padding */
        uint32_t bits = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++)
            accept[4 * i + j] = alphabet[bits >> (18 - 6 * j) & 63];
    }
    accept[LAPWING_ACCEPT_SIZE - 1] = '=';
}

#endif
