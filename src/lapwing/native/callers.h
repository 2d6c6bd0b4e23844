/* The threads that are inside the methods of an object: so a call learns that it was made within another one of the
 * same thread, by a signal handler or a finalizer.
 *
 * Most often there is one thread, which costs a look and a store. Threads are numbers other than 0. Whoever uses this
 * holds the GIL or, on a build without, the object's lock. */
#ifndef LAPWING_CALLERS_H
#define LAPWING_CALLERS_H

#include <Python.h>

typedef struct {
    unsigned long first;   /* a thread, 0 for none */
    unsigned long *others; /* owned; NULL while there never were any */
    unsigned int count;    /* of the others */
    unsigned int room;
} lapwing_callers;

/* A number for the calling thread. */
static inline unsigned long lapwing_this_thread(void)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_thread_pointer) && (defined(__x86_64__) || defined(__aarch64__))
#define LAPWING_HAS_THREAD_POINTER
#endif
#endif
#ifdef LAPWING_HAS_THREAD_POINTER
    return (unsigned long)__builtin_thread_pointer();
#else
    return PyThread_get_thread_ident();
#endif
}

static inline int lapwing_callers_none(const lapwing_callers *callers)
{
    return callers->first == 0 && callers->count == 0;
}

static inline int lapwing_callers_has(const lapwing_callers *callers, unsigned long thread)
{
    unsigned int i;
    if (callers->first == thread)
        return 1;
    for (i = 0; i < callers->count; i++)
        if (callers->others[i] == thread)
            return 1;
    return 0;
}

/* Add a thread that is not there; -1 without memory. */
static inline int lapwing_callers_add(lapwing_callers *callers, unsigned long thread)
{
    if (callers->first == 0) {
        callers->first = thread;
        return 0;
    }
    if (callers->count == callers->room) {
        unsigned int room = callers->room ? 2 * callers->room : 4;
        unsigned long *others = (unsigned long *)PyMem_Realloc(callers->others, room * sizeof(*others));
        if (others == NULL)
            return -1;
        callers->others = others;
        callers->room = room;
    }
    callers->others[callers->count++] = thread;
    return 0;
}

/* Remove a thread, if it is there. */
static inline void lapwing_callers_remove(lapwing_callers *callers, unsigned long thread)
{
    unsigned int i;
    if (callers->first == thread) {
        callers->first = 0;
        return;
    }
    for (i = 0; i < callers->count; i++)
        if (callers->others[i] == thread) {
            callers->others[i] = callers->others[--callers->count];
            return;
        }
}

static inline unsigned int lapwing_callers_count(const lapwing_callers *callers)
{
    return callers->count + (callers->first != 0);
}

static inline void lapwing_callers_free(lapwing_callers *callers)
{
    PyMem_Free(callers->others);
    callers->others = NULL;
    callers->count = callers->room = 0;
}

#endif
