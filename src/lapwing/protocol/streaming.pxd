# Messages given out in pieces while they come.

from libc.stdint cimport int64_t

from .receiver cimport Receiver
from .streamed cimport StreamedMessage


cdef enum:
    # What `limit` is when there is none.
    NO_LIMIT = -1


# Begin to stream the next message, see `Engine.begin_stream`: the one in front of the queue, which becomes the only
# piece of itself, or the one that is under way. None when none has begun: then the next one is held back. A queued one
# that is larger than the limit is dropped: it is not complete.
cdef StreamedMessage stream_next(Receiver receiver, int64_t limit)

# Want no longer that the next message is held back. Returns whether the one that is must be refused.
cdef bint stop_awaiting(Receiver receiver) noexcept

# Take the oldest piece; there must be one.
cdef object take_piece(Receiver receiver, StreamedMessage streamed)

# Skip the rest of a message; nothing happens when it was taken to its end.
cdef int skip_streamed(Receiver receiver, StreamedMessage streamed) except -1

# Copy the oldest message into a writable buffer in one piece, and take it; returns its size, or None when there is no
# message. One that is too large for the buffer stays: ValueError.
cdef object copy_out(Receiver receiver, object view)
