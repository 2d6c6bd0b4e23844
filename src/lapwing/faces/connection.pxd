# What the connections of both faces are made of.

from libc.stdint cimport int64_t

from ..io.reactor cimport Source
from ..io.stream cimport Stream
from ..protocol.endpoint cimport Endpoint
from ..protocol.outbound cimport Output
from ..protocol.prepared cimport Prepared
from ..native.sharing cimport Lock


cdef class BaseConnection(Source):
    # Without the GIL: whatever threads share is looked at and changed under it. What belongs to the thread of an event
    # loop needs it only where another thread may look: see `set_endpoint`.
    cdef Lock lock
    cdef Stream stream              # None before there is one
    cdef Endpoint endpoint          # None before there is one
    cdef readonly object _settings
    cdef double own_timeout         # the `timeout` option in seconds, negative for never: looked up for every message
    cdef object opened              # what tells of the opening handshake: a client's handshake, a server's request head
    cdef str agreed                 # the subprotocol, None without one
    cdef double opened_at           # when the opening handshake was done, 0 before
    cdef double ended_at            # when the end of the connection was noticed, 0 before
    cdef double expired_at          # when a wait for the peer last expired, 0 before
    # Bytes that had arrived when a ping of the keepalive was queued behind others; negative when it was not.
    cdef int64_t delivered
    cdef object frame_log           # a `FrameLog`; None unless somebody wants to see the frames
    cdef object backlog             # of a reader that lags: the broadcasts that wait for it; None for all others
    cdef size_t backlog_bytes       # that these cost, for whichever thread asks
    cdef unsigned int ends          # calls for a message that found the connection at its end
    cdef bint is_end_told           # some call for a message said that there is none any more
    cdef unsigned long dropped      # broadcasts that the peer did not get because it lagged

    cdef int set_endpoint(self, Endpoint endpoint) noexcept
    cdef Endpoint find_endpoint(self)
    cdef object find_opened(self)
    cdef int forget_opening(self) except -1
    cdef Stream find_stream(self)
    cdef object take_stock(self)

    # Count a call for a message that finds the connection at its end; the tenth one raises ConnectionClosed.
    cdef int note_end(self) except -1

    # Begin to count, to watch whether the peer is there and, where that is wanted, to log frames. The settings that
    # every message needs are looked up here.
    cdef int begin_life(self, double now) except -1

    # Let the endpoint act on the time; `stalled` seconds of it this end could not attend. Returns whether a ping was
    # queued: `note_ping` is to be called when it is sent.
    cdef bint keep_alive(self, double now, double stalled) except -1
    cdef int note_ping(self) noexcept
    cdef size_t unsent_size(self) noexcept
    cdef int write_frame_log(self) except -1

    # Take a `Broadcast` of what is prepared, if this connection is open: see `take_broadcast`, and send what is to go
    # out.
    cdef bint accept_broadcast(self, object broadcast, Prepared prepared, size_t threshold, double now) except -1

    # Queue a `Broadcast` whose threshold is given, or let it wait or drop it as its policy says; returns whether the
    # peer is to get it. A reader that is to be disconnected for it is.
    cdef bint take_broadcast(self, object broadcast, Prepared prepared, size_t threshold, double now) except -1
    cdef int count_dropped(self) except -1
    cdef int end_backlog(self) except -1

    # Queue what waits for a reader that has caught up; returns whether there is new output.
    cdef bint catch_up(self) except -1

    # Disconnect a reader that has lagged for too long.
    cdef int give_up_reader(self, double now) except -1

    # Send `output` as far as the kernel takes it; `stream.is_full` tells whether it did not take all.
    cdef int write(self, Output *output) except -1

    # End the stream in both directions at once: whoever waits for it in the kernel wakes up, and nothing more goes out,
    # TLS's close notice neither. The descriptor stays open.
    cdef int cut_off(self) noexcept
