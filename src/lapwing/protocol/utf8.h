/* UTF-8 checked as it comes (RFC 3629), so that bad text fails at the first bad byte and not at the end of a message.
 *
 * The checker is an automaton: its state says which bytes may follow. The state is kept between the pieces of a
 * message,
 * so that a piece may end in the middle of a character. */
#ifndef LAPWING_UTF8_H
#define LAPWING_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    UTF8_ACCEPT, /* between two characters */
    UTF8_ONE,    /* one more continuation byte */
    UTF8_TWO,
    UTF8_THREE,
    UTF8_E0, /* A0..BF must follow, or the form would not be the shortest */
    UTF8_ED, /* 80..9F must follow, or the character would be a surrogate */
    UTF8_F0, /* 90..BF must follow, or the form would not be the shortest */
    UTF8_F4, /* 80..8F must follow, or the character would be above U+10FFFF */
    UTF8_REJECT
};

/* What must follow a first byte that is not ASCII. */
static inline unsigned char lapwing_utf8_lead(unsigned char byte)
{
    if (byte < 0xC2) /* a continuation byte, or C0 and C1: never the shortest form */
        return UTF8_REJECT;
    if (byte < 0xE0)
        return UTF8_ONE;
    if (byte < 0xF0)
        return byte == 0xE0 ? UTF8_E0 : byte == 0xED ? UTF8_ED : UTF8_TWO;
    if (byte < 0xF5)
        return byte == 0xF0 ? UTF8_F0 : byte == 0xF4 ? UTF8_F4 : UTF8_THREE;
    return UTF8_REJECT;
}

static inline unsigned char lapwing_utf8_step(unsigned char state, unsigned char byte)
{
    switch (state) {
    case UTF8_ACCEPT:
        return byte < 0x80 ? UTF8_ACCEPT : lapwing_utf8_lead(byte);
    case UTF8_ONE:
        return (byte & 0xC0) == 0x80 ? UTF8_ACCEPT : UTF8_REJECT;
    case UTF8_TWO:
        return (byte & 0xC0) == 0x80 ? UTF8_ONE : UTF8_REJECT;
    case UTF8_THREE:
        return (byte & 0xC0) == 0x80 ? UTF8_TWO : UTF8_REJECT;
    case UTF8_E0:
        return byte >= 0xA0 && byte <= 0xBF ? UTF8_ONE : UTF8_REJECT;
    case UTF8_ED:
        return byte >= 0x80 && byte <= 0x9F ? UTF8_ONE : UTF8_REJECT;
    case UTF8_F0:
        return byte >= 0x90 && byte <= 0xBF ? UTF8_TWO : UTF8_REJECT;
    case UTF8_F4:
        return byte >= 0x80 && byte <= 0x8F ? UTF8_TWO : UTF8_REJECT;
    default:
        return UTF8_REJECT;
    }
}

/* Whether all of `size` bytes are ASCII; 32 of them at a time. */
static inline int lapwing_is_ascii(const unsigned char *bytes, size_t size)
{
    uint64_t words[4], seen = 0;
    size_t i = 0;
    for (; i + 32 <= size; i += 32) {
        memcpy(words, bytes + i, 32);
        seen |= (words[0] | words[1]) | (words[2] | words[3]);
    }
    for (; i + 8 <= size; i += 8) {
        memcpy(words, bytes + i, 8);
        seen |= words[0];
    }
    for (; i < size; i++)
        seen |= bytes[i];
    return (seen & UINT64_C(0x8080808080808080)) == 0;
}

/* Carry `state` over `size` bytes; returns UTF8_REJECT from the first bad byte on. */
static inline unsigned char lapwing_utf8_check(unsigned char state, const unsigned char *bytes, size_t size)
{
    size_t i = 0;
    while (i < size) {
        if (state == UTF8_ACCEPT) { /* ASCII passes 32 bytes at a time */
            uint64_t words[4];
            while (i + 32 <= size) {
                memcpy(words, bytes + i, 32);
                if ((words[0] | words[1] | words[2] | words[3]) & UINT64_C(0x8080808080808080))
                    break;
                i += 32;
            }
            while (i < size && bytes[i] < 0x80)
                i++;
            if (i == size)
                break;
        }
        state = lapwing_utf8_step(state, bytes[i++]);
        if (state == UTF8_REJECT)
            return UTF8_REJECT;
    }
    return state;
}

#endif
