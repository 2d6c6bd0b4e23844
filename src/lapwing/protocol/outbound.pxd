# From messages to the peer's bytes.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from .frame cimport MaskingKeys
from ..native.buffer cimport Buffer
from .prepared cimport Prepared
from .streaming cimport Streaming


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


cdef class Outbound(Streaming):
    cdef MaskingKeys keys           # prepared before the state is looked at: then nothing comes between
    # what waits to be sent
    cdef Output output
    cdef bytes late_pong
    cdef unsigned char sending_opcode   # of the message of fragments under way, 0 between two
    cdef unsigned char sending_utf8
    cdef unsigned char is_adding        # a fragment of it is being compressed
    cdef object sending_compressor      # of that message, None when it is not compressed
    cdef list postponed                 # `Prepared` messages that wait for its end, None when there are none
    cdef size_t postponed_bytes         # that they cost
    # what was counted
    cdef uint64_t sent_wire         # bytes, headers and control frames included
    cdef uint64_t sent_payload      # bytes of the messages
    cdef uint64_t sent_messages
    cdef unsigned int sent_controls

    # Queue a message. To compress it lets other threads run, so what else the caller knows of this endpoint may have
    # changed on return.
    cdef int push_message(self, object message, object asked, object compress=*) except -1
    cdef int push_bytes(self, bytes data) except -1
    cdef int push_prepared(self, bytes frame, size_t size) except -1

    # Queue a `Prepared` message; not between the fragments of another one, but behind it. Returns whether it was
    # queued: while it is compressed another thread may end the connection.
    cdef bint queue_prepared(self, Prepared prepared) except -1

    cdef int push_control(self, unsigned char opcode, bytes payload) except -1
    cdef int answer_ping(self, bytes payload) except -1

    cdef int output_sent(self, size_t size) except -1
    cdef Output take_output(self) noexcept

    # Drop `size` bytes of an output that was taken over: the memory of one that was sent whole serves the next frame.
    cdef int consume(self, Output *output, size_t size) noexcept

    # For the subclass to say.
    cdef object closed_error(self)
    cdef int fail_with(self, int code, str reason) except -1

    # Steps of the above, for this module alone.
    cdef int push_deflated(
        self, int opcode, const unsigned char *data, size_t size, bint forced, object owner) except -1
    cdef int push_postponed(self) except -1
    cdef int postpone(self, Prepared prepared) except -1
    cdef int push_fragment(
        self, const unsigned char *data, size_t size, int asked, bint fin, object compress) except -1
    cdef int push_part(
        self, int opcode, const unsigned char *data, size_t size, bint fin, object compress) except -1
    cdef int require_sendable(self) except -1

    @cython.final
    cdef int push_data(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner) except -1

    @cython.final
    cdef int push_frame(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner) except -1
