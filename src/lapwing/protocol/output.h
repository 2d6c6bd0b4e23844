/* What an endpoint wants to send: bytes of its own, then perhaps the payload of one large message that stays where the
 * application has it, so that it need not be copied. Bytes that come behind such a payload fold it into the own bytes.
 * */
#ifndef LAPWING_OUTPUT_H
#define LAPWING_OUTPUT_H

#include <Python.h>

#include "buffer.h"

typedef struct {
    lapwing_buffer head;
    PyObject *owner; /* a reference: keeps `payload` alive; NULL when there is none */
    const unsigned char *payload;
    size_t payload_size;
} lapwing_output;

static inline size_t lapwing_output_size(const lapwing_output *output)
{
    return lapwing_buffer_size(&output->head) + output->payload_size;
}

static inline void lapwing_output_drop_payload(lapwing_output *output)
{
    output->payload = NULL;
    output->payload_size = 0;
    Py_CLEAR(output->owner);
}

/* Room for `size` bytes at the end; the caller writes them and adds to `head.end`. NULL when there is no memory. It is
 * kept out of its callers: most find room without it. */
__attribute__((noinline, unused)) static unsigned char *lapwing_output_reserve(lapwing_output *output, size_t size)
{
    if (output->owner) {
        unsigned char *room = lapwing_buffer_reserve(&output->head, output->payload_size + size);
        if (room == NULL)
            return NULL;
        memcpy(room, output->payload, output->payload_size);
        output->head.end += output->payload_size;
        lapwing_output_drop_payload(output);
    }
    return lapwing_buffer_reserve(&output->head, size);
}

/* Send `payload`, which `owner` keeps alive, behind all that is held; nothing may be held as a payload already. */
static inline void lapwing_output_set_payload(
    lapwing_output *output, PyObject *owner, const unsigned char *payload, size_t size)
{
    output->owner = Py_NewRef(owner);
    output->payload = payload;
    output->payload_size = size;
}

/* Drop the first `size` bytes: they were sent. */
static inline void lapwing_output_consume(lapwing_output *output, size_t size)
{
    size_t own = lapwing_buffer_size(&output->head);
    if (own) {
        size_t first = size < own ? size : own;
        lapwing_buffer_consume(&output->head, first);
        size -= first;
    }
    if (size == 0)
        return;
    output->payload += size;
    output->payload_size -= size;
    if (output->payload_size == 0)
        lapwing_output_drop_payload(output);
}

/* Memory of an output that was sent whole, for the next one: most leave at once, and giving memory back for each and
 * asking for it again costs more than building the frame. One piece of memory for all connections. */
enum { LAPWING_OUTPUT_KEPT = 8192 };
#ifdef Py_GIL_DISABLED
static _Thread_local lapwing_buffer lapwing_output_spare;
#else
static lapwing_buffer lapwing_output_spare;
#endif

/* Drop all: it was sent. */
static inline void lapwing_output_sent(lapwing_output *output)
{
    lapwing_buffer *head = &output->head;
    if (output->owner)
        lapwing_output_drop_payload(output);
    if (lapwing_output_spare.data == NULL && head->capacity <= LAPWING_OUTPUT_KEPT) {
        lapwing_output_spare = *head;
        memset(head, 0, sizeof *head);
    } else {
        lapwing_buffer_free(head);
    }
}

/* As `lapwing_output_reserve`, in the memory that was kept if there is some. */
static inline unsigned char *lapwing_output_begin(lapwing_output *output, size_t size)
{
    lapwing_buffer *head = &output->head;
    if (head->data == NULL && lapwing_output_spare.data != NULL) {
        head->data = lapwing_output_spare.data;
        head->capacity = lapwing_output_spare.capacity;
        lapwing_output_spare.data = NULL;
    }
    if (output->owner == NULL && size <= head->capacity - head->end)
        return head->data + head->end;
    return lapwing_output_reserve(output, size);
}

static inline void lapwing_output_clear(lapwing_output *output)
{
    lapwing_buffer_free(&output->head);
    lapwing_output_drop_payload(output);
}

#endif
