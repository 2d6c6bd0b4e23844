/* Frames of RFC 6455 section 5: heads in both directions, the masking, and UTF-8 across fragments. */
#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum opcode { CONTINUATION = 0x0, TEXT = 0x1, BINARY = 0x2, CLOSE = 0x8, PING = 0x9, PONG = 0xA };

#define FIN 0x80
#define RSV1 0x40
#define MASKED 0x80
#define MASKING_KEY_LENGTH 4
#define MAX_HEAD 14            /* 2, an extended length of 8, a masking key of 4 */
#define MAX_CONTROL_PAYLOAD 125

struct frame {
    bool fin;
    bool masked;
    uint8_t rsv;
    uint8_t opcode;
    uint8_t masking_key[MASKING_KEY_LENGTH];
    size_t head_length;
    uint64_t payload_length;
};

static inline uint64_t big_endian(const uint8_t *bytes, size_t length)
{
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Reads a frame head; false while it is incomplete. */
static inline bool frame_decode(const uint8_t *bytes, size_t length, struct frame *frame)
{
    if (length < 2)
        return false;
    frame->fin = bytes[0] & FIN;
    frame->rsv = bytes[0] & 0x70;
    frame->opcode = bytes[0] & 0x0F;
    frame->masked = bytes[1] & MASKED;
    frame->payload_length = bytes[1] & 0x7F;

    size_t extended = frame->payload_length == 126 ? 2 : frame->payload_length == 127 ? 8 : 0;
    frame->head_length = 2 + extended + (frame->masked ? MASKING_KEY_LENGTH : 0);
    if (length < frame->head_length)
        return false;
    if (extended)
        frame->payload_length = big_endian(bytes + 2, extended);
    if (frame->masked)
        memcpy(frame->masking_key, bytes + 2 + extended, MASKING_KEY_LENGTH);
    return true;
}

/* The size of the head of an unmasked frame. */
static inline size_t head_size(uint64_t payload_length)
{
    return payload_length < 126 ? 2 : payload_length <= UINT16_MAX ? 4 : 10;
}

static inline bool is_control(uint8_t opcode)
{
    return opcode & 0x8;
}

/* Says which rule of RFC 6455 section 5 a head breaks, NULL for none; from_client as only clients mask. */
static inline const char *frame_violation(const struct frame *frame, bool from_client)
{
    size_t mask = frame->masked ? MASKING_KEY_LENGTH : 0;
    if (frame->rsv)
        return "a reserved bit is set and no extension was negotiated";
    if (frame->opcode > BINARY && (frame->opcode < CLOSE || frame->opcode > PONG))
        return "unknown opcode";
    if (frame->masked != from_client)
        return from_client ? "a client frame is not masked" : "a server frame is masked";
    if (is_control(frame->opcode) && (!frame->fin || frame->payload_length > MAX_CONTROL_PAYLOAD))
        return "a control frame is fragmented or too long";
    if (frame->head_length - mask != head_size(frame->payload_length))
        return "the payload length is not in its shortest form";
    return NULL;
}

/* Writes the head of an unmasked, final or not, frame: byte is FIN and the opcode. Returns its size. */
static inline size_t frame_encode(uint8_t *at, uint8_t byte, uint64_t payload_length)
{
    size_t size = head_size(payload_length);
    at[0] = byte;
    at[1] = (uint8_t)(size == 2 ? payload_length : size == 4 ? 126 : 127);
    for (size_t i = 2; i < size; i++)
        at[i] = (uint8_t)(payload_length >> 8 * (size - 1 - i));
    return size;
}

typedef uint8_t lane __attribute__((vector_size(16)));

/*
 * Masks or unmasks. The two places may be the same, or overlap with `to` below `from`: every step loads its bytes
 * before it stores any, and stores only below what the next step loads.
 */
static inline void frame_mask(uint8_t *to, const uint8_t *from, size_t length, const uint8_t key[MASKING_KEY_LENGTH])
{
    lane keys, bytes;
    size_t i = 0;
    for (size_t k = 0; k < sizeof keys; k += MASKING_KEY_LENGTH)
        memcpy((uint8_t *)&keys + k, key, MASKING_KEY_LENGTH);
    for (; i + sizeof bytes <= length; i += sizeof bytes) {
        memcpy(&bytes, from + i, sizeof bytes);
        bytes ^= keys;
        memcpy(to + i, &bytes, sizeof bytes);
    }
    for (; i < length; i++)
        to[i] = from[i] ^ key[i % MASKING_KEY_LENGTH];
}

/* Where a text stands inside a character: how many bytes it still needs, and what the next one may be. */
struct utf8 {
    uint8_t needed;
    uint8_t low;
    uint8_t high;
};

/* The first byte of a character, RFC 3629 section 4. The narrower bounds exclude overlong forms and surrogates. */
static inline bool utf8_begin(struct utf8 *state, uint8_t byte)
{
    if (byte < 0x80)
        *state = (struct utf8){0, 0, 0};
    else if (byte >= 0xC2 && byte <= 0xDF)
        *state = (struct utf8){1, 0x80, 0xBF};
    else if (byte >= 0xE0 && byte <= 0xEF)
        *state = (struct utf8){2, byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF};
    else if (byte >= 0xF0 && byte <= 0xF4)
        *state = (struct utf8){3, byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF};
    else
        return false;
    return true;
}

/* Takes the next piece of a text; false when no text can begin so. The text is whole when none is needed. */
static inline bool utf8_feed(struct utf8 *state, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint64_t word;
        while (state->needed == 0 && i + sizeof word <= length) {
            memcpy(&word, bytes + i, sizeof word);
            if (word & 0x8080808080808080u)
                break;
            i += sizeof word;
        }
        if (i == length)
            break;
        if (state->needed == 0) {
            if (!utf8_begin(state, bytes[i]))
                return false;
            continue;
        }
        if (bytes[i] < state->low || bytes[i] > state->high)
            return false;
        *state = (struct utf8){(uint8_t)(state->needed - 1), 0x80, 0xBF};
    }
    return true;
}

#endif
