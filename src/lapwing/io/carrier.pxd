# The interface of a stream's carrier, where that is not a descriptor of its own.
#
# A descriptor is the usual carrier, and it has no object: `Stream` makes its system calls itself. For every other
# carrier the stream asks this interface, and the reactor asks `want` of it in place of watching a descriptor.

from ..native.landing cimport Landing
from .reactor cimport Reactor, Source


cdef class Carrier:
    # Who is served when there is input or room: a borrowed reference, NULL while there is none.
    cdef void *source
    cdef Reactor reactor        # that serves it; None while there is none
    cdef bint is_full           # output was not all sent: the source that wants WRITABLE is served when there is room
    cdef readonly bint is_closed
    cdef size_t unsent          # bytes of output that it holds
    cdef size_t held            # bytes of input that it holds
    cdef bytes outgoing         # output that was taken over, and is not written yet; None without any

    # Read the present input, as `Stream.take` does: the number of bytes, END_OF_STREAM, NOTHING_YET, or FAILED with
    # `errno` set. This runs no Python code.
    cdef Py_ssize_t take(self, const Landing *landing, unsigned char *buffer, size_t size) noexcept

    # Send `data`, all of which is taken, unless the connection is lost: that raises OSError. `is_full` tells whether
    # some of it waits. This may run Python code.
    cdef int write(self, bytes data) except -1

    # Serve the source when there is input (READABLE), when there is room for output (WRITABLE).
    cdef int want(self, int interest) except -1

    # Whether `take` has something to say, the end included; whether the end is there.
    cdef bint holds_input(self) noexcept
    cdef bint is_over(self) noexcept

    # End the sending direction; close both, after the output; or at once, and discard it.
    cdef int shut_down(self) except -1
    cdef int close(self) except -1
    cdef int cut_off(self) except -1

    # Have nothing to do with it any more: it is another process's connection, too.
    cdef int abandon(self) noexcept

    # The addresses as the `socket` module gives them, None where they are not known or are those of a unix socket.
    cdef tuple local_address(self)
    cdef tuple peer_address(self)

    # The TLS session that the carrier has by itself, as an `ssl.SSLObject`; None without one.
    cdef object tls_session(self)

    # Bytes sent that the peer's TCP has not acknowledged yet; 0 where it is unknown.
    cdef unsigned int unacknowledged(self) noexcept
