# One end of a WebSocket connection, without I/O: the contract between the protocol and the faces.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from .frame cimport MaskingKeys
from ..native.buffer cimport Buffer
from .prepared cimport Prepared
from .state cimport EndpointEnding, Event
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


cdef class Ping:
    cdef readonly bytes payload
    cdef readonly double sent_at
    cdef readonly object round_trip
    cdef bint is_awaited        # somebody waits for its answer, who forgets it in the end


cdef class Endpoint(Streaming):
    cdef readonly double close_timeout
    cdef MaskingKeys keys           # prepared before the state is looked at: then nothing comes between
    # where we stand
    cdef EndpointEnding end
    cdef readonly object closed
    cdef readonly object violation
    cdef double closing_deadline    # minus infinity while there is none
    # keepalive, in seconds
    cdef double ping_interval       # 0 for none
    cdef double ping_timeout        # 0 for none
    cdef double counted_from        # silence counts from here, or from the last input (`now`) if that came later
    cdef double reply_due           # when the ping of `counted_from` has to be answered; minus infinity for none
    # what waits to be sent
    cdef Output output
    cdef bytes late_pong
    cdef unsigned char sending_opcode    # of the message of fragments under way, 0 between two
    cdef unsigned char sending_utf8
    cdef object sending_compressor      # of that message, None when it is not compressed
    cdef list postponed                 # `Prepared` messages that wait for its end, None when there are none
    cdef size_t postponed_bytes         # that they cost
    # pings that wait for their pong, and those answered since the face last looked
    cdef list pings
    cdef list answered
    cdef double round_trip          # the last one in seconds, negative before the first
    cdef uint64_t ping_count
    # what was counted
    cdef uint64_t sent_wire         # bytes, headers and control frames included
    cdef uint64_t sent_payload      # bytes of the messages
    cdef uint64_t sent_messages
    cdef unsigned int sent_controls
    cdef unsigned int received_controls

    # Queue a message. To compress it lets other threads run, so what else the caller knows of this endpoint may have
    # changed on return.
    cdef int push_message(self, object message, object asked, object compress=*) except -1
    cdef int push_bytes(self, bytes data) except -1
    cdef int push_prepared(self, bytes frame, size_t size) except -1

    # Queue a `Prepared` message; not between the fragments of another one, but behind it. Returns whether it was
    # queued: while it is compressed another thread may end the connection.
    cdef bint queue_prepared(self, Prepared prepared) except -1

    # Bytes of `held` that are no output.
    cdef size_t held_input(self) noexcept

    cdef int output_sent(self, size_t size) except -1
    cdef Output take_output(self) noexcept
    cdef object closed_error(self)

    # When `advance` has something to do: plus infinity for never. `silence_due` is the part of it that concerns the
    # peer's silence.
    cdef double next_due(self) noexcept
    cdef double silence_due(self) noexcept
    cdef bint is_dead(self, double now, double stalled) noexcept
    cdef int advance(self, double now, double stalled) except -1
    cdef int excuse(self, double seconds) noexcept
    cdef int progress(self, double now) except -1

    # Steps of the above, for this module alone.
    cdef bint move(self, Event event) noexcept
    cdef int finish(self, bint was_clean, int code, str reason) except -1
    cdef int wait_for_end(self) except -1
    cdef int answer_ping(self, bytes payload) except -1
    cdef int send_keepalive(self, double now) except -1
    cdef int fail_silent(self, double now) except -1
    cdef int forget_oldest(self) except -1
    cdef int take_pong(self, bytes payload) except -1
    cdef int take_close(self, bytes payload) except -1
    cdef int fail_with(self, int code, str reason) except -1
    cdef int push_data(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner) except -1
    cdef int push_deflated(
        self, int opcode, const unsigned char *data, size_t size, bint forced, object owner) except -1
    cdef int push_postponed(self) except -1
    cdef int postpone(self, Prepared prepared) except -1
    cdef int push_fragment(self, object payload, int opcode, bint fin, object compress) except -1
    cdef int require_sendable(self) except -1
    cdef int push_control(self, unsigned char opcode, bytes payload) except -1
    cdef int push_frame(
        self, unsigned char first_byte, const unsigned char *payload, size_t size, object owner) except -1
