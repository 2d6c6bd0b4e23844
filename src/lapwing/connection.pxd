# What the connections of both faces are made of.

from .io.reactor cimport Source
from .io.stream cimport Stream
from .protocol.endpoint cimport Endpoint, Output


cdef class BaseConnection(Source):
    cdef Stream stream              # None before there is one
    cdef Endpoint endpoint          # None before there is one
    cdef readonly object _settings
    cdef object opened              # what tells of the opening handshake: a client's handshake, a server's request head
    cdef readonly str subprotocol
    cdef public object user         # what a server's `on_request` made known of the client

    # Send `output` as far as the kernel takes it; `stream.is_full` tells whether it did not take all.
    cdef int write(self, Output *output) except -1
