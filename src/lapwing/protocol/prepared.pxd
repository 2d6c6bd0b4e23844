# A message framed once for many connections without masks, and compressed once for all that compress alike.

from .compression cimport PerMessageDeflate


cdef class Prepared:
    cdef readonly object message
    cdef readonly object opcode
    cdef readonly object compress
    cdef readonly size_t size
    cdef bytes payload
    cdef bytes plain                # the frame that is not compressed
    cdef dict deflated              # the others, by the window that they were compressed with

    # See `frame_for`.
    cdef bytes find_frame(self, PerMessageDeflate codec)
    cdef bytes find_deflated(self, PerMessageDeflate codec)
