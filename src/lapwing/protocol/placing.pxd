# Where the bytes of a large message go, so that they are not moved again.

from ..native.landing cimport Landing
from .receiver cimport Receiver


# Say where the next bytes from the peer should go to be spared a copy: inside the message being put together, or one
# that is expected (only if that is asked for), being as large as the two before it. `take_placed` gets the bytes that
# were read to there and to a buffer. The landing stays good until the reader calls one of these or `Receiver.feed`
# again, even if others use the receiver in between.
cdef int find_place(Receiver receiver, Landing *landing, bint may_expect) except -1

# Returns how many of the `count` bytes that were read are taken. The rest is to be fed: it stands in the buffer behind
# the header that was expected; at the beginning of the buffer when none are taken.
cdef size_t take_placed(Receiver receiver, const Landing *landing, unsigned char *buffer, size_t count) except? 0
