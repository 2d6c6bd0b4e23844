# From messages to the peer's bytes.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from ..native.buffer cimport Buffer
from .compression cimport PerMessageDeflate
from .frame cimport MaskingKeys
from .framelog cimport FrameLog
from .prepared cimport Prepared


cdef extern from "output.h":
    ctypedef struct Output "lapwing_output":
        Buffer head
        PyObject *owner
        const unsigned char *payload
        size_t payload_size
    size_t output_size "lapwing_output_size"(const Output *output) nogil
    unsigned char *output_begin "lapwing_output_begin"(Output *output, size_t size)
    void output_all_sent "lapwing_output_sent"(Output *output)
    void output_set_payload "lapwing_output_set_payload"(
        Output *output, object owner, const unsigned char *payload, size_t size)
    void output_consume "lapwing_output_consume"(Output *output, size_t size)
    void output_clear "lapwing_output_clear"(Output *output)


cdef enum Sendable:
    # What may still go out, as the endpoint's moves say.
    EVERY_FRAME     # the connection is open
    NO_MESSAGE      # control frames: a message of fragments could not be continued, and the connection must fail
    NO_DATA         # pongs: this end's close frame went out
    NO_FRAME        # nothing: the connection has ended


@cython.final
cdef class Sender:
    cdef Sendable sendable
    cdef unsigned char is_client
    cdef unsigned char opcode           # of the message of fragments under way, 0 between two
    cdef unsigned char utf8_state       # of that message
    cdef unsigned char is_adding        # a fragment of it is being compressed
    cdef MaskingKeys keys               # prepared before the state is looked at: then nothing comes between
    cdef PerMessageDeflate codec        # None unless it was agreed on
    cdef FrameLog log                   # None unless there is one
    # what waits to be sent
    cdef Output output
    cdef bytes late_pong
    cdef object compressor              # of the message of fragments, None when it is not compressed
    cdef list postponed                 # `Prepared` messages that wait for its end, None when there are none
    cdef size_t postponed_bytes         # that they cost
    # statistics
    cdef uint64_t sent_wire             # bytes, headers and control frames included
    cdef uint64_t sent_payload          # bytes of the messages
    cdef uint64_t sent_messages
    cdef unsigned int sent_controls

    # Queue a message; `opcode` is None for the one that fits its type. Compressing lets other threads run, so what else
    # the caller knows of the endpoint may have changed on return. This and the next two return whether the message was
    # queued: false when no message may go out, which is for the endpoint to explain.
    cdef bint push_message(self, object message, object opcode, object compress) except -1

    # Queue a fragment of a message; when `sendable` is NO_MESSAGE after an exception, the connection must fail.
    cdef bint push_fragment(self, object payload, bint fin, object opcode, object compress) except -1

    # Queue a `Prepared` message; not between the fragments of another one, but behind it.
    cdef bint push_prepared(self, Prepared prepared) except -1

    # Queue a control frame. The caller has called `prepare` before it looked at the state.
    cdef int push_control(self, unsigned char opcode, bytes payload) except -1

    # Queue the pong (RFC 6455 section 5.5.2).
    cdef int answer_ping(self, bytes payload) except -1

    # Put bytes behind the output as they are: the opening handshake, or frames that are ready.
    cdef int push_bytes(self, bytes data) except -1

    # Have a masking key at hand, if frames are masked: may run Python code.
    cdef inline int prepare(self) except -1:
        if self.is_client:
            self.keys.prepare()
        return 0

    # Drop `size` bytes of the output: they are on their way.
    cdef int output_sent(self, size_t size) except -1

    # Hand over all output: it is the caller's to send, by `consume`, and to clear.
    cdef Output take_output(self) noexcept

    # Learn that the connection has ended: no frame goes out any more. The caller holds `postponed` and `late_pong`.
    cdef int end(self) noexcept

    # Steps of the above, for this module alone.
    cdef bint may_send(self) except -1
    cdef bint push_deflated(
        self, int opcode, const unsigned char *data, size_t size, bint forced, object owner) except -1
    cdef int push_postponed(self) except -1
    cdef int postpone(self, Prepared prepared) except -1
    cdef bint push_checked_fragment(
        self, const unsigned char *data, size_t size, int asked, bint fin, object compress) except -1
    cdef bint push_part(
        self, int opcode, const unsigned char *data, size_t size, bint fin, object compress) except -1
    cdef int push_shared(self, bytes frame, size_t size) except -1
    cdef bint push_data(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner) except -1
    cdef int push_frame(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner) except -1


# Drop `size` bytes of an output that was taken over: the memory of one that was sent whole serves the next frame.
cdef int consume(Output *output, size_t size) noexcept
