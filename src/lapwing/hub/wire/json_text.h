/* JSON text (RFC 8259) checked without recursion and without making objects of it: where a value ends, or why it is none.
 *
 * The bytes are borrowed and nothing here calls Python. */
#ifndef LAPWING_JSON_TEXT_H
#define LAPWING_JSON_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "utf8.h"

/* The deepest nesting that can be asked for: a bit for each level. */
enum { LAPWING_JSON_DEEPEST = 128 };

static inline const unsigned char *lapwing_json_space(const unsigned char *at, const unsigned char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r'))
        at++;
    return at;
}

static inline int lapwing_json_is_hex(unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* The end of a string whose opening quote is at `at`; NULL where it is none. Section 7: escapes, no control characters. */
static inline const unsigned char *lapwing_json_string(const unsigned char *at, const unsigned char *end)
{
    unsigned char state = UTF8_ACCEPT;
    if (at >= end || *at != '"')
        return NULL;
    for (at++; at < end; at++) {
        unsigned char byte = *at;
        if (byte >= 0x80 || state != UTF8_ACCEPT) {
            state = lapwing_utf8_step(state, byte);
            if (state == UTF8_REJECT)
                return NULL;
        } else if (byte == '"') {
            return at + 1;
        } else if (byte < 0x20) {
            return NULL;
        } else if (byte == '\\') {
            if (++at >= end)
                return NULL;
            if (*at == 'u') {
                if (end - at < 5 || !lapwing_json_is_hex(at[1]) || !lapwing_json_is_hex(at[2])
                    || !lapwing_json_is_hex(at[3]) || !lapwing_json_is_hex(at[4]))
                    return NULL;
                at += 4;
            } else if (memchr("\"\\/bfnrt", *at, 8) == NULL) {
                return NULL;
            }
        }
    }
    return NULL;
}

static inline const unsigned char *lapwing_json_digits(const unsigned char *at, const unsigned char *end)
{
    const unsigned char *first = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at == first ? NULL : at;
}

/* The end of a number (section 6). */
static inline const unsigned char *lapwing_json_number(const unsigned char *at, const unsigned char *end)
{
    if (at < end && *at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else if ((at = lapwing_json_digits(at, end)) == NULL)
        return NULL;
    if (at < end && *at == '.' && (at = lapwing_json_digits(at + 1, end)) == NULL)
        return NULL;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = lapwing_json_digits(at, end);
    }
    return at;
}

static inline const unsigned char *lapwing_json_word(
    const unsigned char *at, const unsigned char *end, const char *word, size_t size)
{
    return (size_t)(end - at) >= size && memcmp(at, word, size) == 0 ? at + size : NULL;
}

static inline const unsigned char *lapwing_json_scalar(const unsigned char *at, const unsigned char *end)
{
    if (at >= end)
        return NULL;
    switch (*at) {
    case '"':
        return lapwing_json_string(at, end);
    case 't':
        return lapwing_json_word(at, end, "true", 4);
    case 'f':
        return lapwing_json_word(at, end, "false", 5);
    case 'n':
        return lapwing_json_word(at, end, "null", 4);
    default:
        return lapwing_json_number(at, end);
    }
}

/* The name of a member with its colon; where its value begins. */
static inline const unsigned char *lapwing_json_name(const unsigned char *at, const unsigned char *end)
{
    at = lapwing_json_string(lapwing_json_space(at, end), end);
    if (at == NULL)
        return NULL;
    at = lapwing_json_space(at, end);
    return at < end && *at == ':' ? at + 1 : NULL;
}

/* The end of the value at `at`, which may begin with white space; NULL where it is none, or nested more than `deepest`
 * levels deep. */
static inline const unsigned char *lapwing_json_value(const unsigned char *at, const unsigned char *end, int deepest)
{
    uint64_t objects[LAPWING_JSON_DEEPEST / 64] = {0}; /* for each level: an object, not an array */
    int depth = 0;
    for (;;) {
        int is_object;
        at = lapwing_json_space(at, end);
        if (at < end && (*at == '{' || *at == '[')) {
            is_object = *at == '{';
            if (depth >= deepest || depth >= LAPWING_JSON_DEEPEST)
                return NULL;
            if (is_object)
                objects[depth / 64] |= (uint64_t)1 << (depth % 64);
            else
                objects[depth / 64] &= ~((uint64_t)1 << (depth % 64));
            depth++;
            at = lapwing_json_space(at + 1, end);
            if (at >= end)
                return NULL;
            if (*at != (is_object ? '}' : ']')) {
                if (is_object && (at = lapwing_json_name(at, end)) == NULL)
                    return NULL;
                continue;
            }
            at++;
            depth--;
        } else if ((at = lapwing_json_scalar(at, end)) == NULL) {
            return NULL;
        }
        /* What follows a value: the ends of what it is in, or a comma and the next value. */
        for (;;) {
            if (depth == 0)
                return at;
            is_object = objects[(depth - 1) / 64] >> ((depth - 1) % 64) & 1;
            at = lapwing_json_space(at, end);
            if (at >= end)
                return NULL;
            if (*at == ',')
                break;
            if (*at != (is_object ? '}' : ']'))
                return NULL;
            at++;
            depth--;
        }
        at++;
        if (is_object && (at = lapwing_json_name(at, end)) == NULL)
            return NULL;
    }
}

/* White space between tokens left out; `to` has room for as many bytes. The text is valid. */
static inline size_t lapwing_json_compact(const unsigned char *from, size_t size, unsigned char *to)
{
    const unsigned char *at = from, *end = from + size;
    unsigned char *out = to;
    while (at < end) {
        if (*at == '"') {
            const unsigned char *next = lapwing_json_string(at, end);
            memcpy(out, at, (size_t)(next - at));
            out += next - at;
            at = next;
        } else if (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') {
            at++;
        } else {
            *out++ = *at++;
        }
    }
    return (size_t)(out - to);
}

#endif
