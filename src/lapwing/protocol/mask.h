/* Masking (RFC 6455 section 5.3): the payload XORed with a key of four bytes that repeats.
 *
 * The work is done in vectors of 32 bytes of any alignment, four of them per turn of the loop. The compiler makes of
 * one what the processor has: two registers where every x86-64 or Arm processor has 16 bytes, one where there is AVX2,
 * which is looked for as the program runs. */
#ifndef LAPWING_MASK_H
#define LAPWING_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint64_t __attribute__((may_alias, aligned(1))) lapwing_word;
typedef uint32_t __attribute__((may_alias, aligned(1))) lapwing_half;
typedef uint16_t __attribute__((may_alias, aligned(1))) lapwing_quarter;
typedef uint64_t __attribute__((vector_size(32), may_alias, aligned(1))) lapwing_vector;

/* From this size on a call that may use AVX2 is worth its cost. */
enum { LAPWING_MASK_WIDE = 128 };

/* The key as a word of eight bytes, turned so that its first byte belongs to payload byte `offset`. */
static inline uint64_t lapwing_key_word(const unsigned char key[4], size_t offset)
{
    uint32_t half;
    memcpy(&half, key, 4);
    unsigned int turn = 8 * (unsigned int)(offset & 3);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    half = half << turn | half >> (-turn & 31);
#else
    half = half >> turn | half << (-turn & 31);
#endif
    return (uint64_t)half << 32 | half;
}

/* Mask `size` bytes with the key as a word. The two places must be the same or must not overlap. Returns, if `wants_or`
 * (a constant), all bytes written, or-ed into a word; otherwise 0. */
static inline __attribute__((always_inline)) uint64_t
lapwing_mask_words(unsigned char *to, const unsigned char *from, size_t size, uint64_t word, int wants_or)
{
    const lapwing_vector key = {word, word, word, word};
    lapwing_vector seen = {0};
    uint64_t rest = 0;
    size_t i = 0;
    for (; i + 128 <= size; i += 128) {
        lapwing_vector first = *(const lapwing_vector *)(from + i) ^ key;
        lapwing_vector second = *(const lapwing_vector *)(from + i + 32) ^ key;
        lapwing_vector third = *(const lapwing_vector *)(from + i + 64) ^ key;
        lapwing_vector fourth = *(const lapwing_vector *)(from + i + 96) ^ key;
        *(lapwing_vector *)(to + i) = first;
        *(lapwing_vector *)(to + i + 32) = second;
        *(lapwing_vector *)(to + i + 64) = third;
        *(lapwing_vector *)(to + i + 96) = fourth;
        if (wants_or)
            seen |= (first | second) | (third | fourth);
    }
    for (; i + 32 <= size; i += 32) {
        lapwing_vector next = *(const lapwing_vector *)(from + i) ^ key;
        *(lapwing_vector *)(to + i) = next;
        if (wants_or)
            seen |= next;
    }
    for (; i + 8 <= size; i += 8) {
        uint64_t next = *(const lapwing_word *)(from + i) ^ word;
        *(lapwing_word *)(to + i) = next;
        rest |= next;
    }
    const unsigned char *bytes = (const unsigned char *)&word;
    uint32_t half;
    uint16_t quarter;
    if (size & 4) {
        memcpy(&half, bytes, 4);
        half ^= *(const lapwing_half *)(from + i);
        *(lapwing_half *)(to + i) = half;
        rest |= half;
        i += 4;
    }
    if (size & 2) {
        memcpy(&quarter, bytes + (i & 2), 2);
        quarter ^= *(const lapwing_quarter *)(from + i);
        *(lapwing_quarter *)(to + i) = quarter;
        rest |= quarter;
        i += 2;
    }
    if (size & 1) {
        unsigned char last = from[i] ^ bytes[i & 3];
        to[i] = last;
        rest |= last;
    }
    return wants_or ? seen[0] | seen[1] | seen[2] | seen[3] | rest : 0;
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void lapwing_mask_avx2(
    unsigned char *to, const unsigned char *from, size_t size, uint64_t word)
{
    lapwing_mask_words(to, from, size, word, 0);
}

__attribute__((target("avx2"))) static uint64_t lapwing_unmask_avx2(
    unsigned char *to, const unsigned char *from, size_t size, uint64_t word)
{
    return lapwing_mask_words(to, from, size, word, 1);
}
#define LAPWING_HAS_AVX2() __builtin_cpu_supports("avx2")
#else
#define LAPWING_HAS_AVX2() 0
#define lapwing_mask_avx2(to, from, size, word) lapwing_mask_words(to, from, size, word, 0)
#define lapwing_unmask_avx2(to, from, size, word) lapwing_mask_words(to, from, size, word, 1)
#endif

/* Copy `size` bytes and mask them on the way; `offset` is the place of the first one in its payload. The two places
 * must be the same or must not overlap. */
static inline void lapwing_mask(
    unsigned char *to, const unsigned char *from, size_t size, const unsigned char key[4], size_t offset)
{
    const uint64_t word = lapwing_key_word(key, offset);
    if (size >= LAPWING_MASK_WIDE && LAPWING_HAS_AVX2())
        lapwing_mask_avx2(to, from, size, word);
    else
        lapwing_mask_words(to, from, size, word, 0);
}

/* Unmask text from the beginning of its payload, as `lapwing_mask` does; returns whether all of it is ASCII. */
static inline int lapwing_unmask_text(
    unsigned char *to, const unsigned char *from, size_t size, const unsigned char key[4])
{
    const uint64_t word = lapwing_key_word(key, 0);
    uint64_t seen;
    if (size >= LAPWING_MASK_WIDE && LAPWING_HAS_AVX2())
        seen = lapwing_unmask_avx2(to, from, size, word);
    else
        seen = lapwing_mask_words(to, from, size, word, 1);
    return (seen & UINT64_C(0x8080808080808080)) == 0;
}

#endif
