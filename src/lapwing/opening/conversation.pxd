# The common part of the openings of both ends.

from ..io.tls cimport TLS


cdef enum:
    # Bytes that the peer may send behind its part of the handshake, before it is not read from any more.
    MAX_EARLY = 64 * 1024


cdef class Opening:
    cdef object ending              # an `Outcome`; None while the opening is under way
    cdef TLS session                # with the peer or the proxy; None without TLS, and once it was taken
    cdef bint speaks_first          # the session is still to send its first message
    cdef bytes rest                 # what came behind the handshake
    cdef object announced           # the `ProxyHeader` that has come, for the owner to take; None without one
    cdef double timeout             # seconds for all of it, for a message
    cdef double due                 # when it has to be over; never once it is

    cpdef object receive(self, bytes data, double now)
    cpdef object receive_eof(self, double now)
    cpdef bytes data_to_send(self)
    cpdef double deadline(self) noexcept
    cpdef object expire(self)
    cpdef object fail(self, object error)
    cpdef TLS take_session(self)

    # For subclasses: plaintext has come, or its end; the output of this moment.
    cdef int hear(self, bytes data) except -1
    cdef int hear_end(self) except -1
    cdef bytes say(self)

    # Steps of the above.
    cdef int hear_session(self, bytes data) except -1
    cdef int decrypt(self) except -1
    cdef bytes seal(self, bytes output)
