/* Masking (RFC 6455 section 5.3): the payload XORed with a key of four bytes that repeats.
 *
 * The loops work on eight bytes of any alignment at a time, a shape that gcc and clang turn into vector code at -O3;
 * four
 * such words are handled per step so that short payloads do not pay for the vector loop's preparation. */
#ifndef LAPWING_MASK_H
#define LAPWING_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t __attribute__((may_alias, aligned(1))) lapwing_word;

/* The key as a word of eight bytes, turned so that its first byte belongs to payload byte `offset`. */
static inline uint64_t lapwing_key_word(const unsigned char key[4], size_t offset)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = key[(offset + (size_t)i) & 3];
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

/* Copy `size` bytes and mask them on the way; `offset` is the place of the first one in its payload. The two places
 * must
 * be the same or must not overlap. */
static inline void lapwing_mask(
    unsigned char *to, const unsigned char *from, size_t size, const unsigned char key[4], size_t offset)
{
    const uint64_t word = lapwing_key_word(key, offset);
    size_t i = 0;
    if (to == from) {
        lapwing_word *words = (lapwing_word *)to;
        for (; i + 8 <= size; i += 8)
            words[i / 8] ^= word;
    } else {
        lapwing_word *restrict target = (lapwing_word *)to;
        const lapwing_word *restrict source = (const lapwing_word *)from;
        for (; i + 8 <= size; i += 8)
            target[i / 8] = source[i / 8] ^ word;
    }
    unsigned char tail[8];
    memcpy(tail, &word, 8);
    for (size_t j = 0; i < size; i++, j++)
        to[i] = from[i] ^ tail[j];
}

#endif
