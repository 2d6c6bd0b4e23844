/* A queue of owned object references: a ring that grows by doubling and owns no memory while empty. */
#ifndef LAPWING_QUEUE_H
#define LAPWING_QUEUE_H

#include <Python.h>

typedef struct {
    PyObject **slots; /* owned; NULL while empty */
    size_t first;     /* slot of the oldest object */
    size_t count;
    size_t capacity; /* a power of two */
} lapwing_queue;

/* Append `object`, taking over the caller's reference; -1 when there is no memory (the reference stays the caller's).
 * */
static inline int lapwing_queue_push(lapwing_queue *queue, PyObject *object)
{
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity ? 2 * queue->capacity : 8;
        PyObject **slots = PyMem_Malloc(capacity * sizeof *slots);
        if (slots == NULL)
            return -1;
        for (size_t i = 0; i < queue->count; i++)
            slots[i] = queue->slots[(queue->first + i) & (queue->capacity - 1)];
        PyMem_Free(queue->slots);
        queue->slots = slots;
        queue->first = 0;
        queue->capacity = capacity;
    }
    queue->slots[(queue->first + queue->count) & (queue->capacity - 1)] = object;
    queue->count++;
    return 0;
}

/* Take the oldest object; the reference becomes the caller's. The queue must not be empty. */
static inline PyObject *lapwing_queue_pop(lapwing_queue *queue)
{
    PyObject *object = queue->slots[queue->first];
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    if (--queue->count == 0) {
        PyMem_Free(queue->slots);
        memset(queue, 0, sizeof *queue);
    }
    return object;
}

/* The oldest object, which stays the queue's. The queue must not be empty. */
static inline PyObject *lapwing_queue_front(const lapwing_queue *queue)
{
    return queue->slots[queue->first];
}

static inline void lapwing_queue_clear(lapwing_queue *queue)
{
    while (queue->count)
        Py_DECREF(lapwing_queue_pop(queue));
}

#endif
