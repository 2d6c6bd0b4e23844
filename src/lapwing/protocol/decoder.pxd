# From the peer's bytes to frames.

cimport cython
from libc.stdint cimport uint64_t

from .frame cimport MAX_HEADER_SIZE, FrameHeader
from .violation cimport Fault


cdef enum Found:
    NEED_MORE       # all bytes were used
    DATA_FRAME      # the header of a data frame: its payload comes next, for the caller to take
    CONTROL_FRAME   # a whole control frame: `take_control` has its payload
    BROKEN_RULE     # no frame: `fault` says why


cdef enum DecoderStage:
    IN_HEADER
    IN_DATA         # the payload of a data frame, of which `remaining` bytes are to come
    IN_CONTROL


@cython.final
cdef class Decoder:
    cdef FrameHeader frame
    cdef uint64_t remaining             # bytes of its payload that are still to come
    cdef DecoderStage stage
    cdef bint is_client                 # which end this is: it decides who masks
    cdef Fault fault
    cdef unsigned char message_opcode   # of the message under way, 0 between two
    cdef unsigned char reserved         # the reserved bits that an extension gave a meaning
    cdef unsigned char header_size      # how many bytes of a header that came in pieces are here
    cdef unsigned char header_bytes[MAX_HEADER_SIZE]
    cdef unsigned char *control         # the payload of a control frame, owned; NULL unless one is being read

    # Go on with the next frame; not within a data frame. Tells how many bytes were used, and runs no Python code.
    cdef Found read(self, const unsigned char *data, size_t size, size_t *used) except? NEED_MORE

    # Take the payload of the control frame that was found.
    cdef bytes take_control(self)

    # The end of a data frame; returns the opcode of its message if it was the last frame of that, otherwise 0.
    cdef inline unsigned char end_frame(self) noexcept:
        cdef unsigned char opcode = self.message_opcode
        self.stage = IN_HEADER
        if not self.frame.fin:
            return 0
        self.message_opcode = 0
        return opcode

    # Whether the next byte begins a message, if it belongs to one.
    cdef inline bint is_between_messages(self) noexcept:
        return self.stage == IN_HEADER and self.header_size == 0 and self.message_opcode == 0

    # The status of the HTTP response that came in place of a frame.
    cdef str status(self)

    # Steps of the above, for this module alone.
    cdef Fault find_fault(self) noexcept
    cdef Found refuse_header(self) noexcept
    cdef Found read_control(self, const unsigned char *data, size_t size, size_t *used) except? NEED_MORE
