"""The monotonic clock, by which every deadline is told, and where a test puts another one in its place.

A clock that was set holds for the thread that set it alone: an event loop of a test may live in a time of its own while
a server in another thread goes on in the real one. While no thread has set any, telling the time costs one look at a
counter more than asking the system.
"""

from libc.time cimport time_t

__all__ = ["now", "set_clock"]


cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)


cdef extern from *:
    """
    #include <stdbool.h>

    static int lapwing_clocks_set = 0;              /* how many threads have a clock of their own */
    static _Thread_local bool lapwing_has_clock = false;
    static _Thread_local double lapwing_own_now = 0;

    static inline bool lapwing_is_set(void)
    {
        return __builtin_expect(__atomic_load_n(&lapwing_clocks_set, __ATOMIC_RELAXED) != 0, 0) && lapwing_has_clock;
    }

    static void lapwing_set(bool has_clock, double now)
    {
        if (has_clock != lapwing_has_clock)
            __atomic_add_fetch(&lapwing_clocks_set, has_clock ? 1 : -1, __ATOMIC_RELAXED);
        lapwing_has_clock = has_clock;
        lapwing_own_now = now;
    }
    """
    bint lapwing_is_set() noexcept nogil
    void lapwing_set(bint has_clock, double now) noexcept nogil
    double lapwing_own_now


cdef double clock() noexcept:
    """Seconds of the monotonic clock, or of the one that this thread has set."""
    cdef timespec now
    if lapwing_is_set():
        return lapwing_own_now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef bint is_own_clock() noexcept:
    return lapwing_is_set()


def now():
    """Return the seconds of the monotonic clock, or of the one that this thread has set."""
    return clock()


def set_clock(seconds):
    """Stop the clock of this thread at a time, until it is set to another one; None lets it follow the system again.

    Args:
        seconds: more than 0, since 0 stands for no deadline.

    Raises:
        ValueError: it is not.
    """
    if seconds is None:
        lapwing_set(False, 0)
    elif not seconds > 0:
        raise ValueError(f"expected a time of more than 0 seconds, got {seconds!r}")
    else:
        lapwing_set(True, seconds)
