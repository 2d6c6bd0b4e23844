/* The threads that are inside the methods of an object: so a call learns that it was made within another one of the
 * same thread, by a signal handler or a finalizer.
 *
 * Most often there is one thread, the `first`, which costs a look and a store to enter and as much to leave. One word
 * says whether that will do: LAPWING_CLOSELY stands in the place of the first one when there are other threads inside,
 * or when the owner wants every call to be looked at. Threads are numbers other than 0 and LAPWING_CLOSELY. Whoever uses
 * this holds the GIL or, on a build without, the object's lock. */
#ifndef LAPWING_CALLERS_H
#define LAPWING_CALLERS_H

#include <Python.h>

#define LAPWING_CLOSELY (~0ul)

typedef struct {
    unsigned long first;   /* a thread; `vacant` while there is none */
    unsigned long vacant;  /* 0, or LAPWING_CLOSELY */
    unsigned long *others; /* owned; NULL while there never were any */
    unsigned int count;    /* of the others */
    unsigned int room;
    int is_watched; /* whether the owner wants every call to be looked at */
} lapwing_callers;

/* A number for the calling thread. */
static inline unsigned long lapwing_this_thread(void)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_thread_pointer) && defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#define LAPWING_HAS_THREAD_POINTER
#endif
#endif
#ifdef LAPWING_HAS_THREAD_POINTER
    return (unsigned long)__builtin_thread_pointer();
#else
    return PyThread_get_thread_ident();
#endif
}

/* Enter as the first one, which is not to be looked at more closely; returns whether that would do. */
static inline int lapwing_callers_enter(lapwing_callers *callers, unsigned long thread)
{
    if (callers->first != 0)
        return 0;
    callers->first = thread;
    return 1;
}

/* Leave as the first one; returns whether this thread was that. */
static inline int lapwing_callers_leave(lapwing_callers *callers, unsigned long thread)
{
    if (callers->first != thread)
        return 0;
    callers->first = callers->vacant;
    return 1;
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

/* Find out what is to stand in the place of the first one while there is none. */
static inline void lapwing_callers_update_vacant(lapwing_callers *callers)
{
    unsigned long vacant = callers->count || callers->is_watched ? LAPWING_CLOSELY : 0;
    if (callers->first == callers->vacant)
        callers->first = vacant;
    callers->vacant = vacant;
}

/* Add a thread that is not there to the others; -1 without memory. */
static inline int lapwing_callers_add(lapwing_callers *callers, unsigned long thread)
{
    if (callers->count == callers->room) {
        unsigned int room = callers->room ? 2 * callers->room : 4;
        unsigned long *others = (unsigned long *)PyMem_Realloc(callers->others, room * sizeof(*others));
        if (others == NULL)
            return -1;
        callers->others = others;
        callers->room = room;
    }
    callers->others[callers->count++] = thread;
    lapwing_callers_update_vacant(callers);
    return 0;
}

/* Remove a thread from the others, if it is there. */
static inline void lapwing_callers_remove(lapwing_callers *callers, unsigned long thread)
{
    unsigned int i;
    for (i = 0; i < callers->count; i++)
        if (callers->others[i] == thread) {
            callers->others[i] = callers->others[--callers->count];
            lapwing_callers_update_vacant(callers);
            return;
        }
}

static inline unsigned int lapwing_callers_count(const lapwing_callers *callers)
{
    return callers->count + (callers->first != callers->vacant);
}

/* Have every call looked at, from the one of the first thread on, or no longer; -1 without memory. */
static inline int lapwing_callers_watch(lapwing_callers *callers, int wanted)
{
    if (wanted && callers->first != callers->vacant) {
        if (lapwing_callers_add(callers, callers->first) < 0)
            return -1;
        callers->first = callers->vacant;
    }
    callers->is_watched = wanted;
    lapwing_callers_update_vacant(callers);
    return 0;
}

static inline void lapwing_callers_free(lapwing_callers *callers)
{
    PyMem_Free(callers->others);
    callers->others = NULL;
    callers->count = callers->room = 0;
}

#endif
