# One end of a WebSocket connection for programs.

cimport cython

from .engine cimport Engine


@cython.final
cdef class Endpoint:
    cdef Engine engine


# Make an engine with the settings of an `Endpoint`.
cdef Engine make_engine(
    object role, object max_message_size, object max_buffered, object close_timeout, object holds_large)
