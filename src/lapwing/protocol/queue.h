/* A queue of owned object references: a single one stands in the structure itself, more in a ring that grows by
 * doubling. It owns no memory while it holds none or one: so a message that is taken before the next one comes costs no
 * memory. */
#ifndef LAPWING_QUEUE_H
#define LAPWING_QUEUE_H

#include <Python.h>

typedef struct {
    union {
        PyObject **ring; /* owned, with `capacity` slots; each reference in it is owned */
        PyObject *only;  /* owned; while there is no ring */
    } held;
    size_t count;
    unsigned int first;    /* slot of the oldest object in the ring */
    unsigned int capacity; /* a power of two; 0 while there is no ring */
} lapwing_queue;

/* Have room for one more object; -1 when there is no memory. */
static inline int lapwing_queue_grow(lapwing_queue *queue)
{
    unsigned int capacity = queue->capacity ? 2 * queue->capacity : 16;
    PyObject **ring = capacity ? (PyObject **)PyMem_Malloc(capacity * sizeof *ring) : NULL; /* 0: 2**32 are too many */
    if (ring == NULL)
        return -1;
    if (queue->capacity == 0) {
        ring[0] = queue->held.only;
    } else {
        for (size_t i = 0; i < queue->count; i++)
            ring[i] = queue->held.ring[(queue->first + i) & (queue->capacity - 1)];
        PyMem_Free(queue->held.ring);
    }
    queue->held.ring = ring;
    queue->first = 0;
    queue->capacity = capacity;
    return 0;
}

/* Append `object`, taking over the caller's reference; -1 when there is no memory (the reference stays the
 * caller's). */
static inline int lapwing_queue_push(lapwing_queue *queue, PyObject *object)
{
    if (queue->count == 0 && queue->capacity == 0) {
        queue->held.only = object;
    } else {
        if ((queue->capacity == 0 || queue->count == queue->capacity) && lapwing_queue_grow(queue) < 0)
            return -1;
        queue->held.ring[(queue->first + queue->count) & (queue->capacity - 1)] = object;
    }
    queue->count++;
    return 0;
}

/* Take the oldest object; the reference becomes the caller's. The queue must not be empty. */
static inline PyObject *lapwing_queue_pop(lapwing_queue *queue)
{
    PyObject *object;
    queue->count--;
    if (queue->capacity == 0)
        return queue->held.only;
    object = queue->held.ring[queue->first];
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    if (queue->count == 0) {
        PyMem_Free(queue->held.ring);
        memset(queue, 0, sizeof *queue);
    }
    return object;
}

/* The oldest object, which stays the queue's. The queue must not be empty. */
static inline PyObject *lapwing_queue_front(const lapwing_queue *queue)
{
    return queue->capacity ? queue->held.ring[queue->first] : queue->held.only;
}

static inline void lapwing_queue_clear(lapwing_queue *queue)
{
    while (queue->count)
        Py_DECREF(lapwing_queue_pop(queue));
}

#endif
