# Where the bytes of a large message go, so that they are not moved again.

from ..native.landing cimport Landing
from .inbound cimport Inbound


cdef class Placing(Inbound):
    # Say where the next bytes from the peer should go to be spared a copy: inside the message being put together, or
    # one that is expected (only if that is asked for), being as large as the two before it. `take_landed` gets what
    # was read to there and to a buffer, as `feed` does from a buffer alone. The landing stays good until the one who
    # reads calls one of these or `feed` again, whatever others do to the endpoint meanwhile.
    cdef int find_landing(self, Landing *landing, bint may_expect) except -1
    cdef int take_landed(self, const Landing *landing, unsigned char *buffer, size_t count, double now) except -1

    # Steps of the above, for this module alone.
    cdef bint is_between_messages(self) noexcept
    cdef bint is_expected(self, const unsigned char *header, size_t size) noexcept
    cdef int payload_received(self, size_t size, double now) except -1
    cdef int take_unexpected(
        self, const Landing *landing, unsigned char *buffer, size_t count, double now) except -1
