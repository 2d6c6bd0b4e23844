# One reader of broadcasts: what a connection gives and gets for them; the common part of the drivers of both faces.

from libc.stdint cimport int64_t

from ..io.reactor cimport Source
from ..io.stream cimport Stream
from ..native.sharing cimport Lock
from ..protocol.engine cimport Engine
from .backlog cimport Backlog
from .message cimport Broadcast


cdef class Reader(Source):
    # Without the GIL: the state that threads share is read and changed under it. What belongs to the thread of an event
    # loop needs it only where another thread may look: see `set_engine` in `faces.life`.
    cdef Lock lock
    cdef Engine engine              # None before there is one
    cdef Stream stream              # None before there is one
    cdef object settings
    cdef str agreed                 # the subprotocol, None without one
    cdef Backlog backlog            # of a reader that lags: the broadcasts that wait for it; None for all others
    cdef size_t backlog_bytes       # that these cost, for whichever thread asks
    cdef size_t outside_bytes       # that messages cost which wait for it outside of its backlog
    cdef unsigned long dropped      # messages to many that the peer did not get because it lagged
    # its life: see `faces.life`
    cdef double own_timeout         # the `timeout` option in seconds, negative for never: looked up for every message
    cdef object opened              # the outcome of the opening handshake: request and response; None before
    cdef double opened_at           # when the opening handshake was done, 0 before
    cdef double ended_at            # when the end of the connection was noticed, 0 before
    cdef double expired_at          # when a wait for the peer last expired, 0 before
    # Bytes that had arrived when a ping of the keepalive was queued behind others; negative when it was not.
    cdef int64_t delivered
    cdef object frame_log           # a `FrameLog`; None unless the frames are to be logged
    cdef unsigned int ends          # calls for a message that found the connection at its end
    cdef bint is_end_told           # some call for a message said that there is none any more

    # Bytes of frames that neither the kernel nor the carrier has sent yet.
    cdef size_t unsent_size(self) noexcept

    # Bytes that its messages to many cost which wait because it lags. Safe in any thread.
    cdef size_t lagging_bytes(self) noexcept

    # Whether it is a server's connection in this event loop, which alone may broadcast to it.
    cdef bint is_served_in(self, object loop) noexcept

    # Take a `Broadcast`, if this connection is open, and see to it that the output is sent. Returns whether the peer is
    # to get it. The fan-out calls it; the faces add to it how their output is sent.
    cdef bint accept_broadcast(self, Broadcast broadcast, double now) except -1

    # Queue a `Broadcast` as output, or let it wait or drop it as its policy says; returns whether the peer is to get
    # it. A reader that is to be disconnected for it is.
    cdef bint take_broadcast(self, Broadcast broadcast, double now) except -1

    # Queue what waits for a reader that has caught up; returns whether there is new output.
    cdef bint catch_up(self) except -1

    # Disconnect a reader that has lagged for too long.
    cdef int give_up_reader(self, double now) except -1

    # Steps of the above, for this module alone.
    cdef int join_backlog(self, Broadcast broadcast, size_t unsent, double now) except -1
    cdef int end_backlog(self) noexcept
