"""The interface of a stream's carrier, where that is not a descriptor of its own.

`transport` has the one for transports of asyncio. The methods here are those of a carrier that carries nothing.
"""

from libc.errno cimport ENOTCONN

from ..native.landing cimport Landing

__all__ = ["Carrier"]


cdef enum:
    END_OF_STREAM = 0       # as in `stream`, which stands on this module


cdef class Carrier:
    """An interface: see `carrier.pxd` for the contract of each method.

    It belongs to the thread of its event loop, and does not keep its source alive.
    """

    cdef Py_ssize_t take(self, const Landing *landing, unsigned char *buffer, size_t size) noexcept:
        return END_OF_STREAM

    cdef int write(self, bytes data) except -1:
        raise OSError(ENOTCONN, "this connection has no carrier")

    cdef int want(self, int interest) except -1:
        return 0

    cdef bint holds_input(self) noexcept:
        return True

    cdef bint is_over(self) noexcept:
        return True

    cdef int shut_down(self) except -1:
        return 0

    cdef int close(self) except -1:
        self.is_closed = True
        return 0

    cdef int cut_off(self) except -1:
        return 0

    cdef int abandon(self) noexcept:
        self.is_closed = True
        return 0

    cdef tuple local_address(self):
        return None

    cdef tuple peer_address(self):
        return None

    cdef object tls_session(self):
        return None

    cdef unsigned int unacknowledged(self) noexcept:
        return 0
