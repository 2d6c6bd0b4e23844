# From the peer's bytes to messages.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from ..native.buffer cimport Buffer, buffer_size
from .compression cimport Inflated, Inflation, PerMessageDeflate
from .frame cimport FrameHeader, MAX_HEADER_SIZE
from .noting cimport FrameNotes
from .state cimport CLOSED, OPEN, EndpointState


cdef extern from *:
    """
    #include "queue.h"
    """
    ctypedef struct Queue "lapwing_queue":
        size_t count


cdef enum Route:
    # What becomes of the payload of the message under way.
    WHOLE           # it is put together
    SKIPPED         # it means nothing any more
    STREAMED        # each part of it becomes a piece
    # From here on decoding waits until the application asks for the next message:
    HELD_BACK       # nothing yet, since how the message is wanted decides what becomes of it
    RULE_BROKEN     # nothing more: the peer broke a rule, which fails the connection then


# What a number of bytes is worth that was read while another thread may have changed what it is the difference of.
cdef inline size_t snapshot(size_t size) noexcept nogil:
    return 0 if size >> (8 * sizeof(size_t) - 1) else size


cdef class Inbound(FrameNotes):
    cdef bint client                # which end this is
    cdef EndpointState phase        # moved by the subclass
    cdef uint64_t max_message
    cdef size_t max_held_input
    cdef double now                 # when the input that is being taken arrived
    # the frame being read
    cdef unsigned char header_bytes[MAX_HEADER_SIZE]
    cdef unsigned char header_size
    cdef unsigned char message_opcode   # of the message under way, 0 between two
    cdef unsigned char utf8_state
    cdef unsigned char reserved         # the reserved bits that an extension gave a meaning
    cdef unsigned char is_decoding      # input is being decoded, while which Python code and other threads may run
    cdef unsigned char route            # a Route, of the message under way
    cdef unsigned char holds_large      # a message that is too large is held back rather than failing the connection
    cdef unsigned char wants_stream     # the next message is held back when it begins: somebody waits for its beginning
    cdef unsigned char is_steady        # the last two messages were BINARY, in one frame each, of the same size
    # A message was held back, a streamed one has ended, or a rule was broken; for the owner to clear.
    cdef unsigned char has_news
    cdef size_t last_length         # of the payload of the last data frame that was a whole message
    cdef bint in_frame
    cdef FrameHeader frame
    cdef uint64_t remaining         # bytes of its payload that are still to come
    cdef unsigned char *control     # the payload of a control frame, owned; NULL unless one is being read
    # the message being put together
    cdef PyObject *assembly         # a bytes object with room, owned and not shared; NULL when there is none
    cdef size_t assembled
    cdef bint is_lent               # `payload_room` gave out a place in the assembly, and nothing came back since
    cdef PyObject *lent             # an assembly that was dropped in that time, owned; NULL when there is none
    cdef object inflow              # the `Inflow` of a message that is streamed, until its last piece was taken
    # permessage-deflate
    cdef PerMessageDeflate codec    # None unless it was agreed on
    cdef Inflation inflation        # of the compressed message under way, None when there is none; see `set_inflation`
    cdef bytes window               # the end of what came compressed, for the next message; None for nothing
    # what waits for the application: messages, and input to be decoded
    cdef Queue messages
    cdef size_t message_bytes
    cdef Buffer undecoded
    # what was counted
    cdef uint64_t received_wire         # bytes, headers and control frames included
    cdef uint64_t received_payload      # bytes of the messages
    cdef uint64_t received_messages

    # Decode `size` bytes from the peer, which arrived at `now`. Writes over them. Whatever cannot be decoded because
    # the application lags is copied, so the memory is the caller's again on return.
    cdef int feed(self, unsigned char *data, size_t size, double now) except -1

    cdef bint is_paused(self) noexcept
    cdef object pop_message(self)
    cdef list pop_messages(self, Py_ssize_t limit)
    cdef int set_inflation(self, Inflation inflation) noexcept
    cdef int keep_window(self, bytes window) noexcept
    cdef int drop_assembly(self) except -1
    cdef int drop_input(self) except -1
    cdef int end_loan(self) except -1

    # For the subclass to say.
    cdef int take_control(self) except -1
    cdef int fail_by(self, object violation) except -1
    cdef int fail_now(self, object violation) except -1
    cdef int refuse_held(self, double now) except -1
    cdef int accept_streamed(self) except -1
    cdef int take_piece(self, unsigned char *data, size_t size) except -1
    cdef int adopt(self) except -1
    cdef int finish_streamed(self) except -1

    # Steps of the above, for this module alone.
    cdef int put_back(self, const unsigned char *data, size_t size) except -1
    cdef int decode_held(self) except -1
    cdef int join_undecoded(self, Buffer *held) except -1
    cdef bint is_whole_message(self) noexcept
    cdef size_t begin_frame(self, const unsigned char *data, size_t size) except? 0
    cdef size_t refuse_header(self, object violation, size_t before, size_t count) except? 0
    cdef int accept_frame(self) except -1
    cdef int log_end_of_frame(self) except -1
    cdef int end_frame(self) except -1
    cdef bint is_stopped(self) noexcept
    cdef bint is_too_big(self) noexcept
    cdef size_t take_payload(self, unsigned char *data, size_t size) except? 0
    cdef size_t take_deflated(self, unsigned char *data, size_t size) except? 0
    cdef int judge_inflated(self, Inflation inflation, Inflated outcome, size_t before) except -1
    cdef int finish_inflated(self, unsigned char opcode) except -1
    cdef uint64_t max_deflated(self) noexcept
    cdef int count_payload(self, const unsigned char *place, size_t size) except -1
    cdef int make_room(self, size_t size) except -1
    cdef int finish_message(self, unsigned char opcode) except -1
    cdef int deliver(self, object message, size_t size) except -1

    @cython.final
    cdef size_t decode(self, unsigned char *data, size_t size) except? 0

    @cython.final
    cdef size_t take_usual(self, unsigned char *data, size_t size) except? 0


# Whether nothing that comes from the peer means anything any more.
cdef inline bint is_over(Inbound self) noexcept:
    return self.phase == CLOSED or self.route == RULE_BROKEN


# What `is_paused` says: whether to read no more from the peer, because the application lags.
cdef inline bint is_lagging(Inbound self) noexcept:
    if self.phase != OPEN:
        return False
    if self.route >= HELD_BACK:
        return True
    return self.messages.count > 0 and self.message_bytes + buffer_size(&self.undecoded) >= self.max_held_input
