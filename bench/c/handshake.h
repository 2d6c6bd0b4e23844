/*
 * The opening handshake of RFC 6455 section 4, for both ends: the accept key, and header fields of an HTTP head.
 * SHA-1 (RFC 3174) and base64 are written out so that the programs link nothing but libc.
 */
#ifndef BENCH_HANDSHAKE_H
#define BENCH_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define KEY_LENGTH 24    /* base64 of 16 bytes: Sec-WebSocket-Key */
#define ACCEPT_LENGTH 28 /* base64 of 20 bytes: Sec-WebSocket-Accept */
#define SHA1_LENGTH 20

static inline uint32_t rotate_left(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

static inline void sha1_block(uint32_t state[5], const uint8_t block[64])
{
    static const uint32_t constants[4] = {0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6};
    uint32_t w[80];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 | (uint32_t)block[4 * t + 2] << 8
               | block[4 * t + 3];
    for (int t = 16; t < 80; t++)
        w[t] = rotate_left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);

    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int t = 0; t < 80; t++) {
        uint32_t f = t < 20 ? (b & c) | (~b & d) : t >= 40 && t < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t next = rotate_left(a, 5) + f + e + w[t] + constants[t / 20];
        e = d, d = c, c = rotate_left(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* Digests at most 119 bytes (two blocks with the padding), which is more than a key and the GUID need. */
static inline void sha1_short(const void *text, size_t length, uint8_t digest[SHA1_LENGTH])
{
    uint8_t blocks[128] = {0};
    size_t end = length < 56 ? 64 : 128;
    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    blocks[end - 2] = (uint8_t)(length * 8 >> 8);
    blocks[end - 1] = (uint8_t)(length * 8);

    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    for (size_t at = 0; at < end; at += 64)
        sha1_block(state, blocks + at);
    for (int i = 0; i < SHA1_LENGTH; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* Writes 4 characters for every 3 bytes begun, and no terminator. */
static inline void base64_encode(const uint8_t *bytes, size_t length, char *text)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        size_t have = length - i < 3 ? length - i : 3;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= have > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= have > 2 ? bytes[i + 2] : 0;
        *text++ = alphabet[bits >> 18];
        *text++ = alphabet[bits >> 12 & 63];
        *text++ = have > 1 ? alphabet[bits >> 6 & 63] : '=';
        *text++ = have > 2 ? alphabet[bits & 63] : '=';
    }
}

/* RFC 6455 section 4.2.2: base64 of the SHA-1 of the key followed by this GUID. */
static inline void accept_key(const char key[KEY_LENGTH], char accept[ACCEPT_LENGTH])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_LENGTH + sizeof guid - 1];
    uint8_t digest[SHA1_LENGTH];
    memcpy(text, key, KEY_LENGTH);
    memcpy(text + KEY_LENGTH, guid, sizeof guid - 1);
    sha1_short(text, sizeof text, digest);
    base64_encode(digest, sizeof digest, accept);
}

/* A piece of a head: not terminated, data is NULL when the field is missing. */
struct text {
    const char *data;
    size_t length;
};

/* The length of the head up to and with its empty line, 0 while the empty line has not come. */
static inline size_t head_length(const void *bytes, size_t length)
{
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);
    return end ? (size_t)(end - (const char *)bytes) + 4 : 0;
}

/* The value of the first field of that name, without the blanks around it. The head must be whole. */
static inline struct text head_field(const char *head, size_t length, const char *name)
{
    size_t name_length = strlen(name);
    const char *end = head + length;
    const char *line = (const char *)memchr(head, '\n', length) + 1;
    while (line < end) {
        const char *stop = memchr(line, '\r', (size_t)(end - line));
        if (stop == NULL)
            break;
        const char *value = line + name_length + 1;
        if (value <= stop && line[name_length] == ':' && strncasecmp(line, name, name_length) == 0) {
            while (value < stop && (*value == ' ' || *value == '\t'))
                value++;
            while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
                stop--;
            return (struct text){value, (size_t)(stop - value)};
        }
        line = stop + 2;
    }
    return (struct text){NULL, 0};
}

static inline bool text_equals(struct text text, const char *expected)
{
    return text.data && text.length == strlen(expected) && strncasecmp(text.data, expected, text.length) == 0;
}

/* The first element of a comma-separated list. */
static inline struct text first_token(struct text list)
{
    size_t length = 0;
    while (length < list.length && list.data[length] != ',' && list.data[length] != ' ')
        length++;
    return (struct text){list.data, length};
}

static inline bool has_token(struct text list, const char *token)
{
    while (list.length) {
        struct text first = first_token(list);
        if (text_equals(first, token))
            return true;
        size_t skip = first.length < list.length ? first.length + 1 : first.length;
        list = (struct text){list.data + skip, list.length - skip};
    }
    return false;
}

#endif
