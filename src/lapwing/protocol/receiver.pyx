"""From the peer's bytes to messages (RFC 6455 sections 5 and 6.2): frames decoded, unmasked, put together and checked.

How input travels: the decoder reads frames. The payload of a data frame that is all there becomes its `str` or `bytes`
at once; any other goes, unmasked and checked, to the end of the assembly, the `bytes` object that the application will
get. When the application lags, whole reads wait in `undecoded`, and the owner stops reading. So every byte is held
once, whichever way the peer cuts a message up. A compressed message is inflated as it comes, and takes the place of the
assembly. A message that is streamed is not put together: see `streaming`.

While a message is inflated other threads may run, and wherever an object is made that Python's collector tracks,
finalizers. Then `is_decoding` is set, so that none decodes later input, which waits in `undecoded`; one that ends the
connection drops the compressed message. A thread that is about to wait for input looks at both first: its message may
be in there.

What control frames mean, and how a connection fails, is not known here: both are returned (`Outcome`), and the endpoint
acts on them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from libc.string cimport memcpy

from ..native.buffer cimport buffer_append, buffer_consume, buffer_free, buffer_size
from .assembly cimport Assembly, shrunk
from .compression cimport INFLATED_TOO_MUCH, INFLATED_WRONGLY, Inflated, Inflation
from .decoder cimport BROKEN_RULE, CONTROL_FRAME, DATA_FRAME, IN_DATA, Decoder, Found
from .frame cimport BINARY_FRAME, CONTINUATION_FRAME, TEXT_FRAME, mask_payload
from .limits cimport DEFLATE_OVERHEAD, SLICE, STREAMED_PIECE
from .streamed cimport StreamedMessage
from .utf8 cimport UTF8_ACCEPT, UTF8_REJECT, is_ascii, utf8_check
from .violation cimport MESSAGE_TOO_BIG, NO_FAULT, NOT_DEFLATED, TEXT_NOT_UTF8

__all__ = ["Receiver"]


cdef extern from *:
    """
    #include "queue.h"
    """
    PyObject *queue_pop "lapwing_queue_pop"(Queue *queue)
    void queue_clear "lapwing_queue_clear"(Queue *queue)
    void incref "Py_INCREF"(PyObject *object)
    void give_to_list "PyList_SET_ITEM"(list items, Py_ssize_t index, PyObject *object)


@cython.no_gc     # no part of it can refer to it
@cython.freelist(32)
cdef class Receiver:
    """The receiving part of an endpoint.

    Args:
        is_client: whether this end is the client: then frames must not be masked, otherwise they must.
        max_message: bytes of payload that one message may have.
        max_held_input: bytes of messages and undecoded input that may wait for the application before decoding stops.
        holds_large: whether a message that is too large is held back rather than failing the connection.
    """

    def __cinit__(self):
        self.decoder = Decoder.__new__(Decoder)

    def __init__(
        self, bint is_client, uint64_t max_message=1024 * 1024, size_t max_held_input=256 * 1024, bint holds_large=False
    ):
        self.set_up(is_client, max_message, max_held_input, holds_large)

    def __dealloc__(self):
        queue_clear(&self.messages)
        buffer_free(&self.undecoded)

    cdef int set_up(self, bint is_client, uint64_t max_message, size_t max_held_input, bint holds_large) noexcept:
        self.decoder.is_client = is_client
        self.mask_bit = 0 if is_client else 0x80
        self.max_message = max_message
        self.max_held_input = max_held_input
        self.holds_large = holds_large
        return 0

    def receive(self, bytes data not None):
        """Decode bytes from the peer, as far as there is room for the messages in them.

        Returns:
            A list of `(opcode, payload)` for each control frame, and last the number of the rule that is broken, if one
            is: counted from 1 in the order of `Violation`.
        """
        cdef bytearray copy = bytearray(data)
        cdef unsigned char *place = <unsigned char *><char *>copy
        cdef size_t used, count
        cdef list found = []
        cdef Outcome outcome = self.feed(place, len(copy), &used)
        while outcome == TAKE_CONTROL:
            found.append((self.decoder.frame.opcode, self.decoder.take_control()))
            outcome = self.decode(place + used, len(copy) - used, &count)
            used += count
        if outcome == TAKE_FAULT:
            found.append(<int>self.fault)
        self.keep(place + used, len(copy) - used)
        return found

    def take_messages(self):
        """Take the messages at hand."""
        return self.pop_all(-1)

    # --- messages ----------------------------------------------------------------------------------------------------

    cdef object pop(self):
        cdef PyObject *owned = queue_pop(&self.messages)
        message = <object>owned
        drop(owned)
        self.message_bytes -= message_cost(owned)
        return message

    cdef list pop_all(self, Py_ssize_t limit):
        cdef Py_ssize_t count = self.messages.count
        cdef Py_ssize_t index
        cdef PyObject *owned
        cdef list messages = None
        # Making a list may run Python code that takes messages.
        while messages is None or <Py_ssize_t>self.messages.count < count:
            count = self.messages.count
            if 0 <= limit < count:
                count = limit
            messages = PyList_New(count)
        for index in range(count):
            owned = queue_pop(&self.messages)
            self.message_bytes -= message_cost(owned)
            give_to_list(messages, index, owned)
        return messages

    cdef size_t held(self) noexcept:
        cdef size_t inflated = 0 if self.inflater is None else self.inflater.held()
        return snapshot(buffer_size(&self.undecoded)) + self.assembled() + inflated + self.message_bytes

    # --- input -------------------------------------------------------------------------------------------------------

    cdef Outcome feed(self, unsigned char *data, size_t size, size_t *used) except? ALL_TAKEN:
        cdef Outcome outcome = ALL_TAKEN
        cdef size_t count
        used[0] = 0
        if self.is_lent:
            self.end_loan()
        if is_over(self):
            return ALL_TAKEN
        self.received_wire += size
        if buffer_size(&self.undecoded) or self.is_decoding:
            if buffer_append(&self.undecoded, data, size) < 0:
                raise MemoryError
            return ALL_TAKEN
        self.is_decoding = True
        try:
            used[0] = self.take_usual(data, size)
            if used[0] < size or size == 0:
                outcome = self.decode(data + used[0], size - used[0], &count)
                used[0] += count
        finally:
            self.is_decoding = False
        if outcome == ALL_TAKEN and (used[0] < size or self.undecoded.end):
            return REST_LEFT
        return outcome

    cdef bint keep(self, const unsigned char *data, size_t size) except -1:
        cdef Buffer rest = Buffer(NULL, 0, 0, 0)
        if is_over(self):
            return False
        if self.undecoded.end == 0:
            if size and buffer_append(&self.undecoded, data, size) < 0:
                raise MemoryError
            return False
        # Input that Python code has fed in between comes behind the rest.
        if buffer_append(&rest, data, size) < 0:
            raise MemoryError
        self.join_undecoded(&rest)
        return True

    cdef bint begin_held(self, Buffer *held) noexcept:
        if self.is_decoding or self.reading == RULE_BROKEN:
            return False
        held[0] = self.undecoded
        self.undecoded = Buffer(NULL, 0, 0, 0)
        self.is_decoding = True
        return True

    cdef bint end_held(self, Buffer *held, size_t used) except -1:
        cdef bint is_more
        buffer_consume(held, used)
        if is_over(self):
            buffer_free(held)
            buffer_free(&self.undecoded)
        is_more = held.end == 0 and self.undecoded.end != 0
        if not is_more:
            self.join_undecoded(held)
        return is_more

    cdef int join_undecoded(self, Buffer *held) except -1:
        """Put back the rest of the input that was being decoded, before input that came in between."""
        cdef Buffer later = self.undecoded
        cdef int outcome = 0
        if later.end:
            outcome = buffer_append(held, later.data + later.start, buffer_size(&later))
            buffer_free(&later)
        self.undecoded = held[0]
        if outcome < 0:
            raise MemoryError
        return 0

    cdef int end_loan(self) noexcept:
        """Learn that the reader has given the assembly back."""
        self.is_lent = False
        return self.assembly.end_loan()

    cdef unsigned char *make_room(self, size_t size, uint64_t declared) except NULL:
        if self.assembly is None:
            self.assembly = Assembly.__new__(Assembly)
        self.assembly.make_room(size, declared)
        return self.assembly.end()

    cdef int drop_assembly(self) noexcept:
        return 0 if self.assembly is None else self.assembly.drop(self.is_lent)

    cdef int end_input(self, Reading reading) noexcept:
        self.reading = reading
        self.drop_assembly()
        if self.inflater is not None:
            self.inflater.clear()
        buffer_free(&self.undecoded)
        return 0

    cdef int discard_messages(self) noexcept:
        if self.reading < RULE_BROKEN:
            self.skip_message()
            self.reading = DISCARDING
        return 0

    cdef int skip_message(self) noexcept:
        self.reading = SKIPPED
        self.drop_assembly()
        return self.end_inflation()

    cdef int end_inflation(self) noexcept:
        """End the compressed message, if there is one. A window grows at the cost of what may wait."""
        cdef size_t grown
        if self.inflater is not None:
            grown = self.inflater.end()
            self.max_held_input -= min(grown, self.max_held_input - 1)
        return 0

    # --- decoding ----------------------------------------------------------------------------------------------------

    cdef Outcome decode(self, unsigned char *data, size_t size, size_t *used) except? ALL_TAKEN:
        cdef Decoder decoder = self.decoder
        cdef Found found
        cdef size_t count
        cdef const unsigned char *key
        used[0] = 0
        while self.reading < HELD_BACK:
            if decoder.stage != IN_DATA:
                used[0] += self.take_usual(data + used[0], size - used[0])
                if used[0] == size or lags(self):
                    break
                found = decoder.read(data + used[0], size - used[0], &count)
                used[0] += count
                if found == CONTROL_FRAME:
                    if self.log is not None:
                        self.log.note(
                            False, 0x80 | decoder.frame.opcode, decoder.frame.length, decoder.control, NULL)
                    return TAKE_CONTROL
                if found == BROKEN_RULE:
                    self.break_rule(decoder.fault)
                if found != DATA_FRAME:
                    break
                self.begin_data()
                if decoder.frame.length <= size - used[0] and is_whole_message(self):
                    decoder.end_frame()
                    self.reading = self.between()
                    key = decoder.frame.key if decoder.frame.masked else NULL
                    if self.log is not None:
                        self.log.note(
                            False, 0x80 | decoder.frame.opcode, decoder.frame.length, data + used[0], key)
                    take_message(self, decoder.frame.opcode, data + used[0], decoder.frame.length, key)
                    used[0] += decoder.frame.length
                    continue
                if self.reading >= HELD_BACK:
                    break
            count = min(decoder.remaining, size - used[0])
            if count or self.inflation() is not None:
                used[0] += self.take_payload(data + used[0], count)
            if decoder.remaining or self.is_stopped():
                break
            self.end_data()
        return ALL_TAKEN if self.fault == NO_FAULT else TAKE_FAULT

    cdef size_t take_usual(self, unsigned char *data, size_t size) except? 0:
        """Take the messages at the front that are as most are: of one frame, all there, of less than 64 KiB, neither
        compressed nor to be logged or streamed.

        It goes no further than the first byte that is anything else, and does not judge that: `decode` goes on
        from there with every case. Returns how many bytes were used; of a message that breaks a rule none.
        """
        cdef const unsigned char *header
        cdef size_t used = 0
        cdef size_t length, header_size
        cdef unsigned char mask_bit = self.mask_bit
        if self.reading != READY or self.log is not None or not self.decoder.is_between_messages():
            return 0
        while size - used >= 4 and not lags(self):
            header = data + used
            if header[0] != 0x80 | TEXT_FRAME and header[0] != 0x80 | BINARY_FRAME:
                break
            length = header[1] ^ mask_bit   # over 127 when the bit is wrong
            header_size = 2
            if length == 126:
                length = (<size_t>header[2] << 8) | header[3]
                header_size = 4
                if length < 126:
                    break
            elif length > 126:
                break
            if mask_bit:
                header_size += 4
            if length > self.max_message or size - used < header_size + length:
                break
            note_length(self, header[0] & 0x0F, length)
            take_message(
                self, header[0] & 0x0F, data + used + header_size, length,
                header + header_size - 4 if mask_bit else NULL)
            if self.reading != READY:
                break
            used += header_size + length
        return used

    cdef int begin_data(self) except -1:
        """Find what becomes of a data frame (RFC 6455 sections 5.4 and 10.4)."""
        cdef Decoder decoder = self.decoder
        cdef unsigned char opcode = decoder.frame.opcode
        # A message that is compressed or in fragments is as good as TEXT here: it is not expected again.
        note_length(
            self, opcode if decoder.frame.fin and not decoder.frame.reserved else TEXT_FRAME, decoder.frame.length)
        if self.reading == DISCARDING:
            return 0
        if opcode != CONTINUATION_FRAME:
            self.reading = WHOLE
            self.utf8_state = UTF8_ACCEPT
            if decoder.frame.reserved:
                self.inflater.begin()
                if self.reading != WHOLE:   # other code has ended the connection
                    return self.end_inflation()
        if self.reading == STREAMED:
            return self.check_streamed()
        if self.reading == WHOLE and (self.wants_stream or self.is_too_big()):
            if not self.wants_stream and not self.holds_large:
                return self.break_rule(MESSAGE_TOO_BIG)
            self.reading = HELD_BACK
            self.has_news = True
        return 0

    cdef bint is_too_big(self) noexcept:
        cdef Inflation inflation = self.inflation()
        if inflation is not None:
            return self.decoder.frame.length > self.max_deflated() or inflation.size > self.max_message
        return self.decoder.frame.length > self.max_message - self.assembled()

    cdef bint is_stopped(self) noexcept:
        """Whether the frame cannot be ended yet, though all of its payload came."""
        cdef Inflation inflation = self.inflation()
        return self.reading >= HELD_BACK or (inflation is not None and inflation.pending is not None)

    cdef size_t take_payload(self, unsigned char *data, size_t size) except? 0:
        """Take the next `size` bytes of the data frame's payload; returns how many were used: all, unless the message
        is compressed and its reader lags."""
        cdef Decoder decoder = self.decoder
        cdef unsigned char *place
        if self.reading == SKIPPED or self.reading == DISCARDING:
            decoder.remaining -= size
            return size
        if self.inflation() is not None:
            return self.take_deflated(data, size)
        if self.reading == STREAMED:
            self.take_piece(data, size)
            return size
        place = self.make_room(size, decoder.remaining)
        if decoder.frame.masked:
            mask_payload(place, data, size, decoder.frame.key, decoder.frame.length - decoder.remaining)
        else:
            memcpy(place, data, size)
        decoder.remaining -= size
        self.count_payload(place, size)
        return size

    cdef int count_payload(self, const unsigned char *place, size_t size) noexcept:
        self.assembly.size += size
        if self.decoder.message_opcode == TEXT_FRAME:
            self.utf8_state = utf8_check(self.utf8_state, place, size)
            if self.utf8_state == UTF8_REJECT:
                return self.break_rule(TEXT_NOT_UTF8)
        return 0

    cdef int end_data(self) except -1:
        cdef unsigned char opcode = self.decoder.end_frame()
        if self.log is not None:
            self.log_end_of_frame()
        if opcode == 0:
            return 0
        if self.reading == STREAMED:
            return self.finish_streamed()
        if self.reading == WHOLE:
            self.reading = self.between()
            return self.finish_message(opcode)
        if self.reading == SKIPPED:
            self.reading = self.between()
        return self.end_inflation()

    cdef int finish_message(self, unsigned char opcode) except -1:
        """Deliver the message that was put together."""
        cdef PyObject *assembled
        cdef const unsigned char *text
        cdef size_t size = self.assembled()
        if self.inflation() is not None:
            return self.finish_inflated(opcode)
        if opcode == TEXT_FRAME and self.utf8_state != UTF8_ACCEPT:
            return self.break_rule(TEXT_NOT_UTF8)
        assembled = NULL if self.assembly is None else self.assembly.take()
        if assembled is NULL:
            return self.deliver(b"" if opcode == BINARY_FRAME else "", 0, False)
        if opcode == BINARY_FRAME:
            return queue_message(self, shrunk(assembled, size), size, False)
        try:
            text = <const unsigned char *>bytes_data(assembled)
            return queue_text(self, text, size, is_ascii(text, size))
        finally:
            drop(assembled)

    cdef int deliver(self, object message, size_t size, bint is_piece) except -1:
        """Queue a message, or a piece of one, for the application; `size` is that of its payload."""
        incref(<PyObject *>message)
        return queue_message(self, <PyObject *>message, size, is_piece)

    # --- compressed messages -----------------------------------------------------------------------------------------

    cdef size_t take_deflated(self, unsigned char *data, size_t size) except? 0:
        """Inflate the next bytes of a compressed message (RFC 7692 section 7.2.2); text is checked as it comes.

        Returns how many bytes were used: fewer than all when the message is streamed and its reader lags, or when it is
        held back.
        """
        cdef Decoder decoder = self.decoder
        cdef Inflation inflation = self.inflation()     # held: another thread may end the connection
        cdef size_t used = 0
        cdef size_t before, count
        cdef uint64_t limit
        cdef Inflated outcome
        while not inflation.is_complete or inflation.pending is not None:
            before = inflation.size
            limit = <uint64_t>STREAMED_PIECE if self.reading == STREAMED else self.max_message
            count = 0
            if inflation.pending is None:
                count = min(size - used, <size_t>SLICE)
                if count == 0 and not (decoder.frame.fin and decoder.remaining == 0):
                    break
                if decoder.frame.masked:
                    mask_payload(
                        data + used, data + used, count, decoder.frame.key, decoder.frame.length - decoder.remaining)
                decoder.remaining -= count
            outcome = inflation.feed(data + used, count, decoder.frame.fin and decoder.remaining == 0, limit)
            used += count
            if self.inflation() is not inflation:   # the message was given up: its rest is skipped
                decoder.remaining -= size - used
                return size
            self.judge_inflated(inflation, outcome, before)
            if is_over(self) or (self.reading != WHOLE and lags(self)):
                break
        return used

    cdef int judge_inflated(self, Inflation inflation, Inflated outcome, size_t before) except -1:
        """Check the inflated bytes, behind the first `before` of them; a piece of a streamed message goes out."""
        cdef bint is_large = outcome == INFLATED_TOO_MUCH or inflation.taken > self.max_deflated()
        if outcome == INFLATED_WRONGLY:
            return self.break_rule(NOT_DEFLATED)
        if is_large and self.reading != STREAMED and not self.holds_large:
            return self.break_rule(MESSAGE_TOO_BIG)
        if self.decoder.message_opcode == TEXT_FRAME and inflation.size > before:
            self.utf8_state = utf8_check(self.utf8_state, inflation.inflated() + before, inflation.size - before)
            if self.utf8_state == UTF8_REJECT:
                return self.break_rule(TEXT_NOT_UTF8)
        if self.reading == STREAMED:
            return self.adopt()
        if is_large:
            self.reading = HELD_BACK
            self.has_news = True
        return 0

    cdef uint64_t max_deflated(self) noexcept:
        """How many bytes a compressed message may have before it is inflated."""
        return self.max_message + self.max_message // 4 + DEFLATE_OVERHEAD

    cdef int finish_inflated(self, unsigned char opcode) except -1:
        """Deliver the message that was inflated."""
        cdef bytes data
        cdef const unsigned char *text
        if opcode == TEXT_FRAME and self.utf8_state != UTF8_ACCEPT:
            return self.break_rule(TEXT_NOT_UTF8)
        data = self.inflation().take_result()
        self.end_inflation()
        if opcode == BINARY_FRAME:
            return self.deliver(data, PyBytes_GET_SIZE(data), False)
        text = <const unsigned char *>PyBytes_AS_STRING(data)
        return queue_text(self, text, PyBytes_GET_SIZE(data), is_ascii(text, PyBytes_GET_SIZE(data)))

    # --- streamed messages -------------------------------------------------------------------------------------------

    cdef int check_streamed(self) noexcept:
        """Check the length of a frame against the limit; of a compressed message, the inflated length counts."""
        if self.streamed is not None and self.inflation() is None:
            if self.streamed.would_exceed(self.decoder.remaining):
                return self.break_rule(MESSAGE_TOO_BIG)
        return 0

    cdef int take_piece(self, unsigned char *data, size_t size) except -1:
        cdef Decoder decoder = self.decoder
        cdef bytes piece = PyBytes_FromStringAndSize(NULL, size)   # without bytes yet: then it is never a shared one
        cdef unsigned char *place = <unsigned char *>PyBytes_AS_STRING(piece)
        if decoder.frame.masked:
            mask_payload(place, data, size, decoder.frame.key, decoder.frame.length - decoder.remaining)
        else:
            memcpy(place, data, size)
        decoder.remaining -= size
        if decoder.message_opcode == TEXT_FRAME:
            self.utf8_state = utf8_check(self.utf8_state, place, size)
            if self.utf8_state == UTF8_REJECT:
                return self.break_rule(TEXT_NOT_UTF8)
        return self.deliver_piece(piece)

    cdef int adopt(self) except -1:
        cdef Inflation inflation = self.inflation()
        cdef bytes piece
        if inflation is not None:
            return self.deliver_piece(inflation.take_part()) if inflation.size else 0
        piece = None if self.assembly is None else self.assembly.take_bytes()
        return 0 if piece is None else self.deliver_piece(piece)

    cdef int deliver_piece(self, bytes piece) except -1:
        cdef StreamedMessage streamed = self.streamed
        cdef size_t size = PyBytes_GET_SIZE(piece)
        cdef object part
        if streamed is None or size == 0:   # given up, but inflated for the window's sake
            return 0
        if streamed.would_exceed(size):
            return self.break_rule(MESSAGE_TOO_BIG)
        part = streamed.piece_of(piece)
        if not part:
            return 0
        self.deliver(part, size, True)
        streamed.pieces += 1
        return 0

    cdef int finish_streamed(self) noexcept:
        cdef StreamedMessage streamed = self.streamed
        self.reading = self.between()
        self.end_inflation()
        self.received_messages += 1
        if streamed is None:
            return 0
        if streamed.opcode == TEXT_FRAME and self.utf8_state != UTF8_ACCEPT:
            return self.break_rule(TEXT_NOT_UTF8)
        streamed.is_complete = True
        self.has_news = True
        if streamed.pieces == 0:
            self.streamed = None
        return 0

    # --- the log -----------------------------------------------------------------------------------------------------

    cdef int log_end_of_frame(self) except -1:
        """Note the frame that came in pieces and is complete now; its compressed form is not kept."""
        cdef Decoder decoder = self.decoder
        cdef Inflation inflation = self.inflation()
        cdef const unsigned char *payload = NULL
        cdef uint64_t length = decoder.frame.length
        cdef unsigned char first_byte = (
            (0x80 if decoder.frame.fin else 0) | decoder.frame.reserved | decoder.frame.opcode)
        if self.reading == WHOLE and length and self.assembled() >= length:
            payload = self.assembly.end() - length
        self.log.note(False, first_byte, length, payload, NULL)
        if (
            first_byte & 0x80 and decoder.frame.reserved and self.reading == WHOLE and inflation is not None
            and inflation.is_complete
        ):
            self.log.note_original(inflation.inflated(), inflation.size)
        return 0


cdef inline bint is_whole_message(Receiver self) noexcept:
    """Whether the frame that has begun is a message to be put together, and not compressed."""
    return (
        self.reading == WHOLE and self.decoder.frame.fin and self.decoder.frame.opcode != CONTINUATION_FRAME
        and self.inflation() is None
    )
