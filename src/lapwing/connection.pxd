# What the connections of both faces are made of.

from libc.stdint cimport int64_t

from .io.reactor cimport Source
from .io.stream cimport Stream
from .protocol.endpoint cimport Endpoint, Output


cdef class BaseConnection(Source):
    cdef Stream stream              # None before there is one
    cdef Endpoint endpoint          # None before there is one
    cdef readonly object _settings
    cdef object opened              # what tells of the opening handshake: a client's handshake, a server's request head
    cdef readonly str subprotocol
    cdef double opened_at           # when the opening handshake was done, 0 before
    # Bytes that had arrived when a ping of the keepalive was queued behind others; negative when it was not.
    cdef int64_t delivered
    cdef object frame_log           # a `FrameLog`; None unless somebody wants to see the frames

    # Begin to count, to watch whether the peer is there and, where that is wanted, to log frames.
    cdef int begin_life(self, double now) except -1

    # Let the endpoint act on the time; `stalled` seconds of it this end could not attend. Returns whether a ping was
    # queued: `note_ping` is to be called when it is sent.
    cdef bint keep_alive(self, double now, double stalled) except -1
    cdef int note_ping(self) noexcept
    cdef size_t unsent_size(self) noexcept
    cdef int write_frame_log(self) except -1

    # Send `output` as far as the kernel takes it; `stream.is_full` tells whether it did not take all.
    cdef int write(self, Output *output) except -1
