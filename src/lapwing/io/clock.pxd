# The monotonic clock, by which every deadline is told.


cdef double clock() noexcept

# Whether this thread has a clock of its own: then the system's timers do not go by it.
cdef bint is_own_clock() noexcept
