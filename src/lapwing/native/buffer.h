/* A byte queue: bytes enter at the end and leave at the start. It owns memory only while it holds bytes, so that an
 * idle connection costs nothing but the structure. */
#ifndef LAPWING_BUFFER_H
#define LAPWING_BUFFER_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    unsigned char *data; /* owned; NULL while empty */
    size_t start;        /* first byte held */
    size_t end;          /* behind the last byte held */
    size_t capacity;
} lapwing_buffer;

static inline size_t lapwing_buffer_size(const lapwing_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline void lapwing_buffer_free(lapwing_buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

/* Make room for `size` more bytes and return where they go (the caller writes them and adds to `end`); NULL when there
 * is no memory, with everything held kept. */
static inline unsigned char *lapwing_buffer_reserve(lapwing_buffer *buffer, size_t size)
{
    if (size <= buffer->capacity - buffer->end)
        return buffer->data + buffer->end;
    size_t held = lapwing_buffer_size(buffer);
    if (size > (size_t)-1 / 4 - held)
        return NULL;
    if (buffer->start >= held && held + size <= buffer->capacity) { /* moving costs less than was consumed */
        memmove(buffer->data, buffer->data + buffer->start, held);
    } else {
        /* A few hundred bytes are most of what there is; beyond, growing step by step costs more than the memory. */
        size_t capacity = buffer->capacity ? buffer->capacity : 512;
        while (capacity < held + size)
            capacity = capacity < 8192 ? 8192 : 2 * capacity;
        if (held == 0 && size > 4096) /* one large message: no more than it needs */
            capacity = size;
        unsigned char *data = malloc(capacity);
        if (data == NULL)
            return NULL;
        if (held)
            memcpy(data, buffer->data + buffer->start, held);
        free(buffer->data);
        buffer->data = data;
        buffer->capacity = capacity;
    }
    buffer->start = 0;
    buffer->end = held;
    return buffer->data + held;
}

static inline int lapwing_buffer_append(lapwing_buffer *buffer, const void *bytes, size_t size)
{
    if (size == 0)
        return 0;
    unsigned char *room = lapwing_buffer_reserve(buffer, size);
    if (room == NULL)
        return -1;
    memcpy(room, bytes, size);
    buffer->end += size;
    return 0;
}

/* Drop `size` bytes from the start; the memory goes with the last one. */
static inline void lapwing_buffer_consume(lapwing_buffer *buffer, size_t size)
{
    buffer->start += size;
    if (buffer->start == buffer->end)
        lapwing_buffer_free(buffer);
}

#endif
