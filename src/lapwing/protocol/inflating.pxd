# The compressed messages of one connection.

cimport cython

from .compression cimport Inflation, PerMessageDeflate


@cython.final
cdef class Inflater:
    cdef PerMessageDeflate codec
    cdef Inflation message      # the compressed message under way; None when there is none
    cdef bytes window           # the end of what came compressed, for the next message; None for nothing

    # Begin a message; to make an object for it may run Python code.
    cdef int begin(self) except -1

    # End the message, or drop it. Returns by how many bytes the window that is kept for the next one has grown.
    cdef size_t end(self) noexcept

    # Let go of all.
    cdef int clear(self) noexcept

    # Bytes that are held, for whichever thread asks.
    cdef size_t held(self) noexcept
