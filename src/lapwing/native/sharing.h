/* What takes the place of the GIL where there is none: on a build of CPython with the GIL it costs nothing, not even
 * memory.
 *
 * A lock that the thread which holds it may take again, as the GIL lets a callback call back. Unlike a critical section
 * of CPython it is never let go of behind the holder's back, as dropping a reference may do there: what happens between
 * `take_lock` and `give_lock` is one step for other threads. So whoever waits, or calls what may wait for another
 * thread, puts it down first: `put_down` and `take_up`.
 *
 * LAPWING_FREE_THREADED tells which kind of build this is.
 *
 * Without the GIL, each object that threads share follows one of these rules:
 * - A blocking connection, that of a handler's thread included, has a lock. Every method that threads call takes it; a
 *   method that waits, writes a log or runs a program's iterable puts it down. The loop's source and broadcasts take it.
 * - An asyncio connection, its reactor, waits and deadlines belong to the thread of their loop and have no lock: `send`,
 *   `ping` and `close` refuse other threads. Calls from other threads wait under a lock of their own. `stats` reads
 *   numbers, each as it is at that moment; the objects that it follows are replaced under a lock.
 * - An engine, a stream, an inflation belong to the owner of the connection. A TLS session has a lock of its own once
 *   threads may share its stream.
 * - Each client's engine has masking keys of its own. Compressors are taken out of a list and put back, each in one
 *   step. The table of reactors sees single steps of a dict, and a loop's reactor is made in the loop's thread.
 * - A reactor holds its sources, since another thread may drop the last reference while it serves one. At a deadline it
 *   finds a source that nobody else holds, and closes it: some ten seconds later than with the GIL. */
#ifndef LAPWING_SHARING_H
#define LAPWING_SHARING_H

#include <Python.h>

#ifdef Py_GIL_DISABLED

#define LAPWING_FREE_THREADED 1

typedef struct {
    PyMutex mutex;
    unsigned long holder; /* the thread that holds it; only that one finds itself here */
    unsigned int depth;   /* how many times it took it; the holder's */
} lapwing_lock;

static inline void lapwing_lock_take(lapwing_lock *lock)
{
    unsigned long self = PyThread_get_thread_ident();
    if (__atomic_load_n(&lock->holder, __ATOMIC_RELAXED) != self) {
        PyMutex_Lock(&lock->mutex);
        __atomic_store_n(&lock->holder, self, __ATOMIC_RELAXED);
    }
    lock->depth++;
}

static inline void lapwing_lock_give(lapwing_lock *lock)
{
    if (--lock->depth == 0) {
        __atomic_store_n(&lock->holder, 0, __ATOMIC_RELAXED);
        PyMutex_Unlock(&lock->mutex);
    }
}

/* Put the lock down, if this thread holds it; `take_up` is to be called with what is returned. */
static inline unsigned int lapwing_lock_put_down(lapwing_lock *lock)
{
    unsigned int depth;
    if (__atomic_load_n(&lock->holder, __ATOMIC_RELAXED) != PyThread_get_thread_ident())
        return 0;
    depth = lock->depth;
    lock->depth = 1;
    lapwing_lock_give(lock);
    return depth;
}

static inline void lapwing_lock_take_up(lapwing_lock *lock, unsigned int depth)
{
    if (depth) {
        lapwing_lock_take(lock);
        lock->depth += depth - 1;
    }
}

#else

#define LAPWING_FREE_THREADED 0

typedef struct {
} lapwing_lock; /* of no size, which GCC and Clang allow */

#define lapwing_lock_take(lock) ((void)(lock))
#define lapwing_lock_give(lock) ((void)(lock))
#define lapwing_lock_put_down(lock) ((void)(lock), 0u)
#define lapwing_lock_take_up(lock, depth) ((void)(lock), (void)(depth))

#endif

/* A word that one thread writes, under a lock of its own, and others read without it: as it was at some moment. */
static inline size_t lapwing_peek(const size_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void lapwing_poke(size_t *word, size_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline double lapwing_peek_seconds(const double *seconds)
{
    double value;
    __atomic_load(seconds, &value, __ATOMIC_RELAXED);
    return value;
}

static inline void lapwing_poke_seconds(double *seconds, double value)
{
    __atomic_store(seconds, &value, __ATOMIC_RELAXED);
}

#endif
