# Have the processor fetch memory that is about to be used.

cdef extern from "prefetch.h" nogil:
    # Any address will do: it is not followed.
    void prefetch "lapwing_prefetch"(const void *address, size_t size)
