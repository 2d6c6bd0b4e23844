# The monotonic clock, by which every deadline is told.


cdef double clock() noexcept
