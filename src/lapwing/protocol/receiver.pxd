# From the peer's bytes to messages.

cimport cython
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from ..native.buffer cimport Buffer, buffer_size
from .assembly cimport Assembly
from .compression cimport Inflated, Inflation
from .decoder cimport IN_HEADER, Decoder
from .frame cimport BINARY_FRAME, TEXT_FRAME, mask_payload, unmask_text
from .framelog cimport FrameLog
from .inflating cimport Inflater
from .limits cimport MESSAGE_OVERHEAD
from .streamed cimport StreamedMessage
from .utf8 cimport is_ascii
from .violation cimport TEXT_NOT_UTF8, Fault


cdef extern from *:
    """
    #include "queue.h"
    """
    ctypedef struct Queue "lapwing_queue":
        size_t count
    int queue_push "lapwing_queue_push"(Queue *queue, PyObject *object)
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *bytes, Py_ssize_t size)
    PyObject *new_text "PyUnicode_New"(Py_ssize_t size, unsigned int largest)
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(const char *bytes, Py_ssize_t size, const char *errors)
    unsigned char *text_data "PyUnicode_1BYTE_DATA"(PyObject *text)
    void drop "Py_XDECREF"(PyObject *object)
    char *bytes_data "PyBytes_AS_STRING"(PyObject *bytes)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *bytes)
    bint is_bytes "PyBytes_CheckExact"(PyObject *object)
    Py_ssize_t text_length "PyUnicode_GET_LENGTH"(PyObject *text)
    int text_kind "PyUnicode_KIND"(PyObject *text)


cdef enum Reading:
    # What becomes of the payload of data frames.
    READY           # no message is under way, and the next one is put together
    AWAITED         # no message is under way, and the next one is held back when it begins
    WHOLE           # the message under way is put together
    STREAMED        # each part of it becomes a piece
    SKIPPED         # the rest of it means nothing
    DISCARDING      # no message means anything any more: this end's close frame went out
    # Decoding waits until the application asks for the next message:
    HELD_BACK       # since how the message is wanted decides what becomes of it
    RULE_BROKEN     # since the peer broke a rule, which fails the connection then
    ENDED           # the connection has ended: nothing is decoded


cdef enum Outcome:
    ALL_TAKEN       # nothing is left to be done
    REST_LEFT       # the application lags: the rest has to be kept
    TAKE_CONTROL    # a control frame came: the decoder has its payload
    TAKE_FAULT      # the peer broke a rule: `fault`


# A number of bytes that was read while another thread may have changed the terms of its difference.
cdef inline size_t snapshot(size_t size) noexcept nogil:
    return 0 if size >> (8 * sizeof(size_t) - 1) else size


@cython.final
cdef class Receiver:
    # its parts, made with it
    cdef Decoder decoder
    cdef Assembly assembly              # of messages that come in pieces; None before the first
    cdef Inflater inflater              # None unless permessage-deflate was agreed on
    cdef StreamedMessage streamed       # the message that is given out in pieces, until its last one was taken; or None
    cdef FrameLog log                   # None unless there is one
    cdef Reading reading
    cdef unsigned char mask_bit         # of the second byte of a header, as the peer has to set it
    cdef unsigned char utf8_state       # of the message under way
    cdef unsigned char is_lent          # a reader was told to read into the assembly, and nothing came back since
    cdef unsigned char is_decoding      # input is being decoded, while which Python code and other threads may run
    cdef unsigned char holds_large      # a message that is too large is held back rather than failing the connection
    cdef unsigned char wants_stream     # the application waits for the beginning of the next message
    cdef unsigned char is_steady        # the last two messages were BINARY, in one frame each, of the same size
    # A message was held back, a streamed one has ended, or a rule was broken; for the owner to clear.
    cdef unsigned char has_news
    cdef Fault fault
    cdef size_t last_length             # of the payload of the last data frame that was a whole message
    cdef uint64_t max_message
    cdef size_t max_held_input
    # what waits for the application: messages, and input to be decoded
    cdef Queue messages
    cdef size_t message_bytes
    cdef Buffer undecoded
    # statistics
    cdef uint64_t received_wire         # bytes, headers and control frames included
    cdef uint64_t received_payload      # bytes of the messages
    cdef uint64_t received_messages

    # --- input ---

    # Decode `size` bytes from the peer. Writes over them. Unless all were taken the caller acts on the outcome, goes on
    # with `decode` from `used` bytes on, with `is_decoding` set, and in the end has the rest kept, by `keep`: it copies
    # the bytes, and returns whether there is more to decode by now.
    cdef Outcome feed(self, unsigned char *data, size_t size, size_t *used) except? ALL_TAKEN
    cdef Outcome decode(self, unsigned char *data, size_t size, size_t *used) except? ALL_TAKEN
    cdef bint keep(self, const unsigned char *data, size_t size) except -1

    # Take over the input that waits to be decoded; false when it has to wait on. Then `decode` it, and in the end call
    # `end_held`, which returns whether there is more by now.
    cdef bint begin_held(self, Buffer *held) noexcept
    cdef bint end_held(self, Buffer *held, size_t used) except -1

    # Take note of a data frame that has begun, of `size` bytes of its payload that stand in the assembly by now, of its
    # end.
    cdef int begin_data(self) except -1
    cdef int count_payload(self, const unsigned char *place, size_t size) noexcept
    cdef int end_data(self) except -1

    # Let go of all input that will never become a message: `reading` says why nothing more is decoded.
    cdef int end_input(self, Reading reading) noexcept

    # Decode control frames only from now on.
    cdef int discard_messages(self) noexcept

    # Note the rule that the peer broke, unless nothing that it sends means anything any more.
    cdef inline int break_rule(self, Fault fault) noexcept:
        if self.reading < RULE_BROKEN:
            self.reading = RULE_BROKEN
            self.fault = fault
        return 0

    # --- messages ---

    # Take the oldest message; there must be one.
    cdef object pop(self)

    # Take the messages at hand, the oldest first: at most `limit`, or all when that is negative.
    cdef list pop_all(self, Py_ssize_t limit)

    # Bytes of the message under way that were put together.
    cdef inline size_t assembled(self) noexcept:
        return 0 if self.assembly is None else self.assembly.size

    # Have room for `size` more bytes, see `Assembly.make_room`; returns where they go. Runs no Python code.
    cdef unsigned char *make_room(self, size_t size, uint64_t declared) except NULL
    cdef int drop_assembly(self) noexcept

    # Make the bytes so far of the message under way a piece of it.
    cdef int adopt(self) except -1

    # Let go of the message under way; its rest is skipped.
    cdef int skip_message(self) noexcept

    # The application waits for the beginning of the next message, or does so no longer.
    cdef inline int await_stream(self, bint wants_stream) noexcept:
        self.wants_stream = wants_stream
        if self.reading == READY or self.reading == AWAITED:
            self.reading = self.between()
        return 0

    # The compressed message under way, None when there is none.
    cdef inline Inflation inflation(self):
        return None if self.inflater is None else self.inflater.message

    # Whether the message under way, with all that its last frame declares, is larger than `max_message_size`.
    cdef bint is_too_big(self) noexcept

    # Bytes held: undecoded input, the message under way, the window, messages.
    cdef size_t held(self) noexcept

    # Whether the application has worked off so much that waiting input is to be decoded.
    cdef inline bint has_room(self) noexcept:
        return self.message_bytes * 2 < self.max_held_input

    # Whether inflated input waits for the reader of a streamed message.
    cdef inline bint has_pending(self) noexcept:
        return self.inflater is not None and self.inflater.message is not None and (
            self.inflater.message.pending is not None)

    # The reading of the next message, when none is under way.
    cdef inline Reading between(self) noexcept:
        return AWAITED if self.wants_stream else READY

    cdef int set_up(
        self, bint is_client, uint64_t max_message, size_t max_held_input, bint holds_large) noexcept

    # Steps of the above, for this module alone.
    cdef int join_undecoded(self, Buffer *held) except -1
    cdef int end_loan(self) noexcept
    cdef int log_end_of_frame(self) except -1
    cdef bint is_stopped(self) noexcept
    cdef size_t take_payload(self, unsigned char *data, size_t size) except? 0
    cdef size_t take_deflated(self, unsigned char *data, size_t size) except? 0
    cdef int judge_inflated(self, Inflation inflation, Inflated outcome, size_t before) except -1
    cdef int end_inflation(self) noexcept
    cdef uint64_t max_deflated(self) noexcept
    cdef int finish_message(self, unsigned char opcode) except -1
    cdef int finish_inflated(self, unsigned char opcode) except -1
    cdef int finish_streamed(self) noexcept
    cdef int deliver(self, object message, size_t size, bint is_piece) except -1
    cdef int deliver_piece(self, bytes piece) except -1
    cdef int take_piece(self, unsigned char *data, size_t size) except -1
    cdef int check_streamed(self) noexcept
    cdef size_t take_usual(self, unsigned char *data, size_t size) except? 0


# Whether nothing that comes from the peer means anything any more.
cdef inline bint is_over(Receiver self) noexcept:
    return self.reading >= RULE_BROKEN


# Whether to read no more from the peer, because the application lags.
cdef inline bint lags(Receiver self) noexcept:
    if self.reading >= DISCARDING:
        return self.reading == HELD_BACK or self.reading == RULE_BROKEN
    return self.messages.count > 0 and self.message_bytes + buffer_size(&self.undecoded) >= self.max_held_input


# A message made of a payload and queued: parts of the inner loop, which become a part of it here.

cdef inline size_t message_cost(PyObject *message) noexcept:
    if is_bytes(message):
        return bytes_size(message) + MESSAGE_OVERHEAD
    return text_length(message) * text_kind(message) + MESSAGE_OVERHEAD


cdef inline int take_message(
    Receiver self, unsigned char opcode, unsigned char *data, size_t size, const unsigned char *key
) except -1:
    """Deliver a message that is one frame and all there; `key` is NULL when it is not masked."""
    cdef PyObject *binary
    if opcode == TEXT_FRAME:
        return queue_text(self, data, size, is_ascii(data, size) if key is NULL else unmask_text(data, data, size, key))
    if key is NULL:
        return queue_message(self, new_bytes(<const char *>data, size), size, False)
    binary = new_bytes(NULL, size)
    if binary is not NULL:
        mask_payload(<unsigned char *>bytes_data(binary), data, size, key, 0)
    return queue_message(self, binary, size, False)


cdef inline int note_length(Receiver self, unsigned char opcode, size_t length) noexcept:
    """Learn the size and kind of messages."""
    self.is_steady = opcode == BINARY_FRAME and length == self.last_length
    self.last_length = length
    return 0


cdef inline int queue_text(Receiver self, const unsigned char *data, size_t size, bint is_plain) except -1:
    """Queue a TEXT message for the application. One that is all ASCII, plain, need not be looked at again."""
    cdef PyObject *text
    if is_plain and size > 1:   # of single characters CPython has one object each
        text = new_text(size, 127)
        if text is not NULL:
            memcpy(text_data(text), data, size)
    else:
        text = decode_utf8(<const char *>data, size, NULL)
        if text is NULL and PyErr_ExceptionMatches(UnicodeDecodeError):
            PyErr_Clear()
            return self.break_rule(TEXT_NOT_UTF8)
    return queue_message(self, text, size, False)


cdef inline int queue_message(Receiver self, PyObject *message, size_t size, bint is_piece) except -1:
    """Queue a message that was just made, and take it over; NULL when that has raised an exception."""
    if message is NULL:
        return -1
    if queue_push(&self.messages, message) < 0:
        drop(message)
        raise MemoryError
    self.message_bytes += message_cost(message)
    self.received_messages += not is_piece
    self.received_payload += size
    return 0
